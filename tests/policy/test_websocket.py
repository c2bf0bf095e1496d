from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side

from fastgw.policy.websocket import GOING_AWAY, FrameTracker, close_frame

SIZES = st.sampled_from([0, 1, 125, 126, 127, 65535, 65536, 70000])


def frame(opcode: Opcode, size: int, masked: bool, final: bool = True) -> bytes:
    return Frame(opcode, b"x" * size, fin=final).serialize(mask=masked)


def fed(*pieces: bytes) -> FrameTracker:
    tracker = FrameTracker()
    for piece in pieces:
        tracker.feed(piece)
    return tracker


@given(st.lists(st.tuples(SIZES, st.booleans()), min_size=1, max_size=4), st.data())
def test_a_frame_may_stand_behind_whole_frames_and_nowhere_else(
    frames: list[tuple[int, bool]], data: st.DataObject
) -> None:
    wire, ends = b"", {0}
    for size, masked in frames:
        wire += frame(Opcode.BINARY, size, masked)
        ends.add(len(wire))
    at = data.draw(st.one_of(st.integers(0, len(wire)), st.sampled_from(sorted(ends))))
    cuts = sorted(data.draw(st.lists(st.integers(0, at), max_size=5)))
    pieces = [wire[start:stop] for start, stop in zip([0, *cuts], [*cuts, at], strict=True)]
    assert fed(*pieces).may_end == (at in ends)


def test_between_the_fragments_of_a_message_a_control_frame_may_stand() -> None:
    assert fed(frame(Opcode.TEXT, 5, masked=True, final=False)).may_end


def test_behind_a_goodbye_nothing_is_said() -> None:
    assert not fed(Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=False)).may_end


def test_a_flood_of_tiny_frames_is_not_followed() -> None:
    tracker = fed(b"\0\0" * 100_000)
    assert not tracker.may_end
    tracker.feed(frame(Opcode.TEXT, 5, masked=False))
    assert not tracker.may_end


def test_byte_by_byte_is_all_the_same() -> None:
    wire = frame(Opcode.BINARY, 70000, masked=True)
    tracker = FrameTracker()
    assert [index for index in range(len(wire)) if (tracker.feed(wire[index : index + 1]), tracker.may_end)[1]] == [
        len(wire) - 1
    ]


def test_both_sides_understand_the_last_frame() -> None:
    for side, mask in ((Side.CLIENT, b""), (Side.SERVER, b"\x01\x02\x03\x04")):
        protocol = Protocol(side)
        protocol.receive_data(close_frame(GOING_AWAY, mask))
        assert protocol.close_rcvd is not None
        assert protocol.close_rcvd.code == GOING_AWAY
