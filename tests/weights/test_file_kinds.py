"""Tests of wrapped state dicts, and of error messages for files that contain no weights."""

import argparse
import bz2
import gzip
import lzma
import pickle
import sqlite3
import sys
import tarfile
import types
import wave
import zipfile
from collections import OrderedDict
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import quovadis
from quovadis.errors import WeightsError
from quovadis.models.zoo import build_model
from quovadis.video.writer import write_video
from quovadis.weights.formats import ImageModel, read_video_weights, read_weights
from quovadis.weights.from_pytorch_i3d import HASSONY2, PYTORCH_I3D, to_port
from tests.synthetic import moving_square, random_state, write_square

STATE = random_state(build_model("i3d_tiny", num_classes=3))
PORT = to_port(STATE, PYTORCH_I3D)


def prefixed(prefix: str, state: dict[str, Tensor] = PORT) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


class AttributeDict(dict[str, Any]):
    """Replaces the class in which Lightning stores hyperparameters."""


AttributeDict.__module__ = "lightning_fabric.utilities.data"

WRAPPED: dict[str, dict[str, Any]] = {
    "bare": PORT,
    "model": {"model": PORT, "optimizer": {"state": {}, "param_groups": []}, "epoch": 3},
    "state_dict": {"state_dict": OrderedDict(PORT), "best_acc1": np.float64(0.5), "args": argparse.Namespace(lr=0.1)},
    "model_state": {"model_state": PORT},
    "model_state_dict": {"model_state_dict": PORT},
    "nested": {"model": {"state_dict": prefixed("module.")}},
    "another key": {"generator": PORT, "step": 5},
    "lightning": {
        "state_dict": prefixed("model."),
        "hyper_parameters": AttributeDict(lr=0.1),
        "pytorch-lightning_version": "2.5.0",
    },
    "compiled": prefixed("_orig_mod."),
    "compiled in parallel": prefixed("module._orig_mod."),
    "compiled parts": {name.replace("Mixed_3b.", "Mixed_3b._orig_mod."): tensor for name, tensor in PORT.items()},
    "backbone": prefixed("backbone."),
    "prefixes": prefixed("model.backbone.i3d."),
    "averaged": {"n_averaged": torch.tensor(7), **prefixed("module.")},
    "hassony2": prefixed("net.", to_port(STATE, HASSONY2)),
    "ours": prefixed("model.", STATE),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_state_dicts_load(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("lightning_fabric.utilities.data")
    module.AttributeDict = AttributeDict  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:  # importable while writing only
        for name_of_module in ("lightning_fabric", "lightning_fabric.utilities", "lightning_fabric.utilities.data"):
            patch.setitem(sys.modules, name_of_module, module)
        torch.save(WRAPPED[name], tmp_path / "w.pt")
    state, info = read_video_weights(tmp_path / "w.pt")
    assert info.options == {"stream": "rgb", "num_classes": 3}
    assert state.keys() == STATE.keys()
    assert all(state[key].equal(tensor) for key, tensor in STATE.items())


@pytest.mark.parametrize("state", [PORT, prefixed("module."), STATE], ids=["port", "prefixed", "ours"])
def test_safetensors_without_metadata_load(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "w.safetensors")
    found, _ = read_video_weights(tmp_path / "w.safetensors")
    assert all(found[key].equal(tensor) for key, tensor in STATE.items())


def test_image_models_with_a_prefix_or_in_safetensors_are_identified(tmp_path: Path) -> None:
    state = {"backbone.layer1.0.conv1.weight": torch.rand(2, 2, 1, 1), "backbone.fc.bias": torch.rand(2)}
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    save_file(state, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        found, model = read_weights(tmp_path / name)
        assert isinstance(model, ImageModel)
        assert model.name == "ResNet-50"
        assert found.keys() == {"layer1.0.conv1.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({**prefixed("rgb."), **prefixed("flow.")}, "2 networks, under the prefixes 'rgb.', 'flow.'"),
        ({**prefixed("backbone."), "criterion.weight": torch.ones(2)}, r"1 other tensors, such as criterion\.weight"),
        ({"epoch": 3, "optimizer": {}}, r"epoch \(int\), optimizer \(dict\); expected tensors"),
        ({**PORT, "extra": torch.ones(1)}, "unknown 1: extra; expected 287 tensors such as Conv3d_1a_7x7"),
        ({}, "it is empty"),
    ],
    ids=["two networks", "other tensors", "no state dict", "an extra tensor", "empty"],
)
def test_unsupported_contents_are_refused_with_names(tmp_path: Path, content: dict[str, Any], words: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=words):
        read_video_weights(tmp_path / "w.pt")


def make_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/rgb.pt", b"x" * 100)


def make_tar(path: Path) -> None:
    (path.parent / "inside").write_bytes(b"x")
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "inside", "inside")


def make_video(path: Path) -> None:
    write_square(path.with_suffix(".mp4"), seed=0, num_frames=3).rename(path)


def make_other_video(path: Path, suffix: str, codec: str) -> None:
    write_video(path.with_suffix(suffix), moving_square(3), fps=25, codec=codec).rename(path)


def make_image(path: Path, kind: str) -> None:
    Image.new("RGB", (4, 4)).save(path, kind)


def make_wav(path: Path) -> None:
    with path.open("wb") as file, wave.open(file, "wb") as audio:
        audio.setparams((1, 2, 8000, 0, "NONE", ""))
        audio.writeframes(bytes(100))


def make_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table a (b)")


FILES: dict[str, tuple[Any, str]] = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 5\n", "a Git LFS pointer.*git lfs pull"),
    "html": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", r"a web page \(HTML\)"),
    "video": (make_video, r"a video \(MP4 or MOV\)"),
    "matroska": (b"\x1aE\xdf\xa3" + bytes(90), r"a video \(Matroska"),
    "avi": (b"RIFF\x10\0\0\0AVI LIST" + bytes(90), r"a video \(AVI\)"),
    "zip": (make_zip, r"a zip archive that contains weights/rgb\.pt"),
    "gzip": (gzip.compress(b"x" * 100), "a gzip archive; unpack it"),
    "tar": (make_tar, "a tar archive; unpack it"),
    "empty": (b"", "an empty file"),
    "text": ("Größe: 3\n".encode(), "a text file that starts with 'Größe: 3'"),
    "json": (b'{"state_dict": []}', "a JSON text"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), r"an image \(PNG\)"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
    "pickle": (pickle.dumps(argparse.Namespace(a=1)), r"a Python pickle of argparse\.Namespace"),
    "old pickle": (pickle.dumps(argparse.Namespace(a=1), 0), r"a Python pickle of copy_reg\._reconstructor"),
    "numbers": (pickle.dumps([1, 2]), "a Python pickle, not a PyTorch file"),
    "numpy": (lambda path: np.save(path.open("wb"), np.zeros(3)), r"a NumPy array"),
    "noise": (b"\x01\x02\x03\x04\xff\xfe" * 50, ".*starts with the bytes 01 02 03 04"),
    "bzip2": (bz2.compress(b"x" * 100), "a bzip2 archive; unpack it"),
    "xz": (lzma.compress(b"x" * 100), "an xz archive; unpack it"),
    "QuickTime": (b"\0\0\x10\0mdat" + bytes(90), r"a video \(MOV\)"),
    "old QuickTime": (b"\0\0\x10\0moov" + bytes(90), r"a video \(MOV\)"),
    "flv": (partial(make_other_video, suffix=".flv", codec="flv"), r"a video \(FLV\)"),
    "ogg": (b"OggS\0\x02" + bytes(90), r"a video or audio file \(Ogg\)"),
    "mpeg": (partial(make_other_video, suffix=".mpg", codec="mpeg2video"), r"a video \(MPEG\)"),
    "mpeg stream": (partial(make_other_video, suffix=".m2v", codec="mpeg2video"), r"a video \(MPEG\)"),
    "transport stream": (partial(make_other_video, suffix=".ts", codec="mpeg2video"), "a video .MPEG transport stream"),
    "wmv": (partial(make_other_video, suffix=".wmv", codec="wmv2"), r"a video \(WMV\)"),
    "gif": (partial(make_image, kind="gif"), r"an image \(GIF\)"),
    "jpeg": (partial(make_image, kind="jpeg"), r"an image \(JPEG\)"),
    "webp": (partial(make_image, kind="webp"), r"an image \(WebP\)"),
    "pdf": (partial(make_image, kind="pdf"), "a PDF document"),
    "wav": (make_wav, r"an audio file \(WAV\)"),
    "database": (make_database, "an SQLite database"),
    "program": (b"\x7fELF\x02\x01\x01" + bytes(90), "a program"),
    "Windows program": (b"MZ\x90\0" + bytes(90), "a program"),
    "part of a file": (lambda path: path.write_bytes(torch_bytes(path)[:5000]), "a damaged or incomplete zip"),
}


def torch_bytes(path: Path) -> bytes:
    torch.save(PORT, path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_error_states_the_format_of_other_files(tmp_path: Path, kind: str) -> None:
    path, (content, words) = tmp_path / "weights.pt", FILES[kind]
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"weights.pt cannot be opened as weights: it is {words}"):
        quovadis.load_model(path)


def test_the_error_states_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        for name in ("w/data.pkl", "w/constants.pkl", "w/code/model.py"):
            archive.writestr(name, b"x")
    with pytest.raises(WeightsError, match="it is a TorchScript"):
        quovadis.load_model(tmp_path / "w.pt")


@pytest.mark.shared
def test_the_error_states_the_reported_lfs_pointer(shared: Path) -> None:
    with pytest.raises(WeightsError, match="Git LFS pointer"):
        quovadis.load_model(shared / "cases" / "weights" / "lfs.pt")
