"""Conversion of video with colours other than BT.709's to sRGB.

A lookup table is computed from the formulas of ITU-R BT.2100 and applied by libav's `lut3d`. libswscale converts too,
but needs seconds before the first frame and clips everything brighter than SDR white. Codes of transfer and primaries
are those of ITU-T H.273.
"""

import tempfile
import warnings
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorTrc

from kinecast.errors import ConversionWarning

HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}

_WHITE = (0.3127, 0.3290)
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_WIDE = {  # chromaticities of red, green and blue
    int(ColorPrimaries.BT2020): ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    int(ColorPrimaries.SMPTE431): _P3,  # of another white point, which the eye adapts to
    int(ColorPrimaries.SMPTE432): _P3,
}
_PAPER_WHITE = 203.0  # nits: diffuse white in HDR, hence white in SDR (ITU-R BT.2408)
_PEAK = 1000.0  # nits: peak kept distinct; HLG's own, and what most PQ video is graded for
_KNEE = 0.75  # of white: faces lie below and are unchanged; highlights above are compressed
_SIDE = 33  # of the table


class Colours(NamedTuple):
    """A frame's colour space, if it is not BT.709."""

    transfer: int
    primaries: int

    @property
    def hdr(self) -> str:
        """PQ, HLG, or none."""
        return HDR.get(self.transfer, "")


def foreign_colours(transfer: int, primaries: int) -> Colours | None:
    """Return what must be converted; None for SDR with primaries close to BT.709's."""
    if transfer in HDR:  # BT.2020 if unspecified
        return Colours(transfer, primaries if primaries == ColorPrimaries.BT709 else _wide(primaries))
    return Colours(int(ColorTrc.BT709), primaries) if primaries in _WIDE else None


def _wide(primaries: int) -> int:
    return primaries if primaries in _WIDE else int(ColorPrimaries.BT2020)


class ColourConverter:
    """Converts frames of one format and other colour spaces to sRGB: `gbrp16le` or `gbrap16le`, in and out."""

    def __init__(self, width: int, height: int, pixels: str, colours: Colours, time_base: Any) -> None:
        self._graph = Graph()
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "table.cube"  # read when the filter is created
            table.write_text(_cube(colours))
            source = self._graph.add_buffer(width=width, height=height, format=pixels, time_base=time_base)  # type: ignore[arg-type]
            nodes = [source, self._graph.add("lut3d", file=str(table)), self._graph.add("buffersink")]
            self._graph.link_nodes(*nodes).configure()

    def __call__(self, frame: Any) -> Any:
        """Return the frame converted."""
        self._graph.vpush(frame)
        return self._graph.vpull()


@lru_cache(1024)  # a clip is read more than once, and Python forgets shown warnings whenever a filter changes
def warn_tone_mapped(path: Path, colours: Colours) -> None:
    """Warn once per clip that highlights were compressed."""
    message = f"{path}: HDR ({colours.hdr}) was tone mapped to SDR, white at {_PAPER_WHITE:.0f} nits"
    warnings.warn(ConversionWarning(message), stacklevel=2)


@cache
def _cube(colours: Colours) -> str:
    """Return the table as text in the .cube format, in which red varies fastest."""
    level = np.linspace(0, 1, _SIDE)
    blue, green, red = np.meshgrid(level, level, level, indexing="ij")
    table = _shown(np.stack([red, green, blue], axis=-1).reshape(-1, 3), colours)
    rows = "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in table)
    return f"LUT_3D_SIZE {_SIDE}\n{rows}\n"


def _shown(signal: np.ndarray, colours: Colours) -> np.ndarray:
    """Map signals (N, 3) in [0, 1] to sRGB signals."""
    primaries = _WIDE.get(colours.primaries, _BT709)
    linear = _decoded(signal, colours, _to_xyz(primaries)[1])
    linear = linear @ (np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(primaries)).T
    linear = np.maximum(linear, 0)  # colours outside sRGB
    brightest = linear.max(axis=1, keepdims=True)
    if colours.hdr:  # by the largest channel, to keep hues
        linear = linear * (_rolled_off(brightest) / np.maximum(brightest, 1e-9))
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _decoded(signal: np.ndarray, colours: Colours, luminance: np.ndarray) -> np.ndarray:
    """Return light (N, 3), 1 at SDR white. SDR video is shown unchanged on sRGB screens, hence sRGB's curve."""
    if colours.hdr == "PQ":
        power = signal ** (1 / 78.84375)
        light = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        return 10000 / _PAPER_WHITE * light ** (1 / 0.1593017578125)
    if colours.hdr == "HLG":
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        system = np.maximum(scene @ luminance, 1e-9)[:, None] ** 0.2  # of a screen of 1000 nits
        return 1000 / _PAPER_WHITE * system * scene
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _rolled_off(light: np.ndarray) -> np.ndarray:
    """Return light unchanged below the knee, and compressed between knee and peak to end at white."""
    room = 1 - _KNEE
    above = np.maximum(light - _KNEE, 0) / room
    peak = (_PEAK / _PAPER_WHITE - _KNEE) / room
    return np.minimum(np.minimum(light, _KNEE) + room * above * (1 + above / peak**2) / (1 + above), 1)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return the matrix from light in three primaries, their sum D65, to CIE XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    x, y = _WHITE
    white = np.array([x / y, 1, (1 - x - y) / y])
    return columns * np.linalg.solve(columns, white)
