import pytest

from kinecast.cli.research.keypoints import _settings
from kinecast.errors import KinecastError


def test_settings_of_models_are_read() -> None:
    found = _settings(["gru-nf:paper.blocks=5", "gru-nf:paper.layers=1", "gru.error=squared", "vrnn.loading=false"])
    assert found == {
        "gru-nf:paper": [{"blocks": 5, "layers": 1}],
        "gru": [{"error": "squared"}],
        "vrnn": [{"loading": False}],
    }
    for wrong in ("gru.hidden", "hidden=3", "gru.=3"):
        with pytest.raises(KinecastError, match="--set: expected MODEL.NAME=VALUE"):
            _settings([wrong])
