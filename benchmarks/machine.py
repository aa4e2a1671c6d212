"""Where and when a benchmark was run, and how its results are written."""

import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kinecast.files import atomic_path
from kinecast.machine.processor import instruction_sets, processor


def describe() -> dict[str, Any]:
    """Return platform, processor, cores, versions, date and command: what a figure means nothing without."""
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "instruction_sets": instruction_sets(),
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,  # other work on the machine
        "python": platform.python_version(),
        "torch": version("torch"),
        "kinecast": version("kinecast"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
    }


def write_results(path: Path | None, results: dict[str, Any]) -> None:
    """Write results as JSON, if a path was given."""
    if path:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n")
        print(f"wrote {path}", file=sys.stderr)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        texts = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return f"| {' | '.join(texts)} |"

    rule = [("-" * w if i == 0 else "-" * (w - 1) + ":") for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)])
