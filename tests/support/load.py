"""Clients in threads, which ask until they are told to stop, and note what went wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.client import Client, Received


class Load:
    """`connections` that are kept, and, where `renews`, new ones all the time for each of `connects`. `ask` makes a
    request, the number of which it is told, and says whether the answer is right."""

    def __init__(
        self,
        connects: list[Callable[[], Client]],
        connections: int,
        ask: Callable[[int], bytes],
        is_right: Callable[[Received], bool],
        renewed: Callable[[Client], None] | None = None,
    ) -> None:
        self.wrong: list[object] = []
        self.news = 0
        # Seconds that each answer took, by when it came.
        self.times: list[tuple[float, float]] = []
        self._ask = ask
        self._is_right = is_right
        self._renewed = renewed
        self._asked = [0] * connections
        self._stop = threading.Event()
        kept = [(self._keep, connects[number % len(connects)], number) for number in range(connections)]
        new = [(self._renew, connect, 0) for connect in connects if renewed is not None]
        self._threads = [threading.Thread(target=self._guarded, args=arguments) for arguments in [*kept, *new]]

    @property
    def asked(self) -> int:
        return sum(self._asked)

    def _guarded(
        self, work: Callable[[Callable[[], Client], int], None], connect: Callable[[], Client], number: int
    ) -> None:
        try:
            work(connect, number)
        except Exception as error:
            self.wrong.append(error)

    def _ask_one(self, client: Client, number: int) -> bool:
        """Whether the connection goes on."""
        began = time.monotonic()
        answer = client.ask(self._ask(number))
        now = time.monotonic()
        self.times.append((now, now - began))
        if not self._is_right(answer):
            self.wrong.append(answer)
        return answer.values(b"connection") != [b"close"]

    def _keep(self, connect: Callable[[], Client], number: int) -> None:
        while not self._stop.is_set():
            with connect() as client:
                goes_on = True
                while goes_on and not self._stop.is_set():
                    self._asked[number] += 1
                    goes_on = self._ask_one(client, self._asked[number])

    def _renew(self, connect: Callable[[], Client], _number: int) -> None:
        while not self._stop.is_set():
            with connect() as client:
                self._ask_one(client, self.news)
                self.news += 1
                if self._renewed is not None:
                    self._renewed(client)

    def percentile(self, share: float, since: float, until: float) -> float:
        """Of what answers took, in seconds."""
        took = sorted(seconds for at, seconds in self.times if since <= at <= until)
        return took[int(share * (len(took) - 1))]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
