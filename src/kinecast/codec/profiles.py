"""Prior knowledge of a kind of motion: integer weights and scales, trained on other people.

Arrays are in coding order (`Layout.order`). "Normalised" means divided by `spread`; Q12 means that 4096 represents 1.
`recipes/codec_tables.py` writes the files in `tables/`; `generic` needs none and suits any layout.
"""

import hashlib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

import numpy as np

from kinecast.codec.entropy import place_array, table_array
from kinecast.codec.quantizer import FINE, Layout
from kinecast.errors import KinecastError

KNOWN = 10  # features of the expected scale that are known before a frame,
FEATURES = KNOWN + 6  # and with those of the frame itself
GENERIC = "generic"
WEIGHT_BITS = 12
_MAX_FINE = 1 << 24  # 256 motion units: bounds every product in the predictor below 2**62
_PREFIX = "profile-"


@dataclass(frozen=True)
class Profile:
    """Initial values of the predictor; predictor.py has how each is used.

    Of the first frame: `key_mean` (D,) and `key_spread` (D,) fine units, `key_cross` (D, D) Q12, entry [j, i] the
    weight of the normalised error of number j in the prediction of number i > j.
    Of later frames: `spread` (D,) of prediction errors and `velocity` (D,) of changes, fine units; `past` (D, D) Q12,
    [j, i] from the last normalised change of j; `cross` (D, D) Q12 as above.
    Of the scale: `bias` (D,) in 1/256 octaves, and `weights` (D, 16) in 1/256 of the logarithms of: the running means
    of the miss in steps, fast, slow and slower; then, relative to the slow mean, the number's own last change, all
    last changes, its own last miss, the keypoint's last miss and fast mean, the last misses and fast means of all; the
    misses in this frame so far, of all numbers, of this keypoint, of this component, of the number before; how far the
    prediction goes, and how much of that was learnt.
    """

    name: str
    key_mean: np.ndarray
    key_spread: np.ndarray
    key_cross: np.ndarray
    spread: np.ndarray
    velocity: np.ndarray
    past: np.ndarray
    cross: np.ndarray
    bias: np.ndarray
    weights: np.ndarray

    def check(self, layout: Layout) -> None:
        """Check that the profile fits this layout.

        Raises:
            KinecastError: it has another D or number of components, or is damaged.
        """
        dim = layout.dim
        shapes: dict[str, tuple[int, ...]] = {f.name: (dim,) for f in fields(self) if f.name != "name"}
        shapes |= {name: (dim, dim) for name in ("key_cross", "past", "cross")}
        shapes["weights"] = (dim, FEATURES)
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.int64:
                raise KinecastError(
                    f"codec profile {self.name}: expected {name} {shape} for layout {layout.name} of {dim} numbers, "
                    f"found {array.dtype} {array.shape}: use --profile {GENERIC}"
                )
            most = _MAX_FINE if name in ("key_mean", "key_spread", "spread", "velocity") else 1 << 15
            least = 1 if name in ("key_spread", "spread", "velocity") else -most
            if array.min() < least or array.max() > most:
                raise KinecastError(f"codec profile {self.name}: expected {name} from {least} to {most}: it is damaged")

    def fingerprint(self) -> bytes:
        """Return 8 bytes of the sha256 of all numbers that affect the bitstream, entropy tables included."""
        digest = hashlib.sha256(table_array().astype("<i8").tobytes())
        digest.update(place_array().astype("<i8").tobytes())
        for field in fields(self):
            if field.name != "name":
                digest.update(getattr(self, field.name).astype("<i8").tobytes())
        return digest.digest()[:8]


def generic_profile(layout: Layout) -> Profile:
    """Return a profile for any motion: a third of the last change continues, without correlations."""
    dim, one = layout.dim, 1 << WEIGHT_BITS
    nothing = np.zeros((dim, dim), np.int64)
    spread = np.full(dim, FINE // 64, np.int64)
    weights = np.array([51, 192, 0, 13, 0, 0, 0, 0, 51, 0, 192, 26, 0, 0, 0, 0], np.int64)
    return Profile(
        GENERIC,
        key_mean=np.zeros(dim, np.int64),
        key_spread=np.full(dim, FINE // 2, np.int64),
        key_cross=nothing,
        spread=spread,
        velocity=spread,
        past=np.diag(np.full(dim, one // 3)),
        cross=nothing,
        bias=np.full(dim, -77, np.int64),
        weights=np.tile(weights, (dim, 1)),
    )


def profile_names() -> list[str]:
    """Return the names of the bundled profiles."""
    found = [path.name for path in (files("kinecast.codec") / "tables").iterdir()]
    names = [name.removeprefix(_PREFIX).removesuffix(".npz") for name in found if name.startswith(_PREFIX)]
    return [GENERIC, *sorted(names)]


def check_profile_name(name: str) -> None:
    """Check that a profile is bundled.

    Raises:
        KinecastError: unknown name.
    """
    if name not in profile_names():
        raise KinecastError(f"codec profile {name!r}: expected one of {', '.join(profile_names())}: update kinecast")


def load_profile(name: str, layout: Layout) -> Profile:
    """Return a bundled profile that fits a layout.

    Raises:
        KinecastError: unknown name, or another layout.
    """
    if name == GENERIC:
        return generic_profile(layout)
    check_profile_name(name)
    profile = _load(name)
    profile.check(layout)
    return profile


@cache
def _load(name: str) -> Profile:
    path = files("kinecast.codec") / "tables" / f"{_PREFIX}{name}.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        names = [field.name for field in fields(Profile) if field.name != "name"]
        return Profile(name, **{key: archive[key].astype(np.int64) for key in names})
