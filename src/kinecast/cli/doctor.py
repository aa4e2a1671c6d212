"""`kinecast doctor`: what works on this machine."""

from kinecast.cli.common import JsonOption, print_json

Rows = dict[str, str]  # check, finding


def doctor(json: JsonOption = False) -> None:
    """Check the installation: versions, devices, weights, video codecs, optional packages, engines, training."""
    from kinecast.cli.terminal import show

    rows = _versions() | _devices() | _encoders() | _extras() | _weights() | _engines() | _training()
    if json:
        print_json(rows)
        return
    show(None, ("what", "found"), list(rows.items()), numbers=False)


def _versions() -> Rows:
    import platform
    from importlib.metadata import version

    from kinecast.packages import CORE

    rows = {"python": platform.python_version(), "machine": platform.platform(), "kinecast": version("kinecast")}
    return rows | {package.name: package.installed or "not installed: pip install kinecast" for package in CORE}


def _devices() -> Rows:
    import torch

    from kinecast.device import DEVICES, choose_device
    from kinecast.errors import KinecastError
    from kinecast.machine.processor import instruction_sets, processor
    from kinecast.runtime.convolution import bfloat16_available

    rows = {"processor": processor(), "threads": str(torch.get_num_threads())}
    rows["instruction sets"] = ", ".join(instruction_sets()) or "none of those that are looked for"
    rows["bfloat16"] = "available" if bfloat16_available() else "not available: --precision bf16 runs as exact here"
    for device in DEVICES[1:]:
        try:
            choose_device(device)
            rows[device] = "available"
        except KinecastError:
            rows[device] = "not available"
    return rows


def _encoders() -> Rows:
    import av

    known = av.codecs_available
    return {f"encoder {name}": "available" if name in known else "not available" for name in ("libx264", "libvpx-vp9")}


def _extras() -> Rows:
    from kinecast.packages import EXTRAS, FEATURES, install, install_weights

    rows = {}
    for extra, packages in EXTRAS.items():
        missing = [package.name for package in packages if not package.installed]
        if missing:
            rows[f"extra {extra}"] = f"not installed: {', '.join(missing)}: {install(extra)}"
        else:
            rows[f"extra {extra}"] = ", ".join(f"{package.name} {package.installed}" for package in packages)
    found = "available" if FEATURES.installed else f"not installed: {install_weights(FEATURES)}"
    rows["mobilenet-v2 features"] = found
    return rows


def _weights() -> Rows:
    from kinecast.errors import KinecastError
    from kinecast.zoo import TABLE

    rows = {}
    for entry in TABLE:
        try:
            entry.verify()
            rows[f"weights {entry.name}"] = "good"
        except KinecastError as error:
            rows[f"weights {entry.name}"] = str(error)
    return rows


def _engines() -> Rows:
    """Return which engine `auto` takes here for each bundled backbone, measured if it was not yet, and why."""
    from kinecast.errors import KinecastError
    from kinecast.runtime.auto import remembered
    from kinecast.zoo import load_backbone, names

    rows = {}
    for name in names("backbone"):
        try:
            plain = load_backbone(name, "cpu", "eager")
            rows[f"engine {name}"] = load_backbone(name, "cpu").reason
        except KinecastError as error:
            rows[f"engine {name}"] = str(error)
            continue
        if reason := remembered(plain, "bf16"):
            rows[f"engine {name}, bf16"] = reason
    return rows


def _training() -> Rows:
    from kinecast.training.trial import trials

    return trials()
