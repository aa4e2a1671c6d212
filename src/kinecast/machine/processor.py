"""The name of the processor."""

import platform
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@cache
def instruction_sets() -> list[str]:
    """Return which instruction sets that make networks fast this processor has, the oldest first.

    Without AMX bfloat16 takes half of float32's time, with it a tenth.
    """
    import torch

    asked = {
        "avx2": torch.cpu._is_avx2_supported,
        "avx512": torch.cpu._is_avx512_supported,
        "vnni": torch.cpu._is_vnni_supported,
        "bf16": torch.cpu._is_avx512_bf16_supported,
        "amx": torch.cpu._is_amx_tile_supported,
    }
    return [name for name, there in asked.items() if there()]
