"""The generative face video SEI message of H.274 v4: read and written, in H.264 and H.265. See docs/gfv.md.

>>> from kinecast.codec.gfv import CODECS, PAYLOAD_TYPE, GfvMessage, Points, with_sei
>>> message = GfvMessage(base=True, points=Points(((12, -7), (3, 0)), precision=7))
>>> access_unit = with_sei(CODECS["h264"], access_unit, PAYLOAD_TYPE, bytes(message))
"""

from kinecast.codec.gfv.coding import GfvDecoder, GfvEncoder, GfvFrame
from kinecast.codec.gfv.layouts import FrameCoder, exact_layout
from kinecast.codec.gfv.message import PAYLOAD_TYPE, GfvMessage
from kinecast.codec.gfv.nal import CODECS, escape, sei_messages, sei_unit, unescape, with_sei
from kinecast.codec.gfv.naming import Sender
from kinecast.codec.gfv.parts import ChromaKey, Matrices, MatrixGroup, Network, Points
from kinecast.codec.gfv.references import References, Values

__all__ = [
    "CODECS",
    "PAYLOAD_TYPE",
    "ChromaKey",
    "FrameCoder",
    "GfvDecoder",
    "GfvEncoder",
    "GfvFrame",
    "GfvMessage",
    "Matrices",
    "MatrixGroup",
    "Network",
    "Points",
    "References",
    "Sender",
    "Values",
    "escape",
    "exact_layout",
    "sei_messages",
    "sei_unit",
    "unescape",
    "with_sei",
]
