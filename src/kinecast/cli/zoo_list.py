"""`kinecast zoo list`."""

from kinecast.cli.common import JsonOption, print_json


def zoo_list(json: JsonOption = False) -> None:
    """List the bundled weights, checked against their sha256."""
    from dataclasses import asdict

    from kinecast.cli.terminal import show
    from kinecast.zoo import TABLE

    for entry in TABLE:
        entry.verify()
    if json:
        print_json({"weights": [asdict(entry) | {"bytes": entry.path.stat().st_size} for entry in TABLE]})
        return
    rows = [(e.name, e.kind, f"{e.path.stat().st_size / 1e6:.2f}", e.licence, e.provenance) for e in TABLE]
    show(None, ("name", "kind", "MB", "licence", "provenance"), rows, numbers=False)
