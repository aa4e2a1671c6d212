import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from helpers import draw_frames
from kinecast.cli import main
from kinecast.codec import Layout, generic_profile, quantize
from kinecast.codec.filling import damped, hold
from kinecast.errors import KinecastError
from kinecast.research import rate_clips
from kinecast.research import rate_distortion as rd
from kinecast.research.distortions import Distortions, summary
from kinecast.research.loss_study import loss_rows, loss_settings, lost_packets, transmit
from kinecast.research.rate_clips import load_rate_clip
from kinecast.research.rate_settings import QUALITY, Exact, Measured, Stream, codec_settings, frame_settings
from kinecast.research.rate_units import from_bytes, to_bytes
from kinecast.research.video_codecs import CODECS, code_clip
from tiny import pictures, tiny_fomm

MODEL = tiny_fomm()


@pytest.fixture(scope="module")
def measures():
    return Distortions()


@pytest.fixture(scope="module")
def loaded(clip, measures):
    return load_rate_clip(MODEL, clip, measures, "center", None, None)


@pytest.fixture(scope="module")
def stream():
    return Stream.of(MODEL, generic_profile, {"hold": hold, "damped": damped})


def measured(clip, stream, settings):
    return {setting: [setting.measure(clip, stream)] for setting in settings}


@pytest.mark.parametrize("name", CODECS)
def test_codecs_give_every_frame_at_once(name):
    codec = CODECS[name]
    if not codec.available:
        pytest.skip(f"this PyAV has no {codec.name}")
    frames = draw_frames(10, (64, 64))
    fine, coarse = (code_clip(codec, frames, Fraction(25), crf) for crf in (codec.crfs[-1], codec.crfs[0]))
    assert coarse.frames.shape == frames.shape and len(coarse.packet_bytes) == 10 and coarse.delay == 0
    assert sum(coarse.packet_bytes) < sum(fine.packet_bytes)
    errors = [np.abs(coded.frames.astype(int) - frames).mean() for coded in (fine, coarse)]
    assert errors[0] < errors[1] < 60


def test_x264s_note_of_its_settings_is_not_counted():
    coded = code_clip(CODECS["x264"], np.zeros((2, 64, 64, 3), np.uint8), Fraction(25), 51)
    assert coded.packet_bytes[0] < 100  # a black frame; the note alone has about 600 bytes


def test_half_size_comes_back_at_full_size():
    frames = draw_frames(3, (64, 64))
    coded = code_clip(CODECS["vp9"], frames, Fraction(25), 40, shrink=2)
    assert coded.frames.shape == frames.shape and np.abs(coded.frames.astype(int) - frames).mean() < 30


def test_a_size_that_a_codec_cannot_take_is_an_error():
    with pytest.raises(KinecastError, match="expected frames that it can code, found 0x0"):
        code_clip(CODECS["vp9"], np.zeros((2, 1, 1, 3), np.uint8), Fraction(25), 40, shrink=2)


def test_distortions_are_none_of_a_frame_from_itself(measures):
    truth = pictures(3)
    found = summary([measures.against(truth).compare(truth)])
    assert found["mae"] == 0 and found["ssim"] == pytest.approx(1) and found["psnr"] == pytest.approx(100)
    worse = summary([measures.against(truth).compare(truth.flip(0))])
    assert worse["mae"] > 0 and worse["ssim"] < 1 and worse["psnr"] < 40
    if "perceptual" in measures.names:
        assert found["perceptual"] == 0 < worse["perceptual"]


def test_psnr_is_of_the_mean_squared_error():
    truth = torch.zeros(2, 3, 32, 32)
    shown = torch.stack([torch.full((3, 32, 32), 0.1), torch.full((3, 32, 32), 0.3)])
    values = {"mse": (shown - truth).square().mean(dim=(1, 2, 3)).numpy()}
    assert summary([values])["psnr"] == pytest.approx(-10 * np.log10((0.01 + 0.09) / 2))


def test_pictures_are_drawn_once(loaded, monkeypatch):
    one = loaded.draw(loaded.vectors, 60)
    monkeypatch.setattr(MODEL, "animate", lambda *a: pytest.fail("drawn again"))
    assert torch.equal(loaded.draw(loaded.vectors[::-1], 60).flip(0), one)
    assert loaded.picture_bytes(20) < loaded.picture_bytes(60) < loaded.picture_bytes(90)


def test_a_picture_does_not_hang_on_what_else_is_drawn(clip, measures, loaded, monkeypatch):
    monkeypatch.setattr(rate_clips, "_KEPT", 2)
    other = load_rate_clip(MODEL, clip, measures, "center", None, None)
    last = other.draw(other.vectors[-1:], 60)
    assert torch.equal(other.draw(other.vectors, 60)[-1:], last) and len(other._drawn) == 2
    assert torch.equal(loaded.draw(loaded.vectors, 60)[-1:], last)


def test_units_are_read_as_they_were_written(loaded, stream):
    one = Exact().measure(loaded, stream)
    again = from_bytes(to_bytes([Measured({}, {"seconds": 2.0}), one]))
    assert again[0] == Measured({}, {"seconds": 2.0}) and again[1].facts == one.facts
    assert list(again[1].distortions) == list(one.distortions)
    assert all(np.array_equal(again[1].distortions[name], one.distortions[name], True) for name in one.distortions)


def test_rates_count_every_byte(loaded, stream):
    settings = codec_settings(["vp9"])
    points = rd.points_of(settings, measured(loaded, stream, settings), header_bytes=100)
    main_point = next(p for p in points if p.setting == "quality 5, picture 60")
    once = 8 * (100 + loaded.picture_bytes(60)) / loaded.seconds / 1000
    assert main_point.kbps == pytest.approx(main_point.motion_kbps + once)
    ours = [p for p in points if p.curve == "kinecast"]
    assert [p.kbps for p in ours[:4]] == sorted(p.kbps for p in ours[:4])
    rows = rd.equal_quality(points, ["mae", "ssim"])
    assert [row["codec"] for row in rows] == ["VP9 (libvpx)"] and rows[0]["mae"]["saving"] > 0


def test_leaving_frames_out_costs_keypoints_and_saves_bits(loaded, stream):
    settings = frame_settings(stream.forecasts, horizons=[(3, 3)], tolerances=[1.0])
    points = {(p.curve, p.setting): p for p in rd.points_of(settings, measured(loaded, stream, settings))}
    every = points["every frame, coarser steps", "quality 7"]
    half = points["every k-th frame, held", "k = 2"]
    assert half.kbps < every.kbps and half.distortions["keypoint"] > every.distortions["keypoint"]
    assert half.frames_sent < 0.7 < every.frames_sent == 1
    assert {curve for curve, _ in points} >= {"N-H, hold", "N-H, damped", "closed loop, damped"}


def point(kbps, mae, ssim=0.0):
    return rd.Point("codec", "", kbps, kbps, 1.0, {"mae": mae, "ssim": ssim})


def test_rates_of_equal_quality():
    curve = [point(16, 0.01, 0.9), point(1, 0.05, 0.5), point(4, 0.03, 0.7)]
    assert rd.rate_at(curve, "mae", 0.03) == (pytest.approx(4), "=")
    assert rd.rate_at(curve, "mae", 0.02) == (pytest.approx(8), "=")
    assert rd.rate_at(curve, "ssim", 0.6) == (pytest.approx(2), "=")
    assert rd.rate_at(curve, "mae", 0.06) == (1, "<")
    assert rd.rate_at(curve, "ssim", 0.95) == (16, ">")


@pytest.mark.parametrize("bursty", [False, True])
def test_losses_are_as_many_and_as_long_as_asked(bursty):
    lost = lost_packets(200_000, 0.2, bursty, seed=1)
    assert lost.mean() == pytest.approx(0.2, abs=0.01)
    bursts = np.diff(np.flatnonzero(np.diff(np.r_[0, lost.astype(int), 0])))[::2]
    assert bursts.mean() == pytest.approx(4.0 if bursty else 1.25, rel=0.05)


def test_feedback_ends_a_loss_after_a_round_trip():
    layout = Layout.plain(6)
    levels = np.cumsum(np.random.default_rng(0).integers(-2, 3, (60, 6)), axis=0)
    lost = np.zeros(60, bool)
    lost[[20, 59]] = True
    frames, _ = transmit(levels, layout, generic_profile(layout), lost, feedback=True)
    assert len(frames) == 60
    assert [t for t, frame in enumerate(frames) if frame.concealed] == [20, 21, 22, 23, 59]
    frames, _ = transmit(levels, layout, generic_profile(layout), lost, feedback=False)
    assert [t for t, frame in enumerate(frames) if frame.concealed] == [*range(20, 30), 59]
    assert all(np.array_equal(f.levels, levels[t]) for t, f in enumerate(frames) if not f.concealed)


def test_losses_cost_quality(loaded, stream):
    settings = loss_settings(["hold"], rates=(0.3,))
    rows = loss_rows(settings, measured(loaded, stream, settings))
    clean = next(row for row in rows if row["loss"] == 0)
    assert clean["concealed"] == 0
    lossy = [row for row in rows if row["loss"] and row["concealment"] == "hold"]
    assert len(lossy) == 4 and any(row["concealed"] > 0 for row in lossy)
    for row in lossy:
        assert row["distortions"]["keypoint"] >= clean["distortions"]["keypoint"]
    assert quantize(loaded.vectors, stream.layouts[QUALITY]).shape == loaded.vectors.shape


def test_the_command(clip, tmp_path, capsys):
    from kinecast.models.checkpoints import save_backbone

    pytest.importorskip("matplotlib")
    save_backbone(MODEL, tmp_path / "tiny.safetensors", {})
    command = [
        "research",
        "rate",
        str(clip),
        "-o",
        str(tmp_path / "rate"),
        "--model",
        str(tmp_path / "tiny.safetensors"),
    ]
    options = ["--codec", "vp9", "--forecast", "damped", "--json", "--limit", "10"]
    assert main([*command, *options]) == 0
    out = capsys.readouterr().out
    results = json.loads(out)
    units = {path: path.stat().st_mtime_ns for path in (tmp_path / "rate/units").iterdir()}
    assert len(units) == 1 + (1 + 2) + (1 + 2 + 2 * 2) + (5 + 4) * 2  # exact, codecs, frames left out, losses
    next(iter(units)).unlink()
    assert main([*command, *options]) == 0  # goes on where it was stopped
    printed = capsys.readouterr()
    assert json.loads(printed.out) == results and f"1 of {len(units)} units to do" in printed.err
    kept = {path for path, time in units.items() if path.stat().st_mtime_ns == time}
    assert len(kept) == len(units) - 1 == len(list((tmp_path / "rate/units").iterdir())) - 1
    assert results == {
        k: v for k, v in json.loads((tmp_path / "rate/results.json").read_text()).items() if k in results
    }
    text = (tmp_path / "rate/rate.md").read_text()
    for title in ("Against ordinary codecs", "What a codec needs", "Skipped frames", "Lost packets"):
        assert title in text
    for name in ("codecs", "frames", "losses"):
        assert (tmp_path / f"rate/rate-{name}.png").stat().st_size > 1000
    assert main([*command, "--codec", "h266"]) == 1
    assert "codec: expected x264, x265, av1, vp9; found 'h266'" in capsys.readouterr().err


def test_landmarks_need_no_other_package(measures):
    assert "landmark" in measures.names and "landmark" not in measures.missing
