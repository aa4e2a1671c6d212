"""The network's address in GFV messages, and what kinecast's own streams add to it.

The URI names the network by its hash (RFC 6920): `ni:///sha-256;...` of the bytes that define a model's identity in
docs/protocol.md. The tag states that kinecast wrote the stream, and how: the layout with its steps, and the model's
name.

>>> from kinecast.codec import Layout
>>> sender = Sender(Layout.fomm(), bytes(32), "face-128")
>>> sender.network().tag
'tag:kinecast.invalid,2026:gfv/1/fomm/10/value:2:256/jacobian:4:1024?model=face-128'
>>> Sender.of(sender.network()) == sender
True
"""

import base64
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote

from kinecast.codec.gfv.parts import WHAT, Network
from kinecast.codec.quantizer import MAX_COMPONENTS, Component, Layout
from kinecast.errors import KinecastError

_TAG = "tag:kinecast.invalid,2026:gfv/"
_VERSION = "1"
_URI = "ni:///sha-256;"
_NAME = r"[A-Za-z0-9_.~%-]{1,192}"  # safe characters when quoting
_BODY = re.compile(
    rf"({_NAME})/(\d{{1,3}})((?:/\w{{1,32}}:\d{{1,3}}:\d{{1,5}}){{1,{MAX_COMPONENTS}}})\?model=({_NAME})?"
)


@dataclass(frozen=True)
class Sender:
    """How a stream was written: the layout with its steps, the sha256 of the model (32 bytes), and the model's name."""

    layout: Layout
    model: bytes
    model_name: str = ""

    def network(self) -> Network:
        """Return this as a message's network."""
        parts = "".join(f"/{part.name}:{part.width}:{part.step}" for part in self.layout.components)
        layout = f"{quote(self.layout.name, safe='')}/{self.layout.keypoints}{parts}"
        digest = base64.urlsafe_b64encode(self.model).rstrip(b"=").decode()
        return Network(f"{_TAG}{_VERSION}/{layout}?model={quote(self.model_name, safe='')}", f"{_URI}{digest}")

    @classmethod
    def of(cls, network: Network | None) -> Self | None:
        """Parse a message's network; None if kinecast did not write the stream.

        Raises:
            KinecastError: a later version of kinecast wrote it, or it is damaged.
        """
        if network is None or not network.tag.startswith(_TAG):
            return None
        version, _, body = network.tag.removeprefix(_TAG).partition("/")
        if version != _VERSION:
            raise KinecastError(
                f"{WHAT}: expected version {_VERSION}, found {version[:20]!r}: update kinecast to read it"
            )
        found = _BODY.fullmatch(body)
        digest = network.uri.removeprefix(_URI)
        if found is None or not re.fullmatch(r"[A-Za-z0-9_-]{43}", digest):
            raise KinecastError(f"{WHAT}: expected a layout and a model's hash, found {body[:60]!r}: it is damaged")
        name, keypoints, parts, model = found.groups()
        components = [part.split(":") for part in parts[1:].split("/")]
        made = tuple(Component(each, int(width), int(step)) for each, width, step in components)
        return cls(
            Layout(unquote(name), int(keypoints), made), base64.urlsafe_b64decode(digest + "="), unquote(model or "")
        )
