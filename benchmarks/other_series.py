"""Series of other kinds for the forecasters: a watch's accelerometer (D = 3), monthly share prices (D = 8).

    pip download sktime --no-deps && unzip sktime-*.whl 'sktime/datasets/data/BasicMotions/*' -d watch
    python benchmarks/other_series.py --watch watch/sktime/datasets/data/BasicMotions -o runs/other
    kinecast research keypoints --data runs/other/watch.npz --person '^(train|test)' --validate test ...

Prices are matplotlib's sample data; the watch's BasicMotions (UEA archive) comes with the package sktime (BSD).
Training and test windows share no time (prices) and no recording (watch); of the watch's people nothing is told.
"""

import argparse
import csv
from pathlib import Path

import matplotlib
import numpy as np

PRICES = 8
TEST_FROM = "2006"  # of the prices


def watch(folder: Path) -> dict[str, np.ndarray]:
    """Return recordings (100, 3), ten a second, named after the half of the data set that they are from."""
    series = {}
    for half in ("TRAIN", "TEST"):
        lines = (folder / f"BasicMotions_{half}.ts").read_text().splitlines()
        rows = [line for line in lines if line and line[0] not in "#@"]
        for i, row in enumerate(rows):
            dimensions = row.split(":")[:3]  # then the gyroscope's three, and the label
            series[f"{half.lower()}_{i:02d}"] = np.array([np.fromstring(d, sep=",") for d in dimensions]).T
    return series


def prices() -> dict[str, np.ndarray]:
    """Return log prices (months, 8) of the shares that have one in every month kept, before and from `TEST_FROM`."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "Stocks.csv"
    rows = list(csv.reader(line for line in path.read_text().splitlines() if not line.startswith("#")))[1:]
    table = np.array([[float(cell) if cell else np.nan for cell in row[1:]] for row in rows])
    columns = np.argsort(np.isnan(table).sum(axis=0), kind="stable")[:PRICES]
    months = ~np.isnan(table[:, columns]).any(axis=1)
    dates = [row[0] for row, kept in zip(rows, months, strict=True) if kept]
    kept = np.log(table[np.ix_(months, columns)])
    test = np.array([date >= TEST_FROM for date in dates])
    return {"train_prices": kept[~test], "test_prices": kept[test]}


def main() -> None:
    """Write watch.npz and prices.npz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watch", type=Path, help="folder with BasicMotions_TRAIN.ts and BasicMotions_TEST.ts")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    found = {"prices": prices()} | ({"watch": watch(options.watch)} if options.watch else {})
    for name, series in found.items():
        arrays = {key: value.astype(np.float32) for key, value in series.items()}
        np.savez(options.output / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        shapes = {value.shape for value in arrays.values()}
        print(f"{options.output / name}.npz: {len(arrays)} series, {sorted(shapes)}")


if __name__ == "__main__":
    main()
