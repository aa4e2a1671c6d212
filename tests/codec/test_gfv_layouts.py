"""Levels as key points and matrices, and back without loss; what differences start from; the network's address."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codec.gfv_messages import layout_of
from kinecast.codec import Layout, dequantize
from kinecast.codec.gfv import (
    FrameCoder,
    GfvDecoder,
    GfvEncoder,
    GfvMessage,
    Network,
    Points,
    References,
    Sender,
    exact_layout,
)
from kinecast.errors import KinecastError
from kinecast.models.blocks.head_pose import rotation_matrix

KINDS = ("fomm", "tps", "face-vid2vid", "mesh", "unheard-of")


def levels_of(layout: Layout, frames: int, most: float = 0.8, seed: int = 0) -> np.ndarray:
    """(frames, D): smooth motion within `most` motion units of 0."""
    random = np.random.default_rng(seed)
    phase, rest = random.uniform(0, 6, layout.dim), random.uniform(-0.5, 0.5, layout.dim)
    path = most * (0.5 * np.sin(np.arange(frames)[:, None] / 6 + phase) + rest)
    return np.rint(path * 65536 / layout.steps).astype(np.int32)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("quality", [1, 5, 6, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_levels_come_back(kind, quality, count):
    layout = layout_of(kind, quality)
    levels = levels_of(layout, 12)
    encoder, decoder, coder = GfvEncoder(layout), GfvDecoder(), FrameCoder(layout)
    for frame in levels:
        read = decoder.push(encoder.push(frame, count))
        assert read is not None and np.array_equal(coder.levels(read.values), frame)
        step = np.abs(coder.vector(read.values) - dequantize(frame[None], layout)[0]) * 65536 / layout.steps
        assert step.max() < 0.5


def test_steps_of_powers_of_two_send_the_levels_themselves():
    layout = layout_of("fomm", 5)
    levels = levels_of(layout, 1)[0]
    message = FrameCoder(layout).message(levels)
    assert message.points is not None and message.matrices is not None
    assert (message.points.precision, message.matrices.precision) == (7, 4)
    per_keypoint = levels.reshape(10, 6)
    assert message.points.numbers == tuple(map(tuple, per_keypoint[:, :2].tolist()))
    assert message.matrices.groups[0].numbers == tuple(per_keypoint[:, 2:].ravel().tolist())
    assert message.matrices.groups[0].shape == (10, 2, 2)
    assert [part.step for part in exact_layout(layout_of("fomm", 6)).components] == [256, 2048]
    assert exact_layout(layout) == layout


def test_rotations_are_those_of_the_models():
    """face-vid2vid turns by its own matrix of yaw, pitch and roll; a rotation vector by the matrix exponential."""
    angles = torch.tensor([[0.5, -0.3, 0.2]])
    for kind, matrix in (
        ("face-vid2vid", rotation_matrix(angles)[0].numpy()),
        ("mesh", torch.linalg.matrix_exp(torch.tensor([[0, -0.2, -0.3], [0.2, 0, -0.5], [0.3, 0.5, 0]])).numpy()),
    ):
        layout = layout_of(kind, 9)
        start = [part.name for part in layout.components].index("rotation") and 45
        levels = np.zeros(layout.dim, int)
        levels[start : start + 3] = np.rint(np.array([0.5, -0.3, 0.2]) * 65536 / layout.steps[start])
        message = FrameCoder(layout).message(levels, finer=8)
        assert message.matrices is not None
        group = message.matrices.groups[0]
        found = np.array(group.numbers).reshape(3, 3) / 2.0**message.matrices.precision
        assert (group.type, group.shape) == (4, (1, 3, 3)) and np.abs(found - matrix).max() < 0.004


@pytest.mark.parametrize("kind", ["face-vid2vid", "mesh"])
def test_turned_heads_come_back(kind):
    """Where a matrix tells angles badly it is made finer, for that frame alone, or refused."""
    layout = layout_of(kind, 5)
    at = 45 if kind == "face-vid2vid" else 0
    step = layout.steps[at] / 65536
    encoder, decoder, coder = GfvEncoder(layout), GfvDecoder(), FrameCoder(layout)
    for degrees in (0, 60, 80, 88, 0):
        levels = np.zeros(layout.dim, np.int32)
        levels[at : at + 3] = np.rint(np.radians([degrees, degrees / 2, -degrees / 3]) / step)
        read = decoder.push(encoder.push(levels))
        assert read is not None and np.array_equal(coder.levels(read.values), levels)
    levels[at] = round(np.radians(200) / step)
    with pytest.raises(KinecastError, match="expected a rotation that a matrix can represent"):
        encoder.push(levels)


def test_coordinates_outside_of_the_standard_are_refused():
    layout = layout_of("fomm")
    levels = np.zeros(layout.dim, int)
    levels[0] = 140  # 1.09
    with pytest.raises(KinecastError, match="expected coordinates from -1 to 1, as in the standard, found 1.09"):
        GfvEncoder(layout).push(levels)


def test_numbers_that_are_no_levels_are_refused():
    layout = layout_of("fomm")
    parts = (replace(layout.components[0], step=1024), layout.components[1])
    coder, wide = FrameCoder(layout), FrameCoder(replace(layout, components=parts))
    values = References().take(replace(coder.message(levels_of(layout, 1)[0]), base=True))
    with pytest.raises(KinecastError, match="expected value in whole steps"):
        wide.levels(values)
    with pytest.raises(KinecastError, match="expected key points for expression of face-vid2vid, found none"):
        FrameCoder(layout_of("face-vid2vid")).levels(values)
    with pytest.raises(KinecastError, match="expected a matrix of type 4 for rotation of mesh"):
        FrameCoder(layout_of("mesh")).vector(values)


def points_message(*rows, base=False, count=0, predicted=False):
    return GfvMessage(base=base, count=count, points=Points(rows, 2, predicted=predicted))


def test_differences_start_where_the_standard_says():
    """In a base picture from the point before; then from the base picture for count 0, else from the last message."""
    references = References()
    one = 1 << 30  # a quarter
    assert references.take(points_message((4, 1), (-1, 2), base=True, predicted=True)).points == (
        *(4 * one, one),
        *(3 * one, 3 * one),
    )
    change = ((1, 0), (0, 0))
    assert references.take(points_message(*change, predicted=True)).points == (5 * one, one, 3 * one, 3 * one)
    assert references.take(points_message(*change, predicted=True)).points == (5 * one, one, 3 * one, 3 * one)
    assert references.take(points_message(*change, predicted=True, count=1)).points == (6 * one, one, 3 * one, 3 * one)
    assert references.take(points_message(*change, predicted=True, count=2)).points == (7 * one, one, 3 * one, 3 * one)


def test_the_shortest_way_is_written():
    """A frame like the base picture costs a bit or two a number; each message of differences to it stands alone."""
    layout = layout_of("fomm")
    levels = levels_of(layout, 2)
    encoder = GfvEncoder(layout)
    first, same, other = encoder.push(levels[0]), encoder.push(levels[0]), encoder.push(levels[1])
    assert len(same) == -(-(7 + 20 + 2 + 40 * 2 + 1) // 8) < len(other) < len(first)
    decoder = GfvDecoder()
    decoder.push(first)
    read = decoder.push(other)  # without the message between
    assert read is not None and np.array_equal(FrameCoder(layout).levels(read.values), levels[1])


def test_messages_of_other_faces_are_passed_over():
    decoder = GfvDecoder()
    assert decoder.push(bytes(points_message((1, 1)))) is None  # before any base picture
    assert decoder.push(bytes(points_message((1, 1), base=True))) is not None
    assert decoder.push(bytes(replace(points_message((1, 1), base=True), id=7))) is None
    with pytest.raises(KinecastError, match="before differences, found none"):
        decoder.push(bytes.fromhex("c380"))  # matrices of differences to a picture that had none


@pytest.mark.parametrize("kind", KINDS)
def test_the_address_says_how_a_stream_was_written(kind):
    sender = Sender(layout_of(kind, 6), bytes(range(32)), "a model/of 100 %?")
    network = sender.network()
    assert network.uri == "ni:///sha-256;AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8" and Sender.of(network) == sender
    assert Sender.of(Network("tag:example.org,2026:other", "https://example.org")) is None is Sender.of(None)


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("gfv/2/fomm", "expected version 1, found '2': update kinecast"),
        ("gfv/1/fomm", "expected a layout and a model's hash, found 'fomm'"),
        ("gfv/1/fomm/10/value:2:0?model=", "expected a step from 1/65536"),
        ("gfv/1/fomm/0/value:2:512?model=", "expected 1 to 256 keypoints"),
        ("gfv/1/fomm/10/value:999:512?model=", "expected 1 to 256 numbers per keypoint"),
    ],
)
def test_damaged_addresses_are_one_line(tag, message):
    uri = Sender(Layout.fomm(), bytes(32)).network().uri
    with pytest.raises(KinecastError, match=message) as caught:
        Sender.of(Network("tag:kinecast.invalid,2026:" + tag, uri))
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_an_address_says_is_read_or_refused(tag, uri):
    try:
        Sender.of(Network("tag:kinecast.invalid,2026:gfv/1/" + tag.replace("\0", ""), uri.replace("\0", "")))
    except KinecastError as error:
        assert "\n" not in str(error)
