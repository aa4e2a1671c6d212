from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinecast.data.tfrecord import Span, bytes_features, crc32c, read_record, record_spans
from kinecast.errors import KinecastError
from tfrecords import crc32c_bitwise, example, record


def test_crc_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value
    assert crc32c(bytes(32)) == 0x8A9136AA


@given(st.binary(max_size=200))
@settings(max_examples=25, deadline=None)
def test_crc_is_that_of_the_definition(data: bytes) -> None:
    assert crc32c(data) == crc32c_bitwise(data)


def test_records_are_found_and_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecords"
    path.write_bytes(record(b"one") + record(b"") + record(b"three"))
    spans, damage = record_spans(path)
    assert damage is None
    assert [read_record(path, span) for span in spans] == [b"one", b"", b"three"]


@pytest.mark.parametrize(("cut", "whole", "words"), [(1, 1, "cut off in record 1"), (18, 1, "cut off in the head")])
def test_a_file_that_is_cut_off_gives_the_records_before(tmp_path: Path, cut: int, whole: int, words: str) -> None:
    path = tmp_path / "a.tfrecords"
    path.write_bytes((record(b"one") + record(b"three"))[:-cut])
    spans, damage = record_spans(path)
    assert len(spans) == whole and damage is not None and words in damage


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecords"
    good = record(b"one")
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        spans, damage = record_spans(path)
        if damage is None:
            with pytest.raises(KinecastError, match="does not match its CRC"):
                read_record(path, spans[0])


def test_lists_of_bytes_are_read_and_others_passed_over() -> None:
    data = example({"0/a/encoded": b"abc", "1/a/encoded": bytes(300)}, {"0/position": (1.0, 2.0)})
    assert bytes_features(data) == {"0/a/encoded": b"abc", "1/a/encoded": bytes(300)}


@given(st.binary(max_size=80))
@settings(max_examples=60, deadline=None)
def test_foreign_messages_end_in_our_error_alone(data: bytes) -> None:
    try:
        bytes_features(data)
    except KinecastError:
        pass


def test_a_record_cut_off_after_listing(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecords"
    path.write_bytes(record(b"one")[:-3])
    with pytest.raises(KinecastError, match="copy or download"):
        read_record(path, Span(12, 3))
