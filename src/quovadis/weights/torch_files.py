"""Read state dicts from PyTorch files (``.pt``, ``.pth``, ``.ckpt``) without executing code from them."""

import argparse
import collections
import pathlib
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quovadis.errors import WeightsError
from quovadis.weights.identify import TORCH_LEGACY, TORCH_ZIP, identify

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights")
"""Keys of the state dict in training checkpoints, in order of preference."""

_LIGHTNING_DICTS = (
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_MAX_WRAPPERS = 4


def read_torch_file(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a PyTorch file.

    A state dict in a training checkpoint (under ``state_dict``, ``model`` ...) is unwrapped. Pickles that contain
    anything but tensors and plain values are refused without executing them.

    Raises:
        WeightsError: If the file cannot be read, requires code, or contains no state dict.
    """
    try:
        kind = identify(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    if kind not in (TORCH_ZIP, TORCH_LEGACY):
        raise WeightsError(f"{path} cannot be opened as weights: it is {kind}")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_plain_values()):
            warnings.simplefilter("ignore")  # torch warns about old pickles
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for damaged files
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(f"{path} cannot be opened as weights: {_refusal(str(error)) or reason[0][:300]}") from error
    return _unwrap(content, path)


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(content, dict) or _is_state_dict(content):
            break
        inside = [value for value in content.values() if isinstance(value, dict) and _is_state_dict(value)]
        known = [content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)]
        if not known and len(inside) != 1:
            break
        content = (known or inside)[0]
    if isinstance(content, dict) and _is_state_dict(content):
        return {str(name): tensor for name, tensor in content.items()}
    if isinstance(content, dict):
        found = ", ".join(f"{str(key)[:40]} ({type(value).__name__})" for key, value in list(content.items())[:5])
        raise WeightsError(
            f"{path} contains a dict that is not a state dict (names to tensors): {found or 'it is empty'}; expected "
            f"tensors, or a state dict under one of the keys {', '.join(_WRAPPERS)}"
        )
    raise WeightsError(f"{path} contains a {type(content).__name__}; expected a state dict (names to tensors)")


def _is_state_dict(content: dict[Any, Any]) -> bool:
    return bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _plain_values() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """List harmless classes that training checkpoints contain: numbers, paths and options."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    allowed: list[Any] = [
        argparse.Namespace,
        collections.defaultdict,
        pathlib.PosixPath,
        pathlib.PurePosixPath,
        np.dtype,
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u4", "u8", "?")),
        *((dict, name) for name in _LIGHTNING_DICTS),
    ]
    return allowed


def _refusal(message: str) -> str:
    """Explain why torch refused a pickle that requires code; return ``""`` for other errors."""
    needed = re.search(r"GLOBAL ([\w.]+)", message)
    if not needed and "Unsupported" not in message:
        return ""
    return (
        f"it is a pickle that requires {needed[1] if needed else 'code'} (a whole model, or other objects besides the "
        "weights), and reading it would run code, which is not allowed; save tensors only: "
        "torch.save(model.state_dict(), path)"
    )
