"""Train the codec's tables on key points: prediction weights of one kind of motion, and frequencies for all kinds.

The people who validate are left out. What follows the prediction (scales, frequencies) is fitted to errors of weights
that have not seen the person, so that the scales are those of strangers.

    python recipes/codec_tables.py KEYPOINTS.npz --name fomm-vox256 --frequencies
    python recipes/codec_tables.py runs/face-128/motion --name face-128 --turns 2
    python recipes/codec_tables.py runs/mesh-motion --name mesh --turns 2 --qualities 2,4 \\
        --person '^train-([^-]+)-'

Clips whose names a --person pattern does not match are left out too. With --qualities steps are those of the motion
files' own kind; without, they are of the FOMM layout.
"""

import argparse
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from kinecast.apps.stream.clips import layout_for_quality
from kinecast.codec import entropy
from kinecast.codec.predictor import PRIOR_FRAME, PRIOR_RATIO, PRIOR_SET, MotionModel
from kinecast.codec.profiles import FEATURES, WEIGHT_BITS, Profile, generic_profile
from kinecast.codec.quantizer import FINE, Layout, quantize
from kinecast.data.keypoint_store import load_series
from kinecast.data.video_folder import PERSON_PATTERN, person_of
from kinecast.motion import Motion

OWN, NEAR, FAR = 60.0, 240.0, 1200.0  # ridge penalties: the same number, the same keypoint, others
KEY_STRIDE = 10
TABLES = Path(entropy.__file__).parent / "tables"
START = np.full(3, 1 / 3), np.array([-0.8, 0.0, 0.8])  # shares and scales of the mixture before anything was coded
SUBCELLS = 16


@dataclass(frozen=True)
class Track:
    """A clip at one quantiser, in coding order: levels (T, D), what was there, and what a decoder makes of it."""

    person: str
    layout: Layout
    levels: np.ndarray  # int64
    truth: np.ndarray  # before quantisation, fine units
    values: np.ndarray  # as a decoder expects them to be, fine units


def fit_profile(name: str, tracks: list[Track]) -> Profile:
    """Fit prediction weights: from what a decoder knows to what was there before quantisation."""
    layout = tracks[0].layout
    before = np.concatenate([t.values[1:-1] - t.values[:-2] for t in tracks]).astype(float)
    now = np.concatenate([t.values[2:] - t.values[1:-1] for t in tracks]).astype(float)
    target = np.concatenate([t.truth[2:] - t.values[1:-1] for t in tracks])
    velocity = now.std(axis=0)
    x, y = np.concatenate([before, now], axis=1) / np.tile(velocity, 2), target / velocity
    # Quick movements are few and large: they would decide alone. Nor should who was filmed for longest.
    energy = 0.3 * np.abs(x[:, : layout.dim]).mean(axis=1) + 0.7 * np.abs(x[:, layout.dim :]).mean(axis=1)
    frames = {t.person: sum(len(o.levels) for o in tracks if o.person == t.person) for t in tracks}
    weight = (
        np.concatenate([np.full(len(t.levels) - 2, frames[t.person] ** -0.5) for t in tracks]) / (0.25 + energy) ** 2
    )
    weighted = x * (weight / weight.mean())[:, None]
    past, cross = _regress(weighted.T @ x, weighted.T @ y, layout)
    lift = np.linalg.inv(np.eye(layout.dim) - cross)  # from changes of this frame to errors of this frame
    past = lift @ past
    error = (now / velocity - before / velocity @ past.T) @ (np.eye(layout.dim) - cross).T
    spread = error.std(axis=0) * velocity
    lower = np.tril(lift, -1) * velocity[:, None] * spread[None] / spread[:, None] / velocity[None]
    mean, key_spread, key_cross = _first_frame(np.concatenate([t.truth[::KEY_STRIDE] for t in tracks]))
    return replace(
        generic_profile(layout),
        name=name,
        key_mean=_whole(mean),
        key_spread=np.maximum(_whole(key_spread), 1),
        key_cross=_weights(key_cross.T),
        spread=np.maximum(_whole(spread), 1),
        velocity=np.maximum(_whole(velocity), 1),
        past=_weights((past * velocity[:, None] / spread[:, None]).T),
        cross=_weights(lower.T),
    )


def _regress(gram: np.ndarray, goal: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of each number's change on all last changes and those of this frame that are coded before."""
    dim, owners = layout.dim, layout.owners
    past, cross = np.zeros((dim, dim)), np.zeros((dim, dim))
    for i in range(dim):
        penalty = np.where(owners == owners[i], NEAR, FAR)
        own = penalty.copy()
        own[i] = OWN
        used = np.concatenate([np.arange(dim), dim + np.arange(i)])
        system = gram[np.ix_(used, used)] + np.diag(np.concatenate([own, penalty[:i]]))
        solution = np.linalg.solve(system, goal[used, i])
        past[i], cross[i, :i] = solution[:dim], solution[dim:]
    return past, cross


def _first_frame(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, spread and weights between numbers of a first frame, shrunk: it will be a stranger's."""
    mean, scale = frames.mean(axis=0), frames.std(axis=0)
    covariance = np.cov((frames - mean) / scale, rowvar=False)
    covariance += 0.25 * np.diag(np.diag(covariance))
    factor = np.linalg.cholesky(covariance)
    return (
        mean,
        np.diag(factor) * scale,
        np.tril(factor / np.diag(factor)[None], -1) / np.diag(factor)[:, None] * np.diag(factor)[None],
    )


def _weights(values: np.ndarray) -> np.ndarray:
    return np.clip(_whole(values * (1 << WEIGHT_BITS)), -32767, 32767)


def _whole(values: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(np.int64)


class _Trace(MotionModel):
    """Notes what the model expects, rather than code it."""

    def __init__(self, layout: Layout, profile: Profile) -> None:
        super().__init__(layout, profile)
        self.predicted: list[int] = []
        self.known: list[np.ndarray] = []
        self.ratios: list[np.ndarray] = []
        self.first: list[np.ndarray] = []
        self.inverse: list[np.ndarray] = []
        self.values: list[np.ndarray] = []

    def code(self, scale: int, predicted: int, step: int, level: int) -> tuple[int, int]:
        self.predicted.append(predicted)
        bucket, phase, origin, shift = entropy.locate(scale, predicted, step)
        symbol, middle = (level >> shift) - origin + entropy.reach(bucket), entropy.reach(bucket)
        inside = 0 <= symbol <= 2 * middle and not shift
        return level, entropy.places()[bucket][phase][symbol] if inside else 0

    def gap(self, frequencies: np.ndarray, gap: int) -> int:
        return gap

    def note(self, frame: np.ndarray) -> None:
        """Take one frame in coding order."""
        levels = np.empty_like(frame)
        levels[self.layout.order] = frame
        if not self.fresh:
            self.known.append(self.known_features())
        self.code_frame(self, levels)
        self.values.append(self._last)

    def _learn(self, change: np.ndarray, errors: np.ndarray, sums: np.ndarray) -> None:
        self.first.append(self._last + (sums[0] * self.profile.spread >> 24))
        super()._learn(change, errors, sums)

    def _remember(self, misses: np.ndarray) -> None:
        self.inverse.append(self._inverse)
        self.ratios.append((misses + 1) * self._inverse >> 16)
        super()._remember(misses)


def trace(track: Track, profile: Profile) -> tuple[np.ndarray, np.ndarray, Track]:
    """Return the features (T-1, D, 16) in octaves, the errors (T-1, D) in steps, and the track as a decoder has it."""
    layout = track.layout
    steps = layout.steps[layout.order]
    model = _Trace(layout, profile)
    for frame in track.levels:
        model.note(frame)
    values = np.stack(model.values)
    predicted = np.array(model.predicted).reshape(values.shape)[1:]
    known, ratios = np.stack(model.known).transpose(0, 2, 1) / 256, np.stack(model.ratios) / 256
    inverse = np.stack(model.inverse)
    before = np.concatenate([np.ones((len(ratios), 1)), ratios[:, :-1]], axis=1)
    moves = np.stack(
        [
            (np.abs(predicted - values[:-1]) << 3) // steps + 2,
            (np.abs(predicted - np.stack(model.first)) << 3) // steps + 1,
        ],
        axis=2,
    )
    moves = np.log2(np.maximum(moves * inverse[:, :, None] >> 16, 1) / 256)
    now = [_of_frame(ratios, layout), np.log2(before + PRIOR_RATIO / 256)[:, :, None], moves]
    errors = track.levels[1:] - predicted / steps
    return np.concatenate([known, *now], axis=2), errors, replace(track, values=values)


def _of_frame(ratios: np.ndarray, layout: Layout) -> np.ndarray:
    """(T, D, 3): logarithms of the mean misses of this frame so far: of all, of the keypoint, of the component."""
    dim = layout.dim
    earlier = np.tril(np.ones((dim, dim)), -1)
    sets = [(earlier, PRIOR_FRAME)]
    for label in (layout.owners, layout.groups):
        sets.append((earlier * (label[:, None] == label[None]), PRIOR_SET))
    return np.log2(np.stack([(ratios @ m.T + prior) / (m.sum(axis=1) + prior) for m, prior in sets], axis=2))


def fit_scales(
    features: np.ndarray, errors: np.ndarray, layout: Layout, rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit bias (D,), weights (D, 16), and shares and scales of a mixture of logistics, by maximum likelihood."""
    torch.manual_seed(0)
    groups = torch.from_numpy(layout.groups.copy())
    x, y = torch.from_numpy(features).float(), torch.from_numpy(errors).float()
    start = torch.tensor([0.2, 0.75, 0, 0, 0, 0, 0, 0, 0.2, 0, 0.7, 0.1, 0.1, 0, 0, 0])
    shared = start.repeat(len(layout.components), 1).requires_grad_()
    own = torch.zeros(layout.dim, FEATURES, requires_grad=True)
    bias = torch.full((layout.dim,), -0.3, requires_grad=True)
    shares, scales = torch.zeros(3, requires_grad=True), torch.tensor([-0.8, 0.0, 0.8], requires_grad=True)
    parameters = [shared, own, bias, shares, scales]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    for index in range(rounds):
        if index == rounds * 2 // 3:
            optimizer.param_groups[0]["lr"] = 0.004
        picked = torch.randint(len(x), (192,))
        scale = bias + (x[picked] * (shared[groups] + own)).sum(dim=2)
        loss = _bits(y[picked], scale, shares, scales).sum(dim=1).mean() + 20 * own.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        weights = (shared[groups] + own).numpy()
        return bias.numpy(), weights, shares.softmax(0).numpy(), scales.numpy()


def _bits(errors: torch.Tensor, scale: torch.Tensor, shares: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    probability = torch.zeros_like(errors)
    for share, relative in zip(shares.softmax(0), scales, strict=True):
        width = torch.exp2(scale + relative)
        probability = probability + share * (
            torch.sigmoid((errors + 0.5) / width) - torch.sigmoid((errors - 0.5) / width)
        )
    return -torch.log2(probability.clamp_min(2.0**-20))


def tables(
    shares: np.ndarray, scales: np.ndarray, seen: tuple[np.ndarray, np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies, and places of numbers in their cells.

    Frequencies are the mixture's and what was counted, which counts for more the more of it there is. Places are the
    mixture's means within each cell, the detector's density being a mixture of logistics about the prediction.
    """
    found, places = [], []
    for bucket in range(entropy.BUCKETS):
        width = 2 ** ((bucket << 6) / 256 + entropy.MIN_LOG / 256)
        middle = entropy.reach(bucket)
        symbols = np.arange(-middle, middle + 1)
        for phase in range(entropy.PHASES):
            at = (phase + 0.5) / entropy.PHASES
            edges = np.arange(-middle * SUBCELLS, (middle + 1) * SUBCELLS + 1) / SUBCELLS - 0.5 - at
            density = (
                np.diff(1 / (1 + np.exp(-np.clip(edges[:, None] / (width * 2**scales), -40, 40))), axis=0) @ shares
            )
            density = density.reshape(-1, SUBCELLS)
            model = density.sum(axis=1)
            offsets = (np.arange(SUBCELLS) + 0.5) / SUBCELLS - 0.5
            inside = np.where(model > 1e-12, density @ offsets / np.maximum(model, 1e-12), np.sign(at - symbols) / 2)
            places.append(_whole(np.append(inside, 0) * (1 << entropy.PLACE_BITS)))
            model = np.append(model, max(1 - model.sum(), 0))
            found.append(_normalised(1000 * model + (_counted(bucket, phase, middle, *seen) if seen else 0)))
    return np.concatenate(found).astype(np.uint16), np.clip(np.concatenate(places), -32767, 32767).astype(np.int16)


def _counted(
    bucket: int, phase: int, middle: int, buckets: np.ndarray, phases: np.ndarray, symbols: np.ndarray
) -> np.ndarray:
    """Count symbols. A prediction as far above a level as another is below sees the mirror image."""
    counted = np.zeros(2 * middle + 2)
    for mirrored in (False, True):
        which = (buckets == bucket) & (phases == (7 - phase if mirrored else phase))
        found = 1 - symbols[which] if mirrored else symbols[which]
        place = np.where(np.abs(found) <= middle, found + middle, 2 * middle + 1)
        counted += np.bincount(place, minlength=len(counted))
    return counted


def install(frequencies: np.ndarray, places: np.ndarray) -> None:
    """Write the tables that all profiles share, and have the codec read them again."""
    np.savez_compressed(TABLES / "entropy.npz", frequencies=frequencies, places=places)
    for cached in (entropy.table_array, entropy.place_array, entropy.places, entropy._models):
        cached.cache_clear()


def _places(scale: np.ndarray, errors: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bucket, phase and symbol of each number as `entropy.locate` finds them, where no low bits are split off."""
    bucket = np.clip((np.rint(scale * 256).astype(int) - entropy.MIN_LOG + 32) >> 6, 0, None)
    eighths = np.floor((levels - errors) * 8).astype(int)
    keep = bucket < entropy.BUCKETS
    return bucket[keep], (eighths & 7)[keep], (levels - (eighths >> 3))[keep]


def _normalised(weights: np.ndarray) -> np.ndarray:
    """Whole numbers of at least 1 that sum to 2**16."""
    free = entropy.TOTAL - len(weights)
    whole = 1 + np.floor(weights / weights.sum() * free).astype(int)
    whole[np.argmax(whole)] += entropy.TOTAL - whole.sum()
    return whole


def train(name: str, tracks: list[Track], turns: int, rounds: int, shared: bool) -> Profile:
    """Return the profile; where they are `shared` with it, install tables: in turns, each fitted to the other."""
    layout = tracks[0].layout
    start = generic_profile(layout)
    bias, weights = start.bias, start.weights
    if shared:
        install(*tables(*START, None))
    for index in range(turns):
        features, errors = [], []
        profile = fit_profile(name, tracks)
        strangers = {p: fit_profile(name, [t for t in tracks if t.person != p]) for p in {t.person for t in tracks}}
        for place, track in enumerate(tracks):
            x, y, tracks[place] = trace(track, replace(strangers[track.person], bias=bias, weights=weights))
            features.append(x)
            errors.append(y)
        x, y, z = np.concatenate(features), np.concatenate(errors), np.concatenate([t.levels[1:] for t in tracks])
        fitted, factors, shares, scales = fit_scales(x, y, layout, rounds)
        bias, weights = _whole(fitted * 256), _whole(factors * 256)
        scale = fitted + (x * factors).sum(axis=2)
        if shared:
            install(*tables(shares, scales, _places(scale, y, z)))
        with torch.no_grad():
            bits = _bits(*(torch.from_numpy(a) for a in (y, scale, np.log(shares), scales)))
        print(
            f"turn {index + 1}: {len(y)} frames; bits a frame of strangers: {bits.sum(1).mean():.1f}; "
            f"mixture {shares.round(3)} {scales.round(3)}, mean weights {factors.mean(axis=0).round(2)}",
            flush=True,
        )
    return replace(profile, bias=bias, weights=weights)


def layouts(motion: Path, steps: str, qualities: str | None) -> list[Layout]:
    """Return the layouts that are trained for, of motion files in a folder if there are qualities."""
    if qualities is None:
        pairs = [[float(Fraction(step)) for step in pair.split(",")] for pair in steps.split()]
        return [Layout.fomm(value=value, jacobian=jacobian) for value, jacobian in pairs]
    template = Motion.load(min(motion.glob("*.npz")))
    return [layout_for_quality(template, int(quality)) for quality in qualities.split(",")]


def main() -> None:
    """Train and write the tables of the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keypoints", type=Path)
    parser.add_argument("--exclude", default="id10291", help="people who validate, comma-separated")
    parser.add_argument("--name", default="fomm-vox256")
    parser.add_argument(
        "--steps", default="1/256,1/64 1/128,1/32", help="steps of positions and Jacobians, for which it is trained"
    )
    parser.add_argument(
        "--turns", type=int, default=3, help="what a decoder knows follows from the weights fitted to it"
    )
    parser.add_argument("--rounds", type=int, default=300, help="steps of fitting the scales")
    parser.add_argument("--frequencies", action="store_true", help="write entropy.npz too, which all profiles share")
    parser.add_argument("--qualities", help="train for these instead of --steps, of motion files in a folder")
    parser.add_argument("--person", default=PERSON_PATTERN, help="regular expression: the person in a clip's name")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    excluded = set(arguments.exclude.split(","))
    series = {k: v.numpy() for k, v in load_series(arguments.keypoints).items()}
    if arguments.person != PERSON_PATTERN:
        series = {clip: vectors for clip, vectors in series.items() if re.match(arguments.person, clip)}
    people = {clip: person_of(clip, arguments.person) for clip in series}
    tracks = []
    for layout in layouts(arguments.keypoints, arguments.steps, arguments.qualities):
        for clip, vectors in series.items():
            if people[clip] not in excluded and len(vectors) > 3:
                truth = vectors[:, layout.order].astype(np.float64) * FINE
                levels = quantize(vectors, layout)[:, layout.order].astype(np.int64)
                tracks.append(Track(people[clip], layout, levels, truth, levels * layout.steps[layout.order]))
    profile = train(arguments.name, tracks, arguments.turns, arguments.rounds, arguments.frequencies)
    arrays = {f: getattr(profile, f) for f in profile.__dataclass_fields__ if f != "name"}
    small = {k: v.astype(np.int16) if np.abs(v).max() < 1 << 15 else v.astype(np.int32) for k, v in arrays.items()}
    np.savez_compressed(TABLES / f"profile-{arguments.name}.npz", **small)


if __name__ == "__main__":
    main()
