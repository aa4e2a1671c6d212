"""The two families of forecasters, and how each model differs from the printed one.

`paper` models have the printed equations, losses and sizes ([A]: arXiv 2504.05537, [B]: arXiv 2512.04282); remaining
differences are listed here, and every table prints them. `kinecast` models are ours: different models under the same
names, so that results of one family say nothing about the other.
"""

from kinecast.forecasting import FORECASTERS, Forecaster
from kinecast.forecasting.baselines import Baseline

PRINTED = ("gru", "vae", "nf", "vrnn", "gru-nf", "gru-snf")
_SIZES = {
    "gru": ("hidden", "read_out"),
    "vae": ("latent", "mlp"),
    "nf": ("blocks", "hidden", "layers"),
    "vrnn": ("hidden", "latent", "mlp", "latent_features"),
    "gru-nf": ("hidden", "layers", "blocks", "flow_hidden", "flow_layers"),
    "gru-snf": ("hidden", "layers", "blocks", "flow_hidden", "flow_layers"),
}
_COMMON = (
    "positions are measured in mean and deviation of the training frames (the released code takes the minimum and "
    "maximum of the video, later windows included)",
    "trained by this package's recipe (AdamW, cosine, window amplitudes varied, weights averaged), not by theirs",
)
_REMAINS = {
    "gru": (
        "g has one hidden layer of SiLU; the paper does not specify it",
        "the error is over all frames after the first",
    ),
    "vae": ("sizes are those printed for the VRNN; none are printed for the VAE",),
    "nf": (
        "how the flow of x_t forecasts x_{t+k} is not specified: here its base variable keeps a learnt share of itself",
        "sizes are those of the flow whose code was released; none are printed",
        "no batch normalisation between blocks",
    ),
    "vrnn": ("the reconstruction is the Gaussian log-likelihood of eq. 17; both terms are divided by D",),
    "gru-nf": ("the loss is divided by D, a constant", "log s is bounded by tanh"),
    "gru-snf": ("mu_t is the flow's image of 0 unless mean=head is chosen: the released read-out was never trained",),
}
_OURS = {
    "gru": (
        "reads increments too, one small net shared by all numbers",
        "residual around damped velocity",
    )
    + ("trained by absolute error on its own predictions fed back",),
    "vae": ("Gaussian likelihood with a learnt deviation", "KL weight 0.01, divided by D", "one draw for k frames"),
    "nf": ("window units", "likelihood divided by D", "one draw for k frames"),
    "vrnn": (
        "trained by the CRPS of free-running samples and a tenth of the bound",
        "Laplace noise around damped velocity, principal loadings of the latent",
        "the posterior reads increments; the bound is of frames after the N-th",
        "one small net shared by all numbers, window units",
    ),
    "gru-nf": (
        "models residuals of damped velocity in window units",
        "an affine layer with free tails and a fixed whitening before the flow",
        "one small net shared by all numbers",
    ),
}


def family_of(model: Forecaster) -> str:
    """Return `paper`, `kinecast`, `baseline` or `released` for a model, by its config, not its name.

    A model with other sizes than printed still belongs to the family `paper`: `differences` lists them.
    """
    if isinstance(model, Baseline):
        return "baseline"
    if model.name == "vrnn-released":
        return "released"
    return "paper" if model.name in PRINTED and not _changed(model, but=_SIZES[model.name]) else "kinecast"


def differences(model: Forecaster) -> tuple[str, ...]:
    """Return how a model differs from the printed one of its name; nothing if none is printed."""
    if model.name not in PRINTED:
        return ()
    if family_of(model) == "kinecast":
        ours = _OURS["gru-nf"] if model.name == "gru-snf" else _OURS[model.name]
        return (*ours, "other sizes")
    printed = FORECASTERS[model.name].presets["paper"].to_dict()
    mine = model.config.to_dict()
    sizes = tuple(f"{name} {mine[name]} (printed {printed[name]})" for name in _changed(model))
    own = (*_REMAINS["gru-nf"], *_REMAINS["gru-snf"]) if model.name == "gru-snf" else _REMAINS[model.name]
    return (*sizes, *own, *_COMMON)


def _changed(model: Forecaster, but: tuple[str, ...] = ()) -> list[str]:
    """Return the config keys that differ from the preset `paper`, ignoring those of the refinement."""
    printed, mine = FORECASTERS[model.name].presets["paper"].to_dict(), model.config.to_dict()
    if model.name == "gru-snf":
        kept = FORECASTERS["gru-nf"].presets["paper"].to_dict()
        printed = {name: value for name, value in printed.items() if name in kept}
    return [name for name, value in printed.items() if mine[name] != value and name not in but]
