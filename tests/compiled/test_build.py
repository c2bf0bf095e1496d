"""The same code, compiled: it is built as `setup.py` says, and clients see no difference.

End-to-end tests are run on it, from a folder that has the compiled fastgw and no other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import program

ROOT = Path(__file__).parents[2]
# What goes through heads and bodies on both sides, and what stands in for exchanges, connections or their times.
TESTS = ("vectors", "messages", "streaming", "headers", "hedging", "tracing")


def run(folder: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a compiled fastgw, and the tests."""
    program("cc", "gcc")
    source = tmp_path_factory.mktemp("source")
    folder = tmp_path_factory.mktemp("compiled")
    not_copied = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "fastgw", source / "fastgw", ignore=not_copied)
    # Not in isolation: all that it takes is there for the tests.
    built = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", ".")
    run(source, *built, FASTGW_COMPILE="1")
    (wheel,) = (source / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=not_copied)
    shutil.copy(ROOT / "pyproject.toml", folder)
    yield folder
    shutil.rmtree(source)
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_clients_see_no_difference(compiled: Path) -> None:
    assert run(compiled, "-m", "fastgw", "--version").rstrip().endswith("hot path: compiled")
    files = [f"tests/end_to_end/test_{name}.py" for name in TESTS]
    print(run(compiled, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files))
