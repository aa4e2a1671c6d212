"""The `paper` presets, term by term against the printed equations ([A]: arXiv 2504.05537), written out here by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import silu, softplus

from ar_motion import ar_windows
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.families import differences, family_of

N, T, D = 6, 10, 4
SIZES: dict[str, dict[str, Any]] = {
    "gru": {"hidden": 8, "read_out": 8},
    "vae": {"latent": 3, "mlp": 8},
    "nf": {"blocks": 2, "hidden": 8},
    "gru-nf": {"hidden": 8, "blocks": 2, "flow_hidden": 8, "layers": 2},
    "gru-snf": {"hidden": 8, "blocks": 2, "flow_hidden": 8, "layers": 2},
    "vrnn": {"hidden": 8, "latent": 3, "mlp": 8, "latent_features": 5},
}


def build(name: str) -> Any:
    torch.manual_seed(2)
    model = build_forecaster(name, D, "paper", **SIZES[name])
    model.fit(ar_windows(30, T), N)
    with torch.no_grad():  # away from where training starts, which hides what is left out
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def positions(model: Any, frames: Tensor) -> Tensor:
    return (frames - model.normalizer.mean) / model.normalizer.std


@pytest.mark.parametrize("name", ["gru", "vrnn", "gru-nf", "gru-snf"])
def test_recurrent_models_read_the_numbers_of_a_frame_alone(name: str) -> None:
    model = build(name)
    features = model.gru_nf.features if name == "gru-snf" else model.features
    assert features.size == D  # not 2 D + 2: no increments, no liveliness


def test_gru_predicts_the_next_frame_from_its_state_over_all_frames() -> None:
    model, batch = build("gru"), ar_windows(8, T)
    x, state = positions(model, batch), torch.zeros(8, 8)
    errors = []
    with torch.no_grad():
        for t in range(T - 1):
            state = model.cell.cell(x[:, t], state)
            g = model.head[3](silu(model.head[0](state)))  # x_{t+1} = g(h_t)
            errors.append((g - x[:, t + 1]).square().mean())
        loss, _ = model.loss(batch, N)
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_vae_pays_the_whole_divergence() -> None:
    model = build("vae")
    frames, later = torch.randn(40, D), torch.randn(40, D)
    with torch.no_grad():
        torch.manual_seed(5)
        loss, _ = model.pair_loss(frames, later)
        q = model.posterior(frames)
        torch.manual_seed(5)
        squared = (model.decoder(q.rsample()) - later).square().mean()
        kl = 0.5 * (q.variance + q.mean.square() - 1 - q.variance.log()).sum(dim=1).mean()
    assert kl > 0.1
    torch.testing.assert_close(loss, squared + kl)  # eq. 10: weight 1, not 0.01, and not divided by D


def test_nf_pays_the_whole_likelihood() -> None:
    model = build("nf")
    frames, later = torch.randn(40, D), torch.randn(40, D)
    with torch.no_grad():
        loss, _ = model.pair_loss(frames, later)
        expected = (model.central(frames) - later).square().mean() - model.flow().log_prob(frames).mean()
    torch.testing.assert_close(loss, expected)


def test_vrnns_posterior_reads_the_features_of_the_frame_and_its_bound_is_of_all_frames() -> None:
    model, batch = build("vrnn"), ar_windows(8, T)

    def gaussian(parameters: Tensor) -> Normal:
        mean, spread = parameters.chunk(2, dim=1)
        return Normal(mean, softplus(spread + math.log(math.e - 1)) + 1e-4)

    def net(layers: Any, inputs: Tensor) -> Tensor:
        return layers[3](silu(layers[0](inputs)))

    x, state, terms = positions(model, batch), torch.zeros(8, 8), []
    with torch.no_grad():
        torch.manual_seed(7)
        for t in range(T):  # from the first frame on
            phi_x = silu(model.phi_x[0](x[:, t]))
            prior = gaussian(net(model.prior_net, state))
            posterior = gaussian(net(model.posterior_net, torch.cat([state, phi_x], dim=1)))  # eq. 14
            z = posterior.rsample()
            phi_z = model.phi_z(z)
            mean, log_scale = net(model.decoder, torch.cat([state, phi_z], dim=1)).chunk(2, dim=1)
            likelihood = Normal(mean, (log_scale - 1).clamp(-6, 2).exp()).log_prob(x[:, t]).sum(dim=1)
            terms.append(kl_divergence(posterior, prior).sum(dim=1) - likelihood)
            state = model.cell.cell(torch.cat([phi_x, phi_z], dim=1), state)
        torch.manual_seed(7)
        loss, _ = model.loss(batch, N)
    torch.testing.assert_close(loss, torch.stack(terms).mean() / D)  # eq. 17: over all frames; 1/(T D) is a constant


def test_gru_nf_gives_a_density_to_every_frame_from_the_state_before_it() -> None:
    model, batch = build("gru-nf"), ar_windows(8, T)
    model.eval()
    x = positions(model, batch)
    with torch.no_grad():
        states, _ = model.gru(x)
        before = torch.cat([torch.zeros(8, 1, 8), states[:, :-1]], dim=1)  # h_t has read x_{<t}
        expected = -model.flow(before.flatten(0, 1)).log_prob(x.flatten(0, 1)).mean() / D
        loss, _ = model.loss(batch, N)
    torch.testing.assert_close(loss, expected)


def test_free_running_samples_of_vrnn_follow_its_own_frames() -> None:
    model = build("vrnn").eval()
    observed = ar_windows(3, N)
    samples = model.forecast(observed, 5, samples=400)
    assert torch.isfinite(samples).all() and samples.std(dim=0).amin() > 0
    pushed = model.forecast(observed + model.normalizer.std, 5, samples=400)  # the same noise, other frames read
    assert not torch.allclose(samples[:, :, 1], pushed[:, :, 1], atol=1e-3)


def test_families_are_named_and_differences_listed() -> None:
    for name in SIZES:
        printed, ours = build(name), build_forecaster(name, D)
        assert (family_of(printed), family_of(ours)) == ("paper", "kinecast")
        assert differences(ours) != differences(printed)
        size, value = next(iter(SIZES[name].items()))
        told = f"{size} {value} (printed {type(printed).presets['paper'].to_dict()[size]})"
        assert told in differences(printed)
    assert any("CRPS" in line for line in differences(build_forecaster("vrnn", D)))
    assert family_of(build_forecaster("damped", D)) == "baseline" and differences(build_forecaster("damped", D)) == ()
    assert family_of(build_forecaster("vrnn-released", D)) == "released"
    assert family_of(build_forecaster("direct", D)) == "kinecast"
