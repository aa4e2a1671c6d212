"""The motion model shared by encoder and decoder, in integers: each level's prediction and its uncertainty.

A frame is coded number by number. Each is predicted from the previous frame, its last change, and the errors of the
numbers already coded in this frame: linear weights trained on other people, plus weights that adapt during the clip
(normalised LMS, Nagumo & Noda 1967, cascaded as in lossless audio coders, each weight at a rate that grows with its
trained size, after Duttweiler 2000). The state keeps not a number's level but its expected position in the level's
cell, given the prediction. The expected scale of the error comes from past errors, errors in this frame, and speed,
combined as logarithms with trained weights.

Everything is in integers, except log2_array's exact frexp: fixed point with floor division and arithmetic shifts, all
below 2**62. Qn means that 2**n represents 1. Fine units are 2**-16 motion units. Arrays are in coding order.

Notation: D numbers per frame, R sets of weights: one trained, then the adaptive ones.
"""

from collections.abc import Sequence

import numpy as np

from kinecast.codec.entropy import LOG_BITS, MAX_SKIP, PLACE_BITS, Coder, GapModel, log2, log2_array
from kinecast.codec.profiles import KNOWN, WEIGHT_BITS, Profile
from kinecast.codec.quantizer import Layout

LEARNING = ((200, 200), (50, 80))  # of each adaptive set: rate in 1/256, and the damping in squared spreads
_FAR_PACE, _NEAR_PACE = 16, 48  # Q4: weights within a keypoint adapt faster, since faces differ in them
_PACE_GROWTH = 5  # in 1/64 of a trained weight in Q12: weights large on average vary more between faces
_PAST_PACE = 154  # in 1/256: weights of the last change adapt more slowly
_PACE_BITS = 4
OWN_CHANGES, OWN_RATE, OWN_DAMPING = 4, 8, 8  # of the last stage: from a number's own last changes
_OWN_MAX = 8 << 8  # its errors in Q8 velocities
_NORM_BITS = 8  # normalised errors and changes are Q8,
_NORM_MAX = 1 << 13  # and at most 32 spreads
_GAIN_BITS = 16  # weights are Q16,
_GAIN_MAX = 1 << 19  # and at most 8
_ONE = 1 << 8
_MEANS = np.array([[64], [10], [3]], np.int64)  # weights in 1/256 of a new error in the three running means
PRIOR_FRAME, PRIOR_SET = 3, 2  # prior count of errors of the expected size in a frame's means
_MISS_MAX = 1 << 24
PRIOR_RATIO = 77  # Q8, added to the previous number's miss: an exact one says little
_KEY_BIAS = -70  # a logistic's scale from its mean magnitude: log2(0.83)
_PACE_WEIGHT = 154  # in 1/256: errors grow with the time between two frames to the power of 0.6
_LOG_ONE = LOG_BITS << LOG_BITS  # log2 of a Q8 one
_LOG_STEP = (LOG_BITS + 3) << LOG_BITS  # log2 of a step in Q8 of 1/8 steps


class MotionModel:
    """Codes frames in turn; `reset` makes the next one a key frame.

    Two models with the same profile that coded the same levels since their last key frame predict alike.
    """

    def __init__(self, layout: Layout, profile: Profile) -> None:
        profile.check(layout)
        self.layout, self.profile = layout, profile
        self.order, self.steps = layout.order, layout.steps[layout.order]
        self.sets = 1 + len(LEARNING)
        dim = layout.dim
        self._later = np.triu(np.ones((dim, dim), np.int64), 1)  # [j, i]: j is coded before i
        owners = layout.owners
        near = np.where(owners[:, None] == owners[None], _NEAR_PACE, _FAR_PACE).astype(np.int64)
        self._past_pace = (near + (_PACE_GROWTH * np.abs(profile.past) >> 6)) * _PAST_PACE >> 8
        self._cross_pace = (near + (_PACE_GROWTH * np.abs(profile.cross) >> 6)) * self._later
        lift = _GAIN_BITS - WEIGHT_BITS
        self._key_cross = self._stack(profile.key_cross * self._later << lift)
        self._trained_cross = self._stack(profile.cross * self._later << lift)
        self._trained_past = self._stack(profile.past << lift)
        self._step_list, self._owners = self.steps.tolist(), layout.owners.tolist()
        self._group_list = (layout.groups + layout.keypoints).tolist()
        self._members = (owners[:, None] == np.arange(layout.keypoints)).astype(np.int64)
        self._sizes = self._members.sum(axis=0)
        self._known_weights = profile.weights[:, :KNOWN].T.copy()
        self._frame_weights = [tuple(row) for row in profile.weights[:, KNOWN:].tolist()]
        self.reset()

    def reset(self) -> None:
        """Reset: the next frame is a key frame."""
        self.fresh = True
        self._last = self.profile.key_mean.copy()  # fine units
        self._change = np.zeros_like(self._last)
        self._changes = np.zeros((OWN_CHANGES, len(self._last)), np.int64)  # normalised, the last one first
        self._own = np.zeros_like(self._changes)  # their weights
        self._elapsed, self._usual, self.gaps = 1, 0, GapModel()
        self._cross, self._past = self._trained_cross.copy(), self._trained_past.copy()
        self._scales(self.profile.spread)

    def code_gap(self, coder: Coder, gap: int = 0) -> int:
        """Code how many frames are skipped before the next one."""
        gap = coder.gap(self.gaps.frequencies(), gap)
        self.gaps.note(gap)
        return gap

    def code_frame(
        self,
        coder: Coder,
        levels: np.ndarray | None = None,
        elapsed: int = 1,
        windows: np.ndarray | None = None,
    ) -> np.ndarray:
        """Code one frame: encode levels (D,), or decode and return them if None. In the vector's order.

        `elapsed` is the time since the previous coded frame, in frame periods: above 1 if frames were skipped.
        `windows` (D, 2) are the least and the greatest level that each number can have, if more is known of it.

        Raises:
            KinecastError: from a decoder, on a payload that no encoder writes.
        """
        if self.fresh:
            self._scales(self.profile.key_spread)
            spread, cross = self.profile.key_spread, self._key_cross
            change, sums = np.zeros_like(spread), np.zeros((self.sets, len(spread)), np.int64)
        else:
            spread, cross = self.profile.spread, self._cross
            speed = self._change // self._elapsed  # a frame period
            change = np.clip((speed << _NORM_BITS) // self.profile.velocity, -_NORM_MAX, _NORM_MAX)
            self._changes = np.concatenate([change[None], self._changes[:-1]])
            sums = (change @ self._past.reshape(len(change), -1)).reshape(self.sets, -1)
        pace = 0 if self.fresh else log2(min(elapsed, MAX_SKIP + 1))
        given = levels[self.order].tolist() if levels is not None else [0] * len(spread)
        wider = _PACE_WEIGHT * (pace - (self._usual >> 8)) >> 8
        own = (self._own * self._changes).sum(axis=0) * self.profile.velocity >> _GAIN_BITS + _NORM_BITS
        known = [None] * len(given) if windows is None else list(map(tuple, windows[self.order].tolist()))
        coded, values, errors, misses, offs = self._code_numbers(
            coder, given, known, sums, cross, spread, wider, own.tolist()
        )
        if self.fresh:  # the first frame's distance from the average face says nothing about its motion
            self._scales(self.profile.spread)
        else:
            self._learn(change, errors, sums)
            self._learn_own(offs)
            self._change = values - self._last
            self._remember(misses)
            self._elapsed = min(elapsed, MAX_SKIP + 1)
            self._usual += ((pace << 8) - self._usual) * int(_MEANS[1, 0]) >> 8
        self._last = values
        self.fresh = False
        found = np.empty(len(coded), np.int32)
        found[self.order] = coded
        return found

    def _code_numbers(
        self,
        coder: Coder,
        given: list[int],
        windows: Sequence[tuple[int, int] | None],
        sums: np.ndarray,
        cross: np.ndarray,
        spread: np.ndarray,
        wider: int,
        own: list[int],
    ) -> tuple[np.ndarray, ...]:
        """Code number by number.

        Returns (D,) each: levels; values, as expected (fine); normalised errors of the trained
        prediction (Q8); misses in 1/8 steps; values less the whole prediction (fine).
        """
        last, spreads, steps, owners = self._last.tolist(), spread.tolist(), self._step_list, self._owners
        groups = self._group_list
        history, inverse = (self._known_scale() + wider).tolist(), self._inverse.tolist()
        coded, values, errors, misses, offs = [], [], [], [], []
        # Running sums of misses relative to the mean: of the frame, and of each keypoint and each component in it.
        total, count, ratio = PRIOR_FRAME * _ONE, PRIOR_FRAME, _ONE
        sets = self.layout.keypoints + len(self.layout.components)
        totals, counts = [PRIOR_SET * _ONE] * sets, [PRIOR_SET] * sets
        shift = _GAIN_BITS + _NORM_BITS
        for i, (level, step, base, unit) in enumerate(zip(given, steps, last, spreads, strict=True)):
            trained, *learnt = sums[:, i].tolist()
            first = base + (trained * unit >> shift)
            predicted = first + (sum(learnt) * unit // len(learnt) >> shift) + own[i]
            owner, group, share = owners[i], groups[i], inverse[i]
            weights = self._frame_weights[i]
            now = weights[0] * (log2(total // count) - _LOG_ONE)
            now += weights[1] * (log2(totals[owner] // counts[owner]) - _LOG_ONE)
            now += weights[2] * (log2(totals[group] // counts[group]) - _LOG_ONE)
            now += weights[3] * (log2(ratio + PRIOR_RATIO) - _LOG_ONE)
            now += weights[4] * (log2((((abs(predicted - base) << 3) // step + 2) * share >> 16) or 1) - _LOG_ONE)
            now += weights[5] * (log2((((abs(predicted - first) << 3) // step + 1) * share >> 16) or 1) - _LOG_ONE)
            scale, window = history[i] + (now >> 8), windows[i]
            if window is None:
                level, place = coder.code(scale, predicted, step, level)
            else:
                level, place = coder.within(scale, predicted, step, level, window)
            value = level * step + (place * step >> PLACE_BITS)
            error = ((value - first) << _NORM_BITS) // unit
            error = min(max(error, -_NORM_MAX), _NORM_MAX)
            if error:
                sums[:, i + 1 :] += cross[i, :, i + 1 :] * error
            miss = min(abs((level * step - predicted << 3) // step), _MISS_MAX)
            ratio = (miss + 1) * share >> 16
            total, count = total + ratio, count + 1
            for one in (owner, group):
                totals[one] += ratio
                counts[one] += 1
            coded.append(level)
            values.append(value)
            errors.append(error)
            misses.append(miss)
            offs.append(value - predicted)
        return tuple(np.array(one, np.int64) for one in (coded, values, errors, misses, offs))

    def _learn(self, change: np.ndarray, errors: np.ndarray, sums: np.ndarray) -> None:
        """Update each adaptive set against its own error, in proportion to its inputs."""
        # Q20: squares of each number's inputs, weighted by their rates.
        power = (change * change) @ self._past_pace + (errors * errors) @ self._cross_pace
        bits = 20 + _PACE_BITS
        for index, (rate, damping) in enumerate(LEARNING, start=1):
            left = np.clip(errors - (sums[index] >> _GAIN_BITS), -_NORM_MAX, _NORM_MAX)
            gain = rate * (left << 20) // ((power >> 8 + _PACE_BITS) + (damping << 8))
            for weights, inputs, pace in (
                (self._past, change, self._past_pace),
                (self._cross, errors, self._cross_pace),
            ):
                row = weights[:, index]
                row += (inputs[:, None] * gain * pace + (1 << bits - 1)) >> bits
                np.clip(row, -_GAIN_MAX, _GAIN_MAX, out=row)

    def _learn_own(self, offs: np.ndarray) -> None:
        """Update the weights of each number's own last changes against the error of the whole prediction."""
        left = np.clip((offs << _NORM_BITS) // self.profile.velocity, -_OWN_MAX, _OWN_MAX)
        power = (self._changes * self._changes).sum(axis=0)
        gain = OWN_RATE * (left << 20) // ((power >> 8) + (OWN_DAMPING << 8))
        self._own += (self._changes * gain + (1 << 19)) >> 20
        np.clip(self._own, -_GAIN_MAX, _GAIN_MAX, out=self._own)

    def _scales(self, spread: np.ndarray) -> None:
        """Start the running means of misses (Q8 of 1/8 steps) from a spread in fine units."""
        # Two thirds: the mean magnitude of an error whose standard deviation is the spread, heavy tails considered.
        self._means = np.tile((spread * (8 * _ONE) * 2 // 3) // self.steps + _ONE, (len(_MEANS), 1))
        self._inverse = (1 << 32) // self._means[1]
        self._ratios = np.full(len(spread), _ONE, np.int64)

    def _remember(self, misses: np.ndarray) -> None:
        """Update the running means with one frame's misses, in 1/8 steps."""
        self._ratios = (misses + 1) * self._inverse >> 16
        self._means += (((misses + 1) << 8) - self._means) * _MEANS >> 8
        self._inverse = (1 << 32) // self._means[1]

    def _known_scale(self) -> np.ndarray:
        """(D,) the part of 256 log2 of the scale in steps known before the frame."""
        if self.fresh:
            return log2_array(self._means[1]) - _LOG_STEP + _KEY_BIAS
        return ((self._known_weights * self.known_features()).sum(axis=0) >> 8) + self.profile.bias

    def known_features(self) -> np.ndarray:
        """(KNOWN, D) logarithms, 256 per octave, known before a frame: see `Profile.weights`."""
        speed = np.abs(self._change << 3) // self.steps  # 1/8 steps
        own = (speed + 4) * self._inverse >> 16
        everywhere = max(int(((speed + 1) * self._inverse >> 16).sum()) // len(own), 1)
        quick = (self._means[0] * self._inverse) >> 24  # Q8, relative to the slow mean
        ratios = np.stack([self._ratios, quick])
        parts = np.concatenate(
            [ratios @ self._members // self._sizes, ratios.sum(axis=1, keepdims=True) // len(own)], 1
        )
        logs = log2_array(np.maximum(parts, 1)) - _LOG_ONE  # of keypoints, and of all
        out = np.empty((KNOWN, len(own)), np.int64)
        out[:3] = log2_array(self._means) - _LOG_STEP
        out[3] = log2_array(np.maximum(own, 1)) - _LOG_ONE
        out[4] = log2(everywhere) - _LOG_ONE
        out[5] = log2_array(np.maximum(self._ratios, 1)) - _LOG_ONE
        out[6:8] = logs[:, self.layout.owners]
        out[8:] = logs[:, -1:]
        return out

    def _stack(self, trained: np.ndarray) -> np.ndarray:
        """Return weights of all sets (D, R, D), the adaptive ones at 0."""
        stacked = np.zeros((len(trained), self.sets, trained.shape[1]), np.int64)
        stacked[:, 0] = trained
        return stacked
