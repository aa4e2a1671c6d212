"""Two network namespaces whose only link loses, delays and reorders IP packets: what a call is on a bad network.

Each namespace has a TUN device; this process passes packets from one to the other. Everything between two programs in
them takes this way: ICE, DTLS and SCTP with its reliable channel. A rate is the kernel's (token bucket). Needs root,
`ip` and /dev/net/tun.
"""

import asyncio
import fcntl
import os
import shutil
import struct
import subprocess
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from kinecast.apps.call.config import LinkFaults
from kinecast.apps.call.links import FaultyLink

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_PACKET = 65_536  # bytes, at most


def missing() -> str | None:
    """Return what is missing to make namespaces, None if nothing."""
    if os.geteuid() != 0:
        return "namespaces: expected root, found another user"
    if shutil.which("ip") is None or not Path("/dev/net/tun").exists():
        return "namespaces: expected the program `ip` and /dev/net/tun, found none"
    return None


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Network:
    """Two ends, 0 and 1, with addresses `address(end)`; run programs in them by `command(end)`."""

    def __init__(self) -> None:
        self._names = [f"kinecast-{os.getpid()}-{end}" for end in (0, 1)]
        self._tuns: list[int] = []
        self._loop = asyncio.new_event_loop()
        self._links: list[FaultyLink] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        try:
            for end in (0, 1):
                self._make(end)
        except BaseException:
            self._remove()
            raise
        self._thread.start()
        self.set(LinkFaults())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._remove()

    def _make(self, end: int) -> None:
        name, device = self._names[end], self._device(end)
        self._tuns.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK))
        fcntl.ioctl(self._tuns[-1], _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
        _ip("netns", "add", name)
        _ip("link", "set", device, "netns", name)
        _ip("-n", name, "addr", "add", self.address(end), "peer", self.address(1 - end), "dev", device)
        _ip("-n", name, "link", "set", "lo", "up")  # the way to its own address
        self.up(end)

    def _remove(self) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        for tun in self._tuns:
            os.close(tun)

    def _device(self, end: int) -> str:
        return f"kc{os.getpid()}-{end}"

    def address(self, end: int) -> str:
        """Return an end's address."""
        return f"10.77.0.{end + 1}"

    def command(self, end: int) -> list[str]:
        """Return what stands before a command that is to run at an end."""
        return ["ip", "netns", "exec", self._names[end]]

    def set(self, faults: LinkFaults) -> None:
        """Make the link such, both ways, from now on."""
        asyncio.run_coroutine_threadsafe(self._set(faults), self._loop).result(5)

    async def _set(self, faults: LinkFaults) -> None:
        for link in self._links:
            link.close()
        self._links = [
            FaultyLink(replace(faults, seed=faults.seed + end), partial(self._write, to))
            for end, to in enumerate(reversed(self._tuns))
        ]
        for tun, link in zip(self._tuns, self._links, strict=True):
            self._loop.add_reader(tun, self._pass_on, tun, link)

    def _pass_on(self, tun: int, link: FaultyLink) -> None:
        link.send(os.read(tun, _PACKET))

    def _write(self, tun: int, data: bytes) -> None:
        try:
            os.write(tun, data)
        except OSError:  # that end's link is down
            pass

    def limit(self, kbps: float, queue: int = 6000) -> None:
        """Let each end send `kbps` of IP packets from now on, with a queue of so many bytes before it. Needs `tc`."""
        for end in (0, 1):
            shape = ["rate", f"{round(1000 * kbps)}bit", "burst", "1600", "limit", str(queue)]
            command = ["tc", "qdisc", "replace", "dev", self._device(end), "root", "tbf", *shape]
            subprocess.run([*self.command(end), *command], check=True, capture_output=True, text=True)

    def sent(self, end: int) -> int:
        """Return the bytes of IP packets that an end's device has sent."""
        command = ["cat", f"/sys/class/net/{self._device(end)}/statistics/tx_bytes"]
        run = subprocess.run([*self.command(end), *command], check=True, capture_output=True, text=True)
        return int(run.stdout)

    def down(self, end: int) -> None:
        """Take an end's link down, as an unplugged cable does."""
        _ip("-n", self._names[end], "link", "set", self._device(end), "down")

    def up(self, end: int) -> float:
        """Take it up again; returns when that was, on the monotonic clock."""
        _ip("-n", self._names[end], "link", "set", self._device(end), "up")
        return time.monotonic()
