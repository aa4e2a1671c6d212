"""kinecast: keypoint motion transfer with generative forecasting.

>>> from kinecast import load_backbone, load_forecaster, Motion
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinecast.errors import KinecastError, KinecastWarning
    from kinecast.motion import Motion
    from kinecast.zoo import load_backbone, load_forecaster

__version__ = "0.2.0"
__all__ = ["KinecastError", "KinecastWarning", "Motion", "__version__", "load_backbone", "load_forecaster"]

_HOMES = {
    "KinecastError": "kinecast.errors",
    "KinecastWarning": "kinecast.errors",
    "Motion": "kinecast.motion",
    "load_backbone": "kinecast.zoo",
    "load_forecaster": "kinecast.zoo",
}


def __getattr__(name: str) -> Any:  # torch is imported when it is needed: `kinecast --help` answers at once
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kinecast' has no attribute {name!r}")
