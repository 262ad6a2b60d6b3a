"""Our weights file: safetensors that say what they are.

The header carries, as JSON under the key ``quovadis``: the model's name and options, the labels in the order of the
logits, and where the numbers came from. So a file alone is enough to recognise actions with it.
"""

import json
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from quovadis.atomic import write_atomically as write_atomically
from quovadis.errors import WeightsError
from quovadis.types import WeightsInfo

_HEADER = "quovadis"
_FORMAT = 1


def save_weights(path: str | PathLike[str], state: dict[str, Tensor], info: WeightsInfo) -> Path:
    """Write a weights file; it appears whole or not at all.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to. What was there before stays.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    header = {_HEADER: json.dumps({"format": _FORMAT, **asdict(info)}), "format": "pt"}
    return write_atomically(path, save(tensors, header))


def load_weights(path: str | PathLike[str]) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Read a weights file: its tensors, and what it says about itself.

    Raises:
        WeightsError: no such file, not a safetensors file, or one that does not say what it is.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    if header is None:
        raise WeightsError(
            f"{path} does not say which model it holds; files that quovadis wrote carry it in their header"
        )
    try:
        fields = json.loads(header)
        if fields["format"] != _FORMAT:
            raise ValueError(f"format {fields['format']}; this version of quovadis reads format {_FORMAT}")
        info = WeightsInfo(fields["model"], fields["options"], tuple(fields["labels"]), fields["source"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} has a header that quovadis cannot read: {error!r}") from error
    return state, info


def fit_state(model: torch.nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Put a state dict into a model, strictly: every tensor must have a place and every place a tensor.

    A model that was built without memory (on the device ``meta``) takes the tensors themselves; any other copies them.

    Raises:
        WeightsError: names the tensors that are missing, unknown or of another shape.
    """
    own = model.state_dict()
    problems = [f"missing: {name}" for name in own if name not in state]
    problems += [f"unknown: {name}" for name in state if name not in own]
    problems += [
        f"{name}: file has {tuple(state[name].shape)}, model has {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise WeightsError(f"{source} does not fit {type(model).__name__}: {shown}")
    without_memory = any(tensor.is_meta for tensor in own.values())
    model.load_state_dict({name: state[name].to(own[name].dtype) for name in own}, assign=without_memory)
