"""Tests of ``quovadis weights``."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quovadis.cli.weights import main
from quovadis.errors import UnknownNameError, WeightsError
from quovadis.models.zoo import build_model
from quovadis.weights import catalog
from quovadis.weights import download as get
from quovadis.weights.from_pytorch_i3d import PYTORCH_I3D, to_port
from quovadis.weights.load import load_model
from tests.weights.bundle import official_names, write_bundle


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    state = build_model("i3d_tiny", stream="flow").state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    return write_bundle(tmp_path / "model.ckpt", official_names(arrays, prefix="Flow/inception_i3d/"))


def test_list_prints_every_entry(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    out = capsys.readouterr().out
    assert all(name in out for name in catalog.CATALOG)
    main(["list", "--json"])
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == sorted(catalog.CATALOG)


def test_show_prints_an_entry_and_a_file(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "i3d-rgb-imagenet-kinetics400"])
    out = capsys.readouterr().out
    assert "2958652e0c9c48a65010c0ebda5c9cfd4edc7c18" in out
    assert "Apache-2.0" in out
    main(["show", str(checkpoint), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"] == "i3d_tiny"
    assert facts["options"] == {"stream": "flow", "num_classes": 400}
    assert facts["labels"][227] == "playing cricket"


def test_get_uses_cached_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get, "describe_mismatch", lambda path, file: "")
    folder = tmp_path / "googlenet-imagenet1k"
    folder.mkdir()
    (folder / "googlenet-1378be20.pth").write_bytes(b"x")
    main(["get", "googlenet-imagenet1k", "--folder", str(tmp_path)])
    assert capsys.readouterr().out.strip() == str(folder / "googlenet-1378be20.pth")
    with pytest.raises(UnknownNameError, match="did you mean 'googlenet-imagenet1k'"):
        main(["get", "googlenet-imagenet"])


def test_list_marks_cached_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path))
    folder = tmp_path / "weights" / "googlenet-imagenet1k"
    folder.mkdir(parents=True)
    main(["list", "--json"])
    assert not any(entry["cached"] for entry in json.loads(capsys.readouterr().out))
    (folder / "googlenet-1378be20.pth").write_bytes(b"x")
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.split()[1:2] == ["yes"]] == ["googlenet-imagenet1k"]
    assert f"Cache folder: {tmp_path / 'weights'}" in "\n".join(lines)


def test_get_refuses_other_files(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html></html>")
    with pytest.raises(WeightsError, match=r"page\.pth is not googlenet-imagenet1k: its sha256"):
        main(["get", "googlenet-imagenet1k", "--from", str(tmp_path / "page.pth"), "--folder", str(tmp_path)])
    with pytest.raises(WeightsError, match="230 tensors are not the official ones"):
        main(["get", "i3d-rgb-kinetics400", "--from", str(checkpoint), "--folder", str(tmp_path)])


def test_convert_writes_a_loadable_file(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["convert", str(checkpoint), str(tmp_path / "x.safetensors"), "--json"])
    assert json.loads(capsys.readouterr().out)["model"] == "i3d_tiny"
    assert load_model(tmp_path / "x.safetensors").spec.streams[0].kind == "flow"
    main(["convert", str(checkpoint), str(tmp_path / "x.pt"), "--to", "hassony2"])
    assert "mixed_3b.branch_0.conv3d.weight" in torch.load(tmp_path / "x.pt", weights_only=True)


def test_verify_exits_with_1_for_other_weights(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["verify", str(checkpoint)])
    assert capsys.readouterr().out == "not official: no tensor is equal to that of an official checkpoint\n"
    with pytest.raises(SystemExit, match="1"):
        main(["verify", str(checkpoint), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["official"] is False
    assert len(report["different"]) == 230


def test_verify_compares_with_the_official_tensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from quovadis.weights import verify
    from quovadis.weights.crc32c import masked_crc32c
    from quovadis.weights.from_tensorflow import to_official

    state = build_model("i3d_tiny").state_dict()
    table = {name: masked_crc32c(to_official(name, tensor)) for name, tensor in state.items()}
    monkeypatch.setattr(verify, "official_checksums", lambda: {"rgb_scratch": table})
    torch.save(to_port(state, PYTORCH_I3D), tmp_path / "x.pt")
    main(["verify", str(tmp_path / "x.pt")])
    assert capsys.readouterr().out == "official: all 230 tensors are equal to those of i3d-rgb-kinetics400\n"
    state["head.bias"] = state["head.bias"] + 1
    torch.save(to_port(state, PYTORCH_I3D), tmp_path / "y.pt")
    with pytest.raises(SystemExit, match="1"):
        main(["verify", str(tmp_path / "y.pt")])
    assert capsys.readouterr().out.splitlines() == [
        "different  head.bias",
        "not official: 229 of 230 tensors are equal to those of i3d-rgb-kinetics400",
    ]


def test_verify_recognizes_published_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get, "describe_mismatch", lambda path, file: "" if "charades" in file.name else "no")
    (tmp_path / "renamed.pt").write_bytes(b"whatever")
    main(["verify", str(tmp_path / "renamed.pt")])
    assert capsys.readouterr().out == "published: the file is identical to pytorch-i3d-rgb-charades\n"


def test_filters_writes_a_png(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["filters", str(checkpoint), "-o", str(tmp_path / "f.png")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as file:
        picture = np.asarray(file.convert("RGB"))
    assert picture.shape[1] > 1000
    assert picture.std() > 10
    main(["convert", str(checkpoint), str(tmp_path / "ours.safetensors")])  # with another order of tensors
    main(["filters", str(tmp_path / "ours.safetensors"), "-o", str(tmp_path / "o.png")])
    with Image.open(tmp_path / "o.png") as ours:
        assert ours.size == picture.shape[1::-1]
    torch.save({"inception3a.branch1.conv.weight": torch.randn(64, 3, 7, 7)}, tmp_path / "googlenet.pth")
    main(["filters", str(tmp_path / "googlenet.pth"), "-o", str(tmp_path / "g.png")])
    with Image.open(tmp_path / "g.png") as small:
        assert small.width < 600


def test_exit_codes_of_errors_and_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError, match="no weights file"):
        main(["verify", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="2"):
        main(["lsit"])
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "{list,show,get,convert,verify,filters,push}" in capsys.readouterr().out
