"""Settings of a forecaster, chosen on training people only: candidates are scored on people left out of training.

Notation: P people.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kinecast.data.video_folder import PERSON_PATTERN, person_of
from kinecast.data.windows import Series, evaluation_windows
from kinecast.errors import KinecastError
from kinecast.research.people import People, groups_of
from kinecast.research.scoring import window_scores
from kinecast.training.forecaster import ForecasterTrainingConfig, train_forecaster

Candidates = Sequence[Mapping[str, Any]]

PENALTIES = (0.01, 0.1, 1.0)
CANDIDATES: dict[str, Candidates] = {
    "ridge": [{"penalty": penalty} for penalty in PENALTIES],
    "var": [{"penalty": penalty} for penalty in PENALTIES],
}
_ONE_BY_ONE = 8  # people up to which each is left out alone
_GROUPS = 3  # of more people, who are left out together: it costs a training each
_SAMPLES = 30


def choose_settings(
    series: Series,
    config: ForecasterTrainingConfig,
    candidates: Candidates,
    person: str = PERSON_PATTERN,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Return the config values of the candidate of lowest CRPS on people left out in turn, every person alike.

    Up to 8 people are left out one by one, more in 3 groups. Ties go to the first candidate; with a single training
    person the default is used.

    Raises:
        KinecastError: no candidates.
    """
    if not candidates:
        raise KinecastError("settings: expected at least one candidate, found none")
    if len(candidates) == 1:
        return dict(candidates[0])
    people = {clip: person_of(clip, person) for clip in series}
    names = sorted(set(people.values()))
    if len(names) < 2:
        log(f"{config.model} {config.horizon}: only one training person: the default settings are kept")
        return {}
    count = len(names) if len(names) <= _ONE_BY_ONE else _GROUPS
    totals = [0.0] * len(candidates)
    for group in groups_of(names, count, config.seed):
        inner = {clip: motion for clip, motion in series.items() if people[clip] not in group}
        left = {clip: motion for clip, motion in series.items() if people[clip] in group}
        windows = evaluation_windows(left, config.horizon, config.every)
        for i, candidate in enumerate(candidates):
            how = replace(config, overrides={**config.overrides, **candidate}, validate=None, early_stop=None)
            model = train_forecaster(inner, how).model
            scores = window_scores(model, windows, _SAMPLES, config.seed)
            totals[i] += float(People(windows.clips, person, resamples=1).means(scores.columns["crps"]).sum())
    best = min(range(len(candidates)), key=totals.__getitem__)
    log(f"{config.model} {config.horizon}: chose {dict(candidates[best])} of {len(candidates)}")
    return dict(candidates[best])
