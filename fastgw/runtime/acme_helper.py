"""The process that gets certificates: `python -m fastgw.runtime.acme_helper FD`, FD being the control channel.

It waits most of its life, and speaks with the authority where nobody else waits for it. It may be killed at any moment:
its files are whole at all times. It ends when the supervisor is gone.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fastgw.config.acme_settings import AcmeSettings
from fastgw.runtime import acme_messages as m
from fastgw.runtime import channel
from fastgw.runtime.acme_messages import Challenge
from fastgw.runtime.acme_order import Authority, OrderError
from fastgw.runtime.acme_renewals import Renewals
from fastgw.runtime.acme_store import Store, validity_of
from fastgw.runtime.events import DONE, FAILED, WAITS

# What `ps` and `top` show.
_NAME = "fastgw-acme"
# How often a second gateway looks whether the first has let go of the storage.
_LOCK_LOOK_S = 1.0
# The wall clock may be set, a laptop be closed, and a file be taken away so that it is got anew.
_LOOK_S = 60.0
# After a storage that can't be used.
_STORAGE_RETRY_S = 300.0


class Supervisor:
    """The other end of the channel, as it looks from here. `changed`: there are new settings."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._settings: AcmeSettings | None = None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.changed = threading.Event()

    def listen(self) -> None:
        """In a thread, to its end."""
        try:
            while True:
                message, _ = channel.receive(self._control)
                if message[0] == m.SETTINGS:
                    self._settings = message[1]
                    self.changed.set()
                else:
                    self._answers.put(message[1])
        except (EOFError, OSError):
            # It is gone, and may have a successor already.
            os._exit(0)

    def settings(self) -> AcmeSettings:
        """The newest; waits for the first."""
        while True:
            self.changed.wait()
            self.changed.clear()
            if self._settings is not None:
                return self._settings

    def show(self, challenges: tuple[Challenge, ...]) -> None:
        """Returns when they are in force in all workers. Raises OrderError when they can't be."""
        self._send((m.CHALLENGES, challenges))
        if why := self._answers.get():
            raise OrderError(f"the challenge can't be answered: {why}")

    def tell(self, outcome: str, detail: str) -> None:
        self._send((m.EVENT, outcome, detail))

    def _send(self, message: channel.Message) -> None:
        try:
            channel.send(self._control, message)
        except OSError:
            os._exit(0)


class Helper:
    """Keeps the certificates of one configuration, until there is another. `wait` returns whether there is, after so
    many seconds at the most."""

    def __init__(
        self,
        settings: AcmeSettings,
        store: Store,
        supervisor: Supervisor,
        now: Callable[[], float],
        wait: Callable[[float], bool],
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._now = now
        self._wait = wait
        # One from the future is from before the clock was set.
        attempts = {name: [at for at in times if at <= now()] for name, times in store.attempts().items()}
        self._renewals = Renewals(settings.names, settings.renew_before, attempts)
        self._authority = Authority(settings, store.account_key(), supervisor.show)

    def keep(self) -> None:
        while True:
            self._renewals.validities = self._store.validities()
            name, due = self._renewals.next()
            left = due - self._now()
            if left > 0:
                if self._wait(min(left, _LOOK_S)):
                    return
                continue
            self._get(name)
            if self._wait(0):
                return

    def _get(self, name: str) -> None:
        """Orders a certificate, and says what came of it."""
        renewals, now = self._renewals, self._now
        renewals.begun(name, now())
        # Before it begins: whatever kills this process, the authority is not asked in a circle.
        self._store.save_attempts(renewals.attempts)
        try:
            pem = self._authority.certificate(name)
            self._store.save(name, pem)
        except OrderError as error:
            fail = renewals.paused if error.concerns_all else renewals.failed
            self._fail(name, str(error), fail(name, now(), error.retry_after))
            # Where it was nobody's fault, it was no attempt.
            self._store.save_attempts(renewals.attempts)
        except OSError as error:
            self._fail(name, f"it can't be written: {error}", renewals.failed(name, now(), 0))
        else:
            validity = validity_of(pem, name)
            renewals.succeeded(name, validity)
            until, renewed = _date(validity.ends), _date(renewals.renewal(name))
            detail = f"there is a certificate for {name}, valid until {until}, to be renewed at {renewed}"
            self._supervisor.tell(DONE, detail)
        with contextlib.suppress(OrderError):
            self._supervisor.show(())

    def _fail(self, name: str, why: str, left: float) -> None:
        self._supervisor.tell(FAILED, f"{name}: {why}; the next attempt is in {duration(left)}")


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def duration(seconds: float) -> str:
    """As the configuration would write it."""
    minutes = max(round(seconds / 60), 1)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes or not hours else "")


def run(supervisor: Supervisor) -> None:
    """One configuration after the other."""
    while True:
        settings = supervisor.settings()
        store = Store(settings)
        try:
            if _take(store, settings, supervisor):
                # Wall time: certificates are dated in it.
                Helper(settings, store, supervisor, time.time, supervisor.changed.wait).keep()  # noqa: TID251
        except OSError as error:
            supervisor.tell(FAILED, f"{settings.storage} can't be used: {error.strerror or error}")
            if not supervisor.changed.wait(_STORAGE_RETRY_S):
                supervisor.changed.set()
        finally:
            store.let_go()


def _take(store: Store, settings: AcmeSettings, supervisor: Supervisor) -> bool:
    """Waits until the storage is ours alone; False: there are new settings."""
    if store.take():
        return True
    detail = f"another gateway gets the certificates in {settings.storage}; this one takes over when it ends"
    supervisor.tell(WAITS, detail)
    while not store.take():
        if supervisor.changed.wait(_LOCK_LOOK_S):
            return False
    return True


def main() -> None:
    # An orchestrator's is for the supervisor, with which this process ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    Path("/proc/self/comm").write_text(_NAME, encoding="ascii")
    supervisor = Supervisor(control)
    threading.Thread(target=supervisor.listen, name="control", daemon=True).start()
    run(supervisor)


if __name__ == "__main__":
    main()
