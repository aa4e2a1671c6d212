"""Sound between page and server: bounded tracks, times that go on, and offers that are none."""

import asyncio
import random
from fractions import Fraction

import numpy as np
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError
from av import AudioFrame

from apps.call.page_server import run
from kinecast.apps.call.audio import LiveTrack, PageSound
from kinecast.errors import KinecastError


def frame(value=0, pts=0):
    made = AudioFrame.from_ndarray(np.full((1, 1920), value, np.int16), format="s16", layout="stereo")
    made.sample_rate, made.pts, made.time_base = 48000, pts, Fraction(1, 48000)
    return made


def test_a_track_that_nobody_reads_keeps_the_newest_frames_only():
    async def test():
        track = LiveTrack()
        for value in range(1000):
            track.put(frame(value))
        first = await track.recv()
        assert first.to_ndarray()[0, 0] == 990
        assert [(await track.recv()).to_ndarray()[0, 0] for _ in range(9)] == list(range(991, 1000))

    run(test())


def test_times_go_on_over_a_change_of_source_and_move_after_a_silence():
    async def test():
        track = LiveTrack()
        for pts in (777, 5, 900_000):  # three sources, each with a clock of its own
            track.put(frame(pts=pts))
        assert [(await track.recv()).pts for _ in range(3)] == [0, 960, 1920]
        await asyncio.sleep(0.5)
        track.put(frame())
        assert (await track.recv()).pts >= 0.5 * 48000

    run(test())


def test_stopping_wakes_whoever_waits():
    async def test():
        track = LiveTrack()
        waiting = asyncio.ensure_future(track.recv())
        await asyncio.sleep(0)
        track.stop()
        with pytest.raises(MediaStreamError):
            await asyncio.wait_for(waiting, 1)

    run(test())


def test_a_call_that_ends_its_track_leaves_the_next_one_alone():
    async def test():
        sound = PageSound()
        first = sound.microphone()
        second = sound.microphone()
        assert first.readyState == "ended" and second.readyState == "live"
        first.stop()
        sound._to_call(frame(7))
        assert (await second.recv()).to_ndarray()[0, 0] == 7
        await sound.close()
        assert second.readyState == "ended"

    run(test())


async def offer():
    peer = RTCPeerConnection()
    peer.addTrack(AudioStreamTrack())
    await peer.setLocalDescription(await peer.createOffer())
    return peer, peer.localDescription.sdp


def test_an_offer_is_answered_and_sound_flows():
    async def test():
        peer, sdp = await offer()
        sound = PageSound()
        track = sound.microphone()
        await peer.setRemoteDescription(RTCSessionDescription(await sound.answer(sdp), "answer"))
        got = await asyncio.wait_for(track.recv(), 10)
        assert got.sample_rate == 48000 and got.samples == 960
        await sound.close()
        await peer.close()

    run(test())


@pytest.mark.parametrize(
    "sdp",
    ["", "m=", "v=0", "m=audio 9 X 0\r\nm=video 9 X 0", "m=application 9 X 0", "\x00" * 1000, "m=audio"],
    ids=repr,
)
def test_what_is_no_offer_is_refused_in_one_line(sdp):
    async def test():
        sound = PageSound()
        with pytest.raises(KinecastError, match="sound: expected") as caught:
            await sound.answer(sdp)
        assert "\n" not in str(caught.value)
        await sound.close()

    run(test())


def test_damaged_offers_are_refused_or_answered_and_nothing_else_happens():
    async def test():
        draw = random.Random(0)
        peer, sdp = await offer()
        await peer.close()
        refused = 0
        for _ in range(50):
            lines = sdp.splitlines()
            for _ in range(draw.randrange(1, 5)):
                at = draw.randrange(len(lines))
                lines[at] = draw.choice(["", lines[at][: draw.randrange(len(lines[at]) + 1)], "a=" + "9" * 40])
            sound = PageSound()
            try:
                await sound.answer("\r\n".join(lines))
            except KinecastError as error:
                refused += 1
                assert "\n" not in str(error)
            await sound.close()
        assert refused > 5

    run(test(), 60)
