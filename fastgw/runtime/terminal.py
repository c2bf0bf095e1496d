"""A terminal that is drawn anew every second, until somebody has seen enough."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator

# ECMA-48: the alternate screen, and without a cursor; to its top; what is left of a line, and of the screen.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_QUIT = (b"q", b"Q", b"\x03")
_ESCAPE = b"\x1b"


def show(draw: Callable[[int, int], str], seconds: float) -> None:
    """Calls `draw` with the width and the height, again after as many seconds, until q, Escape or Ctrl-C."""
    with _raw():
        while True:
            width, height = os.get_terminal_size(sys.stdout.fileno())
            lines = draw(width, height - 1).split("\n")
            sys.stdout.write(_HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in lines) + _REST_OF_SCREEN)
            sys.stdout.flush()
            if _is_ended_within(seconds):
                return


def _is_ended_within(seconds: float) -> bool:
    """Waits as long, whatever other keys are pressed: rates are of whole seconds."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0]:
            keys = os.read(sys.stdin.fileno(), 64)
            # Arrows begin with an Escape. Nothing comes from a terminal that is gone.
            if keys in (b"", _ESCAPE) or keys[:1] in _QUIT:
                return True
    return False


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Keys come one by one, and the screen that was there comes back."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    sys.stdout.write(_ENTER)
    try:
        tty.setcbreak(descriptor)
        yield
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
