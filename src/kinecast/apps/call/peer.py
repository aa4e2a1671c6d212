"""One WebRTC connection: two data channels and audio, with every message bounded and counted.

The caller creates the channels: `picture`, ordered and reliable, and `motion`, unordered and without retransmission.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from kinecast.apps.call.config import IceServer
from kinecast.apps.call.figures import Allowance, Rate
from kinecast.codec.packets import DATAGRAM
from kinecast.errors import KinecastError
from kinecast.packages import needs

CHANNELS = ("picture", "motion")
MAX_MESSAGE = DATAGRAM  # bytes: every unit of docs/protocol.md fits
MAX_SDP = 16_384
_MOST_EARLY = 64
_MOST_BAD = 100  # invalid messages after which the call is ended
_MESSAGES = (250.0, 500.0)  # per second and at once, on either channel: 60 frames, pings, and a picture's chunks
_BYTES = {"picture": (64e3, 1e6), "motion": (64e3, 128e3)}
# Bytes of unfinished messages: aiortc announces a limit to the other side, but does not enforce it.
_SCTP_MEMORY = 1 << 20


def needs_live() -> None:
    """Check that the extra is installed.

    Raises:
        KinecastError: it is not.
    """
    needs("a live call", "live")


class Peer:
    """One connection to the other side. Callbacks are called on the event loop.

    Args:
        caller: whether this end creates the channels and the offer.
        ice_servers: STUN and TURN servers; aiortc's defaults are not used.
        on_message: called with a channel's name and a message within bounds.
        on_open: called when both channels are open.
        on_closed: called when the connection ended, with the reason; not by `close`.
        on_track: called with the other side's audio track.
    """

    def __init__(
        self,
        caller: bool,
        ice_servers: Sequence[IceServer],
        on_message: Callable[["Peer", str, bytes], None],
        on_open: Callable[["Peer"], None],
        on_closed: Callable[["Peer", str], None],
        on_track: Callable[[Any], None],
    ) -> None:
        from aiortc import RTCBundlePolicy, RTCConfiguration, RTCIceServer, RTCPeerConnection

        servers = [RTCIceServer(s.url, s.user or None, s.password or None) for s in ice_servers]
        # An empty list must be explicit: without it, aiortc asks a public STUN server.
        self._pc = RTCPeerConnection(RTCConfiguration(servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self.caller, self.opened, self.closed = caller, False, False
        self.hostile = False  # it was ended because of its messages
        self.sent = {name: Rate() for name in CHANNELS}
        self.received = {name: Rate() for name in CHANNELS}
        self.refused = self.audio_received = 0
        self._on_message, self._on_open, self._on_closed = on_message, on_open, on_closed
        self._on_track = on_track
        self._channels: dict[str, Any] = {}
        self._early: list[tuple[str, bytes]] | None = []  # messages received before `start`
        self._allowed = {name: (Allowance(*_MESSAGES), Allowance(*_BYTES[name])) for name in CHANNELS}
        self._pc.on("connectionstatechange", self._state_changed)
        self._pc.on("track", self._tracked)
        self._pc.on("datachannel", self._channel_offered)
        self._audio: Any = None
        if caller:
            self._audio = self._pc.addTransceiver("audio", direction="sendrecv")
            self._adopt(self._pc.createDataChannel("picture"))
            self._adopt(self._pc.createDataChannel("motion", ordered=False, maxRetransmits=0))

    # --- setting up -----------------------------------------------------------------------------------------------

    async def offer(self) -> str:
        """Return the offer, with all addresses of this side."""
        await self._pc.setLocalDescription(await self._pc.createOffer())
        return self._local()

    async def answer(self, sdp: str) -> str:
        """Accept an offer and return the answer.

        Raises:
            KinecastError: not an offer of such a call.
        """
        with _refusing("offer"):
            await self._pc.setRemoteDescription(_description(sdp, "offer"))
            self._audio = self._pc.getTransceivers()[0]
            self._audio.direction = "sendrecv"
            await self._pc.setLocalDescription(await self._pc.createAnswer())
        return self._local()

    async def accept(self, sdp: str) -> None:
        """Accept the answer to the offer.

        Raises:
            KinecastError: not an answer to it.
        """
        with _refusing("answer"):
            await self._pc.setRemoteDescription(_description(sdp, "answer"))

    def _local(self) -> str:
        sdp: str = self._pc.localDescription.sdp
        if "a=candidate:" not in sdp:
            raise KinecastError("network: expected a network address of this machine, found none: connect it")
        return sdp

    # --- messages ---------------------------------------------------------------------------------------------------

    def send(self, channel: str, data: bytes) -> bool:
        """Send a message; returns whether the channel accepted it."""
        found = self._channels.get(channel)
        if found is None or found.readyState != "open" or self.closed:
            return False
        found.send(data)
        self.sent[channel].add(len(data))
        return True

    def waiting(self, channel: str) -> int:
        """Return the bytes queued on this machine."""
        found = self._channels.get(channel)
        return found.bufferedAmount if found is not None else 0

    def _received(self, channel: str, data: Any) -> None:
        if self.closed:
            return
        size = len(data)
        self.received[channel].add(size)
        messages, volume = self._allowed[channel]
        if not isinstance(data, bytes) or not 0 < size <= MAX_MESSAGE or not messages.take() or not volume.take(size):
            self.refuse()
            return
        if self._early is None:
            self._on_message(self, channel, data)
        elif len(self._early) < _MOST_EARLY:
            self._early.append((channel, data))

    def start(self) -> None:
        """Deliver messages from now on, starting with those already received."""
        early, self._early = self._early or [], None
        for channel, data in early:
            self._on_message(self, channel, data)

    def refuse(self) -> None:
        """Count an invalid message; too many end the call."""
        self.refused += 1
        if self.refused == _MOST_BAD:
            self._end_hostile(f"the other side sent {_MOST_BAD} messages that are not of this protocol")

    # --- events of aiortc --------------------------------------------------------------------------------------------

    def _channel_offered(self, channel: Any) -> None:
        right = {"picture": (True, None), "motion": (False, 0)}.get(channel.label)
        if self.caller or channel.label in self._channels or right != (channel.ordered, channel.maxRetransmits):
            self._end_hostile("the other side opened channels that are not of this protocol")
            return
        self._adopt(channel)

    def _adopt(self, channel: Any) -> None:
        self._channels[channel.label] = channel
        channel.on("message", lambda data: self._received(channel.label, data))
        channel.on("close", lambda: self._end("the connection was closed by the other side"))
        channel.on("open", self._check_open)
        self._check_open()

    def _check_open(self) -> None:
        if len(self._channels) == len(CHANNELS) and not (self.opened or self.closed):
            if all(channel.readyState == "open" for channel in self._channels.values()):
                self.opened = True
                # Not from within aiortc's channel constructor: the session replies with messages.
                asyncio.get_running_loop().call_soon(self._tell_open)

    def _tell_open(self) -> None:
        if not self.closed:
            self._on_open(self)

    def _state_changed(self) -> None:
        if self._pc.connectionState in ("failed", "closed"):
            self._end(f"the connection {self._pc.connectionState}")

    def _tracked(self, track: Any) -> None:
        self._count_audio()
        self._on_track(track)

    def _count_audio(self) -> None:
        """Count RTP as it arrives: aiortc's report has packets, but no bytes."""
        for transceiver in self._pc.getTransceivers():
            receiver = transceiver.receiver
            take = receiver._handle_rtp_packet

            async def counted(packet: Any, *args: Any, _take: Any = take, **named: Any) -> None:
                self.audio_received += 12 + len(packet.payload)
                await _take(packet, *args, **named)

            receiver._handle_rtp_packet = counted  # type: ignore[method-assign]

    def check_memory(self) -> None:
        """End the call if the other side exceeds the announced limit of unfinished messages."""
        transport = self._pc.sctp
        if transport is not None and transport._advertised_rwnd < -_SCTP_MEMORY:
            self._end_hostile("the other side sent more unfinished data than a call needs")

    def _end_hostile(self, reason: str) -> None:
        self.hostile = True
        self._end(f"{reason}: the call was ended")

    def _end(self, reason: str) -> None:
        if not self.closed:
            self.closed = True
            self._on_closed(self, reason)

    # --- audio ------------------------------------------------------------------------------------------------------

    def set_track(self, track: Any) -> None:
        """Send an audio track; None sends nothing."""
        if self._audio is not None and not self.closed:
            with suppress(Exception):  # the transport may close at any moment
                self._audio.sender.replaceTrack(track)

    async def audio_sent(self) -> int:
        """Return the bytes of RTP sent so far, including headers of 12 bytes."""
        if self._audio is None or self.closed:
            return 0
        reports = (await self._audio.sender.getStats()).values()
        return sum(r.bytesSent + 12 * r.packetsSent for r in reports if r.type == "outbound-rtp")

    async def close(self) -> None:
        """Close the connection."""
        self.closed = True
        with suppress(Exception):
            await asyncio.wait_for(self._pc.close(), 5)


@contextmanager
def _refusing(kind: str) -> Iterator[None]:
    """Convert aiortc's many kinds of error for invalid descriptions to one line."""
    try:
        yield
    except KinecastError:
        raise
    except Exception as error:
        raise KinecastError(
            f"{kind}: expected the description of a call, found {type(error).__name__}: copy it again"
        ) from error


def _description(sdp: str, kind: str) -> Any:
    """Check that a description is of a call as in `Peer`: one audio and one data section, in one bundle.

    Raises:
        KinecastError: it is too large, or of something else.
    """
    from aiortc import RTCSessionDescription
    from aiortc.sdp import SessionDescription

    if len(sdp) > MAX_SDP or sdp.count("a=candidate:") > 64 or sdp.count("m=") > 8:
        raise KinecastError(f"{kind}: expected the description of one call, at most {MAX_SDP} bytes, found more")
    parsed = SessionDescription.parse(sdp)
    bundled = [item for group in parsed.group if group.semantic == "BUNDLE" for item in group.items]
    kinds = [media.kind for media in parsed.media]
    names = [media.rtp.muxId for media in parsed.media]
    secured = all(media.dtls is not None and media.dtls.fingerprints for media in parsed.media)
    addressed = all(
        media.ice is not None and media.ice.usernameFragment and media.ice.password for media in parsed.media
    )
    if kinds != ["audio", "application"] or names != bundled or len(set(names)) < 2 or not (secured and addressed):
        raise KinecastError(f"{kind}: expected the description of a call, found one of something else: copy it again")
    return RTCSessionDescription(sdp, kind)
