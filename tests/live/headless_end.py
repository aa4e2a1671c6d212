"""One end of a headless call as a program, for tests: prints the invitation, then the figures as JSON."""

import argparse
import json
import time
from pathlib import Path

from kinecast.live.config import CallConfig
from kinecast.live.headless import HeadlessOptions, run_headless


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
    told: list[float] = []

    def on_stats(stats: dict) -> None:
        if stats["fps_shown"] > 0 and not told:
            told.append(time.time())
            print("first frame", flush=True)

    config = CallConfig(arguments.model, engine="eager", fps=12, jitter_ms=100)
    print(json.dumps(run_headless(options, config, lambda line: print(line, flush=True), on_stats)), flush=True)


if __name__ == "__main__":
    main()
