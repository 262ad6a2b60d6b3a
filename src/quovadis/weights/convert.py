"""Weights from one file format into another, no bit changed."""

import io
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quovadis.errors import UnknownNameError
from quovadis.runtime.download import git_blob_id
from quovadis.weights.files import save_weights, write_atomically
from quovadis.weights.formats import files_of, open_weights
from quovadis.weights.from_pytorch_i3d import HASSONY2, PYTORCH_I3D, to_port
from quovadis.weights.hub import hub_source
from quovadis.weights.info import WeightsInfo
from quovadis.weights.load import locate
from quovadis.weights.verify import verify_state

_PORTS = {spelling.name: spelling for spelling in (PYTORCH_I3D, HASSONY2)}

FORMATS: tuple[str, ...] = ("quovadis", *_PORTS)
"""What :func:`convert` writes: our safetensors, or the ``.pt`` of a port."""


def convert(source: str | PathLike[str], target: str | PathLike[str], *, to: str = "quovadis") -> WeightsInfo:
    """Read any weights file that quovadis knows and write it in another format; every value stays bit by bit.

    Args:
        source: as for :func:`quovadis.load_model`.
        target: file to write; it appears whole or not at all.
        to: ``"quovadis"`` (safetensors with model, stream, labels and source inside), ``"pytorch-i3d"`` or
            ``"hassony2"`` (a ``.pt`` state dict under that project's names; for ``i3d`` only).

    Returns:
        What the file says about itself. Its source names the git blob id of every file that was read, and the
        catalog's name when all tensors are the official ones.

    Raises:
        UnknownNameError: no such format. WeightsError: the source cannot be read, or has no place in that format.
        StorageError: the target cannot be written.
    """
    if to not in FORMATS:
        raise UnknownNameError.among("weights format", to, FORMATS)
    path, _ = locate(source)
    state, info = open_weights(path)
    info = WeightsInfo(info.model, info.options, info.labels, _with_proof(info.source, path, state) | hub_source(path))
    if to == "quovadis":
        save_weights(target, state, info)
    else:
        _save_port(Path(target), to_port(state, _PORTS[to]))
    return info


def _with_proof(source: dict[str, Any], path: Path, state: dict[str, Tensor]) -> dict[str, Any]:
    if "git_blob_ids" in source:  # it was converted before: what counts is the file that it came from
        return source
    proof: dict[str, Any] = {"git_blob_ids": {file.name: git_blob_id(file) for file in files_of(path)}}
    verdict = verify_state(state)
    if verdict.official:
        proof["published"] = verdict.nearest
    return source | proof


def _save_port(target: Path, state: dict[str, Tensor]) -> None:
    buffer = io.BytesIO()
    torch.save({name: tensor.contiguous() for name, tensor in state.items()}, buffer)
    write_atomically(target, buffer.getvalue())
