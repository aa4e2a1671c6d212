"""What lets a program that was killed take its place in a call again: in the cache folder, for its user's eyes only.

The file holds the room where both meet again, but it is found by the invitation's secret, which is not in it.
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
_held: set[Path] = set()  # by calls of this process that go on


@dataclass(frozen=True)
class Membership:
    """A place in the room where a call goes on: `pid` is the process that has it."""

    role: str
    server: str
    secret: str
    token: str
    pid: int
    made: float


def save(invitation_secret: str, role: str, server: str, secret: str, token: str) -> None:
    """Keep a membership. A cache folder that cannot be written costs only the return after a kill."""
    values = asdict(Membership(role, server, secret, token, os.getpid(), time.time()))
    path = _path(invitation_secret, role)
    _held.add(path)
    with suppress(KinecastError, OSError):
        make_folder(path.parent).chmod(0o700)  # before anything is in it
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(values))
        path.chmod(0o600)


def load(invitation_secret: str) -> Membership | None:
    """Return the membership that goes with an invitation, unless it is too old or another call has it."""
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
    """Let another call of this process have the place."""
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
