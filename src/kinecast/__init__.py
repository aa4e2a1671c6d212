"""kinecast: motion transfer with generative forecasting, video over a few kilobits per second.

>>> import kinecast
>>> kinecast.animate("portrait.jpg", "clip.mp4", "out.mp4")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinecast.apps.portrait.api import animate
    from kinecast.apps.stream.clips import decode_clip as decode
    from kinecast.apps.stream.clips import encode_clip as encode
    from kinecast.errors import KinecastError, KinecastWarning
    from kinecast.motion import Motion
    from kinecast.zoo import load_backbone, load_forecaster
    from kinecast.zoo import load_backbone as load_model

__version__ = "0.2.0"
__all__ = [
    "KinecastError",
    "KinecastWarning",
    "Motion",
    "__version__",
    "animate",
    "decode",
    "encode",
    "load_backbone",
    "load_forecaster",
    "load_model",
]

_HOMES = {
    "KinecastError": ("kinecast.errors", "KinecastError"),
    "KinecastWarning": ("kinecast.errors", "KinecastWarning"),
    "Motion": ("kinecast.motion", "Motion"),
    "animate": ("kinecast.apps.portrait.api", "animate"),
    "decode": ("kinecast.apps.stream.clips", "decode_clip"),
    "encode": ("kinecast.apps.stream.clips", "encode_clip"),
    "load_backbone": ("kinecast.zoo", "load_backbone"),
    "load_forecaster": ("kinecast.zoo", "load_forecaster"),
    "load_model": ("kinecast.zoo", "load_backbone"),
}


def __getattr__(name: str) -> Any:  # torch is imported when it is needed: `kinecast --help` answers at once
    if name in _HOMES:
        module, there = _HOMES[name]
        return getattr(import_module(module), there)
    raise AttributeError(f"module 'kinecast' has no attribute {name!r}")
