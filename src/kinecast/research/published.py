"""The figures that arXiv 2504.05537v2 prints, to stand beside ours. Different protocols: see `DIFFERENCES`.

Tables 1-6, one trajectory a window: MAE and JEDi of VRNN, VAE, GRU, NF and GRU-NF, by data set, mode and horizon.
Tables 7-10, 100 samples per window of which the 20 of lowest MAE are kept: APD, MAE, SSIM, and the scaled ratio's mean
and median, of VRNN and GRU-NF.
"""

DATA_SETS = ("voxceleb", "bair", "mgif")
SINGLE_MODELS = ("vrnn", "vae", "gru", "nf", "gru-nf")
DIVERSE_COLUMNS = ("apd", "mae", "ssim", "ratio mean", "ratio median")

# The horizons of the tables: [A] Tables 1-6, [A] Tables 7-10 (none of MGIF), and the second paper, arXiv 2512.04282.
SINGLE_HORIZONS = {
    "voxceleb": ("6-6", "6-24", "12-12"),
    "bair": ("5-5", "5-20", "15-15"),
    "mgif": ("6-6", "6-24", "12-12"),
}
DIVERSE_HORIZONS = {"voxceleb": ("12-12", "6-24"), "bair": ("15-15", "5-20"), "mgif": ()}
REFINED_HORIZON = {"voxceleb": ("8-16", 2), "bair": ("6-9", 1)}  # with every how many frames of a clip
DIVERSE_MODELS = ("vrnn", "gru-nf")
REFINED_MODELS = ("gru-nf", "gru-snf")

_MAE = {
    ("mgif", "reconstruction", "6-6"): (0.0316, 0.0392, 0.0373, 0.0379, 0.0376),
    ("mgif", "reconstruction", "6-24"): (0.0471, 0.0501, 0.0451, 0.0467, 0.0454),
    ("mgif", "reconstruction", "12-12"): (0.0375, 0.0388, 0.0379, 0.0379, 0.0377),
    ("mgif", "transfer", "6-6"): (0.0192, 0.0215, 0.0195, 0.0201, 0.0197),
    ("mgif", "transfer", "6-24"): (0.0343, 0.0385, 0.0319, 0.0339, 0.0321),
    ("mgif", "transfer", "12-12"): (0.0199, 0.0215, 0.0199, 0.0202, 0.0201),
    ("bair", "reconstruction", "5-5"): (0.0713, 0.0749, 0.0722, 0.0766, 0.0763),
    ("bair", "reconstruction", "5-20"): (0.0891, 0.0911, 0.09, 0.0911, 0.091),
    ("bair", "reconstruction", "15-15"): (0.0765, 0.0759, 0.0773, 0.0793, 0.0791),
    ("bair", "transfer", "5-5"): (0.0199, 0.0267, 0.0216, 0.0272, 0.0267),
    ("bair", "transfer", "5-20"): (0.0449, 0.0468, 0.0456, 0.0468, 0.0467),
    ("bair", "transfer", "15-15"): (0.0258, 0.0263, 0.0277, 0.03, 0.0298),
    ("voxceleb", "reconstruction", "6-6"): (0.0511, 0.0602, 0.0514, 0.0729, 0.0715),
    ("voxceleb", "reconstruction", "6-24"): (0.0707, 0.0771, 0.0732, 0.0875, 0.0878),
    ("voxceleb", "reconstruction", "12-12"): (0.0564, 0.0651, 0.0566, 0.0724, 0.0715),
    ("voxceleb", "transfer", "6-6"): (0.0137, 0.0244, 0.0148, 0.0364, 0.0348),
    ("voxceleb", "transfer", "6-24"): (0.0442, 0.0445, 0.0411, 0.0539, 0.0553),
    ("voxceleb", "transfer", "12-12"): (0.0203, 0.0287, 0.0205, 0.035, 0.0348),
}
_JEDI = {
    ("mgif", "reconstruction", "6-6"): (6.3555, 6.3117, 6.4354, 6.2996, 6.2336),
    ("mgif", "reconstruction", "6-24"): (6.5361, 7.4836, 6.1183, 6.4495, 6.7648),
    ("mgif", "reconstruction", "12-12"): (5.8972, 6.5748, 6.4593, 6.085, 6.0207),
    ("mgif", "transfer", "6-6"): (0.6635, 0.9997, 0.4312, 1.0332, 0.9396),
    ("mgif", "transfer", "6-24"): (0.8436, 5.2887, 0.695, 1.0901, 1.2615),
    ("mgif", "transfer", "12-12"): (0.983, 0.464, 0.423, 1.2005, 0.8449),
    ("bair", "reconstruction", "5-5"): (1.655, 2.3094, 1.6094, 2.5065, 2.7014),
    ("bair", "reconstruction", "5-20"): (6.2676, 6.8537, 7.8202, 7.1344, 8.3909),
    ("bair", "reconstruction", "15-15"): (3.2155, 3.7483, 3.9859, 3.4577, 3.665),
    ("bair", "transfer", "5-5"): (0.9274, 1.5357, 0.5262, 1.5638, 1.9548),
    ("bair", "transfer", "5-20"): (5.7885, 6.8148, 7.9668, 7.1783, 7.734),
    ("bair", "transfer", "15-15"): (1.8371, 3.8864, 3.5842, 3.1205, 2.8107),
    ("voxceleb", "reconstruction", "6-6"): (0.7079, 0.8189, 0.6936, 2.3025, 2.2377),
    ("voxceleb", "reconstruction", "6-24"): (1.105, 0.9118, 0.9462, 3.0365, 3.3046),
    ("voxceleb", "reconstruction", "12-12"): (0.7664, 1.2794, 0.7302, 1.4351, 1.6561),
    ("voxceleb", "transfer", "6-6"): (0.5918, 0.5583, 0.5808, 2.4871, 2.0271),
    ("voxceleb", "transfer", "6-24"): (1.2844, 0.8407, 0.9875, 3.4093, 2.8105),
    ("voxceleb", "transfer", "12-12"): (0.8267, 0.761, 0.6743, 1.1633, 1.2116),
}
_DIVERSE = {
    ("voxceleb", "reconstruction", "12-12", "vrnn"): (0.0074, 0.062, 0.6914, 0.1142, 0.0876),
    ("voxceleb", "reconstruction", "12-12", "gru-nf"): (0.0407, 0.0817, 0.6235, 1.3452, 1.3254),
    ("voxceleb", "reconstruction", "6-24", "vrnn"): (0.0079, 0.0814, 0.6026, 0.0819, 0.0749),
    ("voxceleb", "reconstruction", "6-24", "gru-nf"): (0.0608, 0.0999, 0.5441, 1.6321, 1.3126),
    ("voxceleb", "transfer", "12-12", "vrnn"): (0.007, 0.0334, 0.8497, 1.268, 1.0229),
    ("voxceleb", "transfer", "12-12", "gru-nf"): (0.0336, 0.0464, 0.7861, 5.4636, 5.3986),
    ("voxceleb", "transfer", "6-24", "vrnn"): (0.0074, 0.0548, 0.7306, 0.3199, 0.3217),
    ("voxceleb", "transfer", "6-24", "gru-nf"): (0.05, 0.0701, 0.6655, 3.9243, 3.6426),
    ("bair", "reconstruction", "15-15", "vrnn"): (0.0113, 0.0834, 0.7413, 0.4445, 0.3318),
    ("bair", "reconstruction", "15-15", "gru-nf"): (0.0269, 0.0853, 0.7377, 1.7144, 1.369),
    ("bair", "reconstruction", "5-20", "vrnn"): (0.0103, 0.096, 0.714, 0.2831, 0.2355),
    ("bair", "reconstruction", "5-20", "gru-nf"): (0.0253, 0.0971, 0.7106, 1.095, 0.9684),
    ("bair", "transfer", "15-15", "vrnn"): (0.011, 0.0364, 0.9065, 0.519, 0.3444),
    ("bair", "transfer", "15-15", "gru-nf"): (0.0268, 0.0393, 0.8996, 1.4679, 1.4192),
    ("bair", "transfer", "5-20", "vrnn"): (0.0099, 0.053, 0.8609, 0.339, 0.2606),
    ("bair", "transfer", "5-20", "gru-nf"): (0.0247, 0.0541, 0.857, 1.2689, 1.1047),
}

DIFFERENCES = {
    "honest": (
        "Ours are free-running: rows without a * read no frame after the N-th. The released VRNN reads the true "
        "frame before each one that it predicts (docs/results/keypoints-as-released.md), which the published figures "
        "probably share, so that they are one-step errors and ours up to H steps ahead.",
        "Ours are scaled by the window's own observed frames or by the training side, the released ones by the minimum "
        "and maximum of the observed frames of all windows of the video, later ones included.",
    ),
    "as-released": (
        "Rows with a * are read as released: each frame is predicted with the true one before it, in units of the "
        "minimum and maximum of the observed frames of all windows of the video. They are not forecasts: `previous "
        "true frame`, which is not one either, comes within 4 to 15 % of them.",
    ),
}


def published_single(data_set: str | None, mode: str, horizon: str, model: str) -> tuple[float, float] | None:
    """Return the published MAE (all frames of a window) and JEDi of a model, or None where none was printed."""
    values = _MAE.get((data_set or "", mode, horizon))
    if values is None or model not in SINGLE_MODELS:
        return None
    place = SINGLE_MODELS.index(model)
    return values[place], _JEDI[data_set or "", mode, horizon][place]


def published_diverse(data_set: str | None, mode: str, horizon: str, model: str) -> tuple[float, ...] | None:
    """Return the published figures of DIVERSE_COLUMNS of a model, or None where none were printed."""
    return _DIVERSE.get((data_set or "", mode, horizon, model))
