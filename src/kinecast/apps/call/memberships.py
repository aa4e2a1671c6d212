"""Records that let a killed program rejoin its call: in the cache folder, readable only by its user.

The file holds the reconnection room, and its name is derived from the invitation's secret, which is not in it.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from kinecast.apps.call.invitation import check_secret, check_server, derive
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, make_folder
from kinecast.machine.cache import cache_folder

_GOOD_S = 3600.0
_ROLES = ("guest", "host")
_held: set[Path] = set()  # of ongoing calls of this process


@dataclass(frozen=True)
class Membership:
    """A place in the reconnection room of a call, held by process `pid`."""

    role: str
    server: str
    secret: str
    token: str
    pid: int
    made: float


def save(invitation_secret: str, role: str, server: str, secret: str, token: str) -> None:
    """Save a membership. If the cache folder is not writable, only rejoining after a kill is lost."""
    values = asdict(Membership(role, server, secret, token, os.getpid(), time.time()))
    path = _path(invitation_secret, role)
    _held.add(path)
    with suppress(KinecastError, OSError):
        make_folder(path.parent).chmod(0o700)  # before it has content
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(values))
        path.chmod(0o600)


def load(invitation_secret: str) -> Membership | None:
    """Return the membership for an invitation, unless it is too old or held by another call."""
    for role in _ROLES:
        path = _path(invitation_secret, role)
        try:
            found = Membership(**json.loads(path.read_text()))
            check_secret(found.secret)
            check_server(found.server)
        except (OSError, ValueError, TypeError):
            continue
        if (
            found.role == role
            and 0 <= time.time() - found.made < _GOOD_S
            and path not in _held
            and not _in_use(found.pid)
        ):
            return found
    return None


def release(invitation_secret: str, role: str) -> None:
    """Release the place to other calls of this process."""
    _held.discard(_path(invitation_secret, role))


def forget(invitation_secret: str, role: str) -> None:
    """Remove a membership: the call is over."""
    release(invitation_secret, role)
    with suppress(OSError):
        _path(invitation_secret, role).unlink()


def _path(invitation_secret: str, role: str) -> Path:
    return cache_folder() / "calls" / f"{derive(invitation_secret, f'membership {role}', 16).hex()}.json"


def _in_use(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
