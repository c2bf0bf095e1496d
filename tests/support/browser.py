"""A real browser without a screen, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import threading
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from tests.support.observe import eventually
from tests.support.programs import program

_LISTENING = re.compile(rb"DevTools listening on ws://([^/]+)/")


class Browser:
    """One page. `complaints` are the errors that it has told so far: of scripts, of the network, of its policies."""

    def __init__(self, directory: Path, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        self.complaints: list[str] = []
        self._directory = directory
        self._size = (width, height)
        self._dark = dark
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: ClientConnection | None = None
        self._open = contextlib.ExitStack()
        self._calls = 0
        self._drain: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [
                program("chromium", "chromium"),
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
                *("--disable-extensions", "--disable-background-networking", "--remote-debugging-port=0"),
                *("--remote-allow-origins=*", f"--user-data-dir={self._directory / 'browser'}", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        told = b""
        while (found := _LISTENING.search(told)) is None:
            line = self._process.stderr.readline()
            assert line, told.decode()
            told += line
        # What it says later must not fill the pipe.
        self._drain = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._drain.start()
        with urllib.request.urlopen(f"http://{found[1].decode()}/json/list", timeout=20) as answer:
            targets = json.load(answer)
        (page,) = [target for target in targets if target["type"] == "page"]
        socket = connect(page["webSocketDebuggerUrl"], max_size=None, open_timeout=20)
        self._socket = self._open.enter_context(socket)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        width, height = self._size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if self._dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result; what comes meanwhile is looked at for complaints."""
        assert self._socket is not None
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("id") == self._calls:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        # What it says to the commands of its dialogs is of no interest.
        method, told = message.get("method", ""), message.get("params", {})
        if method == "Page.javascriptDialogOpening":
            assert self._socket is not None
            self._calls += 1
            accept = {"id": self._calls, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            self._socket.send(json.dumps(accept))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif (method == "Log.entryAdded" and told["entry"]["level"] == "error") or (
            method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert")
        ):
            self.complaints.append(json.dumps(told))

    def go(self, url: str) -> None:
        """Until the page is there; what its scripts do then has to be waited for."""
        self.call("Page.navigate", url=url)
        script = f"location.href === {json.dumps(url)} && document.readyState === 'complete'"

        def is_there() -> bool:
            # The page before may go while it is asked.
            with contextlib.suppress(AssertionError):
                return self.value(script) is True
            return False

        assert eventually(is_there, 20)

    def value(self, script: str) -> Any:
        """What an expression of JavaScript is."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """What is shown there; "" if there is nothing."""
        return str(self.value(f"(document.querySelector({json.dumps(selector)})?.innerText ?? '')"))

    def shows(self, selector: str, words: str, seconds: float = 15.0) -> bool:
        """Whether these words appear in time."""
        return eventually(lambda: words in self.text(selector), seconds)

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, text=text)

    def write(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(Exception):
                self.call("Browser.close")
            self._open.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self._process.kill()
            self._process.wait()
            if self._drain is not None:
                self._drain.join()
            assert self._process.stderr is not None
            self._process.stderr.close()
