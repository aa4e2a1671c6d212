"""How a clip is encoded: the options, the layout of a quality, the tables of a name."""

from dataclasses import dataclass

import numpy as np

from kinecast.codec.encoder import FILE, Packing
from kinecast.codec.filling import Forecast, damped
from kinecast.codec.packets import MAX_LAYERS
from kinecast.codec.profiles import GENERIC, Profile, check_profile_name, load_profile, profile_names
from kinecast.codec.quantizer import Component, Layout, to_fine
from kinecast.errors import KinecastError
from kinecast.media.framing import check_reading
from kinecast.media.sound import check_sound_kbps
from kinecast.motion import Motion

DEFAULT_QUALITY = 5
AUTO_PROFILE = "auto"
TERMS = "keypoints", "pictures"  # of the distance by which a closed loop decides


def check_quality(quality: float) -> None:
    """Check a quality.

    Raises:
        KinecastError: it is not 1 to 9.
    """
    if not 1 <= quality <= 9:
        raise KinecastError(f"quality: expected 1 (smallest) to 9 (finest), found {quality:g}")


def layout_for_quality(motion: Motion, quality: float = DEFAULT_QUALITY) -> Layout:
    """Return the layout of a motion at a quality: steps of 2**-(4.5 + quality/2), times those of its spec.

    Raises:
        KinecastError: the quality is not 1 to 9.
    """
    check_quality(quality)
    step = 2.0 ** -(4.5 + quality / 2)
    present = [each for each in motion.spec if each.name in motion.components]
    # Numbers of one group are interleaved by keypoint; several groups are parts of one vector, of one "keypoint".
    axis = 2 if len(motion.spec.groups) == 1 else 1
    keypoints = motion.components[present[0].name].shape[1] if axis == 2 else 1
    widths = [int(np.prod(motion.components[each.name].shape[axis:])) for each in present]
    parts = [Component(e.name, w, to_fine(step * e.step)) for e, w in zip(present, widths, strict=True)]
    return Layout(motion.backbone, keypoints, tuple(parts))


@dataclass(frozen=True)
class EncodeOptions:
    """How a clip is encoded.

    `quality` (1 to 9) are the steps, of which a higher number has finer ones; None chooses them by the budget, or the
    usual ones without. `kbps` is a budget for all but sound, kept over every ten seconds (`budget`, `key_pictures`).
    `filler` is what a receiver fills frames with that were lost or left out: a name for the header, and the forecast,
    None where it interpolates. Which frames of a budget are left out to a forecast is measured on `terms`:
    "keypoints", or "pictures", for which each frame is drawn twice. `picture_quality` is WebP's, of the one picture of
    a stream without budget. `fps` resamples to a constant rate, `true_fps` is that of a clip whose times are wrong,
    `limit` the most frames. `sound_kbps` is what the clip's sound may cost; None leaves it out. `layers`
    splits motion and pictures into so many parts, of which a receiver may get the first few only (`layered`); `quality`
    is then that of all of them together.
    """

    quality: float | None = None
    kbps: float | None = None
    filler: tuple[str, Forecast | None] = ("damped", damped)
    picture_quality: int = 60
    profile: str = AUTO_PROFILE
    model_name: str = ""
    crop: str = "center"
    fps: float | None = None
    limit: int | None = None
    packing: Packing = FILE
    terms: str = TERMS[0]
    true_fps: float | None = None
    sound_kbps: float | None = None
    layers: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.picture_quality <= 100:
            raise KinecastError(f"picture quality: expected 1 to 100, found {self.picture_quality}")
        check_reading(self.crop, self.fps, self.limit)
        check_reading(fps=self.true_fps)
        if self.sound_kbps is not None:
            check_sound_kbps(self.sound_kbps)
        if self.kbps is not None and not 0 < self.kbps <= 10_000:
            raise KinecastError(f"rate: expected a budget above 0 and at most 10000 kbps, found {self.kbps}")
        if self.quality is not None:
            check_quality(self.quality)
        if self.layers is not None and not 2 <= self.layers <= MAX_LAYERS:
            raise KinecastError(f"layers: expected 2 to {MAX_LAYERS}, found {self.layers}")
        if self.layers is not None and self.kbps is not None:
            raise KinecastError(
                "layers: expected no budget, since whoever drops layers chooses the rate: drop --kbps or --layers"
            )
        if self.profile != AUTO_PROFILE:
            check_profile_name(self.profile)
        if self.terms not in TERMS:
            raise KinecastError(f"closed loop: expected distances of {' or '.join(TERMS)}, found {self.terms!r}")


def profile_named(name: str, model_name: str, layout: Layout) -> Profile:
    """Return a profile by name; "auto" is that of the model, or of it and D numbers ("mesh-42"), or generic.

    Raises:
        KinecastError: there is none of this name, or it is of another layout.
    """
    if name == AUTO_PROFILE:
        known = profile_names()
        name = next((each for each in (f"{model_name}-{layout.dim}", model_name) if each in known), GENERIC)
    return load_profile(name, layout)
