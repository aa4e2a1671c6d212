"""The tables of `pays.py`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kinecast.codec.filling import INTERPOLATE
from kinecast.research.gaps import at_rate
from kinecast.research.people import People
from machine import table

DELAYS = {"one frame in 2": "1 frame", "one frame in 3": "2 frames", "6 of 12": "6 frames"}  # of interpolation
MEASURES = ("landmark", "identity", "perceptual", "mae")
HALF = "one frame in 2"


def page(results: dict[str, Any], method: str) -> str:
    """Return the report of `pays.py`: its results, and how it was measured."""
    clips, about = results["clips"], results["about"]
    tables = _Tables(clips, results["fillers"])
    return (
        f"# Does a forecast pay in a call?\n\nMade by `{about['command']}`, {about['date'][:10]}; "
        f"{about['processor']}, {about['cores']} cores. {len(clips)} people, {results['validating']} of whom validate: "
        f"no model was trained on them. At most {results['frames']} frames each.\n\n## How it was measured\n\n"
        f"{method.split(chr(10) * 2, 2)[2].strip()}\n\n"
        f"## Frames that are left out\n\n{tables.left_out()}\n\n"
        f"## At one rate\n\nAt the rate that each person's motion has with one frame in 2, errors of all ways to get "
        f"there; of closed loops and steps between measured points, on the straight line of logarithms.\n\n"
        f"{tables.at_one_rate()}\n\nClosed loops at their own rates, mean over people:\n\n{tables.loops()}\n\n"
        f"## Frames that are lost\n\nA lost packet costs: error above that without loss, summed over all frames, over "
        f"packets lost. Differences are of that, in pixels.\n\n{tables.lost()}\n\n{tables.pictures()}"
        f"Intervals are over {tables.people.unit}.\n"
    )


class _Tables:
    """What is read from the results, a value a person."""

    def __init__(self, clips: list[dict[str, Any]], fillers: Sequence[str]) -> None:
        self.clips, self.fillers = clips, fillers
        self.people = _people(clips)

    def left_out(self) -> str:
        rows = [["every frame", "none", *_mean(self.of("every frame", "kbps"), self.of("every frame", "px")), "", ""]]
        for schedule, delay in DELAYS.items():
            held, line = (self.of("schedules", schedule, other, "px") for other in ("hold", INTERPOLATE))
            for name in (*self.fillers, INTERPOLATE):
                kbps, px = (self.of("schedules", schedule, name, key) for key in ("kbps", "px"))
                rows.append(
                    [
                        f"{schedule}, {name}",
                        delay if name == INTERPOLATE else "none",
                        *_mean(kbps, px),
                        "" if name == "hold" else self.against(px, held),
                        "" if name == INTERPOLATE else self.against(px, line),
                    ]
                )
        return table(["", "delay", "kbps", "landmarks off, px of 256", "against hold", "against interpolation"], rows)

    def at_one_rate(self) -> str:
        target = self.of("schedules", HALF, "hold", "kbps")
        curves = {"every frame, coarser steps": ("steps",)}
        curves |= {f"closed loop, {name}": ("closed loop", name) for name in self.fillers}
        at = {
            title: np.array(
                [
                    at_rate(_of(clip, keys), kbps) if keys[0] in clip else np.nan
                    for clip, kbps in zip(self.clips, target, strict=True)
                ]
            )
            for title, keys in curves.items()
        }
        held, line = f"{HALF}, hold", f"{HALF}, {INTERPOLATE}"
        at |= {f"{HALF}, {name}": self.of("schedules", HALF, name, "px") for name in (*self.fillers, INTERPOLATE)}
        rows = [
            [
                title,
                str(int((~np.isnan(px)).sum())),
                "" if np.isnan(px).all() else f"{np.nanmean(px):.2f}",
                "" if title == held else self.against(px, at[held]),
                "" if title == line else self.against(px, at[line]),
            ]
            for title, px in at.items()
        ]
        return table(["", "people", "landmarks off, px of 256", "against hold", "against interpolation"], rows)

    def loops(self) -> str:
        rows, measured = [], [clip for clip in self.clips if "closed loop" in clip]
        if not measured:
            return "None measured."
        for name in self.fillers:
            points = np.array([clip["closed loop"][name] for clip in measured]).mean(axis=0)
            rows.append([name, *(f"{kbps:.2f} kbps, {px:.2f} px" for kbps, px in points)])
        return table([f"{len(measured)} people", *(f"tolerance {i + 1}" for i in range(len(rows[0]) - 1))], rows)

    def lost(self) -> str:
        rows = []
        for loss in self.clips[0]["losses"]:
            held, line = (self.of("losses", loss, other, "px_per_lost") for other in ("hold", INTERPOLATE))
            for name in (*self.fillers, INTERPOLATE):
                keys = ("kbps", "px", "px_per_lost", "filled_per_lost")
                cells = [self.of("losses", loss, name, key) for key in keys]
                rows.append(
                    [
                        f"{loss}, {name}",
                        "1 frame" if name == INTERPOLATE else "none",
                        *_mean(*cells),
                        "" if name == "hold" else self.less(cells[2], held),
                        "" if name == INTERPOLATE else self.less(cells[2], line),
                    ]
                )
        header = ["", "delay", "kbps", "px", "px a lost packet", "frames filled a lost packet"]
        return table([*header, "minus hold", "minus interpolation"], rows)

    def pictures(self) -> str:
        shown = [clip for clip in self.clips if "pictures" in clip]
        if not shown:
            return ""
        some = _Tables(shown, self.fillers)
        measures = [key for key in MEASURES if key in next(iter(shown[0]["pictures"].values()))]
        rows = []
        for way in shown[0]["pictures"]:
            held = f"{way.rpartition(', ')[0]}, hold"
            cells = []
            for key in measures:
                mine = some.of("pictures", way, key)
                against = "" if way == held else f" ({some.against(mine, some.of('pictures', held, key))})"
                cells.append(f"{np.nanmean(mine):.4f}{against}")
            rows.append([way, *cells])
        return (
            "## Pictures\n\nFilled frames, drawn from the first frame of the clip and compared with the true ones; in "
            f"brackets the difference from hold. {len(shown)} people. *Every frame*: the same frames, had they been "
            "sent. Landmark: mean distance over that between the outer corners of the eyes; identity: distance of the "
            "descriptions of a face recognition network; perceptual: of the maps of an ImageNet network; mae: of "
            f"pixels in [0, 1].\n\n{table(['', *measures], rows)}\n\n"
        )

    def of(self, *keys: str) -> np.ndarray:
        """Return a figure of each person, (P,)."""
        return np.array([_of(clip, keys) for clip in self.clips], dtype=float)

    def against(self, mine: np.ndarray, other: np.ndarray) -> str:
        """Return the mean ratio less 1 of people of whom both are known."""
        known = ~(np.isnan(mine) | np.isnan(other))
        if known.sum() < 2:
            return "not measured"
        some = _people([clip for clip, k in zip(self.clips, known, strict=True) if k])
        return str(some.difference(mine[known], other[known]))

    def less(self, mine: np.ndarray, other: np.ndarray) -> str:
        """Return the mean difference: a ratio would divide by errors that may be none."""
        mean, low, high = self.people.interval_of(lambda a, b: (a - b).mean(axis=-1), mine, other)
        text = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
        return f"{text}, not resolved" if low <= 0 <= high else text


def _people(clips: Sequence[dict[str, Any]]) -> People:
    return People([clip["clip"] for clip in clips], r"^(.*)$")


def _of(clip: dict[str, Any], keys: Sequence[str]) -> Any:
    value: Any = clip
    for key in keys:
        value = value[key]
    return value


def _mean(*columns: np.ndarray) -> list[str]:
    return [f"{np.mean(c):.2f} ± {np.std(c, ddof=1):.2f}" if len(c) > 1 else f"{c[0]:.2f}" for c in columns]
