"""Cold: the supervisor and its workers."""
