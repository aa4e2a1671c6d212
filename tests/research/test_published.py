import json
from pathlib import Path

from kinecast.research.published import SINGLE_MODELS, published_diverse, published_single


def test_figures_are_those_that_were_printed() -> None:
    tables = json.loads((Path(__file__).parents[1] / "golden/published_tables.json").read_text())
    single = tables["single"]
    for name, horizons in single["mae"].items():
        data_set, mode = name.split("/")
        for horizon, values in horizons.items():
            for i, model in enumerate(single["models"]):
                expected = (values[i], single["jedi"][name][horizon][i])
                assert published_single(data_set, mode, horizon, model) == expected
    for name, horizons in tables["diverse"].items():
        data_set, _, mode = name.partition("/")
        for horizon, models in horizons.items() if mode else ():
            for model, values in models.items():
                assert published_diverse(data_set, mode, horizon, model) == tuple(values)


def test_what_was_not_printed_is_none() -> None:
    assert published_single("voxceleb", "reconstruction", "6-6", "vrnn") == (0.0511, 0.7079)
    assert published_single("voxceleb", "reconstruction", "8-8", "vrnn") is None
    assert published_single(None, "reconstruction", "6-6", "vrnn") is None
    assert published_single("voxceleb", "reconstruction", "6-6", "repeat") is None
    assert published_diverse("mgif", "transfer", "6-24", "vrnn") is None
    assert len(SINGLE_MODELS) == 5
