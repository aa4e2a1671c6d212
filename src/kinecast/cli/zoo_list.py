"""`kinecast zoo list`."""

from kinecast.cli.common import JsonOption, print_json


def zoo_list(json: JsonOption = False) -> None:
    """List the bundled weights, checked against their sha256."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from kinecast.zoo import TABLE

    for entry in TABLE:
        entry.verify()
    if json:
        print_json({"weights": [asdict(entry) | {"bytes": entry.path.stat().st_size} for entry in TABLE]})
        return
    table = Table("name", "kind", "MB", "licence", "provenance")
    for entry in TABLE:
        table.add_row(entry.name, entry.kind, f"{entry.path.stat().st_size / 1e6:.2f}", entry.licence, entry.provenance)
    Console().print(table)
