"""Clips and pictures as phones, browsers and cameras make them, written with PyAV, Pillow and bytes."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph

BT2020 = 9
PQ, HLG = 16, 18
SKIN = np.array([224, 176, 144])  # sRGB
_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def encode(
    path: Path,
    frames: Sequence[av.VideoFrame],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: float = 25,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    context: dict[str, Any] | None = None,
) -> Path:
    """Write frames that have the pixel format already; `times` are in milliseconds, `context` goes to the encoder."""
    with av.open(str(path), "w") as container:
        every = 1 / Fraction(rate).limit_denominator(1001)
        stream: Any = container.add_stream(codec, rate=1 / every, options=options or {})
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pixels
        stream.metadata.update(metadata or {})
        if times is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for name, value in (context or {}).items():
            setattr(stream.codec_context, name, value)
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, every
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def yuv(picture: np.ndarray, matrix: int = 5, pixels: str = "yuv420p") -> av.VideoFrame:
    """Return a frame (H, W, 3), uint8 or uint16, converted by a matrix of swscale, without a tag that says so."""
    form = "rgb24" if picture.dtype == np.uint8 else "rgb48le"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=form)
    converted = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range="MPEG")
    converted.colorspace = 2
    return converted


def of_fields(frame: av.VideoFrame, order: str) -> av.VideoFrame:
    """Return the frame marked as interlaced, "tff" or "bff": top or bottom field first."""
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    graph.link_nodes(source, graph.add("setfield", mode=order), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def hdr_signal(nits: np.ndarray, transfer: int) -> np.ndarray:
    """Return PQ or HLG signals (..., 3) in [0, 1] of light in BT.2020's primaries, by the formulas of BT.2100."""
    if transfer == PQ:
        power = (nits / 10000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    light = nits / 1000
    scene = light * np.maximum(light @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None] ** (-0.2 / 1.2)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene, 1) - 0.28466892) + 0.55991073
    )


def hdr_of(colour: np.ndarray, transfer: int) -> np.ndarray:
    """Return the signals (3,) of an sRGB colour whose white has 203 nits."""
    level = colour / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return hdr_signal(203 * linear @ _TO_BT2020.T, transfer)


def hdr_clip(path: Path, signal: np.ndarray, transfer: int, frames: int = 2) -> Path:
    """Write a 10-bit BT.2020 clip of a picture of signals (H, W, 3) in [0, 1]."""
    picture = yuv(np.rint(signal * 65535).astype(np.uint16), BT2020, "yuv420p10le")
    return encode(
        path,
        [picture] * frames,
        pixels="yuv420p10le",
        options={"crf": "4"},
        context={"colorspace": BT2020, "color_primaries": BT2020, "color_trc": transfer},
    )


def with_matrix(source: Path, path: Path, matrix: Sequence[int]) -> Path:
    """Copy an mp4 with another display matrix a, b, c, d in its track header, as a phone writes it."""
    data = bytearray(source.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags, times and ids, layer and volume
    a, b, c, d = (65536 * value for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


# --- colour profiles ------------------------------------------------------------------------------------------------


def icc_profile(primaries: Sequence[Sequence[float]], gamma: float, name: str = "wide") -> bytes:
    """Return an ICC profile (version 2) of a screen with primaries (x, y), white D65 and a gamma."""

    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    d65 = np.array([0.9505, 1, 1.0891])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ _D50) / (bradford @ d65)) @ bradford
    colorants = (adapt @ (columns * np.linalg.solve(columns, d65))).T
    tags = {tag: _xyz(xyz) for tag, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
    return _profile(b"RGB ", name, tags | {tag: _curve(gamma) for tag in (b"rTRC", b"gTRC", b"bTRC")})


def grey_profile(gamma: float) -> bytes:
    """Return an ICC profile (version 2) of grey with a gamma."""
    return _profile(b"GRAY", "grey", {b"kTRC": _curve(gamma)})


_D50 = np.array([0.9642, 1, 0.8249])


def _profile(colours: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    text = name.encode() + b"\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": described, b"wtpt": _xyz(_D50), **tags}
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += tag + struct.pack(">II", offset + len(body), len(data))
        body += padded
    head = struct.pack(">I4xI4s4s4s", offset + len(body), 0x02100000, b"mntr", colours, b"XYZ ")
    head = head + bytes(12) + b"acsp" + bytes(28) + b"".join(map(_s15, _D50)) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_s15, values))


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def _s15(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


# --- HEIC -----------------------------------------------------------------------------------------------------------


def heic(
    path: Path, picture: np.ndarray, tile: int, quarters: int = 0, nclx: tuple[int, int, int] = (1, 13, 6)
) -> Path:
    """Write a picture as a phone does: square tiles in HEVC, a grid of them, and a turn counter-clockwise.

    `nclx` are codes of primaries, transfer and matrix. A uint16 picture is written with 10 bits.
    """
    rows, columns = picture.shape[0] // tile, picture.shape[1] // tile
    parts = [
        _hevc(path.with_name("tile.mp4"), picture[r * tile : (r + 1) * tile, c * tile : (c + 1) * tile], nclx[2])
        for r in range(rows)
        for c in range(columns)
    ]
    count, grid_id = len(parts), len(parts) + 1
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, picture.shape[1], picture.shape[0])
    properties = _box(
        b"ipco",
        parts[0][0],
        _full(b"ispe", struct.pack(">II", tile, tile)),
        _full(b"ispe", struct.pack(">II", picture.shape[1], picture.shape[0])),
        _box(b"irot", bytes([quarters])),
        _box(b"colr", b"nclx" + struct.pack(">HHHB", *nclx, 0x80)),
    )
    of_tiles = b"".join(struct.pack(">HBBBB", i + 1, 3, 0x81, 2, 5) for i in range(count))
    links = _full(b"ipma", struct.pack(">I", count + 1) + of_tiles + struct.pack(">HBBBB", grid_id, 3, 3, 0x84, 5))
    names = [_full(b"infe", struct.pack(">HH4sB", i + 1, 0, b"hvc1", 0), 2, 1) for i in range(count)]
    names.append(_full(b"infe", struct.pack(">HH4sB", grid_id, 0, b"grid", 0), 2))
    made_of = struct.pack(f">HH{count}H", grid_id, count, *range(1, count + 1))

    def meta(start: int) -> bytes:
        places, at = b"", start
        for i, data in enumerate([data for _, data in parts] + [grid]):
            places += struct.pack(">HHHII", i + 1, 0, 1, at, len(data))
            at += len(data)
        return _full(
            b"meta",
            _full(b"hdlr", struct.pack(">I4s12xB", 0, b"pict", 0))
            + _full(b"pitm", struct.pack(">H", grid_id))
            + _full(b"iloc", b"\x44\x00" + struct.pack(">H", count + 1) + places)
            + _full(b"iinf", struct.pack(">H", count + 1) + b"".join(names))
            + _full(b"iref", _box(b"dimg", made_of))
            + _box(b"iprp", properties, links),
        )

    kind = _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")
    start = len(kind) + len(meta(0)) + 8
    path.write_bytes(kind + meta(start) + _box(b"mdat", *(data for _, data in parts), grid))
    return path


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def _full(name: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags) + body)


def _hevc(path: Path, picture: np.ndarray, matrix: int) -> tuple[bytes, bytes]:
    """Return the decoder's set-up box and the coded picture."""
    pixels = "yuv420p" if picture.dtype == np.uint8 else "yuv420p10le"
    form = "rgb24" if picture.dtype == np.uint8 else "rgb48le"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=form)
    frame = frame.reformat(format=pixels, dst_colorspace=BT2020 if matrix == BT2020 else 5, dst_color_range="JPEG")
    quiet = "log-level=none:keyint=1:info=0:range=full"
    options = {"crf": "8", "x265-params": quiet}
    encode(path, [frame], "libx265", pixels, options=options, context={"codec_tag": "hvc1", "color_range": 2})
    data = path.read_bytes()
    start = data.index(b"hvcC") - 4
    (size,) = struct.unpack_from(">I", data, start)
    with av.open(str(path)) as container:
        packet = next(p for p in container.demux(video=0) if p.size)
        return data[start : start + size], bytes(packet)
