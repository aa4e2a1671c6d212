"""What a processor's kernels get wrong in training: seen under two instruction sets, in processes that may die."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kinecast.cli import main
from kinecast.models.blocks.volumes import Conv3d
from kinecast.training import trial as trial_module
from kinecast.training.methods import trainable
from kinecast.training.trial import GOOD, PRECISIONS, trial, trials

# The first is what a processor without AMX is held to; there oneDNN's bfloat16 kernels are at fault.
INSTRUCTION_SETS = ("AVX512_CORE_VNNI", "AVX2")

# Kernels that reach beyond the volume in depth or height, and some that do not.
VOLUMES = """
import sys, torch
from kinecast.models.blocks.volumes import Conv3d

torch.set_num_threads(1)
for kernel, size in (
    (7, (4, 8, 8)), (7, (2, 8, 8)), (7, (6, 8, 8)), (5, (4, 8, 8)), (3, (2, 2, 2)), (7, (8, 2, 8)), (5, (8, 1, 8)),
    (7, (8, 8, 8)), (3, (4, 4, 4)), (1, (4, 2, 2)),
):
    torch.manual_seed(0)
    layer = Conv3d(16, 4, kernel, padding=kernel // 2)
    x = torch.randn(2, 16, *size)
    gradients = []
    for enabled in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = layer(x)
        out.float().backward(torch.ones(out.shape))
        gradients.append(torch.cat([p.grad.flatten() for p in layer.parameters()]))
    error = (gradients[1] - gradients[0]).abs().max() / gradients[0].abs().max()
    print(kernel, size, float(error))
    assert error < 0.03, (kernel, size, float(error))
"""


def limited(instructions: str) -> dict[str, str]:
    return {
        **os.environ,
        "ONEDNN_MAX_CPU_ISA": instructions,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_gradients_of_volumes_in_bfloat16(instructions):
    done = subprocess.run(
        [sys.executable, "-c", VOLUMES], capture_output=True, text=True, timeout=120, env=limited(instructions)
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_face_vid2vid_takes_a_step_in_bfloat16(instructions, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", instructions)
    assert trial("face-vid2vid", "bf16-mixed") == GOOD


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", trainable())
def test_every_backbone_takes_a_step_here(name, precision):
    assert trial_module.step(name, precision) == []


def test_only_kernels_beyond_the_volume_leave_bfloat16():
    layer = Conv3d(2, 3, 7, padding=3)
    seen = []
    layer._conv_forward = lambda x, weight, bias: seen.append(x.dtype) or torch.zeros(1)  # type: ignore[method-assign, assignment, func-returns-value]
    for side in (6, 7):
        layer(torch.zeros(1, 2, side, 8, 8, dtype=torch.bfloat16))
    with torch.no_grad():
        layer(torch.zeros(1, 2, 6, 8, 8, dtype=torch.bfloat16))
    assert seen == [torch.float32, torch.bfloat16, torch.bfloat16]


# --- what is told -----------------------------------------------------------------------------------------------------


def test_doctor_tells_of_every_backbone_in_every_precision(capsys, monkeypatch):
    monkeypatch.setattr(trial_module, "trial", lambda name, precision, device: f"{GOOD}: {name} {precision}")
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in trainable():
        for precision in PRECISIONS:
            assert found[f"training {name} {precision} on cpu"] == f"{GOOD}: {name} {precision}"


def python(folder: Path, body: str) -> str:
    """A stand-in for the interpreter, which does something else with what it is given."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for the interpreter")
@pytest.mark.parametrize(
    ("body", "precision", "wanted"),
    [
        ("kill -ABRT $$", "bf16-mixed", "a step ends the process (SIGABRT): train with --precision 32-true"),
        ("kill -SEGV $$", "32-true", "a step ends the process (SIGSEGV)"),
        ("echo wrong gradient of first.conv; exit 1", "32-true", "wrong gradient of first.conv"),
        ("echo Traceback >&2; echo RuntimeError: no kernel >&2; exit 1", "32-true", "RuntimeError: no kernel"),
        ("sleep 60", "32-true", "no step within 0.2 s"),
    ],
)
def test_what_is_broken_is_told(tmp_path, monkeypatch, body, precision, wanted):
    monkeypatch.setattr(sys, "executable", python(tmp_path, f"exec 2>&1; {body}" if "sleep" in body else body))
    if "sleep" in body:
        monkeypatch.setattr(trial_module, "_SECONDS", 0.2)
    assert trial("fomm", precision) == f"broken: {wanted}"


def test_a_wrong_gradient_is_found(monkeypatch):
    """A convolution whose gradient is another than its input's, as a faulty kernel's would be."""
    plain = torch.nn.Conv2d.forward

    def faulty(self, x):
        out = plain(self, x)
        return out if self.kernel_size != (7, 7) else out + 0.5 * (self.weight.sum() - self.weight.sum().detach())

    assert trial_module.step("tps", "32-true") == []
    monkeypatch.setattr(torch.nn.Conv2d, "forward", faulty)
    [found] = trial_module.step("tps", "32-true")
    assert found.startswith("wrong gradient of ")
    assert "inpainting_network.final" in found


def test_trials_leave_nothing_of_theirs(monkeypatch):
    monkeypatch.setattr(trial_module, "trial", lambda *task: GOOD)
    assert set(trials().values()) == {GOOD}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    trial_module.step("fomm", "bf16-mixed")
    assert torch.equal(torch.get_rng_state(), before)
