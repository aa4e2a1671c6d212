"""A call between two processes on this machine: frames per second, delay, bytes, memory; and how it bears a bad link.

Two headless ends call each other over a server on 127.0.0.1 and a real WebRTC connection, each with a clip as its
camera. Frames shown, delay from capture to show (in the sender's clock, which is this machine's for both) and bytes are
what each end counts; memory is what the system says of the process every second. Then the same call over bad links
(made on purpose, on motion and its requests, both ways), and with its parts killed: how long until frames come again.
With --namespaces (root) also over a network whose IP packets are lost, delayed and reordered, and whose link goes down:
everything between the two processes takes that way, DTLS and the reliable channel too.

    python benchmarks/live.py CLIP CLIP --seconds 120 --fault-seconds 20 --output benchmarks/results/live.json
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.apps.call.config import CallConfig, LinkFaults, ShownFrame
from kinecast.apps.call.headless import HeadlessOptions, _Headless
from machine import describe, table, write_results

sys.path.append(str(Path(__file__).parents[1] / "tests" / "apps" / "call"))
from network import Network, missing  # noqa: E402

OUTAGE = (8.0, 13.0)  # seconds after the connection
FAULTS = {
    "no loss": LinkFaults(),
    "10 % loss": LinkFaults(loss=0.1),
    "30 % loss": LinkFaults(loss=0.3),
    "30 % in bursts of 4": LinkFaults(loss=0.3, burst=4),
    "jitter 100 ms": LinkFaults(jitter_ms=100),
    "jitter 100 ms, reordered": LinkFaults(jitter_ms=100, reorder=True),
    "outage of 5 s": LinkFaults(outages=(OUTAGE,)),
}
NETWORKS = {  # of IP packets, from the first frame on
    "packets, no loss": LinkFaults(),
    "packets, 10 % loss": LinkFaults(loss=0.1),
    "packets, 30 % loss": LinkFaults(loss=0.3),
    "packets, jitter 100 ms, reordered": LinkFaults(jitter_ms=100, reorder=True),
}
LINK_DOWN = "link down for 5 s"
STARTED: list[subprocess.Popen[str]] = []  # every process, to be stopped whatever happens
LINE = "@ "  # what an end says to this program begins with it


# --- one end, as a process --------------------------------------------------------------------------------------------


class End(_Headless):
    """A headless end that says when it receives frames, and its figures every second."""

    def extra(self) -> dict[str, Any]:
        """Return what else it says every second."""
        return {}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._times: list[float] = []

    def _shown(self, frame: ShownFrame) -> None:
        super()._shown(frame)
        if frame.state == "received":
            self._times.append(time.monotonic())  # one clock for all processes of a machine

    def tell(self, stats: dict[str, Any]) -> None:
        """Say this second's figures."""
        times, self._times = self._times, []
        print(LINE + json.dumps({"stats": stats, "received_at": times, "rss": resident(), **self.extra()}), flush=True)


def resident() -> int:
    """Return this process's resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def end_main(settings: dict[str, Any], kind: type[End] = End) -> None:
    """Be one end until it is over."""
    faults = settings.pop("link")
    link = LinkFaults(**{**faults, "outages": tuple(map(tuple, faults["outages"]))}) if faults else None
    config = CallConfig(link=link, **settings.pop("config"))
    options = HeadlessOptions(Path(settings.pop("clip")), repeat=True, **settings)
    end = kind(options, config, lambda line: print(line, flush=True), lambda stats: end.tell(stats), None)
    result = asyncio.run(end.run())
    print(LINE + json.dumps({"result": result}), flush=True)


class Process:
    """An end, as this program sees it."""

    script = __file__

    def __init__(self, settings: dict[str, Any], cache: Path, prefix: Sequence[str] = ()) -> None:
        environment = {**os.environ, "KINECAST_CACHE": str(cache)}
        command = [*prefix, sys.executable, self.script, "--end", json.dumps(settings)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        STARTED.append(self.process)
        self.seconds: list[dict[str, Any]] = []
        self.received: list[float] = []
        self.result: dict[str, Any] = {}
        self.invitation: str | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("invitation: "):
                self.invitation = line.removeprefix("invitation: ").strip()
            elif line.startswith(LINE):
                said = json.loads(line.removeprefix(LINE))
                self.result = said.get("result", self.result)
                if "stats" in said:
                    self.seconds.append(said)
                    self.received += said["received_at"]
            else:
                print(f"  {line.rstrip()}", file=sys.stderr)

    def wait_for(self, what: str, seconds: float = 180.0) -> None:
        """Wait until an attribute is filled."""
        until = time.monotonic() + seconds
        while not getattr(self, what):
            if time.monotonic() > until or self.process.poll() not in (None, 0):
                sys.exit(f"an end of the call gave no {what}")
            time.sleep(0.05)

    def end(self, seconds: float) -> None:
        """Wait for its end; kill it after so many seconds."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)


class Room:
    """A `kinecast serve` of our own."""

    def __init__(self, port: int = 0, network: Network | None = None) -> None:
        address = ["--host", network.address(0)] if network is not None else []
        command = [*at(network, 0), sys.executable, "-m", "kinecast", "serve", "--port", str(port), *address]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        STARTED.append(self.process)
        assert self.process.stderr is not None
        self.address = self.process.stderr.readline().split()[2].rstrip(";")

    def stop(self) -> None:
        """Stop it, as by Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(15)


# --- calls ----------------------------------------------------------------------------------------------------------


def at(network: Network | None, end: int) -> list[str]:
    """Return what stands before a command of an end."""
    return network.command(end) if network is not None else []


class Call:
    """Two ends and their server, which is the host's neighbour."""

    def __init__(
        self,
        args: argparse.Namespace,
        folder: Path,
        seconds: float,
        link: LinkFaults | None = None,
        network: Network | None = None,
        settings: Sequence[dict[str, Any]] = ({}, {}),
        **changes: Any,
    ) -> None:
        self.room, self._folder, self._network = Room(network=network), folder, network
        config = {name: getattr(args, name) for name in ("model", "engine", "precision", "fps", "jitter_ms")} | changes
        faults = [asdict(link) | {"seed": seed} if link else None for seed in (1, 2)]
        clips = [str(args.clips[0]), str(args.clips[-1])]
        self._host = {"clip": clips[0], "server": self.room.address, "seconds": seconds, "config": config}
        self._host |= {"link": faults[0], **settings[0]}
        self._guest = {"clip": clips[1], "seconds": seconds + 120, "config": config, "link": faults[1], **settings[1]}
        self.host = Process(self._host, folder / "host", at(network, 0))
        self.host.wait_for("invitation")
        self.guest = self.join()
        self.guest.wait_for("received")
        self.host.wait_for("received")

    def join(self) -> Process:
        """Start the guest, or start it again."""
        settings = {**self._guest, "invitation": self.host.invitation}
        return Process(settings, self._folder / "guest", at(self._network, 1))

    def finish(self, seconds: float) -> list[Process]:
        """Wait until the host hangs up."""
        self.host.end(seconds)
        self.guest.end(15)
        self.room.stop()
        return [self.host, self.guest]


def figures(end: Process, skip: int = 5) -> dict[str, Any]:
    """Return an end's figures, without the first seconds, in which engines warm up."""
    stats = [second["stats"] for second in end.seconds[skip:]] or [second["stats"] for second in end.seconds]
    rss = [second["rss"] / 2**20 for second in end.seconds]
    tenth = max(len(rss) // 10, 1)
    last = stats[-1]
    return {
        "fps_shown": float(np.mean([s["fps_shown"] for s in stats])),
        "fps_sent": float(np.mean([s["fps_sent"] for s in stats])),
        "latency_ms_p50": float(np.median([s["latency_ms_p50"] for s in stats if s["latency_ms_p50"]] or [np.nan])),
        "latency_ms_p95": float(np.median([s["latency_ms_p95"] for s in stats if s["latency_ms_p95"]] or [np.nan])),
        "kbps_sent": 8 * last["bytes_sent"]["total"] / last["seconds"] / 1000,
        "kbps_motion": 8 * last["bytes_sent"]["motion"] / last["seconds"] / 1000,
        "share_forecast": float(np.mean([s["share_forecast"] for s in stats])),
        "loss": float(np.mean([s["loss"] for s in stats])),
        "dropped_camera": last["dropped_camera"],
        "dropped_late": last["dropped_late"],
        "longest_queue": max(max(v for k, v in s["queues"].items() if "bytes" not in k) for s in stats),
        "most_bytes_waiting": max(max((v for k, v in s["queues"].items() if "bytes" in k), default=0) for s in stats),
        "rss_mib_begin": float(np.median(rss[tenth : 2 * tenth + 1])),
        "rss_mib_end": float(np.median(rss[-tenth:])),
        "rss_mib": [round(value, 1) for value in rss],
        "states": end.result.get("states", []),
    }


def recovery(end: Process, since: float) -> float | None:
    """Return the seconds from a moment to the first frame that was received after it, None if there was none."""
    after = [t for t in end.received if t > since]
    return min(after) - since if after else None


def one_call(args: argparse.Namespace, seconds: float, link: LinkFaults | None = None) -> dict[str, Any]:
    """Make a call and return the figures of both ends, and for an outage how long after it frames came again."""
    with tempfile.TemporaryDirectory() as name:
        call = Call(args, Path(name), seconds, link)
        ends = call.finish(seconds + 60)
        found: dict[str, Any] = {"ends": [figures(end) for end in ends]}
        if link is not None and link.outages:
            found["longest_gap_beyond_outage_s"] = [outage_recovery(end) for end in ends]
        return found


def call_over_network(args: argparse.Namespace, seconds: float, faults: LinkFaults | None) -> dict[str, Any]:
    """Make a call between two namespaces; `faults` None takes the host's link down for 5 s."""
    with tempfile.TemporaryDirectory() as name, Network() as network:
        call = Call(args, Path(name), seconds, network=network)
        again = None
        if faults is not None:
            network.set(faults)
        else:
            time.sleep(5)
            network.down(0)
            time.sleep(5)
            again = network.up(0)
        ends = call.finish(seconds + 60)
        found: dict[str, Any] = {"ends": [figures(end) for end in ends]}
        if again is not None:
            found["recovery_s"] = [recovery(end, again) for end in ends]
        return found


def outage_recovery(end: Process) -> float | None:
    """Return by how much the longest gap between received frames exceeds the outage."""
    gaps = np.diff(end.received)
    return float(gaps.max() - (OUTAGE[1] - OUTAGE[0])) if len(gaps) else None


def killed(args: argparse.Namespace) -> dict[str, Any]:
    """Kill the guest with -9 and start it again; then stop the server and start it again."""
    with tempfile.TemporaryDirectory() as name:
        call = Call(args, Path(name), 60)
        time.sleep(5)
        call.guest.process.kill()
        call.guest.process.wait()
        time.sleep(1)
        started = time.monotonic()
        call.guest = call.join()
        call.guest.wait_for("received")
        time.sleep(3)
        found: dict[str, Any] = {
            "host_sees_again_after_start_s": recovery(call.host, started),
            "guest_sees_after_start_s": min(call.guest.received) - started,
        }
        before, port = len(call.host.received), int(call.room.address.rsplit(":", 1)[1])
        call.room.stop()
        time.sleep(5)
        found["frames_while_the_server_was_gone"] = len(call.host.received) - before
        call.room = Room(port)
        time.sleep(6)
        call.guest.process.kill()  # and the room is there again to meet in
        call.guest.process.wait()
        started = time.monotonic()
        call.guest = call.join()
        call.guest.wait_for("received")
        time.sleep(3)
        found["guest_sees_after_server_restart_and_start_s"] = min(call.guest.received) - started
        found["seconds_of_loading"] = "included: a process starts, imports torch and loads its model"
        call.host.process.send_signal(signal.SIGINT)
        call.finish(20)
        found["guest_heard_the_end"] = bool(call.guest.result)
        return found


def main() -> None:
    """Run all calls, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path, help="one or two clips: the cameras")
    parser.add_argument("--model", default="face-128", help="name or file (%(default)s)")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--jitter-ms", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=120, help="of the plain call (%(default)s)")
    parser.add_argument("--fault-seconds", type=float, default=20, help="of each call over a bad link, 0 for none")
    parser.add_argument("--kill", action=argparse.BooleanOptionalAction, default=True, help="kill and restart parts")
    parser.add_argument("--namespaces", action="store_true", help="also over networks of our own, as root")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    if args.namespaces and (reason := missing()):
        parser.error(reason)
    results: dict[str, Any] = {"machine": describe(), "model": args.model, "fps": args.fps, "calls": {}}
    results["calls"]["plain"] = one_call(args, args.seconds)
    networks = {**NETWORKS, LINK_DOWN: None} if args.namespaces else {}
    for name, link in {**FAULTS, **networks}.items() if args.fault_seconds else ():
        wait = 120.0 if "jitter" in name else args.jitter_ms
        args_of_link = argparse.Namespace(**{**vars(args), "jitter_ms": wait})
        make = call_over_network if name in networks else one_call
        results["calls"][name] = make(args_of_link, args.fault_seconds, link)
    if args.kill:
        results["killed"] = killed(args)
    head = [
        "call",
        "fps shown",
        "p50 ms",
        "p95 ms",
        "kbps sent",
        "of it motion",
        "forecast",
        "lost",
        "MiB, begin",
        "end",
    ]
    rows = []
    for name, call in results["calls"].items():
        for end, who in zip(call["ends"], ("host", "guest"), strict=True):
            rows.append(
                [
                    f"{name}, {who}",
                    *(f"{end[key]:.1f}" for key in ("fps_shown", "latency_ms_p50", "latency_ms_p95")),
                    *(f"{end[key]:.2f}" for key in ("kbps_sent", "kbps_motion")),
                    *(f"{100 * end[key]:.0f} %" for key in ("share_forecast", "loss")),
                    *(f"{end[key]:.0f}" for key in ("rss_mib_begin", "rss_mib_end")),
                ]
            )
    print(table(head, rows))
    for name, call in results["calls"].items():
        if "recovery_s" in call:
            print(f"{name}: frames again after {call['recovery_s']} s")
    if args.kill:
        print(json.dumps(results["killed"], indent=2))
    write_results(args.output, results)


def run(main: Callable[[], None], kind: type[End] = End) -> None:
    """Run a benchmark of calls, or, in a process that it started, one end; no process of it is left behind."""
    if sys.argv[1:2] == ["--end"]:
        end_main(json.loads(sys.argv[2]), kind)
        return
    try:
        main()
    finally:
        for process in STARTED:
            if process.poll() is None:
                process.kill()


if __name__ == "__main__":
    run(main)
