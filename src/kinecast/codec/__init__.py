"""The motion bitstream: quantised motion, integer prediction, range coding, packets. See docs/protocol.md.

>>> from kinecast.codec import Layout, load_profile, encode_motion, decode_motion
>>> layout = Layout.fomm()
>>> profile = load_profile("generic", layout)
>>> packets = list(encode_motion(vectors, layout, profile))  # vectors: an iterable of (D,)
>>> frames = list(decode_motion(packets, layout, profile))  # .vector (D,), .concealed
"""

from kinecast.codec.decoder import DecodedFrame, Losses, MotionDecoder, decode_motion
from kinecast.codec.encoder import FILE, LIVE, MotionEncoder, Packing, encode_levels, encode_motion
from kinecast.codec.filling import Expectation, fill, interpolate
from kinecast.codec.identity import model_identity, stream_identity
from kinecast.codec.layers import LayeredDecoder, LayeredEncoder, encode_layers, keep_layers, stream_decoder
from kinecast.codec.packets import Header, MotionPacket, ReferenceChunk, SoundUnit, parse_unit, split_picture
from kinecast.codec.profiles import Profile, generic_profile, load_profile, profile_names
from kinecast.codec.quantizer import Component, Layout, dequantize, quantize
from kinecast.codec.schedule import Blocks, ClosedLoop, EveryKth, RateControl, in_pictures, in_steps
from kinecast.codec.stream import PictureAssembler, StreamReader, write_stream
from kinecast.codec.times import TimesUnit

__all__ = [
    "FILE",
    "LIVE",
    "Blocks",
    "ClosedLoop",
    "Component",
    "DecodedFrame",
    "EveryKth",
    "Expectation",
    "Header",
    "Layout",
    "LayeredDecoder",
    "LayeredEncoder",
    "Losses",
    "MotionDecoder",
    "MotionEncoder",
    "MotionPacket",
    "Packing",
    "PictureAssembler",
    "Profile",
    "RateControl",
    "ReferenceChunk",
    "SoundUnit",
    "StreamReader",
    "TimesUnit",
    "decode_motion",
    "dequantize",
    "encode_layers",
    "encode_levels",
    "encode_motion",
    "fill",
    "generic_profile",
    "in_pictures",
    "in_steps",
    "interpolate",
    "keep_layers",
    "load_profile",
    "model_identity",
    "parse_unit",
    "profile_names",
    "quantize",
    "split_picture",
    "stream_decoder",
    "stream_identity",
    "write_stream",
]
