"""Tests of safetensors files with invalid headers or values."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import quovadis
from quovadis.errors import QuovadisError, WeightsError
from quovadis.models.zoo import build_model
from quovadis.weights.conversion import convert
from quovadis.weights.files import load_weights, save_weights
from quovadis.weights.from_pytorch_i3d import HASSONY2, PYTORCH_I3D, to_port
from quovadis.weights.info import WeightsInfo
from quovadis.weights.state_dict import fit_state
from tests.synthetic import random_state
from tests.weights.bundle import official_names, write_bundle

GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DEEP = "[" * 100_000 + "]" * 100_000


def raw_file(path: Path, header: Any, data: bytes = bytes(8)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


TENSORS: dict[str, Any] = {
    "a list": [],
    "a list of tensors": [GOOD],
    "a null": {"a": None},
    "a number": {"a": 1},
    "a string": {"a": "F32"},
    "dtype null": {"a": {**GOOD, "dtype": None}},
    "dtype a number": {"a": {**GOOD, "dtype": 1}},
    "dtype a list": {"a": {**GOOD, "dtype": ["F32"]}},
    "dtype unknown": {"a": {**GOOD, "dtype": "F33"}},
    "dtype lower case": {"a": {**GOOD, "dtype": "f32"}},
    "dtype of four bits": {"a": {"dtype": "F4", "shape": [16], "data_offsets": [0, 8]}},
    "dtype of an exponent": {"a": {"dtype": "F8_E8M0", "shape": [8], "data_offsets": [0, 8]}},
    "complex": {"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}},
    "shape null": {"a": {**GOOD, "shape": None}},
    "shape a number": {"a": {**GOOD, "shape": 2}},
    "shape a string": {"a": {**GOOD, "shape": "2"}},
    "shape of strings": {"a": {**GOOD, "shape": ["2"]}},
    "shape negative": {"a": {**GOOD, "shape": [-2]}},
    "shape a fraction": {"a": {**GOOD, "shape": [2.0]}},
    "shape nested": {"a": {**GOOD, "shape": [[2]]}},
    "shape huge": {"a": {**GOOD, "shape": [2**62, 4]}},
    "shape huge and empty": {"a": {"dtype": "F32", "shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}},
    "shape beyond 64 bits": {"a": {**GOOD, "shape": [2**70]}},
    "shape too large": {"a": {**GOOD, "shape": [3]}},
    "offsets null": {"a": {**GOOD, "data_offsets": None}},
    "offsets a number": {"a": {**GOOD, "data_offsets": 8}},
    "offsets three": {"a": {**GOOD, "data_offsets": [0, 4, 8]}},
    "offsets of strings": {"a": {**GOOD, "data_offsets": ["0", "8"]}},
    "offsets negative": {"a": {**GOOD, "data_offsets": [-8, 0]}},
    "offsets reversed": {"a": {**GOOD, "data_offsets": [8, 0]}},
    "offsets beyond the file": {"a": {**GOOD, "data_offsets": [2**40, 2**40 + 8]}},
    "offsets that overlap": {"a": GOOD, "b": GOOD},
    "offsets with a gap": {"a": {**GOOD, "data_offsets": [4, 8], "shape": [1]}},
    "fields missing": {"a": {}},
    "metadata a list": {"a": GOOD, "__metadata__": []},
    "metadata a string": {"a": GOOD, "__metadata__": "x"},
    "metadata of numbers": {"a": GOOD, "__metadata__": {"quovadis": 1}},
    "metadata nested": {"a": GOOD, "__metadata__": {"quovadis": {"format": 1}}},
    "deeply nested": b'{"a": ' + DEEP.encode() + b"}",
    "not UTF-8": b'{"\xff": {}}',
    "cut": b'{"a": {"dtype": "F32", ',
    "nothing": b"{}",
    "a tensor twice": b'{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"a": {"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
}


@pytest.mark.parametrize("name", TENSORS)
def test_wrong_types_in_the_safetensors_header(tmp_path: Path, name: str) -> None:
    path = raw_file(tmp_path / "w.safetensors", TENSORS[name])
    with pytest.raises(WeightsError) as caught:
        quovadis.load_model(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63 - 1, 2**64 - 1])
def test_wrong_lengths_of_the_safetensors_header(tmp_path: Path, length: int) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + json.dumps({"a": GOOD}).encode() + bytes(8))
    with pytest.raises(WeightsError):
        quovadis.load_model(path)


FIELDS: dict[str, Any] = {"format": 1, "model": "i3d_tiny", "options": {"stream": "rgb", "num_classes": 2}}
FIELDS |= {"labels": ["a", "b"], "source": {}}

DESCRIPTIONS: dict[str, Any] = {
    "null": None,
    "a number": 1,
    "a list": [1],
    "a string": "i3d",
    "format null": {**FIELDS, "format": None},
    "format a string": {**FIELDS, "format": "1"},
    "format a list": {**FIELDS, "format": [1]},
    "model null": {**FIELDS, "model": None},
    "model a list": {**FIELDS, "model": ["i3d"]},
    "model unknown": {**FIELDS, "model": "resnet"},
    "options null": {**FIELDS, "options": None},
    "options a list": {**FIELDS, "options": ["rgb"]},
    "stream null": {**FIELDS, "options": {"stream": None}},
    "stream a list": {**FIELDS, "options": {"stream": ["rgb"]}},
    "stream unknown": {**FIELDS, "options": {"stream": "depth"}},
    "classes a string": {**FIELDS, "options": {"num_classes": "2"}},
    "classes null": {**FIELDS, "options": {"num_classes": None}},
    "classes true": {**FIELDS, "options": {"num_classes": True}},
    "classes a fraction": {**FIELDS, "options": {"num_classes": 2.5}},
    "classes none": {**FIELDS, "options": {"num_classes": 0}},
    "classes negative": {**FIELDS, "options": {"num_classes": -1}},
    "classes huge": {**FIELDS, "options": {"num_classes": 10**400}},
    "classes too many": {**FIELDS, "options": {"num_classes": 2**40}},
    "labels null": {**FIELDS, "labels": None},
    "labels a string": {**FIELDS, "labels": "ab"},
    "labels of numbers": {**FIELDS, "labels": [1, 2]},
    "labels nested": {**FIELDS, "labels": [["a"], ["b"]]},
    "source null": {**FIELDS, "source": None},
    "source a list": {**FIELDS, "source": [["a", 1]]},
    "missing": {},
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_wrong_types_in_the_metadata(tmp_path: Path, name: str) -> None:
    state = {key: tensor.contiguous() for key, tensor in random_state(build_model("i3d_tiny", num_classes=2)).items()}
    save_file(state, tmp_path / "w.safetensors", {"quovadis": json.dumps(DESCRIPTIONS[name])})
    with pytest.raises(QuovadisError) as caught:
        quovadis.load_model(tmp_path / "w.safetensors")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", DEEP, '{"format": NaN}', "1" * 5000], ids=lambda t: t[:12] or "empty")
def test_metadata_that_are_not_json(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", {"quovadis": text})
    with pytest.raises(WeightsError, match="has invalid metadata in its header") as caught:
        quovadis.load_model(tmp_path / "w.safetensors")
    assert len(str(caught.value)) < 1000


# Deterministic files


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    state = random_state(build_model("i3d_tiny", num_classes=2))
    first = {"step": 7, "recipe": {"lr": 0.1, "name": "tiny"}}
    second = {"recipe": {"name": "tiny", "lr": 0.1}, "step": 7}
    files = [
        save_weights(
            tmp_path / str(number), tensors, WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, (), source)
        ).read_bytes()
        for number, (tensors, source) in enumerate([(state, first), (dict(reversed(state.items())), second)] * 4)
    ]
    assert len(set(files)) == 1
    header = json.loads(files[0][8 : 8 + int.from_bytes(files[0][:8], "little")])
    assert list(header["__metadata__"]) == ["quovadis"]  # several keys would be written in random order


def test_converting_twice_gives_equal_bytes(tmp_path: Path) -> None:
    torch.save(to_port(random_state(build_model("i3d_tiny", num_classes=2)), PYTORCH_I3D), tmp_path / "w.pt")
    for to in ("quovadis", "hassony2"):
        for number in (1, 2):
            convert(tmp_path / "w.pt", tmp_path / f"{to}{number}", to=to)
        assert (tmp_path / f"{to}1").read_bytes() == (tmp_path / f"{to}2").read_bytes()


# Values


VARIANCE = "trunk.Mixed_4c.Branch_1.Conv3d_0b_3x3.batch_norm.running_var"
WEIGHT = "trunk.Mixed_4c.Branch_1.Conv3d_0b_3x3.conv.weight"


def write(path: Path, state: dict[str, Tensor], kind: str) -> Path:
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, ("a", "b"))
    if kind == "safetensors":
        return save_weights(path, state, info)
    if kind == "run folder":
        save_weights(path / "best.safetensors", state, info)
        return path
    if kind == "tensorflow":
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        return write_bundle(path, official_names(arrays, prefix="RGB/inception_i3d/"))
    theirs = to_port(state, HASSONY2 if kind == "hassony2" else PYTORCH_I3D)
    if kind == "port as safetensors":
        save_file({name: tensor.contiguous() for name, tensor in theirs.items()}, path)
    else:
        torch.save(state if kind == "state dict" else theirs, path)
    return path


KINDS = ("safetensors", "run folder", "tensorflow", "pytorch-i3d", "hassony2", "port as safetensors", "state dict")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (WEIGHT, float("nan"), r"1 of \d+ values that are NaN or infinite"),
        ("head.bias", float("-inf"), "1 of 2 values that are NaN or infinite"),
        (VARIANCE, -1e-3, "negative value, -0.001"),
    ],
    ids=["nan", "inf", "variance"],
)
def test_invalid_values_are_refused_with_tensor_and_file(
    tmp_path: Path, kind: str, name: str, value: float, words: str
) -> None:
    state = random_state(build_model("i3d_tiny", num_classes=2))
    state[name].view(-1)[1] = value
    path = write(tmp_path / "model", state, kind)
    with pytest.raises(WeightsError, match=words) as caught:
        quovadis.load_model(path)
    assert str(path) in str(caught.value)
    block = re.search(r"Mixed_4c|head\.bias|Logits|logits|conv3d_0c_1x1", str(caught.value), re.IGNORECASE)
    assert block, caught.value


def test_invalid_values_in_an_image_model_are_refused(tmp_path: Path) -> None:
    state = {"layer1.0.conv1.weight": torch.tensor([1.0, float("inf")]), "fc.bias": torch.zeros(2)}
    torch.save(state, tmp_path / "r50.pth")
    with pytest.raises(WeightsError, match=r"r50\.pth contains invalid values: layer1\.0\.conv1\.weight has 1 of 2"):
        quovadis.create_model("i3d_r50", num_classes=2, weights=tmp_path / "r50.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn], ids=str)
def test_invalid_values_of_every_dtype_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    state = random_state(build_model("i3d_tiny", num_classes=2))
    state["head.bias"] = torch.tensor([1.0, float("nan")]).to(dtype)
    with pytest.raises(WeightsError, match=r"head\.bias has 1 of 2"):
        quovadis.load_model(write(tmp_path / "w", state, "safetensors"))


def test_overflow_and_non_float_dtypes_are_refused() -> None:
    model = build_model("i3d_tiny", num_classes=2)
    state = random_state(model)
    with pytest.raises(WeightsError, match=r"head\.bias has 2 of 2"):
        fit_state(model, state | {"head.bias": torch.full((2,), 1e300, dtype=torch.float64)}, "w")
    for wrong in (torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.complex64)):
        with pytest.raises(WeightsError, match=rf"head\.bias: file has {wrong.dtype}, model has torch\.float32"):
            fit_state(model, state | {"head.bias": wrong}, "w")


def test_signed_zeros_denormals_and_zero_variances_are_preserved(tmp_path: Path) -> None:
    state = random_state(build_model("i3d_tiny", num_classes=2))
    state["head.bias"] = torch.tensor([-0.0, 1e-45])
    state[VARIANCE].zero_()
    found, _ = load_weights(write(tmp_path / "w", state, "safetensors"))
    assert all(found[n].numpy().tobytes() == np.ascontiguousarray(t.numpy()).tobytes() for n, t in state.items())
    quovadis.load_model(tmp_path / "w")
