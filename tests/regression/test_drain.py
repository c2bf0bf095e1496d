"""Defects of `fastgw drain`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.gateway import LISTEN, GatewayProcess


def test_names_with_spaces_were_taken_for_several_words(tmp_path: Path) -> None:
    config = f"""
        [server]
        workers = 1
        [[listeners]]
        address = "{LISTEN}"
        [upstreams.a]
        endpoints = ["127.0.0.1:1", "unix:/run/an app.sock"]
        [[routes]]
        upstream = "a"
    """
    with GatewayProcess(config, tmp_path) as gateway:

        def drain(*arguments: str) -> tuple[int, str]:
            command = [sys.executable, "-m", "fastgw", "drain", str(gateway.config_path), *arguments]
            done = subprocess.run(command, env=gateway.environment, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout + done.stderr

        assert drain("127.0.0.1:1 5") == (1, "drain refused: there is no endpoint 127.0.0.1:1 5\n")
        said = "drain refused: there is no endpoint 127.0.0.1:1 of an upstream my app; a has one\n"
        assert drain("--upstream", "my app", "127.0.0.1:1") == (1, said)
        said = "drain done: unix:/run/an app.sock of upstream a drains\n"
        assert drain("unix:/run/an app.sock") == (0, said)
