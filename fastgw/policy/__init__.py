"""Decisions about requests, without I/O: they are told the time, and handed what they decide on."""
