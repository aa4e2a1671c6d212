import hashlib
import io
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from codec.tracks import profile_of, smooth_levels
from kinecast.codec import (
    FILE,
    Header,
    Layout,
    MotionPacket,
    PictureAssembler,
    StreamReader,
    encode_levels,
    split_picture,
)
from kinecast.codec.identity import model_identity
from kinecast.codec.stream import code_picture, open_picture, write_stream
from kinecast.errors import KinecastError
from kinecast.zoo import load_backbone
from tiny import tiny_fomm
from tiny_backbones import tiny_face_vid2vid, tiny_tps

LAYOUT = Layout.plain(6)
TINY = {"fomm": tiny_fomm, "tps": tiny_tps, "face-vid2vid": tiny_face_vid2vid}
SETTINGS = {  # that no tensor tells, and another value than the published one
    "fomm": (("temperature", 0.2), ("head_padding", 1), ("kp_variance", 0.02)),
    "tps": (("kp_variance", 0.02),),
    "face-vid2vid": (("temperature", 0.2), ("kp_variance", 0.02)),
}
PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def stream():
    file = io.BytesIO()
    data, mime = code_picture(PICTURE)
    packets = encode_levels(smooth_levels(LAYOUT, 150), LAYOUT, profile_of(LAYOUT), FILE)
    header = Header(LAYOUT, (30, 1), (64, 64), profile="generic")
    sizes = write_stream(file, header, data, mime, packets)
    assert sum(sizes.values()) == file.tell()
    return file.getvalue(), header, data


def units(data):
    reader = StreamReader(io.BytesIO(data))
    return reader, list(reader.units())


def test_a_stream_is_read_as_it_was_written(stream):
    data, header, picture = stream
    reader, found = units(data)
    assert reader.header == header and reader.skipped == 0
    assembler, pictures = PictureAssembler(), []
    for unit in found:
        if not isinstance(unit, MotionPacket):
            pictures.append(assembler.push(unit))
    assert [p for p in pictures if p] == [(0, "image/webp", picture)]
    assert sum(unit.count for unit in found if isinstance(unit, MotionPacket)) == 150


def test_damage_is_skipped_to_the_next_unit(stream):
    data, _, _ = stream
    whole = [bytes(unit) for unit in units(data)[1]]
    place = data.index(whole[-2]) + 20
    reader, found = units(data[:place] + b"\x80R" + data[place + 2 :])
    assert [bytes(unit) for unit in found] == whole[:-2] + whole[-1:]
    assert reader.skipped == len(whole[-2])
    reader, found = units(data[:-3])
    assert len(found) == len(whole) - 1 and reader.skipped == len(whole[-1]) - 3


def test_pictures_come_back_and_damaged_ones_are_refused():
    data, mime = code_picture(PICTURE, 90)
    assert mime == "image/webp" and open_picture(data, (64, 64)).shape == (64, 64, 3)
    with pytest.raises(KinecastError, match="expected 32x32 as in the header"):
        open_picture(data, (32, 32))
    with pytest.raises(KinecastError, match="expected a whole WebP"):
        open_picture(data[:40], (64, 64))


def test_chunks_of_two_pictures_are_told_apart():
    assembler = PictureAssembler()
    one, two = list(split_picture(bytes(3000), "image/webp")), list(split_picture(bytes(3001), "image/webp"))
    assert assembler.push(one[0]) is None
    with pytest.raises(KinecastError, match="expected chunks of one picture"):
        assembler.push(two[1])
    assert [assembler.push(chunk) is not None for chunk in reversed(one)] == [False, False, True]


@dataclass(frozen=True)
class _Model:
    """A model as far as its identity goes."""

    tensors: dict
    given: dict = field(default_factory=dict)

    def state_dict(self):
        return self.tensors

    def settings(self):
        return self.given


def test_identity_follows_values_names_shapes_and_settings_only():
    state = {
        "a.weight": np.ones((2, 3), np.float32),
        "b.bias": np.zeros(2, np.float32),
        "n.num_batches_tracked": np.array(3),
    }
    same = {"b.bias": np.zeros(2), "a.weight": np.ones((2, 3))}
    identity = model_identity(_Model(state))
    assert identity == model_identity(_Model(same)) and len(identity) == 32
    others = [
        _Model({**same, "b.bias": np.array([0, 1e-7])}),
        _Model({**same, "a.weight": np.ones((3, 2))}),
        _Model({"b.bias": np.zeros(2)}),
        _Model(same, {"temperature": 0.2}),
        _Model(same, {"temperature": 0.3}),
        _Model(same, {"kp_variance": 0.2}),
    ]
    assert len({identity, *map(model_identity, others)}) == 7


def test_with_published_settings_an_identity_is_that_of_the_tensors():
    """Streams that were written before settings counted are still decoded."""
    model = load_backbone("tiny", "cpu", "eager")
    digest = hashlib.sha256(b"kinecast model 1\n")
    for name, tensor in sorted(model.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode() + tensor.numpy().astype("<f4").tobytes())
    assert model_identity(model) == digest.digest()


@pytest.mark.parametrize("name", TINY)
def test_weights_that_differ_in_a_setting_are_different_models(name):
    """Tensors alone do not say how they are used: at another temperature the keypoints are elsewhere."""
    plain: Any = TINY[name]()
    for changed, value in SETTINGS[name]:
        other = type(plain)(replace(plain.config, **{changed: value}))
        other.load_state_dict(plain.state_dict())
        assert other.settings() == {changed: value} and model_identity(other) != model_identity(plain)
    assert plain.settings() == {}
