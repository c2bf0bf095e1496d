"""What end-to-end tests stand on: the real gateway as a process, backends and clients that see every byte."""
