"""Convert Google's face landmarker bundle into the weights that kinecast.faces reads; print what they are.

    pip install tflite  # in the extra dev
    python recipes/face_landmarker.py ../shared/data/models/face_landmarker.task

The networks are stored in half precision in the bundle and stay so: nothing is rounded. Constants are taken in the
order in which the operators of a graph use them, which is the order in which the modules define their parameters.
"""

import argparse
import hashlib
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tflite
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kinecast.faces.networks import BlendshapeNetwork, Detector, LandmarkNetwork

BUNDLE_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
WEIGHTS = Path("src/kinecast/faces/data/face-landmarker.safetensors")
NETWORKS: dict[str, tuple[str, type[nn.Module]]] = {
    "detector": ("face_detector.tflite", Detector),
    "landmarks": ("face_landmarks_detector.tflite", LandmarkNetwork),
    "blendshapes": ("face_blendshapes.tflite", BlendshapeNetwork),
}
WITH_WEIGHTS = {
    getattr(tflite.BuiltinOperator, name): name for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "PRELU", "CONCATENATION")
}
GAIN = tflite.BuiltinOperator.MUL  # of a normalisation, if the constant is a vector


def constants(data: bytes) -> Iterator[np.ndarray]:
    """Yield the weights of a graph in order of use, in torch's layout, float16."""
    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)

    def code(operator: tflite.Operator) -> int:
        entry = model.OperatorCodes(operator.OpcodeIndex())
        return max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())

    def value(index: int) -> np.ndarray | None:
        tensor = graph.Tensors(index)
        buffer = model.Buffers(tensor.Buffer())
        if tensor.Type() != tflite.TensorType.FLOAT16 or not buffer.DataLength():
            return None
        shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
        return buffer.DataAsNumpy().view(np.float16).reshape(shape)

    widened: dict[int, np.ndarray] = {}  # what DEQUANTIZE makes of a stored constant
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        if code(operator) == tflite.BuiltinOperator.DEQUANTIZE:
            stored = value(operator.Inputs(0))
            if stored is None:
                raise SystemExit(f"operator {i}: expected a constant in half precision")
            widened[operator.Outputs(0)] = stored
            continue
        name = WITH_WEIGHTS.get(code(operator))
        for index in operator.InputsAsNumpy():
            constant = widened.get(index)
            if constant is not None and (name or (code(operator) == GAIN and constant.size > 1)):
                yield _in_torch_layout(constant, name or "MUL")


def _in_torch_layout(constant: np.ndarray, operator: str) -> np.ndarray:
    if constant.ndim == 4 and operator == "CONV_2D":
        return constant.transpose(0, 3, 1, 2)
    if constant.ndim == 4 and operator == "DEPTHWISE_CONV_2D":
        return constant.transpose(3, 0, 1, 2)
    return constant


def weights(network: nn.Module, data: bytes) -> dict[str, Tensor]:
    """Return a network's state dict with a graph's constants."""
    wanted, found = network.state_dict(), list(constants(data))
    if len(wanted) != len(found):
        raise SystemExit(f"{type(network).__name__}: expected {len(wanted)} tensors, found {len(found)}")
    state = {}
    for (name, tensor), constant in zip(wanted.items(), found, strict=True):
        if sorted(s for s in constant.shape if s > 1) != sorted(s for s in tensor.shape if s > 1):
            raise SystemExit(f"{name}: expected shape {tuple(tensor.shape)}, found {constant.shape}")
        state[name] = torch.from_numpy(constant.copy()).reshape(tensor.shape)
    return state


def canonical_face(data: bytes) -> dict[str, Tensor]:
    """Return the mean face: points in centimetres, places in its texture, triangles, and weights for the pose."""
    numbers: list[float] = []
    corners: list[int] = []
    basis: dict[int, float] = {}
    for field, message in _fields(data):
        inner = list(_fields(message)) if isinstance(message, bytes) else []
        if field == 1:  # the mesh
            numbers += [struct.unpack("<f", value)[0] for key, value in inner if key == 3]
            corners += [value for key, value in inner if key == 4]
        elif field == 2:  # one point of those that the pose is fitted to
            entry = dict(inner)
            basis[entry[1]] = struct.unpack("<f", entry[2])[0]
    vertices = torch.tensor(numbers).view(-1, 5)
    pose_weights = torch.zeros(len(vertices))
    pose_weights[list(basis)] = torch.tensor(list(basis.values()))
    return {
        "vertices": vertices[:, :3].contiguous(),
        "texture": vertices[:, 3:].contiguous(),
        "triangles": torch.tensor(corners, dtype=torch.int16).view(-1, 3),
        "pose_weights": pose_weights,
    }


def _fields(data: bytes) -> Iterator[tuple[int, object]]:
    """Read a protocol buffer without its schema: number and value (bytes or int) of each field."""
    position = 0

    def varint() -> int:
        nonlocal position
        value, shift = 0, 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        length = varint() if key & 7 == 2 else 4
        yield key >> 3, data[position : position + length]
        position += length


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="face_landmarker.task")
    parser.add_argument("-o", "--output", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    digest = hashlib.sha256(options.bundle.read_bytes()).hexdigest()
    if digest != BUNDLE_SHA256:
        sys.exit(f"{options.bundle}: expected sha256 {BUNDLE_SHA256[:16]}..., found {digest[:16]}...: another version")
    tensors: dict[str, Tensor] = {}
    with zipfile.ZipFile(options.bundle) as bundle:
        for part, (file, network) in NETWORKS.items():
            tensors |= {f"{part}.{name}": value for name, value in weights(network(), bundle.read(file)).items()}
        face = canonical_face(bundle.read("geometry_pipeline_metadata_landmarks.binarypb"))
        tensors |= {f"face.{name}": value for name, value in face.items()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, options.output)
    found = hashlib.sha256(options.output.read_bytes()).hexdigest()
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB, sha256 {found}")


if __name__ == "__main__":
    main()
