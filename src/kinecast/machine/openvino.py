"""Networks converted to OpenVINO's format, cached, and compiled for this processor."""

import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError, one_line
from kinecast.machine.processor import processor
from kinecast.packages import optional

_Sizes = tuple[tuple[int, ...], ...]  # channels, height, width of each input


def openvino() -> Any:
    """Import OpenVINO.

    Raises:
        KinecastError: it is not installed.
    """
    return optional("engine openvino", "openvino")


class CompiledPart(nn.Module):
    """One part, compiled for each input size at first use. The frames of a batch run one by one.

    Args:
        path: the part as OpenVINO IR.
        hint: "f32" or "bf16".
        single: whether it returns one tensor, not a tuple.
    """

    def __init__(self, path: Path, hint: str, single: bool = False) -> None:
        super().__init__()
        self.path, self.hint, self.single = path, hint, single
        self._networks: dict[_Sizes, Any] = {}
        self._own = threading.local()  # requests hold buffers: one per thread

    def forward(self, *inputs: Tensor) -> Any:
        """Run inputs (B, C, h, w); returns a tensor, or a tuple of tensors."""
        request = self._request(tuple(tuple(x.shape[1:]) for x in inputs))
        frames = []
        for frame in zip(*(x.split(1) for x in inputs), strict=True):
            arrays = [np.ascontiguousarray(x.numpy()) for x in frame]
            result = request.infer(arrays, share_inputs=True, share_outputs=True)
            frames.append(
                [torch.from_numpy(values).clone() for values in result.values()]
            )  # the next run overwrites it
        outputs = tuple(torch.cat(tensors) for tensors in zip(*frames, strict=True))
        return outputs[0] if self.single else outputs

    def _request(self, sizes: _Sizes) -> Any:
        requests = self._own.__dict__.setdefault("requests", {})
        if sizes not in requests:
            if sizes not in self._networks:
                self._networks[sizes] = self._compile(sizes)
            requests[sizes] = self._networks[sizes].create_infer_request()
        return requests[sizes]

    def _compile(self, sizes: _Sizes) -> Any:
        core = openvino().Core()
        model = core.read_model(self.path)
        model.reshape({i: (1, *size) for i, size in enumerate(sizes)})
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self.hint,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Otherwise the threads of all processes with a request are pinned to the first core and share it.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            return core.compile_model(model, "CPU", settings)
        except RuntimeError as error:  # no kernel for some layer on this processor
            raise KinecastError(
                f"engine openvino: expected to compile {self.path.stem} for {processor()}, found "
                f"{one_line(error)}: use engine fast or auto"
            ) from error


def stored(folder: Path, names: Sequence[str], make: Callable[[], dict[str, tuple[nn.Module, list[Tensor]]]]) -> Path:
    """Return a folder with networks as OpenVINO IR, converting them if necessary.

    Args:
        folder: where they are cached.
        names: names of the networks and their files.
        make: returns a network by name, with example inputs.
    """
    if all((folder / f"{name}.xml").exists() for name in names):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for name, (network, examples) in make().items():
            _convert(network, examples, Path(temporary) / f"{name}.xml")
        for name in names:  # weights first, description last: a part half-moved does not look complete
            for suffix in (".bin", ".xml"):
                (Path(temporary) / name).with_suffix(suffix).replace((folder / name).with_suffix(suffix))
    return folder


def _convert(network: nn.Module, examples: list[Tensor], path: Path) -> None:
    package = openvino()
    # batch and image size stay dynamic; of other inputs only the batch
    shapes = [(-1, x.shape[1], *((-1,) * 2 if x.ndim == 4 else x.shape[2:])) for x in examples]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing warns of branches on shapes, which go the same way for every size
        converted_network = package.convert_model(network, example_input=tuple(examples), input=shapes)
    package.save_model(converted_network, path, compress_to_fp16=False)
