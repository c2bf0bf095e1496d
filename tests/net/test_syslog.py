from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path

import pytest

from fastgw.net.log_writer import LinesLost
from fastgw.net.syslog import Syslog, header, printable
from fastgw.snapshot import Address, SyslogTarget

# 2024-02-29T23:59:59.25Z
WALL = 1_709_251_199.25
LOCAL0, LOCAL7 = 16, 23
RECORD = re.compile(rb"<190>1 2024-02-29T23:59:59\.250000Z ([!-~]+) fastgw %d access - (.*)" % os.getpid(), re.DOTALL)


def syslog(transport: str, address: Address) -> Syslog:
    return Syslog(SyslogTarget(transport, address, LOCAL7, "fastgw"), f"syslog:{transport}", lambda: WALL)


def message(record: bytes) -> bytes:
    found = RECORD.fullmatch(record)
    assert found is not None, record
    return found[2]


def receiver(transport: str, directory: Path) -> tuple[socket.socket, Address]:
    if transport == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(str(directory / "log"))
        return sock, Address(path=str(directory / "log"))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    if transport == "tcp":
        sock.listen()
    sock.settimeout(10.0)
    return sock, Address("127.0.0.1", sock.getsockname()[1])


def records_in(stream: bytes) -> list[bytes]:
    """The records of a stream with octet counting (RFC 6587 §3.4.1)."""
    records = []
    while stream:
        length, _, stream = stream.partition(b" ")
        assert len(stream) >= int(length)
        records.append(stream[: int(length)])
        stream = stream[int(length) :]
    return records


def test_a_header_has_the_fields_of_the_rfc() -> None:
    made = header(LOCAL0, WALL, b"gate", b"shop", 7)
    assert made == b"<134>1 2024-02-29T23:59:59.250000Z gate shop 7 access - "


def test_what_is_no_printable_text_is_left_out_of_a_header() -> None:
    assert printable("ga te\n\u00e9", 9) == b"gate"
    assert printable("\n", 9) == b"-"
    assert printable("a" * 300, 255) == b"a" * 255


@pytest.mark.parametrize("transport", ["udp", "unix"])
def test_each_line_is_a_datagram(transport: str, tmp_path: Path) -> None:
    sock, address = receiver(transport, tmp_path)
    with sock:
        target = syslog(transport, address)
        lines = b'{"path":"/a"}\n{"path":"/b"}\n'
        assert target.write(memoryview(lines)) == len(lines)
        assert [message(sock.recv(4096)) for _ in range(2)] == [b'{"path":"/a"}', b'{"path":"/b"}']
        target.close()


def test_over_tcp_each_record_has_its_length_before_it(tmp_path: Path) -> None:
    sock, address = receiver("tcp", tmp_path)
    with sock:
        target = syslog("tcp", address)
        lines = b"".join(b"%d%b\n" % (number, b"x" * 100) for number in range(1000))
        rest = memoryview(lines)
        while rest:
            rest = rest[target.write(rest) :]
        target.close()
        accepted, _ = sock.accept()
        with accepted:
            stream = b""
            while data := accepted.recv(1 << 20):
                stream += data
    assert b"".join(message(record) + b"\n" for record in records_in(stream)) == lines


def test_a_line_that_is_longer_than_a_piece_is_one_record(tmp_path: Path) -> None:
    sock, address = receiver("udp", tmp_path)
    with sock:
        target = syslog("udp", address)
        long = b"x" * 40_000
        assert target.write(memoryview(long + b"\nb\n")) == len(long) + 1
        assert message(sock.recv(1 << 16)) == long
        # No datagram can be so long; the others still come.
        with pytest.raises(LinesLost, match=os.strerror(errno.EMSGSIZE)) as lost:
            target.write(memoryview(b"x" * 70_000 + b"\n"))
        assert (lost.value.taken, lost.value.count) == (70_001, 1)
        target.write(memoryview(b"c\n"))
        assert message(sock.recv(1 << 16)) == b"c"
        target.close()


def test_a_datagram_that_nobody_has_taken_is_lost_and_counted(tmp_path: Path) -> None:
    sock, address = receiver("udp", tmp_path)
    sock.close()
    target = syslog("udp", address)
    lines = memoryview(b"a\nb\nc\n")
    taken = lost = 0
    while taken < len(lines):
        try:
            taken += target.write(lines[taken:])
        except LinesLost as error:
            taken += error.taken
            lost += error.count
    # What becomes of the last one is only known when there is one more.
    assert lost == 2
    target.close()


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_lines_wait_for_a_receiver_that_is_gone(transport: str, tmp_path: Path) -> None:
    sock, address = receiver(transport, tmp_path)
    target = syslog(transport, address)
    sock.close()
    with pytest.raises(OSError, match="refused") as refused:
        target.write(memoryview(b"a\n"))
    assert not isinstance(refused.value, LinesLost)
    if transport == "unix":
        (tmp_path / "log").unlink()
        with pytest.raises(FileNotFoundError):
            target.write(memoryview(b"a\n"))
        sock, _ = receiver(transport, tmp_path)
        assert target.write(memoryview(b"a\n")) == 2
        assert message(sock.recv(4096)) == b"a"
        sock.close()
        # Gone again, and noticed although it was there a moment ago.
        with pytest.raises(ConnectionRefusedError):
            target.write(memoryview(b"b\n"))
    target.close()


def test_a_connection_that_its_receiver_has_closed_takes_nothing_with_it(tmp_path: Path) -> None:
    sock, address = receiver("tcp", tmp_path)
    with sock:
        target = syslog("tcp", address)
        target.write(memoryview(b"a\n"))
        accepted, _ = sock.accept()
        with accepted:
            assert message(records_in(accepted.recv(4096))[0]) == b"a"
        with pytest.raises(ConnectionResetError):
            target.write(memoryview(b"b\n"))
        assert target.write(memoryview(b"b\n")) == 2
        accepted, _ = sock.accept()
        with accepted:
            assert message(records_in(accepted.recv(4096))[0]) == b"b"
        target.close()


def test_a_receiver_that_does_not_read_has_no_room_and_tears_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastgw.net.syslog._LOOK_S", 0.01)
    sock, address = receiver("tcp", tmp_path)
    with sock:
        target = syslog("tcp", address)
        line, sent = b"x" * 1000 + b"\n", 0
        lines = memoryview(line * 16)
        while taken := target.write(lines):
            sent += taken
        accepted, _ = sock.accept()
        with accepted:
            accepted.settimeout(10.0)
            stream = b""
            while True:
                stream += accepted.recv(1 << 20)
                if taken := target.write(lines):
                    sent += taken
                    break
            target.close()
            while data := accepted.recv(1 << 20):
                stream += data
    assert b"".join(message(record) + b"\n" for record in records_in(stream)) == line * (sent // len(line))


def test_a_unix_socket_whose_queue_is_full_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgw.net.syslog._LOOK_S", 0.01)
    sock, address = receiver("unix", tmp_path)
    with sock:
        target = syslog("unix", address)
        sent = 0
        while taken := target.write(memoryview(b"a\n" * 50)):
            sent += taken
        sock.settimeout(10.0)
        assert sent > 0
        assert [message(sock.recv(4096)) for _ in range(sent // 2)] == [b"a"] * (sent // 2)
        assert target.write(memoryview(b"b\n")) == 2
        target.close()
