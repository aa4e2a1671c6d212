import numpy as np
import pytest

from kinecast.codec import Component, Layout, dequantize, quantize
from kinecast.errors import KinecastError


def test_levels_are_the_nearest_whole_numbers_of_steps():
    layout = Layout.fomm(2, value=1 / 256, jacobian=1 / 64)
    vectors = np.random.default_rng(0).uniform(-2, 2, (50, layout.dim)).astype(np.float32)
    levels = quantize(vectors, layout)
    error = np.abs(dequantize(levels, layout) - vectors)
    assert (error <= layout.steps / 65536 / 2 + 1e-6).all()
    assert np.array_equal(quantize(dequantize(levels, layout), layout), levels)


def test_halves_go_to_even_levels():
    layout = Layout.plain(4, 1 / 256)
    assert quantize(np.array([[0.5, 1.5, -0.5, 2.5]]) / 256, layout).tolist() == [[0, 2, 0, 2]]


def test_order_puts_positions_of_all_keypoints_before_jacobians():
    layout = Layout.fomm(2)
    assert layout.order.tolist() == [0, 1, 6, 7, 2, 3, 4, 5, 8, 9, 10, 11]
    assert layout.owners.tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert layout.groups.tolist() == [0] * 4 + [1] * 8


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.full((3, 4), np.nan), "found NaN or infinity in frame 0"),
        (np.array([[0.0] * 4, [0, np.inf, 0, 0]]), "found NaN or infinity in frame 1"),
        (np.full((1, 4), 128.0), "expected numbers within ±127.996 at this step, found 128 in frame 0"),
        (np.zeros((2, 5)), r"expected numbers \(T, 4\), found float64 \(2, 5\)"),
        (np.zeros(4), r"expected numbers \(T, 4\)"),
        (np.array([["a"] * 4]), r"expected numbers \(T, 4\)"),
    ],
)
def test_what_cannot_be_quantised_is_refused(vectors, message):
    with pytest.raises(KinecastError, match=message):
        quantize(vectors, Layout.plain(4, 1 / 256))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Layout.plain(257), "at most 256|1 to 256"),
        (lambda: Layout.plain(4, 0.0), "step"),
        (lambda: Layout.plain(4, float("nan")), "step"),
        (lambda: Layout("x", 4, ()), "1 to 8 components"),
        (lambda: Layout("x", 4, (Component("a", 1, 1), Component("a", 1, 1))), "different names"),
        (lambda: Component("a b", 1, 1), "component name"),
    ],
)
def test_layouts_beyond_the_limits_are_refused(make, message):
    with pytest.raises(KinecastError, match=message):
        make()
