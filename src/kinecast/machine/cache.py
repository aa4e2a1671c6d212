"""The cache folder: measured choices and converted models, kept between runs. All of it can be recreated."""

import hashlib
import os
import sys
from pathlib import Path

VARIABLE = "KINECAST_CACHE"


def cache_folder() -> Path:
    """Return the folder: `KINECAST_CACHE`, or the system's place for caches. It need not exist."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "kinecast"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kinecast"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kinecast"


def key_of(*facts: object) -> str:
    """Return a short name that depends on all of the facts."""
    return hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()[:20]
