"""Tests of loading models from all file formats, and of the error messages."""

import io
import lzma
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import quovadis
from quovadis.datasets.kinetics.class_names import class_labels
from quovadis.errors import UnknownNameError, WeightsError
from quovadis.models.resnet import I3DResNet50
from quovadis.models.zoo import build_model
from quovadis.weights.conversion import convert
from quovadis.weights.files import load_weights, save_weights
from quovadis.weights.from_pytorch_i3d import HASSONY2, PYTORCH_I3D, KeyMap, to_port
from quovadis.weights.info import WeightsInfo
from quovadis.weights.state_dict import fit_state
from tests.synthetic import random_state
from tests.weights.bundle import official_names, write_bundle

GOLDEN = Path(__file__).parent.parent / "golden" / "i3d"

KINDS = {
    "rgb": ("rgb", 400, "RGB/inception_i3d/", False),
    "flow": ("flow", 400, "Flow/inception_i3d/", False),
    "rgb_kin600": ("rgb", 600, "", True),
}


def tiny_state(stream: str, num_classes: int) -> dict[str, Tensor]:
    return random_state(build_model("i3d_tiny", stream=stream, num_classes=num_classes))


def as_checkpoint(folder: Path, kind: str, **options: int) -> tuple[Path, dict[str, Tensor]]:
    stream, num_classes, prefix, kinetics600 = KINDS[kind]
    state = tiny_state(stream, num_classes)
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    tensors = official_names(arrays, prefix=prefix, kinetics600=kinetics600)
    return write_bundle(folder / "model.ckpt", tensors, **options), state


def assert_same(model: torch.nn.Module, state: dict[str, Tensor]) -> None:
    found = model.state_dict()
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].equal(tensor), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"num_shards": 4, "block_bytes": 500}], ids=["one", "sharded"])
def test_checkpoints_in_the_official_layouts_load(tmp_path: Path, kind: str, options: dict[str, int]) -> None:
    prefix, state = as_checkpoint(tmp_path, kind, **options)
    model = quovadis.load_model(prefix)
    assert_same(model, state)
    stream, num_classes, _, _ = KINDS[kind]
    assert model.spec.streams[0].kind == stream
    assert model.labels == class_labels(f"kinetics{num_classes}")
    assert model.source["labels"] == f"kinetics{num_classes}, by the number of classes"
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_index_folder_and_shard_load_the_same_model(tmp_path: Path) -> None:
    prefix, state = as_checkpoint(tmp_path, "rgb", num_shards=2)
    for path in (f"{prefix}.index", tmp_path, f"{prefix}.data-00001-of-00002"):
        assert_same(quovadis.load_model(path), state)


@pytest.mark.parametrize("change", ["missing", "unknown", "momentum of nothing"])
def test_missing_and_unknown_tensors_are_listed(tmp_path: Path, change: str) -> None:
    arrays = {name: tensor.numpy() for name, tensor in tiny_state("rgb", 400).items()}
    tensors = official_names(arrays, prefix="RGB/inception_i3d/")
    if change == "missing":
        del tensors["RGB/inception_i3d/Mixed_4c/Branch_1/Conv3d_0b_3x3/batch_norm/beta"]
        words = "missing 1: RGB/inception_i3d/Mixed_4c/Branch_1/Conv3d_0b_3x3/batch_norm/beta"
    else:
        name = "global_step" if change == "unknown" else "gamma/Momentum"
        tensors[name] = np.zeros((), np.int64)
        words = f"unknown 1: {name}"
    with pytest.raises(WeightsError, match=words):
        quovadis.load_model(write_bundle(tmp_path / "m", tensors))


def test_the_error_lists_the_first_tensors_of_other_checkpoints(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "m", {"resnet/conv1/w": np.zeros((3, 3), np.float32)})
    with pytest.raises(WeightsError, match=r"not an I3D checkpoint.*resnet/conv1/w"):
        quovadis.load_model(prefix)


@pytest.mark.parametrize("key_map", [PYTORCH_I3D, HASSONY2], ids=lambda s: s.name)
@pytest.mark.parametrize("wrapped", [False, True])
def test_files_of_the_ports_load(tmp_path: Path, key_map: KeyMap, wrapped: bool) -> None:
    state = tiny_state("flow", 157)
    theirs = to_port(state, key_map)
    if wrapped:
        theirs = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in theirs.items()}}
    torch.save(theirs, tmp_path / "model.pt")
    model = quovadis.load_model(tmp_path / "model.pt")
    assert_same(model, state)
    assert model.labels[:2] == ("class 0", "class 1")
    assert len(model.labels) == 157
    assert model.source == {"format": key_map.name, "file": "model.pt"}


def test_names_of_hassony2_match_its_source() -> None:
    """The names are from ``i3dpt.py`` in that repository, one of each kind."""
    names = to_port(tiny_state("rgb", 400), HASSONY2).keys()
    assert names >= {
        "conv3d_1a_7x7.conv3d.weight",
        "conv3d_2b_1x1.batch3d.running_var",
        "mixed_3b.branch_0.conv3d.weight",
        "mixed_4c.branch_1.1.batch3d.bias",
        "mixed_5b.branch_2.0.conv3d.weight",
        "mixed_5c.branch_3.1.batch3d.weight",
        "conv3d_0c_1x1.conv3d.bias",
    }


def test_a_port_file_gives_the_official_outputs(tmp_path: Path) -> None:
    """The reference outputs are those of the official graph for the weights in the port file."""
    packed = (GOLDEN / "pytorch_port" / "rgb.pt.xz").read_bytes()
    (tmp_path / "rgb.pt").write_bytes(lzma.decompress(packed))
    model = quovadis.load_model(tmp_path / "rgb.pt")
    video = np.load(GOLDEN / "inputs" / "rgb_19x197x211.npz")["video"]
    expected = np.load(GOLDEN / "expected" / "rgb__rgb_19x197x211.npz")["Logits"]
    x = torch.from_numpy(video.astype(np.float32) / 127.5 - 1).permute(0, 4, 1, 2, 3)
    with torch.inference_mode():
        assert np.abs(model(x).numpy() - expected).max() < 1e-3


@pytest.mark.slow
@pytest.mark.shared
def test_the_reference_checkpoint_gives_the_official_logits(tmp_path: Path, shared: Path) -> None:
    folder = shared / "oracles" / "i3d"
    checkpoint = folder / "checkpoints" / "rgb"
    (tmp_path / "model.ckpt.index").write_bytes((checkpoint / "model.ckpt.index").read_bytes())
    packed = (checkpoint / "model.ckpt.data-00000-of-00001.xz").read_bytes()
    (tmp_path / "model.ckpt.data-00000-of-00001").write_bytes(lzma.decompress(packed))
    model = quovadis.load_model(tmp_path / "model.ckpt")
    video = np.load(folder / "inputs" / "rgb_24x224x224.npz")["video"]
    expected = np.load(folder / "expected" / "rgb__rgb_24x224x224.npz")
    x = torch.from_numpy(video.astype(np.float32) / 127.5 - 1).permute(0, 4, 1, 2, 3)
    with torch.inference_mode():
        assert np.abs(model(x).numpy() - expected["Logits"]).max() < 1e-3
    port = torch.load(
        io.BytesIO(lzma.decompress((folder / "pytorch_port" / "rgb.pt.xz").read_bytes())), weights_only=True
    )
    ours = to_port(model.state_dict(), PYTORCH_I3D)
    assert ours.keys() == port.keys()
    assert all(ours[name].equal(tensor) for name, tensor in port.items())


# Conversion


@pytest.mark.slow
def test_converting_to_all_formats_and_back_preserves_every_bit(tmp_path: Path) -> None:
    prefix, state = as_checkpoint(tmp_path / "tf", "rgb_kin600")
    state["trunk.Conv3d_2b_1x1.batch_norm.bias"][0] = -0.0
    prefix = write_bundle(prefix, official_names({n: t.numpy() for n, t in state.items()}, prefix="", kinetics600=True))
    convert(prefix, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.pt", to="pytorch-i3d")
    convert(tmp_path / "b.pt", tmp_path / "c.pt", to="hassony2")
    convert(tmp_path / "c.pt", tmp_path / "d.safetensors")
    first, info = load_weights(tmp_path / "a.safetensors")
    last, _ = load_weights(tmp_path / "d.safetensors")
    assert first.keys() == last.keys() == state.keys()
    for name, tensor in state.items():
        assert first[name].numpy().tobytes() == last[name].numpy().tobytes() == tensor.numpy().tobytes(), name
    assert info.labels == class_labels("kinetics600")
    assert info.source["git_blob_ids"].keys() == {"model.ckpt.index", "model.ckpt.data-00000-of-00001"}
    model = quovadis.load_model(tmp_path / "a.safetensors")
    assert model.labels == info.labels
    assert model.source["format"] == "tensorflow checkpoint"


def test_convert_refuses_unknown_formats_and_unsupported_networks(tmp_path: Path) -> None:
    prefix, _ = as_checkpoint(tmp_path, "rgb")
    with pytest.raises(UnknownNameError, match="hassony2"):
        convert(prefix, tmp_path / "x", to="hassony")
    state = I3DResNet50(num_classes=2, width=1 / 8).state_dict()
    info = WeightsInfo("i3d_r50", {"stream": "rgb", "num_classes": 2}, ("a", "b"))
    save_weights(tmp_path / "r50.safetensors", state, info)
    with pytest.raises(WeightsError, match="only i3d"):
        convert(tmp_path / "r50.safetensors", tmp_path / "x.pt", to="pytorch-i3d")


# Errors


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("pwned",))


def test_pickles_with_code_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": Evil()}, tmp_path / "evil.pt")
    with (tmp_path / "evil_old.pt").open("wb") as file:
        pickle.dump({"w": Evil()}, file)
    for name in ("evil.pt", "evil_old.pt"):
        with pytest.raises(WeightsError, match=r"would run code|a Python pickle of builtins\.print"):
            quovadis.load_model(tmp_path / name)
    assert "pwned" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is an empty file"),
        (b"not weights at all", "it is a text file that starts with 'not weights at all'"),
        (b"PK\x03\x04" + bytes(50), "damaged or incomplete zip"),
        (b"\x10\0\0\0\0\0\0\0{" + bytes(30), "not a valid safetensors file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        quovadis.load_model(tmp_path / "x.pt")


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"such as a; expected one of Conv3d_1a_7x7\.conv3d\.weight, "):
        quovadis.load_model(tmp_path / "a.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="contains a list"):
        quovadis.load_model(tmp_path / "list.pt")
    state = to_port(tiny_state("rgb", 3), PYTORCH_I3D)
    del state["Mixed_4d.b1a.bn.bias"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(WeightsError, match=r"missing 1: Mixed_4d\.b1a\.bn\.bias; expected 287 tensors"):
        quovadis.load_model(tmp_path / "less.pt")


def test_a_misspelled_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'i3d-rgb-imagenet-kinetics400'"):
        quovadis.load_model("i3d-rgb-imagenet-kinetic400")


def test_missing_files_and_ambiguous_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="quovadis weights list"):
        quovadis.load_model(tmp_path / "nothing")
    with pytest.raises(WeightsError, match="contains no weights"):
        quovadis.load_model(tmp_path)
    for name in ("a", "b"):
        write_bundle(tmp_path / name, {"w": np.zeros(1, np.float32)})
    with pytest.raises(WeightsError, match="contains 2 checkpoints"):
        quovadis.load_model(tmp_path)


def test_create_model_refuses_weights_of_another_stream(tmp_path: Path) -> None:
    prefix, state = as_checkpoint(tmp_path, "flow")
    model = quovadis.create_model("i3d_tiny", stream="flow", dropout=0.2, weights=prefix)
    assert_same(model, state)
    assert model.dropout.p == 0.2
    assert model.labels[0] == "abseiling"
    with pytest.raises(WeightsError, match=r"'stream': 'flow'.*requested.*'stream': 'rgb'"):
        quovadis.create_model("i3d_tiny", weights=prefix)
    model.reset_head(3)
    assert model.labels == ()


def test_models_of_the_same_file_do_not_share_tensors(tmp_path: Path) -> None:
    prefix, _ = as_checkpoint(tmp_path, "rgb")
    one, two = quovadis.load_model(prefix), quovadis.load_model(prefix)
    with torch.no_grad():
        one.head.bias.add_(1)
    assert not one.head.bias.equal(two.head.bias)


def test_fit_state_copies_tensors_into_an_allocated_model() -> None:
    state = tiny_state("rgb", 5)
    model = build_model("i3d_tiny", num_classes=5)
    fit_state(model, state, "a test")
    assert_same(model, state)
    with torch.no_grad():
        model.head.bias.add_(1)
    assert not model.head.bias.equal(state["head.bias"])
