from __future__ import annotations

import subprocess
import sys

import pytest

from fastgw.runtime.aside import aside


@pytest.mark.asyncio
async def test_it_gives_what_the_call_gives_and_raises_what_it_raises() -> None:
    assert await aside(lambda: 6 * 7) == 42
    with pytest.raises(ZeroDivisionError):
        await aside(lambda: 1 // 0)


def test_a_call_that_does_not_end_holds_up_no_end_of_the_program() -> None:
    code = """
import asyncio, threading
from fastgw.runtime.aside import aside
async def main():
    task = asyncio.create_task(aside(threading.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=20, check=False).returncode == 0
