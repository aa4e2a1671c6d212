"""One end of a headless call as a program, for tests: says the invitation, each frame that came, the figures at last.

`EndProcess` is the program as a test sees it.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kinecast.apps.call.config import CallConfig, ShownFrame
from kinecast.apps.call.headless import HeadlessOptions, _Headless


class End(_Headless):
    """Says when a frame was shown that came, on the clock that all processes of a machine share."""

    def _shown(self, frame: ShownFrame) -> None:
        super()._shown(frame)
        if frame.state == "received":
            print(f"frame {time.monotonic()}", flush=True)


class EndProcess:
    """A headless end; `received` are the times of its frames, `invitation` what it said, `result` its figures."""

    def __init__(self, clip: Path, model: Path, cache: Path, *arguments: str, prefix: Sequence[str] = ()) -> None:
        environment = {**os.environ, "KINECAST_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
        command = [*prefix, sys.executable, __file__, str(clip), str(model), *arguments]
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.received: list[float] = []
        self.invitation = ""
        self.result: dict[str, Any] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            word, _, rest = line.partition(" ")
            if word == "frame":
                self.received.append(float(rest))
            elif word == "invitation:":
                self.invitation = rest.strip()
            elif line.startswith("{"):
                self.result = json.loads(line)

    def wait_for(self, what: Callable[[], Any], seconds: float = 40.0) -> None:
        """Wait until something is true of it."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end and self.process.poll() in (None, 0)
            time.sleep(0.01)

    def first_after(self, moment: float) -> float:
        """Wait for the first frame after a moment; returns how long after."""
        self.wait_for(lambda: self.received and self.received[-1] > moment)
        return next(t for t in list(self.received) if t > moment) - moment

    def end(self) -> dict[str, Any]:
        """Wait for its end; returns its figures."""
        assert self.process.wait(60) == 0
        self._reader.join(5)
        return self.result

    def kill(self) -> None:
        """End it, as by `kill -9`."""
        self.process.kill()
        self.process.wait(10)


def main() -> None:
    """Make the call that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("model")
    parser.add_argument("--server")
    parser.add_argument("--invitation")
    parser.add_argument("--seconds", type=float)
    arguments = parser.parse_args()
    options = HeadlessOptions(
        arguments.clip, None, arguments.server, arguments.invitation, arguments.seconds, repeat=True
    )
    config = CallConfig(arguments.model, engine="eager", fps=12, jitter_ms=100)
    end = End(options, config, lambda line: print(line, flush=True), None, None)
    print(json.dumps(asyncio.run(end.run())), flush=True)


if __name__ == "__main__":
    main()
