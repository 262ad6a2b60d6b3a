"""Weights files of quovadis: safetensors with metadata.

The safetensors header contains a JSON object under the key ``quovadis``: name and options of the model, class names in
the order of the logits, and the origin of the weights. A file is therefore sufficient to load a model.
"""

import json
from dataclasses import asdict
from os import PathLike
from pathlib import Path

from torch import Tensor

from quovadis.errors import WeightsError
from quovadis.runtime.atomic import write_atomically
from quovadis.weights.info import WeightsInfo

_HEADER = "quovadis"
_FORMAT = 1
_MAX_CLASSES = 2**20


def save_weights(path: str | PathLike[str], state: dict[str, Tensor], info: WeightsInfo) -> Path:
    """Write a weights file atomically. The same tensors and info give the same bytes.

    Args:
        path: The file to write. An existing file is replaced.
        state: State dict of the model.
        info: Metadata of the file.

    Returns:
        ``path``.

    Raises:
        StorageError: If the file cannot be written, for example because the disk is full. An existing file is kept.

    Example:
        >>> import torch
        >>> info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, labels=("run", "jump"))
        >>> path = save_weights(getfixture("tmp_path") / "w.safetensors", {"head.bias": torch.zeros(2)}, info)
        >>> load_weights(path)[0]
        {'head.bias': tensor([0., 0.])}
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    # A single key, because safetensors writes several keys in random order.
    header = {_HEADER: json.dumps({"format": _FORMAT, **asdict(info)}, sort_keys=True)}
    return write_atomically(path, save(tensors, header))


def load_weights(path: str | PathLike[str]) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Read the tensors and the metadata of a weights file that quovadis wrote.

    Raises:
        WeightsError: If the file does not exist, is not a safetensors file, or has no metadata of quovadis.

    Example:
        >>> import torch
        >>> info = WeightsInfo("i3d_tiny", {"num_classes": 2}, ("run", "jump"))
        >>> path = save_weights(getfixture("tmp_path") / "a.safetensors", {"a": torch.zeros(2)}, info)
        >>> load_weights(path)[1].labels
        ('run', 'jump')
    """
    state, info = read_safetensors(path)
    if info is None:
        raise WeightsError(
            f"{path} does not state which model it contains; expected the metadata that quovadis writes in the header"
        )
    return state, info


def read_safetensors(path: str | PathLike[str]) -> tuple[dict[str, Tensor], WeightsInfo | None]:
    """Read the tensors of any safetensors file, and the metadata of quovadis if there are any.

    Raises:
        WeightsError: If the file does not exist, is not a safetensors file, or has invalid metadata of quovadis.
    """
    from safetensors import safe_open

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own errors and those of torch and Python
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path} is not a valid safetensors file: {reason[:300]}") from error
    if header is None:
        return state, None
    try:
        return state, _parse_header(header)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} has invalid metadata in its header: {error}") from error


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
