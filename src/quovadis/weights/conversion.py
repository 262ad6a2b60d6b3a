"""Convert weights files between formats without changing any value."""

import io
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quovadis.errors import UnknownNameError
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.hashing import git_blob_id
from quovadis.weights.files import save_weights
from quovadis.weights.formats import checkpoint_files, read_video_weights
from quovadis.weights.from_pytorch_i3d import HASSONY2, PYTORCH_I3D, to_port
from quovadis.weights.hub import hub_source
from quovadis.weights.info import WeightsInfo
from quovadis.weights.load import resolve_weights
from quovadis.weights.verify import verify_state

_PORTS = {key_map.name: key_map for key_map in (PYTORCH_I3D, HASSONY2)}

FORMATS: tuple[str, ...] = ("quovadis", *_PORTS)
"""Formats that :func:`convert` writes: safetensors of quovadis, and the PyTorch files of the ports."""


def convert(source: str | PathLike[str], target: str | PathLike[str], *, to: str = "quovadis") -> WeightsInfo:
    """Convert weights to another file format without changing any value.

    Args:
        source: Weights in any form that :func:`quovadis.load_model` accepts.
        target: File to write. It is written atomically.
        to: ``"quovadis"`` (safetensors with model, stream, class names and origin), or ``"pytorch-i3d"`` or
            ``"hassony2"`` (PyTorch state dicts with the names of these projects; for ``i3d`` only).

    Returns:
        The metadata of the weights. ``source`` contains the git blob ID of every file that was read, and the name in
        the catalog if all tensors are equal to those of an official checkpoint.

    Raises:
        UnknownNameError: If the format is unknown.
        WeightsError: If the source cannot be read, or is not an ``i3d`` but the format of a port is requested.
        StorageError: If the target cannot be written.

    Example:
        >>> import quovadis
        >>> folder = getfixture("tmp_path")
        >>> torch.save(quovadis.create_model("i3d_tiny", num_classes=5).state_dict(), folder / "tiny.pt")
        >>> convert(folder / "tiny.pt", folder / "tiny.safetensors").options
        {'stream': 'rgb', 'num_classes': 5}
        >>> info = convert(folder / "tiny.safetensors", folder / "port.pt", to="pytorch-i3d")
        >>> next(iter(torch.load(folder / "port.pt")))
        'Conv3d_1a_7x7.conv3d.weight'
    """
    if to not in FORMATS:
        raise UnknownNameError.among("weights format", to, FORMATS)
    path, _ = resolve_weights(source)
    state, info = read_video_weights(path)
    info = replace(info, source=_add_checksums(info.source, path, state) | hub_source(path))
    if to == "quovadis":
        save_weights(target, state, info)
    else:
        buffer = io.BytesIO()
        torch.save({name: tensor.contiguous() for name, tensor in to_port(state, _PORTS[to]).items()}, buffer)
        write_atomically(target, buffer.getvalue())
    return info


def _add_checksums(source: dict[str, Any], path: Path, state: dict[str, Tensor]) -> dict[str, Any]:
    if "git_blob_ids" in source:  # of the original file, if this one is the result of a conversion
        return source
    source = source | {"git_blob_ids": {file.name: git_blob_id(file) for file in checkpoint_files(path)}}
    report = verify_state(state)
    return source | {"published": report.nearest} if report.official else source
