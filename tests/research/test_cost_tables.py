"""Every figure of the cost tables against where it comes from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import make_clip
from kinecast.apps.pipeline import AnimateOptions, animate_clip, extract
from kinecast.apps.stream.clips import EncodeOptions, encode_clip, layout_for_quality, profile_for
from kinecast.codec import MotionDecoder, StreamReader
from kinecast.codec.packets import MotionPacket
from kinecast.errors import KinecastError
from kinecast.models.checkpoints import save_backbone
from kinecast.research import cost_tables
from kinecast.research.cost import count_macs, published_tops
from kinecast.research.cost_tables import (
    Contender,
    HeldOutClip,
    Timing,
    coded_motion,
    cost_rows,
    sections,
    write_tables,
)
from kinecast.zoo import forecaster_for
from tiny_backbones import tiny_face_vid2vid, tiny_tps

TIMING = Timing("cpu", "eager")
FRAMES = 27  # two windows, and three more that no forecast covers


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("film") / "film.mp4", FRAMES)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "little.safetensors"
    save_backbone(tiny_tps(), path, {})
    return path


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put small networks where those of the published sizes are."""
    networks = {"TPS": tiny_tps, "face-vid2vid SPADE": tiny_face_vid2vid}
    monkeypatch.setattr(cost_tables, "NETWORKS", networks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("face-128", Contender("face-128", "face-128", "vrnn")),
        ("runs/x/compact.safetensors", Contender("compact", "runs/x/compact.safetensors", "vrnn")),
        ("TPS here=a/b.safetensors+c/d.safetensors", Contender("TPS here", "a/b.safetensors", "c/d.safetensors")),
        ("face-128+gru", Contender("face-128", "face-128", "gru")),
    ],
)
def test_a_contender_is_read(text: str, expected: Contender) -> None:
    assert Contender.parse(text, "vrnn") == expected


def test_rows_with_and_without_weights(little: None, weights: Path, film: Path, tmp_path: Path) -> None:
    contenders = [Contender("TPS"), Contender("face-vid2vid SPADE"), Contender("mine", str(weights), "velocity")]
    tps, face, mine = cost_rows(contenders, TIMING, HeldOutClip(film, true_fps=30))
    for row, model in ((tps, tiny_tps()), (face, tiny_face_vid2vid()), (mine, tiny_tps())):
        assert row["macs"] == count_macs(model) and row["tops"] == published_tops(row["macs"])
        assert row["kbps_every_frame"] == 2 * row["kbps"] == pytest.approx(model.motion_dim * 32 * 30 / 1000)
        assert row["timed"] == {"frames": 12, "rounds": 1} and min(row["seconds_30_frames"].values()) > 0
    assert tps["forecaster"] == face["forecaster"] == "vrnn" and mine["forecaster"] == "velocity"
    # What has no trained weights says nothing of motion, and so has neither a rate as coded nor an error.
    assert not {"coded", "mae"} & (tps.keys() | face.keys())
    assert (mine["coded"]["frames"], mine["coded"]["fps"], mine["coded"]["profile"]) == (24, 30, "generic")
    assert mine["coded"]["kbps"] < mine["coded"]["kbps_every_frame"] < mine["kbps_every_frame"]
    assert mine["coded"]["saving"] == pytest.approx(500 / mine["coded"]["kbps"])

    tables = sections([tps, face, mine], "this machine")
    assert [len(table.rows) for table in tables] == [6, 3, 6, 6, 4]
    coded = tables[3]
    assert all(row[-3:] == ("-", "-", "-") for row in coded.rows[:2])
    assert coded.rows[2][-2] == f"{mine['coded']['kbps']:.2f}"
    assert any(note.startswith("No coded rate: the output of an untrained detector") for note in coded.notes)
    assert "one round of 12 output frames, scaled to 30" in tables[0].notes[0]
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.header)}
    write_tables(tmp_path / "out", tables, [tps, face, mine], "this machine")
    found = json.loads((tmp_path / "out" / "cost.json").read_text())
    assert found["rows"] == json.loads(json.dumps([tps, face, mine])) and len(found["published"]) == 3
    text = (tmp_path / "out" / "cost.md").read_text()
    for figure in ("0.8176", "10.0026", "17.36", "0.0499", f"{mine['mae']['predicted']:.4f}"):
        assert figure in text


def test_the_rate_is_that_of_a_stream_and_the_motion_what_it_decodes_to(film: Path, tmp_path: Path) -> None:
    model, path = tiny_tps(), tmp_path / "clip.kcm"
    motion, coded = coded_motion(model, "little.safetensors", HeldOutClip(film, true_fps=30))
    sizes = encode_clip(model, film, path, EncodeOptions(true_fps=30, limit=24))
    assert coded["kbps_every_frame"] == pytest.approx(sizes["motion_kbps"])
    with path.open("rb") as file:
        reader = StreamReader(file)
        decoder = MotionDecoder(reader.header.layout, profile_for(reader.header))
        frames = [frame for unit in reader.units() if isinstance(unit, MotionPacket) for frame in decoder.push(unit)]
    np.testing.assert_array_equal(np.stack([frame.vector for frame in frames]), motion.vectors().numpy())
    step = layout_for_quality(motion).steps.max() / 2**16
    true = extract(model, film, limit=24).vectors()
    assert 0 < (motion.vectors() - true).abs().max() <= step / 2 + 1e-6


def test_the_error_is_that_of_animating_by_the_coded_motion(weights: Path, film: Path, tmp_path: Path) -> None:
    model, footage = tiny_tps(), HeldOutClip(film, true_fps=30)
    (row,) = cost_rows([Contender("mine", str(weights), "repeat")], TIMING, footage)
    motion, _ = coded_motion(model, str(weights), footage)
    options = AnimateOptions(observed=6, horizon=6, limit=24)
    held = forecaster_for("repeat", model.motion_dim)
    report = animate_clip(model, None, film, tmp_path / "out.mp4", options, held, motion=motion)
    assert row["mae"] == pytest.approx({kind: each["mae"] for kind, each in report.quality.items()})
    assert report.frames_sent == 12 and set(row["mae"]) >= {"all frames", "observed", "predicted", "copy of the source"}


def test_what_is_wrong_is_said_before_anything_is_measured(
    little: None, weights: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_tables, "cost_table", lambda *_: pytest.fail("measured"))
    mine = Contender("mine", str(weights), "repeat")
    for contenders, message in (
        ([mine, replace(mine, forecaster="gru")], "expected different labels, found mine twice"),
        ([Contender("TPS"), replace(mine, weights="nowhere.safetensors")], "nowhere.safetensors"),
        ([Contender("TPS"), replace(mine, forecaster="gru")], "expected a forecaster of 20 numbers per frame"),
    ):
        with pytest.raises(KinecastError, match=message):
            cost_rows(contenders, TIMING, None)
    with pytest.raises(KinecastError, match="driving has 11 frames; horizon 6-6 needs at least 12"):
        cost_rows([Contender("TPS"), mine], TIMING, HeldOutClip(film, limit=11))
