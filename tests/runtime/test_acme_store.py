from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from fastgw.config.acme_settings import AcmeSettings
from fastgw.runtime.acme_store import Store, new_key, validity_of


@pytest.fixture
def settings(tmp_path: Path) -> AcmeSettings:
    return AcmeSettings("https://ca.test/dir", tmp_path / "deep" / "acme", "http-01", ("a.test", "b.test"))


@pytest.fixture
def store(settings: AcmeSettings) -> Store:
    made = Store(settings)
    assert made.take()
    return made


def pair(*names: str) -> bytes:
    return trustme.CA().issue_cert(*names).private_key_and_cert_chain_pem.bytes()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_it_writes_is_for_nobody_else_whatever_the_umask(settings: AcmeSettings) -> None:
    before = os.umask(0)
    try:
        store = Store(settings)
        store.take()
        store.account_key()
        store.save("a.test", pair("a.test"))
        store.save_attempts({"a.test": [1.0]})
    finally:
        os.umask(before)
    files = [path for path in settings.storage.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["a.test.pem", "account.key", "attempts.json", "lock"]
    assert {mode(path) for path in files} == {0o600}
    assert {mode(path) for path in (settings.storage, settings.folder)} == {0o700}


def test_a_directory_that_is_there_may_be_others_too_but_what_is_in_it_is_ours(settings: AcmeSettings) -> None:
    settings.folder.mkdir(parents=True)
    for directory in (settings.storage, settings.folder):
        directory.chmod(0o755)
    Store(settings).take()
    assert (mode(settings.storage), mode(settings.folder)) == (0o755, 0o700)


def test_the_account_s_key_is_made_once(store: Store, settings: AcmeSettings) -> None:
    assert store.account_key() == store.account_key() == Store(settings).account_key()


def test_one_process_orders_and_the_next_when_it_has_let_go(store: Store, settings: AcmeSettings) -> None:
    other = Store(settings)
    assert not other.take()
    store.let_go()
    assert other.take()


def test_the_validities_are_of_what_can_be_used(store: Store, settings: AcmeSettings) -> None:
    store.save("a.test", pair("a.test"))
    assert list(store.validities()) == ["a.test"]
    for broken in (b"", b"\xff", pair("c.test"), pair("b.test")[:500], new_key()):
        store.save("b.test", broken)
        assert list(store.validities()) == ["a.test"]


def test_a_key_of_another_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="another key"):
        validity_of(new_key() + pair("a.test").partition(b"-----END EC PRIVATE KEY-----")[2], "a.test")
    with pytest.raises(ValueError, match=r"not for b\.test"):
        validity_of(pair("a.test"), "b.test")


def test_attempts_are_remembered_and_a_broken_file_is_as_good_as_none(store: Store, settings: AcmeSettings) -> None:
    assert store.attempts() == {}
    store.save_attempts({"a.test": [1.5, 2.0]})
    assert store.attempts() == {"a.test": [1.5, 2.0]}
    for broken in ("", "[]", "{", '{"a": 1}', '{"a": ["x"]}', '{"a": [null]}'):
        (settings.folder / "attempts.json").write_text(broken)
        assert store.attempts() == {}


_WRITES = """
import sys
from pathlib import Path
from fastgw.config.acme_settings import AcmeSettings
from fastgw.runtime.acme_store import Store
store = Store(AcmeSettings("https://ca.test/dir", Path(sys.argv[1]), "http-01", ("a.test",)))
pairs = [Path(name).read_bytes() for name in sys.argv[2:]]
print("writes", flush=True)
while True:
    for pair in pairs:
        store.save("a.test", pair)
"""


@pytest.mark.parametrize("after_writes", range(5))
def test_killed_at_any_moment_it_leaves_the_old_pair_or_the_new(
    after_writes: int, store: Store, settings: AcmeSettings, tmp_path: Path
) -> None:
    pairs = [pair("a.test"), pair("a.test") * 20]
    names = []
    for number, content in enumerate(pairs):
        (tmp_path / f"{number}.pem").write_bytes(content)
        names.append(str(tmp_path / f"{number}.pem"))
    store.save("a.test", pairs[0])
    file = settings.certificate_file("a.test")
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES, str(settings.storage), *names], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen, inode = 0, file.stat().st_ino
        while seen < after_writes:
            now = file.stat().st_ino
            seen, inode = seen + (now != inode), now
            assert file.read_bytes() in pairs
        process.send_signal(signal.SIGKILL)
    assert file.read_bytes() in pairs
    # What it left half written is no obstacle.
    store.save("a.test", pairs[1])
    assert file.read_bytes() == pairs[1]
