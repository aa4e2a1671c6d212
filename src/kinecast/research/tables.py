"""Tables on the terminal, in Markdown and in results.json, with everything needed to reproduce them."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from kinecast.files import atomic_path, make_folder


def provenance() -> dict[str, Any]:
    """Return the command, date, machine and versions of a run."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def markdown(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown under a heading."""
    lines = [f"## {title}", "", f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def write_report(folder: Path, name: str, text: str, results: Mapping[str, Any]) -> None:
    """Write `<name>.md` and `results.json` with the provenance of the run to a folder."""
    facts = provenance()
    machine = facts["machine"]
    head = (
        f"Made by `{facts['command']}` on {facts['date'][:10]}; {machine['processor']}, {machine['cores']} cores, "
        f"torch {machine['torch']}.\n\n"
    )
    make_folder(folder)
    with atomic_path(folder / f"{name}.md") as temporary:
        temporary.write_text(head + text)
    with atomic_path(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(facts | dict(results), indent=2) + "\n")


def _processor() -> str:
    """Return the processor's name, which `platform` does not know on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
