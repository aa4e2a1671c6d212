"""Two ends over real sockets on this machine."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from apps.call.ends import (
    MARGIN_S,
    RECOVERY_S,
    End,
    by_hand,
    camera_frames,
    models,
    models_of,
    opened,
    refused,
    run,
    until,
)
from helpers import make_clip
from kinecast.apps.call.config import CameraFrame, LinkFaults
from kinecast.apps.call.messages import split_signals
from kinecast.apps.call.peer import MAX_MESSAGE, Peer
from kinecast.apps.call.rooms import Server
from kinecast.codec import MotionPacket, ReferenceChunk
from kinecast.media.video import probe
from tiny_backbones import tiny_face_vid2vid


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KINECAST_CACHE", str(tmp_path / "cache"))


def received(*ends: End, count: int = 5) -> bool:
    return all(end.shown["received"] >= count for end in ends)


async def in_room(server: Server, host: End, guest: End) -> str:
    invitation = await host.session.host_room(server.address)
    await guest.session.join_room(invitation)
    await until(lambda: host.state == guest.state == "connected", 15, "connected")
    return invitation


def test_two_ends_connected_by_hand_see_each_other():
    async def work():
        one, other = End(), End()
        async with opened(one, other):
            await by_hand(one, other)
            await until(lambda: received(one, other), 15, "frames both ways")
            stats = one.session.stats()
            assert stats.bytes_sent["motion"] > 0 < stats.bytes_received["picture"]
            assert stats.latency_ms_p50 is not None and 0 < stats.latency_ms_p50 < 5000
            assert stats.refused == 0 and stats.pictures_received == 1
            await one.session.close()
            await until(lambda: other.state == "ended", what="the other end told")
        assert "the other side has ended the call: hung up" in other.lines("notice")
        assert one.states[-1] == other.states[-1] == "ended" and "connected" in one.states

    run(work())


def test_nothing_is_asked_of_strangers():
    """aiortc would ask a public STUN server if it were left to itself."""

    async def work():
        end = End()
        async with opened(end):
            offer = await end.session.make_offer()
        from kinecast.apps.call.invitation import HandText

        sdp = HandText.parse(offer, "offer").sdp
        assert "typ host" in sdp and "srflx" not in sdp and "relay" not in sdp
        assert end.session._make_peer(True)._pc.__dict__["_RTCPeerConnection__configuration"].iceServers == []

    run(work())


def test_texts_by_hand_are_good_once_and_for_their_call():
    async def work():
        one, other, third = End(), End(), End()
        async with opened(one, other, third):
            offer = await one.session.make_offer()
            answer = await other.session.accept_offer(offer)
            assert "answered already" in await refused(other.session.accept_offer(offer))
            foreign = await third.session.accept_offer(await other.session.make_offer())
            assert "another: hand over that offer again" in await refused(one.session.accept_answer(foreign))
            await one.session.accept_answer(answer)
            assert "found another" in await refused(one.session.accept_answer(answer))
            assert "expected a text" in await refused(one.session.accept_answer("kinecast1:nonsense"))
            assert "swap the texts" in await refused(one.session.accept_answer(offer))

    run(work())


def test_a_room_admits_one_guest_and_the_call_outlives_the_server():
    async def work():
        host, guest, third = End(), End(), End()
        async with Server() as server, opened(host, guest, third):
            invitation = await in_room(server, host, guest)
            line = await refused(third.session.join_room(invitation))
            assert "not known here, was used already, or has expired" in line
            other = invitation[:-6] + "AAAAAA"  # guessed
            assert "not known here, was used already, or has expired" in await refused(third.session.join_room(other))
            await until(lambda: received(host, guest), 15, "frames")
            # The room that both moved to has a name that does not follow from the invitation.
            await until(lambda: guest.session._meeting.other_present and host.session._meeting.other_present)
            await until(lambda: host.session._meeting._room is None)
            before = host.shown["received"]
            await server.stop()
            await until(lambda: host.shown["received"] > before + 5, 15, "frames without a server")
            assert third.state == "new" and "reconnecting" not in host.states

    run(work(), 60)


def test_a_broken_connection_is_made_again_by_itself():
    """Asserted: frames within RECOVERY_S of the break, and MARGIN_S for tests that run on the same cores."""

    async def work():
        host, guest = End(), End()
        async with Server() as server, opened(host, guest):
            await in_room(server, host, guest)
            await until(lambda: received(host, guest), 15)
            await until(lambda: guest.session._meeting.other_present)
            before = guest.session._exchange.peer
            broken = time.monotonic()
            await before._pc.close()  # as if the network were gone: nobody says good-bye
            await until(
                lambda: guest.session._exchange.peer not in (None, before) and guest.state == "connected", 15, "again"
            )
            shown = guest.shown["received"]
            await until(lambda: guest.shown["received"] > shown, 10, "a frame")
            assert "reconnecting" in guest.states
            return time.monotonic() - broken

    assert run(work(), 60) < RECOVERY_S + MARGIN_S


def test_a_restarted_server_brings_a_broken_call_together_again():
    """The server forgot everything; both ends go back to the room that only they know. Times as above, from the break,
    which comes when both are in the room again: how often they try is the server's business.
    """

    async def work():
        host, guest, server = End(), End(), Server()
        await server.start()
        async with opened(host, guest):
            await in_room(server, host, guest)
            await until(lambda: received(host, guest), 15)
            await until(lambda: guest.session._meeting.other_present and host.session._meeting._room is None)
            await server.stop()
            await until(lambda: host.lines("notice") and guest.lines("notice"), 10, "told")
            async with Server(port=server._port):
                await until(lambda: guest.session._meeting.other_present, 20, "there again")
                await until(lambda: host.session._meeting.other_present, 20, "there again")
                assert "the signalling server is reachable again" in host.lines("notice")
                broken = time.monotonic()
                await guest.session._exchange.peer._pc.close()
                await until(lambda: "reconnecting" in guest.states and guest.state == "connected", 15, "again")
                shown = guest.shown["received"]
                await until(lambda: guest.shown["received"] > shown, 10, "a frame")
                return time.monotonic() - broken

    assert run(work(), 90) < RECOVERY_S + MARGIN_S


def test_a_member_that_was_killed_takes_its_place_again(monkeypatch):
    async def work():
        host, guest, back = End(), End(), End()
        async with Server() as server, opened(host, guest, back):
            invitation = await in_room(server, host, guest)
            await until(lambda: guest.session._meeting.other_present and host.session._meeting._room is None)
            await until(lambda: received(host, guest), 15)
            # Killed: it says nothing to anybody, and leaves what it kept on disk.
            await guest.session._meeting.close(over=False)
            guest.session._exchange.detach()
            started = time.monotonic()
            await back.session.join_room(invitation)
            await until(lambda: back.state == "connected" == host.state, 15, "connected again")
            shown = host.shown["received"]
            await until(lambda: received(back, count=1) and host.shown["received"] > shown, 15, "frames both ways")
            assert host.session.stats().pictures_received == 2
            return time.monotonic() - started

    assert run(work(), 60) < RECOVERY_S + MARGIN_S  # from the join: a process that starts takes longer


def test_bad_links_are_borne_and_their_losses_told():
    async def work():
        bad = LinkFaults(loss=0.3, jitter_ms=100, reorder=True, seed=1)
        one, other = End(link=bad, jitter_ms=150), End(link=replace(bad, seed=2), jitter_ms=150)
        async with opened(one, other):
            await by_hand(one, other)
            await until(lambda: received(one, other, count=12), 20, "frames over a bad link")
            await asyncio.sleep(1.5)
            stats = one.session.stats()
            assert 0.1 < stats.loss < 0.5 and stats.share_forecast > 0.1
            assert stats.jitter_buffer_ms > 30
            assert other.session._exchange._sender.loss == pytest.approx(one.session._exchange.loss, abs=0.25)
            assert max(v for k, v in stats.queues.items() if not k.endswith("waiting")) < 40
            assert one.states.count("connected") - one.states.count("interrupted") == 1

    run(work(), 60)


def test_a_lost_first_packet_is_asked_for_again(monkeypatch):
    """Of itself the next key packet comes after four seconds, and may be lost too."""
    lost: list[bytes] = []
    real = Peer.send

    def losing(peer: Peer, channel: str, data: bytes) -> bool:
        motion = split_signals(data)[1] if channel == "motion" else b""
        if peer.caller and motion and len(lost) < 3:
            lost.append(motion)
            return True
        return real(peer, channel, data)

    monkeypatch.setattr(Peer, "send", losing)

    async def work():
        one, other = End(), End()
        async with opened(one, other):
            await by_hand(one, other)
            await until(lambda: len(lost) == 3, 15, "packets that are lost")
            return await until(lambda: received(other, count=1), 15, "a frame")

    assert MotionPacket.parse(lost[0])[0].key if run(work()) < 3 else pytest.fail("waited for the next key packet")


def test_an_outage_is_told_and_over_as_soon_as_the_link_is_back():
    """Asserted: frames within RECOVERY_S of its end, and MARGIN_S for tests that run on the same cores."""

    async def work():
        outage = LinkFaults(outages=((2.0, 4.0),))
        one, other = End(link=outage), End(link=outage)
        async with opened(one, other):
            await by_hand(one, other)
            await until(lambda: "interrupted" in one.states and "interrupted" in other.states, 15, "interrupted")
            await until(lambda: one.shown["frozen"] > 0, 10, "frozen")
            started = one.session._exchange._link._opened
            await until(lambda: one.states[-1] == "connected" == other.states[-1], 10, "connected")
            shown = one.shown["received"]
            await until(lambda: one.shown["received"] > shown, 5, "a frame")
            late = asyncio.get_running_loop().time() - (started + 4.0)
            for end in (one, other):
                assert end.session.stats().queues["motion_bytes_waiting"] < 3000
            assert end.session._exchange.peer is not None
            return late

    assert run(work(), 60) < RECOVERY_S + MARGIN_S


def test_an_avatar_call_sends_no_other_picture(monkeypatch):
    """Every byte that leaves the machine is looked at: the only picture in it is the avatar's."""
    sent: list[tuple[str, bytes]] = []
    real = Peer.send

    def watched(peer: Peer, channel: str, data: bytes) -> bool:
        if peer.caller:
            sent.append((channel, data))
        return real(peer, channel, data)

    monkeypatch.setattr(Peer, "send", watched)
    avatar = np.ascontiguousarray(camera_frames()[0][::-1, :, ::-1])

    async def work():
        one, other = End(), End()
        async with opened(one, other):
            one.session.set_avatar(avatar)
            await by_hand(one, other)
            await until(lambda: received(one, other, count=8), 20, "frames")
            stats = one.session.stats()
            assert sum(len(data) for _, data in sent) >= stats.bytes_sent["total"] - 2000
        chunks = [ReferenceChunk.parse(data)[0] for _, data in sent if data[:1] == b"R"]
        assert {chunk.picture for chunk in chunks} == {0}
        from kinecast.codec.stream import open_picture

        seen = open_picture(b"".join(chunk.data for chunk in chunks), (64, 64))
        assert np.abs(seen.astype(int) - avatar).mean() < 10
        others = [data for _, data in sent if data[:1] != b"R"]
        assert max(len(data) for data in others) < 500
        magic = (b"RIFF", b"WEBP", b"\xff\xd8\xff", b"\x89PNG", b"ftypavif")
        assert not any(m in data for data in others for m in magic)
        assert all(shown.state in ("received", "forecast", "idle") for shown in other.frames)

    run(work(), 60)


def test_the_newest_camera_frame_wins_and_nothing_queues():
    async def work():
        one, other = End(), End()
        async with opened(one, other):
            await by_hand(one, other)
            await until(lambda: received(one, other), 15)
            for number in range(300):  # a camera much faster than the call
                one.session.submit(CameraFrame(camera_frames()[number % 24], time.time(), number))
            assert one.session.stats().dropped_camera >= 290
            assert one.session.stats().queues["camera"] == 1
            await until(lambda: one.session.stats().queues["camera"] == 0, what="drained")

    run(work())


def test_mute_and_a_camera_that_stops_are_told():
    async def work():
        one, other = End(), End()
        async with opened(one, other):
            await by_hand(one, other)
            await until(lambda: received(one, other), 15)
            one.session.set_muted(video=True, audio=True)
            await until(lambda: "the other side has paused its video" in other.lines("notice"), what="told")
            await until(lambda: other.shown["frozen"] > 0, 10, "frozen")
            before = other.shown["received"]
            one.session.set_muted(video=False, audio=False)
            await until(lambda: other.shown["received"] > before + 2, 10, "seen again")
            submit = one.session.submit
            one.session.submit = lambda frame: None  # unplugged
            await until(lambda: "the other side's camera has stopped" in other.lines("notice"), 10, "told")
            assert one.lines("notice")[-1] == "the camera delivers no frames"
            assert other.state == "connected"
            one.session.submit = submit
            await until(lambda: "the other side's camera works again" in other.lines("notice"), 10, "told")
            before = other.shown["received"]
            await until(lambda: other.shown["received"] > before, RECOVERY_S + MARGIN_S, "seen again")

    run(work(), 60)


def test_another_model_is_told_to_both_in_a_line():
    async def work():
        one, other = End(), End(models(5))
        async with opened(one, other):
            answer = await other.session.accept_offer(await one.session.make_offer())
            await one.session.accept_answer(answer)
            await until(lambda: one.state == other.state == "ended", 15, "ended")
        said = one.lines("error") + other.lines("error") + one.lines("notice") + other.lines("notice")
        assert any("uses the model tiny with other weights" in line for line in said)
        assert any("the stream cannot be used" in line for line in said)

    run(work())


def test_a_call_that_is_attacked_ends_with_a_line_and_another_goes_on():
    async def work():
        one, attacker, third, fourth = End(), End(), End(), End()
        async with opened(one, attacker, third, fourth):
            await by_hand(third, fourth)
            await by_hand(one, attacker)
            await until(lambda: received(one), 15)
            channels = attacker.session._exchange.peer._channels
            for bad in (b"", b"x", b"x" * 5000, b"{}", b"K" * 900, b"R" * 1200, b"\x80" * 40, b"C\x09"):
                channels["picture"].send(bad), channels["motion"].send(bad)
            channels["picture"].send("a text")
            await until(lambda: one.session.stats().refused >= 12, what="counted")
            assert one.state == "connected"  # a few are borne
            for _ in range(120):
                channels["picture"].send(b"x" * (MAX_MESSAGE + 1))
            await until(lambda: one.state == "ended", 10, "hung up")
            before = fourth.shown["received"]
            await until(lambda: fourth.shown["received"] > before + 3, 10, "the others' frames")
        (line,) = one.lines("error")
        assert "100 messages that are not of this protocol: the call was ended" in line

    run(work(), 60)


def test_foreign_channels_are_hung_up_on():
    async def work():
        one, attacker = End(), End()
        async with opened(one, attacker):
            await by_hand(attacker, one)
            attacker.session._exchange.peer._pc.createDataChannel("files")
            await until(lambda: one.state == "ended", 10, "hung up")
        assert "opened channels that are not of this protocol" in one.lines("error")[0]

    run(work())


def test_what_is_seen_is_recorded(tmp_path):
    path = tmp_path / "seen.mp4"

    async def work():
        one, other = End(record=path), End()
        async with opened(one, other):
            await by_hand(one, other)
            await until(lambda: received(one, count=10), 15)
        assert one.lines("error") == []
        return sum(one.shown.values())

    shown = run(work())
    info = probe(path)
    assert (info.width, info.height, info.fps) == (64, 64, 12) and 5 < (info.frames or 0) < 3 * shown


def test_sound_goes_through_counted_apart():
    from fractions import Fraction

    import av
    from aiortc import MediaStreamTrack

    class Tone(MediaStreamTrack):
        kind = "audio"
        made = 0

        async def recv(self):
            await asyncio.sleep(0.02)
            t = np.arange(960) + 960 * Tone.made
            frame = av.AudioFrame.from_ndarray((8000 * np.sin(t / 20)).astype(np.int16)[None], layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 960 * Tone.made, Fraction(1, 48000)
            Tone.made += 1
            return frame

    async def work():
        one, other = End(), End()
        heard: list[Any] = []
        other.session.on_audio = heard.append
        async with opened(one, other):
            one.session.audio_in(Tone())
            await by_hand(one, other)
            await until(lambda: heard, what="a track")
            loudest = 0
            for _ in range(30):
                frame = await asyncio.wait_for(heard[0].recv(), 5)
                loudest = max(loudest, int(np.abs(frame.to_ndarray()).max()))
            assert 4000 < loudest < 16000
            await until(lambda: other.session.stats().kbps_received["audio"] > 1, 5, "counted")
            assert one.session.stats().bytes_sent["audio"] > 500
            one.session.set_muted(video=False, audio=True)
            await until(lambda: "the other side has muted its microphone" in other.lines("notice"), 5)

    run(work())


def test_an_end_that_is_not_open_or_over_says_so():
    async def work():
        end = End()
        assert "expected an open session" in await refused(end.session.make_offer())
        end.session.submit(CameraFrame(camera_frames()[0], 0.0, 0))  # nothing to give it to
        assert end.session.stats().state == "new"
        async with opened(end):
            pass
        assert "has ended" in await refused(end.session.host_room("http://127.0.0.1:1"))
        await end.session.close()  # twice is as once

    run(work())


def test_a_clip_to_record_that_cannot_be_written_is_said_before_the_call(tmp_path):
    async def work():
        end = End(record=tmp_path / "missing" / "seen.mp4")
        assert "No such file or directory" in await refused(end.session.open())
        wrong = End(record=make_clip(tmp_path / "clip.mp4").with_suffix(".doc"))
        assert "expected a clip name" in await refused(wrong.session.open())

    run(work())


def test_a_job_of_the_meeting_that_fails_is_told(monkeypatch):
    """What aiortc or the system raises is of many kinds; it must not vanish with the task."""
    real = Peer.offer
    failed: list[Peer] = []

    async def offer(peer: Peer) -> str:
        if not failed:
            failed.append(peer)
            raise OSError("No route to host")
        return await real(peer)

    monkeypatch.setattr(Peer, "offer", offer)

    async def work():
        host, guest = End(), End()
        async with Server() as server, opened(host, guest):
            await guest.session.join_room(await host.session.host_room(server.address))
            await until(lambda: host.lines("error"), 10, "told")
            assert host.lines("error") == ["OSError: No route to host"]
            host.session._meeting._asked = 0.0
            host.session._meeting.again()
            await until(lambda: received(host, guest), 15, "frames")

    run(work(), 60)


def test_an_avatar_call_with_a_backbone_that_has_no_scale_and_with_bad_frames(monkeypatch):
    """Such calls ended at the avatar's first frame, and with each other error of one."""
    loaded = models_of(tiny_face_vid2vid())
    real, calls = loaded.backbone.detect, [0]

    def sometimes(frames: Any) -> Any:
        calls[0] += 1
        if calls[0] % 5 == 0:
            raise RuntimeError("one bad frame")
        return real(frames)

    monkeypatch.setattr(loaded.backbone, "detect", sometimes)

    async def work():
        one, other = End(loaded), End(loaded)
        async with opened(one, other):
            one.session.set_avatar(np.ascontiguousarray(camera_frames()[0][::-1]))
            await by_hand(one, other)
            await until(lambda: received(one, other, count=12), 20, "frames both ways")
            await until(lambda: one.session.stats().failed > 1, what="counted")
            assert one.state == "connected" and not one.lines("error")
            assert one.lines("notice") and all("RuntimeError: one bad frame" in line for line in one.lines("notice"))

    run(work(), 60)
