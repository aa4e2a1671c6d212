"""NAL units and SEI messages: bytes worked out by hand, emulation prevention, units with and without messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinecast.codec.gfv import CODECS, escape, sei_messages, sei_unit, unescape, with_sei
from kinecast.codec.gfv.nal import units
from kinecast.errors import KinecastError

H264, HEVC = CODECS["h264"], CODECS["hevc"]


@pytest.mark.parametrize(
    ("codec", "payload", "golden"),
    [
        # Type 6; payload type 223 and size 3 in a byte each; a 3 before the byte 1 after two zeros; the end, 80.
        (H264, "000001", "06 df 03 00 00 03 01 80"),
        # Type 39, layer 0, temporal id 0 + 1: 0 100111 000000 001.
        (HEVC, "000001", "4e 01 df 03 00 00 03 01 80"),
        # 300 is 255 and 45; of four zeros each pair is followed by a 3, and the byte 4 needs none.
        (H264, "0000000004" + 295 * "aa", "06 df ff 2d 00 00 03 00 00 04" + 295 * "aa" + "80"),
        (H264, "0000000000", "06 df 05 00 00 03 00 00 03 00 80"),
    ],
)
def test_sei_units_are_the_bytes_worked_out_by_hand(codec, payload, golden):
    assert sei_unit(codec, 223, bytes.fromhex(payload)) == bytes.fromhex(golden)
    assert list(sei_messages(codec, b"\0\0\1" + bytes.fromhex(golden))) == [(223, bytes.fromhex(payload))]


@given(st.lists(st.integers(0, 4)).map(bytes) | st.binary())
def test_no_start_code_stands_in_a_unit(content):
    escaped = escape(content + b"\x80")
    assert unescape(escaped) == content + b"\x80"
    assert not any(escaped[i : i + 2] == b"\0\0" and escaped[i + 2] < 3 for i in range(len(escaped) - 2))


@given(st.lists(st.tuples(st.integers(0, 1000), st.binary(max_size=600)), max_size=4))
def test_messages_come_back_of_a_unit_each_and_of_one_for_all(messages):
    for codec in CODECS.values():
        data = b"".join(b"\0\0\0\1" + sei_unit(codec, kind, payload) for kind, payload in messages)
        assert list(sei_messages(codec, data)) == messages
        inner = b"".join(unescape(sei_unit(codec, *each))[codec.header : -1] for each in messages)
        assert list(sei_messages(codec, b"\0\0\1" + codec.head + escape(inner + b"\x80"))) == messages


def test_a_message_stands_before_the_first_slice_and_others_are_left_out():
    sets, own, slices = b"\x67\x64\x0a", sei_unit(H264, 5, b"made by x264"), [b"\x65one", b"\x65two"]
    unit = b"".join(b"\0\0\0\1" + each for each in (sets, own, *slices))
    found = list(units(with_sei(H264, unit, 223, b"message")))
    assert found == [sets, sei_unit(H264, 223, b"message"), *slices]
    with pytest.raises(KinecastError, match="expected a slice"):
        with_sei(H264, b"\0\0\0\1" + sets, 223, b"message")


@pytest.mark.parametrize("cut", ["df", "df ff", "ff", "df 05 01 02"])
def test_a_message_that_is_cut_off_is_an_error_of_one_line(cut):
    with pytest.raises(KinecastError, match="SEI message: expected .* cut off"):
        list(sei_messages(H264, b"\0\0\1\x06" + bytes.fromhex(cut) + b"\x80"))


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(data):
    for codec in CODECS.values():
        try:
            found = list(sei_messages(codec, b"\0\0\1" + codec.head + data))
        except KinecastError as error:
            assert "\n" not in str(error)
        else:
            assert sum(len(payload) for _, payload in found) <= len(data)
