"""The hot edge: the only place for asyncio, sockets and uvloop."""
