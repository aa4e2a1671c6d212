"""The printed and the released sizes, as in the papers (arXiv 2504.05537, 2512.04282) and their authors' code.

Read off the modules that are built, where they can be on the meta device: some have hundreds of millions of numbers.
"""

from typing import Any

import pytest
import torch

from kinecast.forecasting import Forecaster, build_forecaster, forecaster_class

D = 60


def built(name: str, preset: str) -> Any:
    with torch.device("meta"):
        return build_forecaster(name, D, preset)


def shape(model: Forecaster, name: str) -> tuple[int, ...]:
    return tuple(model.get_parameter(name).shape)


def linear_layers(model: Forecaster, prefix: str) -> list[tuple[int, ...]]:
    """Return the shapes of all matrices below a name, in order."""
    return [tuple(p.shape) for name, p in model.named_parameters() if name.startswith(prefix) and p.ndim == 2]


@pytest.mark.parametrize(("preset", "latent", "hidden", "units"), [("paper", 15, 256, 512), ("released", 20, 256, 128)])
def test_vrnn(preset: str, latent: int, hidden: int, units: int) -> None:
    model = built("vrnn", preset)
    assert linear_layers(model, "prior_net") == [(units, hidden), (2 * latent, units)]
    assert linear_layers(model, "posterior_net") == [(units, units + hidden), (2 * latent, units)]  # it reads phi_x
    assert shape(model, "phi_z.weight")[1] == latent and model.loading is None
    assert (model.config.noise, model.config.likelihood_weight, model.config.kl_weight) == ("gaussian", 1, 1)
    assert model.config.crps_weight == model.config.energy_weight == model.config.dropout == 0


def test_the_vrnn_whose_weights_were_released() -> None:
    model = built("vrnn-released", "released")
    assert (model.config.hidden, model.config.latent, model.config.fc) == (256, 20, 128)


@pytest.mark.parametrize("name", ["gru-nf", "gru-snf"])
@pytest.mark.parametrize(("preset", "blocks", "units"), [("paper", 12, 2048), ("released", 5, 512)])
def test_gru_nf(name: str, preset: str, blocks: int, units: int) -> None:
    sizes: Any = forecaster_class(name).presets[preset]
    assert (sizes.hidden, sizes.flow_hidden, sizes.normalization, sizes.dropout) == (512, units, "training", 0)
    model = build_forecaster(name, D, preset, hidden=4, flow_hidden=4)  # as deep, but narrow
    state = model.state_dict()
    nets = [key.removesuffix("of_input.weight") for key in state if key.endswith("_net.of_input.weight")]
    assert len(nets) == 2 * blocks  # a scale and a shift net in each block
    for net in nets:  # the matrix that reads x, with the one that reads h, and those after it: 5 linear layers
        assert sum(key.startswith(f"{net}rest.") and tensor.ndim == 2 for key, tensor in state.items()) == 4
    assert sum(key.endswith("batch_norm.log_gain") for key in state) == blocks - 1  # between them
    assert sum("gru.weight_hh_l" in key for key in state) == 3


def test_gru() -> None:
    model = built("gru", "paper")
    assert model.config.hidden == 256 and model.config.dropout == 0
    assert (model.config.rollout, model.config.error, model.config.normalization) == (False, "squared", "training")


def test_vae() -> None:
    model = built("vae", "paper")
    assert linear_layers(model, "encoder") == [(512, D), (30, 512)]
    assert (model.config.likelihood, model.config.noise) == ("squared", "independent")
