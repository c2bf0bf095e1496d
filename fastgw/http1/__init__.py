"""The wire facts of HTTP/1.1 (RFC 9110, 9112), without any I/O."""
