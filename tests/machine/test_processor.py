"""What the processor has, as torch finds it."""

import pytest
import torch

from kinecast.machine.processor import instruction_sets


def test_instruction_sets_are_those_that_torch_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx2_supported", "_is_avx512_supported", "_is_vnni_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: True)
    for amx, found in ((True, ["avx2", "avx512", "vnni", "bf16", "amx"]), (False, ["avx2", "avx512", "vnni", "bf16"])):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        instruction_sets.cache_clear()
        assert instruction_sets() == found
    instruction_sets.cache_clear()
