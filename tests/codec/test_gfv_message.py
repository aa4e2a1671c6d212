"""The generative face video SEI message: bytes worked out by hand, round trips, damage and hostility."""

import time
import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.gfv_messages import base_messages, later_messages, payloads_of
from kinecast.codec.gfv import ChromaKey, GfvDecoder, GfvMessage, Matrices, MatrixGroup, Network, Points
from kinecast.codec.gfv.bits import BitReader, BitWriter
from kinecast.errors import KinecastError

ONE = (2, 0, 0, 0, 2, 0, 0, 0, 2)  # the unit matrix in halves

# 1 id 0, 1 count 0, 1 base, 0 no network, 0 no chroma key, 0 sure, 1 key points, 0 not predicted    e2
# 011 precision 3, 1 one point, 0 without z, 010 and 0: x 1/8; 011 and 1: y -2/8, 0 no matrices,
# 1 the end, 0                                                                                        72 3a
POINTS = GfvMessage(base=True, points=Points(((1, -2),), 3))

# 1 1 1 as above, 1 a network, 010 by its address, 0 to a whole byte                                  f4
# "t", "u"                                                                                            7400 7500
# 0 no chroma key, 1 not sure, 1 key points, 0 not predicted, 010 precision 2, 1 one point            65
# 1 with z, 1 of at most 1, 1 x 0, 010 0: y 1/4, 0010 0 1: z -3/4, 1 matrices, 1 precision 1, 1 one type
#     11101000 01001111                                                                               e8 4f
# 000100 type 4 of 3x3, since there is z; 010 0 0: 1, and 1 0: 0, row by row, 1 the end
#     00010001 00010101 00100010 10100100 01000000                                                    11 15 22 a4 40
ADDRESS = GfvMessage(
    base=True,
    network=Network("t", "u"),
    low_confidence=True,
    points=Points(((0, 1, -3),), 2, z_max=1),
    matrices=Matrices((MatrixGroup(4, (1, 3, 3), ONE),), 1),
)

# 1 id 0, 1 count 0, 0 not base, 0 no fusion, 0 sure, 1 key points, 1 predicted; 010 0: x +1/4, 1: y, 011 0: z +2/4
#     11000110 10010110                                                                               c6 96
# 1 matrices, 1 predicted; 1 010 1: -(0 + 1/2); eight times 1 1: 0; 1 the end                         eb ff ff
DIFFERENCES = GfvMessage(
    points=Points(((1, 0, 2),), 2, z_max=1, predicted=True),
    matrices=Matrices((MatrixGroup(4, (1, 3, 3), (-1, *(8 * (0,)))),), 1, predicted=True),
)

# 010 id 1, 1 count 0, 1 base, 1 a network, 1 as bytes, 1 chroma key                                  5f
# 1 Y 00110010, 0 and 0 no Cb and Cr, 1 011: a first threshold of 2, 0 no second                      99 16
# 0 sure, 0 no key points, 1 matrices, 00100 precision 4                                              24
# 010 two types, 000101 type 5, 0 of a plane; 000111 type 7, 1 one, 010 of width 2, 1 and height 1
# 1 0101 0: 5/16, 010 1000 1: -(1 + 8/16), 1 0000: 0, 010 0000 0: 1, whole bytes: no end              42 87 ad 4a 30 40
# "AB"                                                                                                4142
BYTES = GfvMessage(
    id=1,
    base=True,
    network=Network(data=b"AB"),
    chroma_key=ChromaKey((50, None, None), (2, None)),
    matrices=Matrices((MatrixGroup(5, (1, 2, 1), (5, -24)), MatrixGroup(7, (1, 1, 2), (0, 16))), 4),
)

GOLDEN = {
    "points": (POINTS, None, "e2723a"),
    "address": (ADDRESS, None, "f47400750065e84f111522a440"),
    "differences": (DIFFERENCES, ADDRESS, "c696ebffff"),
    "bytes": (BYTES, None, "5f9916244287ad4a30404142"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_messages_are_the_bytes_worked_out_by_hand(name):
    message, base, golden = GOLDEN[name]
    assert bytes(message).hex() == golden
    assert GfvMessage.parse(bytes.fromhex(golden), base) == message


def test_codes_of_numbers():
    """H.264, tables 9-2 and 9-3."""
    out = BitWriter()
    for value in range(6):
        out.ue(value)
    for value in (0, 1, -1, 2, -2, 3):
        out.se(value)
    text = "1 010 011 00100 00101 00110" + "1 010 011 00100 00101 00110"
    assert bytes(out) == int(text.replace(" ", "").ljust(48, "0"), 2).to_bytes(6, "big")
    bits = BitReader(bytes(out))
    assert [bits.ue() for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    assert [bits.se() for _ in range(6)] == [0, 1, -1, 2, -2, 3]


@given(st.lists(st.tuples(st.integers(0, 33), st.integers(0, (1 << 33) - 1))))
def test_numbers_of_any_size_come_back(pairs):
    out = BitWriter()
    pairs = [(size, value & (1 << size) - 1) for size, value in pairs]
    for size, value in pairs:
        out.u(size, value)
        out.ue(min(value, (1 << 32) - 2))
    bits = BitReader(bytes(out))
    for size, value in pairs:
        assert bits.u(size) == value and bits.ue() == min(value, (1 << 32) - 2)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_every_message_comes_back(data):
    base = data.draw(base_messages())
    assert GfvMessage.parse(bytes(base)) == base
    later = data.draw(later_messages(base))
    assert GfvMessage.parse(bytes(later), base) == later


@pytest.mark.parametrize("known", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_matrices_of_key_points_may_be_fewer_or_more(known, count):
    group = MatrixGroup(0, (count, 2, 2), tuple(range(4 * count)))
    message = GfvMessage(base=True, points=Points(((0, 0),) * known, 4), matrices=Matrices((group,), 4))
    assert GfvMessage.parse(bytes(message)) == message


def test_a_fraction_that_is_a_whole_is_read():
    """The reference writer rounds 0.99 up to 2^p / 2^p in a difference: 1 0101 stands for 0 + 2/2 here."""
    base = GfvMessage(base=True, matrices=Matrices((MatrixGroup(5, (1, 2, 1), (0, 0)),), 1))
    # 1 1 0 0 0 0 1 1: not base, matrices of differences; 1 011 0: 0 + 2/2; 1 1: 0; 1 the end
    message = GfvMessage.parse(bytes([0b11000011, 0b10110111]), base)
    assert message.matrices is not None and message.matrices.groups[0].numbers == (2, 0)


def test_an_extension_is_passed_over():
    assert GfvMessage.parse(bytes(POINTS) + b"\x12\x80") == POINTS


@pytest.mark.parametrize("name", GOLDEN)
def test_every_cut_is_an_error_of_one_line(name):
    message, base, golden = GOLDEN[name]
    data = bytes.fromhex(golden)
    for size in range(len(data) - (2 if name == "bytes" else 0)):  # the network's own bytes may be any
        with pytest.raises(KinecastError, match="GFV message: expected") as caught:
            GfvMessage.parse(data[:size], base)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected key points or matrices, found neither"),
        ({"points": Points(((0, 0),), 3), "network": Network("t", "u")}, "a network or chroma key with a base picture"),
        ({"points": Points(((0, 0),), 3), "count": 1, "base": True}, "a base picture of count 0"),
        ({"matrices": Matrices((MatrixGroup(0, (1, 2, 2), (0,) * 4),), 1)}, "key points with matrices of type 0"),
        (
            {"points": Points(((0, 0),), 3), "matrices": Matrices((MatrixGroup(5, (1, 3, 1), (0,) * 3),), 1)},
            "as many rows as coordinates",
        ),
        ({"id": -1, "points": Points(((0, 0),), 3)}, "id and count from 0"),
    ],
)
def test_messages_that_the_syntax_cannot_tell_are_refused(arguments, message):
    with pytest.raises(KinecastError, match=message):
        GfvMessage(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Points(((0, 0),), 0), "precision of 1 to 32"),
        (lambda: Points((), 3), "1 to 16384 key points"),
        (lambda: Points(((0, 0, 0),), 3), "2 coordinates"),
        (lambda: MatrixGroup(4, (1, 2, 3), (0,) * 6), "a shape of type 4"),
        (lambda: MatrixGroup(2, (2, 1, 1), (0,) * 2), "a shape of type 2"),
        (lambda: MatrixGroup(64, (1, 1, 1), (0,)), "type from 0 to 63"),
        (lambda: MatrixGroup(9, (1, 1, 2), (0,)), "elements, found 1"),
        (lambda: Network("t", "u", b""), "as bytes or as an address"),
        (lambda: Network("a\0", "u"), "without zero characters"),
    ],
)
def test_parts_that_the_syntax_cannot_tell_are_refused(make, message):
    with pytest.raises(KinecastError, match=message):
        make()


def _cases(count, seed=0):
    """Messages of a sender on its way, and among them copies, damage, forged beginnings and noise."""
    random = Random(seed)
    streams = [payloads_of(kind) for kind in ("fomm", "mesh", "face-vid2vid")]
    golden = [bytes.fromhex(each[2]) for each in GOLDEN.values()]
    for index in range(count):
        stream = streams[index // 50 % len(streams)]
        data = bytearray(stream[0] if random.random() < 0.1 else random.choice(stream))
        kind = random.randrange(8)
        if kind in (3, 4):
            for _ in range(random.randrange(1, 4)):
                data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        elif kind == 5:
            data = data[: random.randrange(len(data))]
        elif kind == 6:
            data = bytearray(random.randbytes(random.randrange(60)))
        elif kind == 7:
            data = bytearray(random.choice(golden)[: random.randrange(1, 12)] + random.randbytes(random.randrange(400)))
        yield index % 50 == 0, bytes(data)


def _fuzz(count):
    tracemalloc.start()
    started = time.process_time()
    outcomes = {"frames": 0, "passed over": 0, "refused": 0}
    decoder = GfvDecoder()
    peak = 0
    for index, (anew, data) in enumerate(_cases(count)):
        if index == 1000:  # which it slows down
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        decoder = GfvDecoder() if anew else decoder
        try:
            frame = decoder.push(data)
        except KinecastError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
            continue
        outcomes["passed over" if frame is None else "frames"] += 1
        if frame is not None and index % 4 == 0:
            assert GfvMessage.parse(bytes(frame.message), decoder.base) == frame.message
    assert 0 < peak < 64e6
    # Each way out is taken often: a reader that only ever refuses would pass otherwise.
    assert min(outcomes.values()) > count / 50, outcomes
    return time.process_time() - started, outcomes | {"peak_bytes": peak}


def test_hostile_messages_give_an_error_or_a_frame():
    assert _fuzz(2000)[0] < 30


@pytest.mark.slow
def test_a_hundred_thousand_hostile_messages(capsys):
    seconds, outcomes = _fuzz(100_000)
    with capsys.disabled():
        print(f"\n100 000 messages in {seconds:.0f} s of CPU time: {outcomes}")
    assert seconds < 600


def test_one_hostile_message_costs_little_time_and_memory():
    """A few bytes that promise 2^30 elements, and as many bytes as an access unit may have."""
    out = BitWriter()
    for bit in (1, 1, 1, 0, 0, 0, 0, 1):  # a base picture with matrices alone
        out.u(1, bit)
    out.ue(0)
    out.ue(0)
    out.u(6, 9)
    for _ in range(3):
        out.ue(1023)
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(KinecastError, match="1 to 16384 elements, found 1073741824"):
        GfvMessage.parse(bytes(out) + b"\xff" * 1000)
    points = BitWriter()
    for bit in (1, 1, 1, 0, 0, 0, 1, 0, 1):
        points.u(1, bit)
    points.ue(16383)
    points.u(1, 0)
    GfvMessage.parse(bytes(points) + b"\xff" * (1 << 20))
    assert time.process_time() - started < 10
    assert tracemalloc.get_traced_memory()[1] < 64e6
    tracemalloc.stop()
