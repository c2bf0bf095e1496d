"""Session-ticket keys that all workers share, so that a client may resume its session with any of them.

Python's ssl has no call for it. So the SSL_CTX behind an ssl.SSLContext is handed to the libssl that Python itself
uses. Whatever is not as expected is found out before anything is called, and leaves each worker with keys of its own.
"""

from __future__ import annotations

import ctypes
import functools
import os
import ssl
import struct
import sys

# openssl/ssl.h and tls1.h: stable since OpenSSL 0.9.8f.
_GET_TICKET_KEYS = 58
_SET_TICKET_KEYS = 59
# A name of 16 bytes, and two keys of 32.
TICKET_KEYS_SIZE = 80
# Where the method stands in an SSL_CTX: first or second, by OpenSSL's version.
_WORDS_LOOKED_AT = 8


class TicketKeysError(Exception):
    """The keys can't be set; the message says why."""


@functools.cache
def _libssl() -> ctypes.CDLL:
    import _ssl  # noqa: PLC0415

    path = getattr(_ssl, "__file__", None)
    library = ctypes.CDLL(path)
    library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    library.SSL_CTX_ctrl.restype = ctypes.c_long
    library.TLS_server_method.restype = ctypes.c_void_p
    return library


def set_ticket_keys(context: ssl.SSLContext, keys: bytes) -> None:
    """Gives a server's context its keys. Raises TicketKeysError."""
    if sys.implementation.name != "cpython" or len(keys) != TICKET_KEYS_SIZE:
        raise TicketKeysError("this Python keeps its TLS contexts elsewhere")
    try:
        library = _libssl()
        pointer = _pointer(context, library.TLS_server_method())
    except (OSError, AttributeError, TypeError) as error:
        raise TicketKeysError(f"Python's libssl can't be reached: {error}") from None
    if library.SSL_CTX_ctrl(pointer, _SET_TICKET_KEYS, len(keys), keys) != 1:
        raise TicketKeysError("libssl refuses them")
    taken = ctypes.create_string_buffer(TICKET_KEYS_SIZE)
    if library.SSL_CTX_ctrl(pointer, _GET_TICKET_KEYS, TICKET_KEYS_SIZE, taken) != 1 or taken.raw != keys:
        raise TicketKeysError("libssl has not taken them")


def _pointer(context: ssl.SSLContext, method: int) -> int:
    """The SSL_CTX of a context: the first field behind the object's head.

    Read through the kernel, which refuses a wrong address where a look of our own would end the process. An SSL_CTX is
    known by the server's method, which Python has made it with.
    """
    memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        (pointer,) = struct.unpack("P", os.pread(memory, 8, id(context) + object.__basicsize__))
        words = struct.unpack(f"{_WORDS_LOOKED_AT}P", os.pread(memory, 8 * _WORDS_LOOKED_AT, pointer))
    except (OSError, struct.error, OverflowError):
        raise TicketKeysError("this Python keeps its TLS contexts elsewhere") from None
    finally:
        os.close(memory)
    if method not in words:
        raise TicketKeysError("this Python keeps its TLS contexts elsewhere")
    return int(pointer)
