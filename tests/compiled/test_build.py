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
# What goes through heads and bodies on both sides; what stands in for exchanges, connections or their times; and what
# writes and counts, where a bug would cost lines and counts, and no request.
TESTS = ("vectors", "messages", "streaming", "headers", "hedging", "tracing", "access_log", "metrics")
# It waits more than it asks.
NOT_AGAIN = "test_a_pipe_that_is_blocked_for_ten_seconds_harms_no_traffic"


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
    # Not in isolation: the compiler is there for the tests, and looks at nothing else that is installed.
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
    options = ("-q", "-k", f"not {NOT_AGAIN}", "-p", "no:cacheprovider", "-p", "no:xdist")
    print(run(compiled, "-m", "pytest", *options, *files))


_WITHOUT_MYPYC = """
import runpy, sys
sys.modules["mypyc"] = None
sys.argv[0] = "setup.py"
runpy.run_path("setup.py", run_name="__main__")
"""


def asked_without_mypyc(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT_MYPYC, *command],
        cwd=ROOT,
        env=os.environ | {"FASTGW_COMPILE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_mypyc_nothing_is_built_that_is_not_compiled() -> None:
    built = asked_without_mypyc("bdist_wheel")
    assert (built.returncode, built.stderr) == (1, "FASTGW_COMPILE=1 takes mypyc: pip install 'mypy>=2.1'\n")


def test_what_the_build_takes_can_be_asked_without_mypyc(tmp_path: Path) -> None:
    asked = asked_without_mypyc("egg_info", "--egg-base", str(tmp_path))
    assert asked.returncode == 0, asked.stderr
    assert (tmp_path / "fastgw.egg-info" / "PKG-INFO").exists()
