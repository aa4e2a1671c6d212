import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinecast.codec import entropy
from kinecast.errors import KinecastError

NUMBER = st.tuples(
    st.integers(-3000, 6000),  # scale
    st.integers(-(1 << 31), 1 << 31),  # predicted
    st.sampled_from([1, 255, 256, 1024, 4000, 65536]),
    st.integers(-32767, 32767),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(NUMBER, max_size=40))
def test_any_level_survives_any_prediction(numbers):
    encoder = entropy.Encoder()
    coded = [encoder.code(*number) for number in numbers]
    payload = encoder.finish()
    decoder = entropy.Decoder(payload)
    assert [decoder.code(scale, predicted, step) for scale, predicted, step, _ in numbers] == coded
    assert [level for level, _ in coded] == [number[3] for number in numbers]
    assert all(abs(place) <= 1 << 15 for _, place in coded)
    assert 8 * len(payload) <= entropy.WORST_BITS * len(numbers) + 64
    assert not payload.endswith(b"\0")


def test_cumulatives_of_constriction_are_what_the_protocol_says():
    """The interval of each symbol, from whole numbers alone, against the one that the library uses."""
    from constriction import stream

    unit = ((1 << 64) - 1) >> 24
    start = 0
    for bucket in range(0, entropy.BUCKETS, 3):
        start = sum(8 * (2 * entropy.reach(b) + 2) for b in range(bucket))
        size = 2 * entropy.reach(bucket) + 2
        table = entropy.table_array()[start : start + size].tolist()
        model = entropy._models()[bucket][0]
        edges = cumulatives(table)
        for symbol in range(0, size, 5):
            coder = stream.queue.RangeEncoder()
            coder.encode(symbol, model)
            _, (lower, width) = coder.pos()
            low, wide = unit * edges[symbol], unit * (edges[symbol + 1] - edges[symbol])
            if wide < 1 << 32:
                low, wide = low << 32 & ((1 << 64) - 1), wide << 32
            assert (lower, width) == (low, wide)


def cumulatives(frequencies):
    """docs/protocol.md, "From frequencies to intervals"."""
    free, total, edges = (1 << 24) - len(frequencies), 0, []
    for index, frequency in enumerate(frequencies):
        product = total * free  # of which float32 keeps 24 bits, to the nearest, halves to even
        drop = max(product.bit_length() - 24, 0)
        kept, left = product >> drop, product & ((1 << drop) - 1)
        kept += left * 2 > 1 << drop or (left * 2 == 1 << drop and kept & 1 and drop > 0)
        edges.append((kept << drop >> 16) + index)
        total += frequency
    return [*edges, 1 << 24]


def test_logarithms_agree_and_are_rounded_down():
    values = np.unique(np.concatenate([np.arange(1, 5000), 2 ** np.arange(40), 3 ** np.arange(25)]))
    each = [entropy.log2(int(v)) for v in values]
    assert entropy.log2_array(values).tolist() == each
    assert np.all(np.abs(np.array(each) / 256 - np.log2(values)) < 3 / 256)


def test_places_lean_towards_the_prediction():
    """Exactly below a level, in the middle of its cell; beside it, to the prediction's side, and mirrored alike."""
    encoder = entropy.Encoder()
    for scale in (-512, -256, 0, 256):
        places = [encoder.code(scale, 65536 * 8 + offset, 65536, 8)[1] for offset in (-40000, -4096, 4095, 39999)]
        assert places[0] < places[1] < 0 < places[2] < places[3] and places[0] == -places[3]
    assert encoder.code(0, 0, 65536, 30000)[1] == encoder.code(2000, 0, 65536, 5)[1] == 0  # an escape; low bits sent


def test_tables_of_another_shape_are_refused():
    tables = entropy.table_array().copy()
    with pytest.raises(KinecastError, match="entropy tables: expected"):
        entropy.check_tables(tables[:-1])
    tables[0] += 1
    with pytest.raises(KinecastError, match="sum to 65536"):
        entropy.check_tables(tables)


def test_a_number_outside_every_interval_is_refused():
    decoder = entropy.Decoder(b"\xff" * 64)
    with pytest.raises(KinecastError, match="motion packet: expected valid levels"):
        for _ in range(1000):
            decoder.code(0, 0, 256)
