"""Our weights file: safetensors that say what they are.

The header carries, as JSON under the key ``quovadis``: the model's name and options, the labels in the order of the
logits, and where the numbers came from. So a file alone is enough to recognize actions with it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from quovadis.errors import WeightsError
from quovadis.runtime.atomic import write_atomically as write_atomically
from quovadis.weights.info import WeightsInfo

_HEADER = "quovadis"
_FORMAT = 1
_MAX_CLASSES = 2**20
_VARIANCES = ("running_var", "moving_variance")
"""How the names of variances end, here and in the files of other projects."""


def save_weights(path: str | PathLike[str], state: dict[str, Tensor], info: WeightsInfo) -> Path:
    """Write a weights file; it appears whole or not at all. Equal weights and info give equal bytes.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to. What was there before stays.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    # One key only: safetensors writes several in random order.
    header = {_HEADER: json.dumps({"format": _FORMAT, **asdict(info)}, sort_keys=True)}
    return write_atomically(path, save(tensors, header))


def load_weights(path: str | PathLike[str]) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Read a weights file: its tensors, and what it says about itself.

    Raises:
        WeightsError: no such file, not a safetensors file, or one that does not say what it is.
    """
    state, info = read_safetensors(path)
    if info is None:
        raise WeightsError(
            f"{path} does not say which model it holds; files that quovadis wrote carry it in their header"
        )
    return state, info


def read_safetensors(path: str | PathLike[str]) -> tuple[dict[str, Tensor], WeightsInfo | None]:
    """Read the tensors of any safetensors file, and the description in it where quovadis wrote the file.

    Raises:
        WeightsError: no such file, not a safetensors file, or a description that cannot be read.
    """
    from safetensors import safe_open

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # besides its own error, the library passes on those of torch and of Python
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path} is not a safetensors file that can be read: {reason[:300]}") from error
    if header is None:
        return state, None
    try:
        return state, _parse_header(header)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} has a header that quovadis cannot read: {error}") from error


def _parse_header(text: str) -> WeightsInfo:
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object; got {_short(fields)}")
    if fields.get("format") != _FORMAT:
        raise ValueError(f"format {_short(fields.get('format'))}; this version of quovadis reads format {_FORMAT}")
    for name, kind in (("model", str), ("options", dict), ("labels", list), ("source", dict)):
        if not isinstance(fields.get(name), kind):
            raise ValueError(f"{name} must be a {kind.__name__}; got {_short(fields.get(name))}")
    options, labels = fields["options"], fields["labels"]
    if not isinstance(options.get("stream", ""), str):
        raise ValueError(f"stream must be a string; got {_short(options['stream'])}")
    num_classes = options.get("num_classes", 1)
    if type(num_classes) is not int or not 1 <= num_classes <= _MAX_CLASSES:
        raise ValueError(f"num_classes must be an integer from 1 to {_MAX_CLASSES}; got {_short(num_classes)}")
    for label in labels:
        if not isinstance(label, str):
            raise ValueError(f"labels must be strings; got {_short(label)}")
    return WeightsInfo(fields["model"], options, tuple(labels), fields["source"])


def _short(value: object) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # deeply nested, or an integer of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}..."


def check_values(state: Mapping[str, Tensor], source: str) -> None:
    """Raise if a tensor holds NaN or infinity, or if a variance is negative.

    Args:
        state: Tensors under the names of the file they come from.
        source: The file, for the message.

    Raises:
        WeightsError: Names the file and the first such tensors.
    """
    problems = [f"{name} {problem}" for name, tensor in state.items() if (problem := _problem_of_values(name, tensor))]
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise WeightsError(
            f"{source} holds values that no trained network has: {shown}. The file is damaged, or its training "
            "diverged; use another file or an earlier checkpoint"
        )


def _problem_of_values(name: str, tensor: Tensor) -> str:
    if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
        return ""
    try:
        values = tensor.detach() if tensor.element_size() > 1 else tensor.detach().float()
    except RuntimeError:  # the newest small types cannot be converted yet
        return f"has the type {tensor.dtype}, which cannot be converted to float32"
    smallest, largest = torch.aminmax(values)  # NaN propagates
    if not (torch.isfinite(smallest) and torch.isfinite(largest)):
        count = int(values.numel() - torch.isfinite(values).sum())
        return f"has {count} of {values.numel()} values that are NaN or infinite"
    if name.endswith(_VARIANCES) and smallest < 0:
        return f"is a variance and has a negative value, {float(smallest):g}"
    return ""


def fit_state(model: torch.nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Put a state dict into a model, strictly: every tensor must have a place and every place a tensor.

    A model that was built without memory (on the device ``meta``) takes the tensors themselves; any other copies them.

    Raises:
        WeightsError: names the tensors that are missing, unknown, of another shape or kind of number, or not finite.
    """
    own = model.state_dict()
    problems = [f"missing: {name}" for name in own if name not in state]
    problems += [f"unknown: {name}" for name in state if name not in own]
    problems += [
        f"{name}: file has {tuple(state[name].shape)}, model has {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems += [
        f"{name}: file has {state[name].dtype}, model has {own[name].dtype}"
        for name in own
        if name in state and state[name].is_floating_point() != own[name].is_floating_point()
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise WeightsError(f"{source} does not fit {type(model).__name__}: {shown}")
    without_memory = any(tensor.is_meta for tensor in own.values())
    fitted = {name: state[name].to(own[name].dtype) for name in own}
    check_values(fitted, source)  # once more: folding a scale or narrowing float64 can overflow
    model.load_state_dict(fitted, assign=without_memory)
