"""Secrets of a call: invitations, derived keys, encrypted messages, and texts passed by hand.

An invitation is the address of a signalling server with a secret of 192 random bits in its fragment, which no browser
or client sends to a server. HKDF-SHA256 derives from it the room's name, which is all the server learns, and the key
that encrypts the room's messages, which the server therefore can neither read nor change.
"""

import base64
import json
import os
import secrets
import time
import zlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kinecast.errors import KinecastError

SECRET_BYTES = 24
MAX_SEALED = 24_576  # characters
MAX_TEXT = 12_000  # characters of a text passed by hand
_MAX_PLAIN = 20_000  # bytes
_MARK = "kinecast1"
_TEXT_S = 3600.0  # lifetime of an offer passed by hand


def new_secret() -> str:
    """Return 192 random bits as 32 characters."""
    return secrets.token_urlsafe(SECRET_BYTES)


def check_secret(secret: str) -> str:
    """Check that a text has the form of `new_secret`.

    Raises:
        KinecastError: it does not.
    """
    allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    if len(secret) != SECRET_BYTES * 4 // 3 or any(c not in allowed for c in secret):
        raise KinecastError("invitation: expected its secret of 32 characters, found another: copy all of it again")
    return secret


def derive(secret: str, purpose: str, size: int = 32) -> bytes:
    """Return a key for one purpose (HKDF-SHA256, RFC 5869)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), size, salt=None, info=f"kinecast call 1 {purpose}".encode()).derive(secret.encode())


@dataclass(frozen=True)
class Invitation:
    """The room server (http or https) and the secret of the room."""

    server: str
    secret: str

    def __str__(self) -> str:
        return f"{self.server}/#{_MARK}.{self.secret}"

    @classmethod
    def parse(cls, text: str) -> "Invitation":
        """Read an invitation.

        Raises:
            KinecastError: not an invitation.
        """
        text = text.strip()
        mark, _, secret = urlsplit(text[:1000]).fragment.partition(".")
        if len(text) > 1000 or mark != _MARK:
            raise KinecastError(
                f"invitation: expected http(s)://HOST:PORT/#{_MARK}.SECRET, found {text[:24]!r}: copy all of it again"
            )
        return cls(check_server(text.partition("#")[0]), check_secret(secret))


def check_server(address: str) -> str:
    """Return a signalling server's address, normalised.

    Raises:
        KinecastError: not an http(s) address.
    """
    try:
        parts = urlsplit(address.strip())
        host, _ = parts.hostname, parts.port  # an invalid port raises
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.username or len(address) > 300:
        raise KinecastError(f"server: expected http(s)://HOST:PORT, found {address[:80]!r}: see `kinecast serve`")
    return urlunsplit((parts.scheme, parts.netloc, "", "", ""))


class Seal:
    """AES-256-GCM with the room's key. Each direction has its own, so that messages cannot be reflected."""

    def __init__(self, secret: str, role: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        other = {"host": "guest", "guest": "host"}[role]
        self._out, self._in = AESGCM(derive(secret, f"seal {role}")), AESGCM(derive(secret, f"seal {other}"))

    def close(self, message: dict[str, Any]) -> str:
        """Encrypt a message."""
        nonce = os.urandom(12)
        plain = zlib.compress(json.dumps(message).encode(), 9)
        return base64.urlsafe_b64encode(nonce + self._out.encrypt(nonce, plain, None)).decode()

    def open(self, sealed: str) -> dict[str, Any]:
        """Decrypt a message of the other side.

        Raises:
            KinecastError: too long, or not encrypted by it.
        """
        from cryptography.exceptions import InvalidTag

        try:
            if len(sealed) > MAX_SEALED:
                raise ValueError("too long")
            data = base64.b64decode(sealed.encode("ascii"), altchars=b"-_", validate=True)
            return _unpack(self._in.decrypt(data[:12], data[12:], None))
        except (InvalidTag, ValueError) as error:
            raise KinecastError(
                "signalling: expected a message encrypted by the other side, found another: it was dropped"
            ) from error


def _unpack(data: bytes) -> dict[str, Any]:
    """Decompress a JSON object of bounded size. Raises ValueError."""
    reader = zlib.decompressobj()
    try:
        plain = reader.decompress(data, _MAX_PLAIN)
    except zlib.error as error:
        raise ValueError("not compressed") from error
    if reader.unconsumed_tail or not reader.eof:
        raise ValueError("too long or cut off")
    try:
        values = json.loads(plain)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(values, dict):
        raise ValueError("not an object")
    return values


# --- texts passed by hand --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HandText:
    """An offer or answer passed by hand. An answer names its offer by the offer's secret `key`."""

    kind: str  # offer or answer
    sdp: str
    key: str
    made: float

    def __str__(self) -> str:
        values = {"kind": self.kind, "sdp": self.sdp, "key": self.key, "made": round(self.made)}
        return f"{_MARK}:{base64.urlsafe_b64encode(zlib.compress(json.dumps(values).encode(), 9)).decode()}"

    @classmethod
    def parse(cls, text: str, kind: str) -> "HandText":
        """Read a text of one kind.

        Raises:
            KinecastError: not a text of that kind, or too old.
        """
        text = "".join(text[: 2 * MAX_TEXT].split())
        mark, _, body = text.partition(":")
        try:
            if mark != _MARK or len(text) > MAX_TEXT:
                raise ValueError("no mark")
            values = _unpack(base64.b64decode(body.encode("ascii"), altchars=b"-_", validate=True))
            found = cls(values["kind"], values["sdp"], values["key"], values["made"])
            if not all(isinstance(v, str) for v in (found.kind, found.sdp, found.key)) or set(values) != {
                "kind",
                "sdp",
                "key",
                "made",
            }:
                raise ValueError("unknown fields")
            age = time.time() - float(found.made)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise KinecastError(f"{kind}: expected a text {_MARK}:..., found another: copy all of it again") from error
        if found.kind != kind:
            raise KinecastError(f"{kind}: expected the other side's {kind}, found an {found.kind[:10]}: swap the texts")
        if not abs(age) < _TEXT_S:
            raise KinecastError(f"{kind}: expected one of the last hour, found an older one: create a new one")
        check_secret(found.key)
        return found
