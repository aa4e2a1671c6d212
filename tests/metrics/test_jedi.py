from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.metrics.jedi import (
    VJEPA,
    Block,
    Pooler,
    VJEPAConfig,
    jedi,
    load_vjepa,
    open_vjepa,
    polynomial_mmd,
    sincos_positions,
)

pytest.importorskip("sklearn")
TINY = VJEPAConfig(width=12, depth=2, heads=2, patch=4, tubelet=2, frames=4, size=8)
BLOCK = ["norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias"]
BLOCK += ["norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"]
CROSS = ["norm1.weight", "norm1.bias", "xattn.q.weight", "xattn.q.bias", "xattn.kv.weight", "xattn.kv.bias"]
CROSS += ["xattn.proj.weight", "xattn.proj.bias", *BLOCK[6:]]
ENCODER_KEYS = ["pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"]
ENCODER_KEYS += [f"blocks.{i}.{name}" for i in range(2) for name in BLOCK]
POOLER_KEYS = ["query_tokens", *(f"cross_attention_block.{name}" for name in CROSS)]


def published_files(folder: Path, model: VJEPA, **more: Any) -> Path:
    """Write the two files as their authors' training code lays them out."""
    encoder = {f"module.backbone.{k}": v for k, v in model.encoder.state_dict().items()}
    pooler = {f"module.pooler.{k}": v for k, v in model.pooler.state_dict().items()}
    linear = {"module.linear.weight": torch.zeros(174, 12), "module.linear.bias": torch.zeros(174)}
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    rest = {"opt": optimizer, "scaler": None, "epoch": 300, "loss": 0.5, "batch_size": 4, "world_size": 1, "lr": 0.1}
    other = {name: torch.zeros_like(tensor) for name, tensor in encoder.items()}
    torch.save({"encoder": other, "target_encoder": encoder, "predictor": {}} | rest | more, folder / "vith16.pth.tar")
    torch.save({"classifier": pooler | linear} | rest, folder / "ssv2-probe.pth.tar")
    return folder


def test_mmd_by_hand() -> None:
    x, y = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[0.0, 2.0]])
    # k = (<x, y> / 2)^2: within x 25/4, 81/4 and twice 9/4; within y 4; between 4 and 0
    assert polynomial_mmd(x, y) == pytest.approx((25 + 81 + 18) / 16 + 4 - 2 * 2)
    assert jedi(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(775)


def test_mmd_is_the_distance_of_mean_feature_maps() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(9, 5)), random.normal(0.5, 1, size=(7, 5))
    # The kernel's feature map is all products of two features: an independent reading of the same definition.
    mean_x, mean_y = ((np.einsum("ni,nj->nij", z, z) / 5).mean(axis=0) for z in (x, y))
    assert polynomial_mmd(x, y) == pytest.approx(((mean_x - mean_y) ** 2).sum())
    assert polynomial_mmd(x, x) == pytest.approx(0, abs=1e-12)
    with pytest.raises(KinecastError, match=r"found \(9, 5\) and \(7, 4\)"):
        polynomial_mmd(x, y[:, :4])


def test_names_and_sizes_are_the_published_ones() -> None:
    model = VJEPA(TINY)
    assert sorted(model.encoder.state_dict()) == sorted(ENCODER_KEYS)
    assert sorted(model.pooler.state_dict()) == sorted(POOLER_KEYS)
    with torch.device("meta"):
        published = VJEPA(VJEPAConfig())
    assert published.encoder.pos_embed.shape == (1, 1568, 1280)
    assert published.encoder.state_dict()["patch_embed.proj.weight"].shape == (1280, 3, 2, 16, 16)
    assert published.encoder.state_dict()["blocks.31.mlp.fc1.weight"].shape == (5120, 1280)
    block, patches = 12 * 1280**2 + 13 * 1280, 1280 * (3 * 2 * 16 * 16 + 1)
    assert sum(p.numel() for p in published.encoder.parameters()) == 32 * block + patches + 2 * 1280 + 1568 * 1280


def test_a_block_is_a_pre_norm_transformer_layer() -> None:
    block = Block(12, 2)
    layer = nn.TransformerEncoderLayer(12, 2, 48, 0.0, "gelu", layer_norm_eps=1e-6, norm_first=True, batch_first=True)
    own = block.state_dict()
    names = {"attn.qkv.": "self_attn.in_proj_", "attn.proj.": "self_attn.out_proj.", "mlp.fc1.": "linear1."}
    names |= {"mlp.fc2.": "linear2.", "norm1.": "norm1.", "norm2.": "norm2."}
    layer.load_state_dict(
        {theirs + kind: own[mine + kind] for mine, theirs in names.items() for kind in ("weight", "bias")}
    )
    patches = torch.randn(3, 7, 12)
    torch.testing.assert_close(block(patches), layer(patches))


def test_the_pooler_is_one_token_attending_to_all() -> None:
    pooler = Pooler(12, 2)
    block = pooler.cross_attention_block
    attention = nn.MultiheadAttention(12, 2, batch_first=True)
    x = block.xattn
    attention.in_proj_weight.data = torch.cat([x.q.weight, x.kv.weight]).detach()
    attention.in_proj_bias.data = torch.cat([x.q.bias, x.kv.bias]).detach()
    attention.out_proj.load_state_dict(x.proj.state_dict())
    patches, token = torch.randn(3, 7, 12), pooler.query_tokens.expand(3, -1, -1)
    normed = block.norm1(patches)
    expected = token + attention(token, normed, normed)[0]
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(pooler(patches), expected[:, 0])


def test_positions_are_sines_of_time_row_and_column() -> None:
    positions = sincos_positions(12, (2, 3, 3)).view(2, 3, 3, 12)
    assert torch.equal(positions[0, 0, 0], torch.tensor([0.0, 0, 1, 1] * 3))
    slow = 1e-2  # of two frequencies an axis: 1 and 1 / 100
    for place, (t, i, j) in {(1, 2, 0): (1, 2, 0), (0, 1, 2): (0, 1, 2)}.items():
        expected = [f(a * w) for a in (t, i, j) for f in (np.sin, np.cos) for w in (1, slow)]
        np.testing.assert_allclose(positions[place].numpy(), expected, rtol=1e-5, atol=1e-7)
    assert sincos_positions(1280, (1, 2, 2)).shape == (4, 1280)  # 3 x 428 numbers, cut off


def test_published_files_load_by_their_exact_names(tmp_path: Path) -> None:
    model = VJEPA(TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    loaded = load_vjepa(published_files(tmp_path, model), TINY)
    videos = torch.rand(2, 6, 3, 10, 14)
    features = loaded.features(videos)
    assert features.shape == (2, 12)
    assert torch.equal(features, model.features(videos)) and torch.equal(features, loaded.features(videos))
    assert not torch.equal(features[0], features[1])


def test_what_features_read_of_a_video() -> None:
    seen: list[Tensor] = []
    model = VJEPA(TINY)
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.features(torch.arange(7.0).view(1, 7, 1, 1, 1).expand(1, 7, 3, 8, 8) / 10)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert seen[0].shape == (1, 3, 4, 8, 8)
    raw = seen[0][0, :, :, 0, 0] * std[:, None] + mean[:, None]
    torch.testing.assert_close(raw, torch.tensor([0.0, 0.2, 0.4, 0.6]).expand(3, -1), atol=1e-6, rtol=0)
    with pytest.raises(KinecastError, match=r"found \(7, 3, 8, 8\)"):
        model.features(torch.zeros(7, 3, 8, 8))


def test_files_that_are_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KinecastError, match="vith16.pth.tar"):
        load_vjepa(tmp_path, TINY)
    published_files(tmp_path, VJEPA(TINY))
    with pytest.raises(KinecastError, match=r"Missing key\(s\).*blocks\.2\."):
        load_vjepa(tmp_path, replace(TINY, depth=3))
    published_files(tmp_path, VJEPA(TINY), target_encoder=None)
    with pytest.raises(
        KinecastError, match="expected a checkpoint with the state dict 'target_encoder', found encoder"
    ):
        load_vjepa(tmp_path, TINY)
    published_files(tmp_path, VJEPA(TINY), run=Path("x"))
    with pytest.raises(KinecastError, match="refused: expected tensors only"):
        load_vjepa(tmp_path, TINY)
    broken = VJEPA(TINY)
    broken.encoder.norm.bias.data[0] = torch.nan
    with pytest.raises(KinecastError, match="found NaN or infinity in norm.bias"):
        load_vjepa(published_files(tmp_path, broken), TINY)


def test_without_weights_there_is_no_network() -> None:
    assert open_vjepa(None) is None
