"""Inferring a network's sizes from plain values, or from the names and shapes in its state dict."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.models.blocks.layers import AntiAliasDownsample

_Config = TypeVar("_Config")


def read_config(
    kind: type[_Config], label: str, values: Mapping[str, Any], parts: Mapping[str, Callable[..., Any]]
) -> _Config:
    """Build a network's config from nested plain values (JSON or TOML); `parts` build those of its parts.

    Raises:
        KinecastError: an unknown key.
    """
    values = dict(values)
    try:
        for name, build in parts.items():
            if name in values:
                values[name] = build(**values[name])
        if "frame_size" in values:
            height, width = values["frame_size"]
            values["frame_size"] = (int(height), int(width))
        return kind(**values)
    except KinecastError:
        raise
    except (TypeError, ValueError) as error:
        raise KinecastError(f"{label} config: {error}: see {kind.__name__} for the keys") from error


def settings_beyond_tensors(config: Any, inferred: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's (a dataclass's) non-default values that tensors do not determine, by dotted name.

    `inferred` is the nested values inferred from the tensors. The frame size is excluded: it is the weights' preferred
    size, affects no result, and is in a stream's header.
    """

    def differing(values: Mapping[str, Any], inferred: Any, usual: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(inferred, Mapping) and isinstance(inferred.get(name), Mapping) and isinstance(value, Mapping):
                yield from differing(value, inferred[name], usual[name], f"{prefix}{name}.")
            elif name not in inferred and value != usual[name]:
                kind = type(usual[name])  # a file may have 1 for a float
                yield prefix + name, kind(value) if kind in (bool, int, float) else value

    found = dict(differing(asdict(config), inferred, asdict(type(config)()), ""))
    return {name: value for name, value in found.items() if name != "frame_size"}


def completed(inferred: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `inferred`, nested plain values of a config, completed from `sizes`, part by part.

    A file saved before a setting existed lacks it; its tensors determine it.
    """
    out = {**sizes, **inferred}
    for name, value in out.items():
        if isinstance(value, Mapping) and isinstance(sizes.get(name), Mapping):
            out[name] = {**sizes[name], **value}
    return out


@contextmanager
def sizes_of(name: str) -> Iterator[None]:
    """Turn errors of missing or misshapen tensors into one message: not a state dict of a `name`."""
    try:
        yield
    except (KeyError, ValueError, TypeError, IndexError, StopIteration) as error:
        raise KinecastError(
            f"expected the tensors of a {name}, found none for {error}: is this another model?"
        ) from error


def count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of distinct names after a prefix."""
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def hourglass_sizes(state: Mapping[str, Tensor], prefix: str, down: str | None = None) -> dict[str, Any]:
    """Read the sizes of an hourglass, and of the down-sampling before it by the name of its kernel."""
    blocks = count_blocks(state, f"{prefix}.encoder.down_blocks.")
    widths = [len(state[f"{prefix}.encoder.down_blocks.{i}.conv.bias"]) for i in range(blocks)]
    sizes: dict[str, Any] = {
        "block_expansion": len(state[f"{prefix}.decoder.up_blocks.{blocks - 1}.conv.bias"]),
        "num_blocks": blocks,
        "max_features": max(widths),
    }
    if down is not None:
        sizes["scale_factor"] = AntiAliasDownsample.scale_of(state.get(down))
    return sizes
