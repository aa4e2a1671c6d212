"""Sound between the page and the local server: a WebRTC connection within this machine, relayed to the call.

The browser handles echo, noise and Opus. Its microphone becomes a track for the session, and the page plays the other
person's track. The call works without sound. Browsers offer no loopback addresses, so the connection uses the machine's
own; its packets are encrypted and do not leave the machine.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from kinecast.errors import KinecastError

_GATHERING_SECONDS = 5.0
_WAITING = 10  # frames of 20 ms: older ones are dropped, so that sound never lags behind the picture
_GAP_SECONDS = 0.2  # a longer silence advances the clock


class LiveTrack(MediaStreamTrack):
    """A track that returns the newest frames put into it, and waits while there are none.

    Its queue is bounded, unlike those of aiortc's own tracks and relays, and sources may come and go.
    """

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._frames: deque[Any] = deque(maxlen=_WAITING)
        self._wake = asyncio.Event()
        self._next = 0
        self._started: float | None = None

    def put(self, frame: Any) -> None:
        """Add a frame; the oldest one is dropped if nobody reads."""
        self._frames.append(frame)
        self._wake.set()

    async def recv(self) -> Any:
        """Return the next frame, with times that continue across a change of source."""
        while not self._frames:
            if self.readyState != "live":
                raise MediaStreamError
            self._wake.clear()
            await self._wake.wait()
        frame = self._frames.popleft()
        now = asyncio.get_running_loop().time()
        self._started = now if self._started is None else self._started
        elapsed = now - self._started
        if self._next < (elapsed - _GAP_SECONDS) * frame.sample_rate:
            self._next = int(elapsed * frame.sample_rate)
        frame.pts, frame.time_base = self._next, Fraction(1, frame.sample_rate)
        self._next += frame.samples
        return frame

    def stop(self) -> None:
        """End the track; a waiting `recv` raises MediaStreamError."""
        super().stop()
        self._wake.set()


class PageSound:
    """One page's sound."""

    def __init__(self) -> None:
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))  # no STUN: both ends are on this machine
        self._peer.on("track", lambda track: self._follow(track, self._to_call))
        self._speaker = LiveTrack()
        self._microphone = LiveTrack()
        self._pumps: set[asyncio.Task[None]] = set()

    def microphone(self) -> LiveTrack:
        """Return a new track of the page's microphone, in place of the previous one: a call ends its track."""
        self._microphone.stop()
        self._microphone = LiveTrack()
        return self._microphone

    def play(self, track: MediaStreamTrack) -> None:
        """Play the other person's track in the page until it ends."""
        self._follow(track, self._speaker.put)

    async def answer(self, sdp: str) -> str:
        """Answer the page's offer, which must have one audio section only; returns the answer's text.

        Raises:
            KinecastError: not an offer, or one with other sections.
        """
        sections = [line.split()[0] for line in sdp.splitlines() if line.startswith("m=") and line.split()]
        if sections != ["m=audio"]:
            raise KinecastError(
                f"sound: expected an offer with one audio section, found {len(sections)} sections: reload the page"
            )
        try:
            await asyncio.wait_for(self._negotiate(sdp), _GATHERING_SECONDS)
        except Exception as error:  # aiortc's parser raises many kinds of error for damaged descriptions
            raise KinecastError(
                f"sound: expected a usable session description, found {type(error).__name__}: the call continues "
                "without sound"
            ) from error
        return str(self._peer.localDescription.sdp)

    async def _negotiate(self, sdp: str) -> None:
        await self._peer.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        for transceiver in self._peer.getTransceivers():
            transceiver.direction = "sendrecv"
            transceiver.sender.replaceTrack(self._speaker)
        await self._peer.setLocalDescription(await self._peer.createAnswer())

    async def close(self) -> None:
        """End the connection with the page and both tracks."""
        for pump in self._pumps:
            pump.cancel()
        self._microphone.stop()
        self._speaker.stop()
        await self._peer.close()

    def _to_call(self, frame: Any) -> None:
        self._microphone.put(frame)

    def _follow(self, track: MediaStreamTrack, put: Callable[[Any], None]) -> None:
        task = asyncio.ensure_future(_pump(track, put))
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)


async def _pump(track: MediaStreamTrack, put: Callable[[Any], None]) -> None:
    """Read a track until it ends: aiortc keeps every unread frame."""
    try:
        while True:
            put(await track.recv())
    except MediaStreamError:
        pass
