"""Train the codec's tables on key points: prediction weights of one kind of motion, and frequencies for all kinds.

The people who validate are left out. What follows the prediction (scales, frequencies) is fitted to errors of weights
that have not seen the person, so that the scales are those of strangers.

    python benchmarks/train_codec_tables.py KEYPOINTS.npz --name fomm-vox256 --frequencies
    python benchmarks/train_codec_tables.py runs/face-128/motion --name face-128
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from kinecast.codec import entropy
from kinecast.codec.predictor import PRIOR_FRAME, PRIOR_SET, MotionModel
from kinecast.codec.profiles import FEATURES, WEIGHT_BITS, Profile, generic_profile
from kinecast.codec.quantizer import Layout, quantize
from kinecast.data.keypoint_store import load_series
from kinecast.data.video_folder import PERSON_PATTERN, person_of

OWN, NEAR, FAR = 10.0, 40.0, 200.0  # ridge penalties: the same number, the same keypoint, others
KEY_STRIDE = 10
TABLES = Path(entropy.__file__).parent / "tables"
Clips = dict[str, np.ndarray]  # name to levels (T, D) in coding order


def fit_profile(name: str, layouts: list[Layout], sets: list[Clips]) -> Profile:
    """Fit prediction weights to clips quantised at several steps."""
    layout = layouts[0]
    fine = [clip * lay.steps[lay.order] for lay, clips in zip(layouts, sets, strict=True) for clip in clips.values()]
    change = [np.diff(clip, axis=0) for clip in fine]
    before = np.concatenate([c[:-1] for c in change]).astype(float)
    now = np.concatenate([c[1:] for c in change]).astype(float)
    velocity = now.std(axis=0)
    x = np.concatenate([before, now], axis=1) / np.tile(velocity, 2)
    energy = np.abs(x[:, : layout.dim]).mean(axis=1)
    weight = 1 / (0.25 + energy)  # quick movements are few and large: they would decide alone
    gram = (x * (weight / weight.mean())[:, None]).T @ x
    past, cross = _regress(gram, layout)
    lift = np.linalg.inv(np.eye(layout.dim) - cross)  # from changes of this frame to errors of this frame
    past = lift @ past
    error = (now / velocity - before / velocity @ past.T) @ (np.eye(layout.dim) - cross).T
    spread = error.std(axis=0) * velocity
    lower = np.tril(lift, -1) * velocity[:, None] * spread[None] / spread[:, None] / velocity[None]
    mean, key_spread, key_cross = _first_frame(np.concatenate([clip[::KEY_STRIDE] for clip in fine]).astype(float))
    plain = generic_profile(layout)
    return replace(
        plain,
        name=name,
        key_mean=_whole(mean),
        key_spread=np.maximum(_whole(key_spread), 1),
        key_cross=_weights(key_cross.T),
        spread=np.maximum(_whole(spread), 1),
        velocity=np.maximum(_whole(velocity), 1),
        past=_weights((past * velocity[:, None] / spread[:, None]).T),
        cross=_weights(lower.T),
    )


def _regress(gram: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of each number's change on all last changes and those of this frame that are coded before."""
    dim, owners = layout.dim, layout.owners
    past, cross = np.zeros((dim, dim)), np.zeros((dim, dim))
    for i in range(dim):
        penalty = np.where(owners == owners[i], NEAR, FAR)
        own = penalty.copy()
        own[i] = OWN
        used = np.concatenate([np.arange(dim), dim + np.arange(i)])
        system = gram[np.ix_(used, used)] + np.diag(np.concatenate([own, penalty[:i]]))
        solution = np.linalg.solve(system, gram[used, dim + i])
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
        self.rows: list[tuple[np.ndarray, np.ndarray]] = []

    def code(self, scale: int, predicted: int, step: int, level: int) -> int:
        self.predicted.append(predicted)
        return level

    def gap(self, frequencies: np.ndarray, gap: int) -> int:
        return gap

    def _remember(self, misses: np.ndarray) -> None:
        ratios = ((misses + 1) * self._inverse >> 16) / 256
        known = self.known_features() if self._features is None else self._features
        self.rows.append((known, ratios))
        super()._remember(misses)

    _features: np.ndarray | None = None

    def _known_scale(self) -> np.ndarray:
        self._features = self.known_features()
        return super()._known_scale()


def trace(layout: Layout, profile: Profile, clips: Clips) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield per clip the features (T-1, D, 9) in octaves, and the errors (T-1, D) in steps."""
    steps = layout.steps[layout.order]
    for clip in clips.values():
        model = _Trace(layout, profile)
        for frame in clip:
            levels = np.empty_like(frame)
            levels[layout.order] = frame
            model.code_frame(model, levels)
        predicted = np.array(model.predicted).reshape(len(clip), -1)[1:]
        known = np.stack([row[0] for row in model.rows]).transpose(0, 2, 1) / 256
        ratios = np.stack([row[1] for row in model.rows])
        yield np.concatenate([known, _of_frame(ratios, layout)], axis=2), clip[1:] - predicted / steps


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
    """Fit bias (D,), weights (D, 9), and shares and scales of a mixture of logistics, by maximum likelihood."""
    torch.manual_seed(0)
    groups = torch.from_numpy(layout.groups.copy())
    x, y = torch.from_numpy(features).float(), torch.from_numpy(errors).float()
    start = torch.tensor([0.2, 0.75, 0, 0.2, 0, 0, 0.7, 0.1, 0.1])
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


def frequencies(
    scale: np.ndarray, errors: np.ndarray, levels: np.ndarray, shares: np.ndarray, scales: np.ndarray
) -> np.ndarray:
    """Tables from the mixture and from what was counted, which counts for more the more of it there is."""
    buckets, phases, symbols = _places(scale, errors, levels)
    tables = []
    for bucket in range(entropy.BUCKETS):
        width = 2 ** ((bucket << 6) / 256 + entropy.MIN_LOG / 256)
        middle = entropy.reach(bucket)
        h = np.arange(-middle, middle + 1)
        for phase in range(entropy.PHASES):
            at = (phase + 0.5) / entropy.PHASES
            edges = 1 / (
                1 + np.exp(-np.clip((np.append(h, middle + 1) - 0.5 - at)[:, None] / (width * 2**scales), -40, 40))
            )
            model = np.diff(edges, axis=0) @ shares
            model = np.append(model, max(1 - model.sum(), 0))
            counted = np.zeros(len(model))
            for mirrored in (
                False,
                True,
            ):  # a prediction as far above a level as another is below sees the mirror image
                which = (buckets == bucket) & (phases == (7 - phase if mirrored else phase))
                found = 1 - symbols[which] if mirrored else symbols[which]
                place = np.where(np.abs(found) <= middle, found + middle, 2 * middle + 1)
                counted += np.bincount(place, minlength=len(model))
            tables.append(_normalised(counted + 1000 * model))
    return np.concatenate(tables).astype(np.uint16)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keypoints", type=Path)
    parser.add_argument("--exclude", default="id10291", help="people who validate, comma-separated")
    parser.add_argument("--name", default="fomm-vox256")
    parser.add_argument(
        "--steps", default="1/256,1/64 1/128,1/32", help="steps of positions and Jacobians, for which it is trained"
    )
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--frequencies", action="store_true", help="write entropy.npz too, which all profiles share")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    excluded = set(arguments.exclude.split(","))
    series = {k: v.numpy() for k, v in load_series(arguments.keypoints).items()}
    people = {clip: person_of(clip, PERSON_PATTERN) for clip in series}
    steps = [[float(Fraction(step)) for step in pair.split(",")] for pair in arguments.steps.split()]
    layouts = [Layout.fomm(value=value, jacobian=jacobian) for value, jacobian in steps]
    sets = [
        {k: quantize(v, lay)[:, lay.order].astype(np.int64) for k, v in series.items() if people[k] not in excluded}
        for lay in layouts
    ]
    profile = fit_profile(arguments.name, layouts, sets)
    features, errors, levels = [], [], []
    for person in sorted(set(people.values()) - excluded):
        others = [{k: v for k, v in clips.items() if people[k] != person} for clips in sets]
        stranger = fit_profile("stranger", layouts, others)
        for layout, clips in zip(layouts, sets, strict=True):
            own = {k: v for k, v in clips.items() if people[k] == person}
            for clip, (x, y) in zip(own.values(), trace(layout, stranger, own), strict=True):
                features.append(x)
                errors.append(y)
                levels.append(clip[1:])
    x, y, z = np.concatenate(features), np.concatenate(errors), np.concatenate(levels)
    bias, weights, shares, scales = fit_scales(x, y, layouts[0], arguments.rounds)
    scale = bias + (x * weights).sum(axis=2)
    with torch.no_grad():
        bits = _bits(
            torch.from_numpy(y), torch.from_numpy(scale), torch.from_numpy(shares).log(), torch.from_numpy(scales)
        )
    print(f"{len(y)} frames; bits a frame of strangers: {bits.sum(1).mean():.1f}")
    print("mixture", shares.round(3), scales.round(3), "mean weights", weights.mean(axis=0).round(2))
    TABLES.mkdir(exist_ok=True)
    arrays = {f: getattr(profile, f) for f in profile.__dataclass_fields__ if f != "name"}
    arrays |= {"bias": _whole(bias * 256), "weights": _whole(weights * 256)}
    small = {k: v.astype(np.int16) if np.abs(v).max() < 1 << 15 else v.astype(np.int32) for k, v in arrays.items()}
    np.savez_compressed(TABLES / f"profile-{arguments.name}.npz", **small)  # type: ignore[arg-type]
    if arguments.frequencies:
        np.savez_compressed(TABLES / "entropy.npz", frequencies=frequencies(scale, y, z, shares, scales))


if __name__ == "__main__":
    main()
