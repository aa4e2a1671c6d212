"""Video with GFV messages: written, opened by players, drawn, converted from and to .kcm, and damaged."""

import asyncio
import subprocess
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
import pytest

from apps.call.browser import drive, start_chromium
from clips_with_sound import write_timed
from helpers import draw_frames, write_clip
from kinecast.apps.portrait.driving import Reading, is_motion, motion_drive
from kinecast.apps.stream.clips import EncodeOptions, decode_clip, encode_clip, read_motion
from kinecast.apps.stream.gfv.clips import backbone_layout, decode_gfv, encode_gfv, read_gfv
from kinecast.apps.stream.gfv.convert import gfv_to_stream, stream_to_gfv
from kinecast.apps.stream.gfv.reading import GfvClip, carries_gfv
from kinecast.apps.stream.gfv.writing import GfvWriter
from kinecast.codec import MotionPacket, StreamReader
from kinecast.codec.gfv import CODECS, GfvEncoder, Network, Sender, exact_layout, sei_unit
from kinecast.codec.gfv.nal import START
from kinecast.codec.identity import model_identity
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.media.footage import footage
from kinecast.media.video import read_frames
from tiny import tiny_fomm

MODEL = tiny_fomm()
SUFFIXES = (".mp4", ".h264", ".h265")


@pytest.fixture(scope="module")
def videos(clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gfv")
    reports = {s: encode_gfv(MODEL, clip, folder / f"clip{s}", EncodeOptions(model_name="tiny")) for s in SUFFIXES}
    return folder, reports


@pytest.fixture(scope="module")
def stream(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "clip.kcm"
    encode_clip(MODEL, clip, path, EncodeOptions(model_name="tiny"))
    return path


def packets(path):
    with path.open("rb") as file:
        return [bytes(unit) for unit in StreamReader(file).units() if isinstance(unit, MotionPacket)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_players_show_the_still_without_a_warning(videos, clip, suffix):
    folder, reports = videos
    path, report = folder / f"clip{suffix}", reports[suffix]
    asked = ("-show_entries", "stream=codec_name,avg_frame_rate", "-count_frames", "-of", "csv=p=0")
    found = subprocess.run(["ffprobe", "-v", "warning", *asked, path], capture_output=True, text=True, check=True)
    assert found.stderr == "" and found.stdout.strip() == ("hevc,25/1" if suffix == ".h265" else "h264,25/1")
    with av.logging.Capture() as logs, av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert not [line for line in logs if line[0] <= av.logging.WARNING]
    assert len(shown) == report["frames"] == 12 and all(np.array_equal(frame, shown[0]) for frame in shown)
    first = next(read_frames(clip)).astype(float)
    assert np.abs(shown[0] - first).mean() < 6
    assert report["skipped_bytes"] < 16 * 11 and report["message_kbps"] < report["motion_kbps"] < report["total_kbps"]
    assert (
        sum(report[f"{part}_bytes"] for part in ("picture", "message", "skipped", "container")) == path.stat().st_size
    )


def test_chromium_shows_the_still(videos):
    """At the beginning and at the end: pixels of the video itself, drawn on a canvas."""
    folder, _ = videos
    (folder / "page.html").write_text(
        "<link rel=icon href=data:,><video src=clip.mp4 muted></video><canvas width=64 height=64></canvas>"
    )

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    async def test():
        with start_chromium() as port:
            async with drive(port) as chromium:
                tab = await chromium.tab()
                await tab.goto(f"http://127.0.0.1:{server.server_port}/page.html")
                await tab.wait_for("document.querySelector('video').readyState >= 2")
                pixels = []
                for moment in (0, 0.44):
                    await tab.evaluate(
                        "new Promise(done => { const v = document.querySelector('video');"
                        f"v.onseeked = done; v.currentTime = {moment}; }})"
                    )
                    pixels.append(
                        await tab.evaluate(
                            "(() => { const c = document.querySelector('canvas').getContext('2d');"
                            "c.drawImage(document.querySelector('video'), 0, 0);"
                            "return [...c.getImageData(0, 0, 64, 64).data]; })()"
                        )
                    )
                about = "(v => [v.videoWidth, v.videoHeight, v.duration, v.error])(document.querySelector('video'))"
                return pixels, await tab.evaluate(about), tab.problems

    try:
        pixels, about, problems = asyncio.run(test())
    finally:
        server.shutdown()
    assert about[:2] == [64, 64] and abs(about[2] - 0.48) < 0.02 and about[3] is None and not problems
    shown = np.array(pixels, float).reshape(2, 64, 64, 4)[..., :3]
    assert np.abs(shown[0] - shown[1]).max() <= 2
    assert np.abs(shown[0] - next(read_frames(folder / "clip.mp4"))).mean() < 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_messages_are_drawn_as_the_stream_is(videos, stream, tmp_path, suffix):
    """The same levels and so the same motion; the reference picture is coded otherwise."""
    path = videos[0] / f"clip{suffix}"
    picture, motion = read_gfv(MODEL, path)
    other_picture, other = read_motion(MODEL, stream)
    assert motion.vectors().equal(other.vectors()) and motion.fps == other.fps == 25 and motion.times is None
    assert (picture - other_picture).abs().mean() < 0.03
    drawn = decode_gfv(MODEL, path, tmp_path / "out.mp4")
    decode_clip(MODEL, stream, tmp_path / "other.mp4")
    assert drawn == {"frames": 12, "fps": 25}
    ours, theirs = (np.stack(list(read_frames(tmp_path / name))).astype(float) for name in ("out.mp4", "other.mp4"))
    assert ours.shape == theirs.shape and np.abs(ours - theirs).mean() < 6


def test_a_portrait_is_moved_by_messages(videos, clip):
    assert is_motion(videos[0] / "clip.mp4") and not is_motion(clip)
    drive = motion_drive(MODEL, videos[0] / "clip.mp4", Reading(limit=5))
    assert drive.fps == 25 and drive.motion.vectors().equal(read_gfv(MODEL, videos[0] / "clip.mp4")[1].vectors()[:5])


@pytest.mark.parametrize("quality", [5, 6])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_streams_are_converted_without_loss(clip, tmp_path, suffix, quality):
    encode_clip(MODEL, clip, tmp_path / "one.kcm", EncodeOptions(quality, model_name="tiny"))
    report = stream_to_gfv(tmp_path / "one.kcm", tmp_path / f"two{suffix}")
    assert report["frames"] == 12 and report["fps"] == 25
    gfv_to_stream(tmp_path / f"two{suffix}", tmp_path / "three.kcm")
    assert packets(tmp_path / "three.kcm") == packets(tmp_path / "one.kcm")
    one, three = (StreamReader((tmp_path / f"{name}.kcm").open("rb")).header for name in ("one", "three"))
    assert one == three
    assert decode_clip(MODEL, tmp_path / "three.kcm", tmp_path / "out.mp4")["frames"] == 12


def test_frames_that_were_left_out_are_interpolated(clip, tmp_path):
    report = encode_clip(MODEL, clip, tmp_path / "low.kcm", EncodeOptions(kbps=0.5, model_name="tiny"))
    missing = 12 - report["frames_sent"]
    with pytest.warns(KinecastWarning, match=f"{missing} skipped or lost frames are interpolated"):
        assert stream_to_gfv(tmp_path / "low.kcm", tmp_path / "low.h264")["frames"] == 12
    step = backbone_layout(MODEL).steps / 65536
    change = read_gfv(MODEL, tmp_path / "low.h264")[1].vectors() - read_motion(MODEL, tmp_path / "low.kcm")[1].vectors()
    assert (change.abs().numpy() <= step / 2 + 1e-6).all()


def test_frames_without_a_face_stay_marked(clip, tmp_path):
    """As frames of low confidence, which hold the motion before; a .kcm leaves them out."""
    layout = exact_layout(backbone_layout(MODEL))
    encoder = GfvEncoder(layout, Sender(layout, model_identity(MODEL), "tiny"))
    with GfvWriter(tmp_path / "a.h264", next(read_frames(clip)), 25) as writer:
        for level, sure in ((0, True), (0, False), (0, False), (3, True), (3, False)):
            writer.write(encoder.push(np.full(layout.dim, level), sure=sure))
    assert gfv_to_stream(tmp_path / "a.h264", tmp_path / "b.kcm")["frames"] == 5
    stream_to_gfv(tmp_path / "b.kcm", tmp_path / "c.h265")
    for motion in (
        read_gfv(MODEL, tmp_path / "a.h264")[1],
        read_motion(MODEL, tmp_path / "b.kcm")[1],
        read_gfv(MODEL, tmp_path / "c.h265")[1],
    ):
        assert motion.valid_frames().tolist() == [True, False, False, True, False]
        assert (motion.vectors()[:, 0] * 128).tolist() == [0, 0, 0, 3, 3]


@pytest.fixture
def trembling(tmp_path):
    times = np.array([0, 0.04, 0.1, 0.2, 0.23, 0.3])
    path = write_timed(tmp_path / "trembling.mp4", times, 0.5, flash=0.2, sound="aac", beep=0.2)
    ((edges, _),) = footage(path, (64, 64)).batches(8)
    return path, edges


def test_times_and_sound_stay_in_an_mp4(trembling, tmp_path):
    clip, edges = trembling
    report = encode_gfv(MODEL, clip, tmp_path / "a.mp4", EncodeOptions(model_name="tiny", sound_kbps=24))
    assert report["frames"] == 6 and not report["constant_rate"]
    assert np.abs(read_gfv(MODEL, tmp_path / "a.mp4")[1].edges() - edges).max() < 0.002
    decode_gfv(MODEL, tmp_path / "a.mp4", tmp_path / "drawn.mp4")
    gfv_to_stream(tmp_path / "a.mp4", tmp_path / "b.kcm", sound_kbps=24)
    assert np.abs(read_motion(MODEL, tmp_path / "b.kcm")[1].edges() - edges).max() < 0.003
    stream_to_gfv(tmp_path / "b.kcm", tmp_path / "c.mp4", sound=True)
    assert np.abs(read_gfv(MODEL, tmp_path / "c.mp4")[1].edges() - edges).max() < 0.003
    for name in ("a", "drawn", "c"):
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            assert len(container.streams.audio) == 1, name


def test_raw_streams_refuse_times_and_sound(trembling, tmp_path):
    with pytest.raises(KinecastError, match=r"expected frames of a constant rate, since \.h264 has no times"):
        encode_gfv(MODEL, trembling[0], tmp_path / "a.h264")
    options = EncodeOptions(fps=20, sound_kbps=24)
    with pytest.raises(KinecastError, match=r"expected no sound, which \.h265 cannot have"):
        encode_gfv(MODEL, trembling[0], tmp_path / "a.h265", options)
    assert encode_gfv(MODEL, trembling[0], tmp_path / "a.h264", replace(options, sound_kbps=None))["fps"] == 20
    assert [path.name for path in tmp_path.glob("a.*")] == ["a.h264"]
    assert read_gfv(MODEL, tmp_path / "a.h264")[1].fps == 20  # as the stream itself says


def test_another_model_is_refused(videos, tmp_path):
    path = videos[0] / "clip.h264"
    with pytest.raises(KinecastError, match=r"expected the model tiny \(.{12}\.\.\.\) that encoded it, found one of"):
        decode_gfv(tiny_fomm(seed=1), path, tmp_path / "out.mp4")
    with pytest.raises(KinecastError, match="expected a base picture of the model's 32x32, found 64x64"):
        decode_gfv(tiny_fomm(frame_size=(32, 32)), path, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


class _Foreign:
    """A sender that is not kinecast."""

    def __init__(self, network):
        self.network = lambda: network


@pytest.mark.parametrize(
    "network", [None, Network("tag:example.org,2026:net", "https://example.org/net"), Network(data=b"nnr")]
)
def test_streams_of_other_programs(clip, tmp_path, network):
    """Without a network's name they are taken for this model's; with another's they are refused."""
    layout = exact_layout(backbone_layout(MODEL))
    encoder = GfvEncoder(layout, None if network is None else _Foreign(network))  # type: ignore[arg-type]
    levels = np.zeros(layout.dim, int)
    levels[:2] = 5, -7
    with GfvWriter(tmp_path / "foreign.h264", next(read_frames(clip)), 25) as writer:
        for _ in range(3):
            writer.write(encoder.push(levels))
    if network is None:
        with pytest.warns(KinecastWarning, match="it does not name its network"):
            _, motion = read_gfv(MODEL, tmp_path / "foreign.h264")
        assert motion.vectors()[2, :3].tolist() == [5 / 128, -7 / 128, 0]
    else:
        found = "a network of its own" if network.data else "'https://example.org/net'"
        with pytest.raises(KinecastError, match=f"expected a stream of this model, found one of .*{found}"):
            read_gfv(MODEL, tmp_path / "foreign.h264")
    with pytest.raises(KinecastError, match="expected a stream written by kinecast"):
        gfv_to_stream(tmp_path / "foreign.h264", tmp_path / "out.kcm")


def messages(path):
    """Return the payloads of a raw H.264 stream."""
    units = path.read_bytes().split(START)
    return [unit for unit in units if unit[:2] == b"\x06\xdf"]


def test_a_damaged_message_leaves_the_frame_before(videos, tmp_path):
    data = (videos[0] / "clip.h264").read_bytes()
    third = messages(videos[0] / "clip.h264")[2]
    bad = tmp_path / "bad.h264"
    bad.write_bytes(data.replace(START + third, START + sei_unit(CODECS["h264"], 223, b"\xff\x00")))
    with pytest.warns(KinecastWarning, match="1 damaged messages were skipped: the previous frame is held"):
        motion = read_gfv(MODEL, bad)[1]
    vectors, whole = motion.vectors(), read_gfv(MODEL, videos[0] / "clip.h264")[1].vectors()
    assert len(motion) == 12 and vectors[2].equal(whole[1]) and vectors[3:].equal(whole[3:])
    first = messages(videos[0] / "clip.h264")[0]
    bad.write_bytes(data.replace(START + first, START + sei_unit(CODECS["h264"], 223, b"\xff\x00")))
    with pytest.raises(KinecastError, match="a base picture, found GFV message: expected") as caught:
        read_gfv(MODEL, bad)
    assert "\n" not in str(caught.value)


def test_several_frames_of_one_picture_share_its_time(clip, tmp_path):
    """Each further message of a picture counts up, and starts from the one before."""
    layout = exact_layout(backbone_layout(MODEL))
    encoder = GfvEncoder(layout)
    with GfvWriter(tmp_path / "one.h264", next(read_frames(clip)), 25) as writer:
        for shift in (0, 1):
            levels = np.full(layout.dim, shift)
            writer.write(encoder.push(levels))
            more = encoder.push(levels + 2, count=1)
    two = START + sei_unit(CODECS["h264"], 223, more)
    data = (tmp_path / "one.h264").read_bytes()
    last = START + messages(tmp_path / "one.h264")[-1]
    (tmp_path / "two.h264").write_bytes(data.replace(last, last + two))
    with pytest.warns(KinecastWarning, match="does not name its network"):
        motion = read_gfv(MODEL, tmp_path / "two.h264")[1]
    assert np.allclose(motion.edges(), [0, 0.04, 0.06, 0.08])
    assert motion.vectors()[:, 0].tolist() == [0, 1 / 128, 3 / 128]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_that_are_cut_off_are_drawn_as_far_as_they_go(videos, tmp_path, suffix):
    data = (videos[0] / f"clip{suffix}").read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(data[: len(data) - 100])
    frames = len(list(GfvClip.open(tmp_path / f"cut{suffix}").frames()))
    assert 6 <= frames <= 12
    (tmp_path / f"head{suffix}").write_bytes(data[:30])
    assert not carries_gfv(tmp_path / f"head{suffix}")
    with pytest.raises(KinecastError) as caught:
        GfvClip.open(tmp_path / f"head{suffix}")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::kinecast.errors.KinecastWarning")
def test_hostile_files_are_one_line(videos, tmp_path):
    data = (videos[0] / "clip.h264").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(25):
        bad = bytearray(data)
        for at in random.integers(0, len(data), 6):
            bad[at] ^= 1 << int(random.integers(8))
        (tmp_path / "bad.h264").write_bytes(bad)
        try:
            list(GfvClip.open(tmp_path / "bad.h264").frames())
        except KinecastError as error:
            assert "\n" not in str(error)


def test_what_carries_messages_is_known(videos, clip, stream, tmp_path):
    assert all(carries_gfv(videos[0] / f"clip{suffix}") for suffix in SUFFIXES)
    text, vp9 = tmp_path / "text.mp4", write_clip(tmp_path / "vp9.webm", draw_frames(2))
    text.write_text("no video")
    for path in (clip, stream, text, vp9, tmp_path, tmp_path / "gone.mp4"):
        assert not carries_gfv(path)
    with pytest.raises(KinecastError, match="and a base picture, found no GFV message: name another file"):
        GfvClip.open(clip)
    with pytest.raises(KinecastError, match="expected H.264 or H.265 with GFV messages, found vp9"):
        GfvClip.open(vp9)


def test_writing_refuses_in_one_line(clip, tmp_path):
    odd = np.zeros((63, 64, 3), np.uint8)
    with pytest.raises(KinecastError, match="expected a picture of even sizes"):
        GfvWriter(tmp_path / "a.mp4", odd, 25)
    with pytest.raises(KinecastError, match="expected a GFV stream name ending in .mp4, .h264, .h265"):
        GfvWriter(tmp_path / "a.mkv", odd, 25)
    with pytest.raises(KinecastError, match="expected no budget with GFV messages"):
        encode_gfv(MODEL, clip, tmp_path / "a.mp4", EncodeOptions(kbps=1))
    with pytest.raises(KinecastError, match="expected at least one frame"), GfvWriter(tmp_path / "a.mp4", odd[1:], 25):
        pass
    assert not list(tmp_path.iterdir())
