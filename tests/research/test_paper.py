"""Which studies `evaluate paper` makes of a data set, without being told."""

import pytest

from kinecast.data.windows import Horizon
from kinecast.errors import KinecastError
from kinecast.research.paper import PaperPlan, paper_studies


def horizons(study) -> list[str]:
    return [str(horizon) for horizon in study.horizons]


def test_all_published_tables_of_a_data_set_are_made_at_its_horizons() -> None:
    studies = {study.title: study for study in paper_studies(PaperPlan("bair"))}
    assert list(studies) == [
        "single, reconstruction",
        "single, transfer",
        "diverse, reconstruction",
        "diverse, transfer",
        "diverse, reconstruction, refinement",
    ]
    assert horizons(studies["single, transfer"]) == ["5-5", "5-20", "15-15"]
    assert studies["single, transfer"].models == ("vrnn", "vae", "gru", "nf", "gru-nf")
    assert horizons(studies["diverse, reconstruction"]) == ["15-15", "5-20"]
    assert studies["diverse, reconstruction"].models == ("vrnn", "gru-nf")
    assert (studies["diverse, transfer"].samples, studies["diverse, transfer"].keep) == (100, 20)
    refined = studies["diverse, reconstruction, refinement"]
    assert horizons(refined) == ["6-9"] and refined.models == ("gru-nf", "gru-snf") and refined.every == 1
    vox = paper_studies(PaperPlan("voxceleb"))[-1]
    assert horizons(vox) == ["8-16"] and vox.every == 2
    assert {study.kind for study in paper_studies(PaperPlan("mgif"))} == {"single"}


def test_what_is_named_replaces_what_is_published() -> None:
    plan = PaperPlan("voxceleb", horizons=(Horizon(3, 2),), models=("direct", "gru:kinecast"), family="paper")
    single, _, diverse, _ = paper_studies(plan)
    assert single.models == ("direct", "gru:kinecast") and diverse.models == ("vrnn:paper", "gru-nf:paper")
    assert horizons(single) == horizons(diverse) == ["3-2"]
    with pytest.raises(KinecastError, match="family: expected one of kinecast, paper; found 'ours'"):
        PaperPlan("voxceleb", family="ours")
