"""Tests of the catalog and the official checksums, with the reference data."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from quovadis.models.zoo import build_model
from quovadis.weights import verify
from quovadis.weights.catalog import CATALOG, list_weights
from quovadis.weights.crc32c import crc32c
from quovadis.weights.formats import read_video_weights
from quovadis.weights.from_pytorch_i3d import HASSONY2, to_port
from quovadis.weights.from_tensorflow import NAMES
from quovadis.weights.load import load_model
from quovadis.weights.verify import official_checksums, verify_state
from tests.synthetic import random_state
from tests.weights.bundle import masked, official_names, write_bundle

NUM_CLASSES = {"kinetics400": 400, "kinetics600": 600, "charades": 157, "imagenet1k": 1000}
PREFIX = {"rgb_scratch_kin600": "", "flow_imagenet": "Flow/inception_i3d/", "flow_scratch": "Flow/inception_i3d/"}


def test_every_entry_is_complete() -> None:
    assert list_weights() == sorted(CATALOG)
    assert len(CATALOG) == 10
    for name, entry in CATALOG.items():
        assert entry.name == name
        assert entry.files
        assert entry.license
        assert entry.num_classes == NUM_CLASSES[entry.dataset]
        assert (entry.top1 is None) == (entry.top5 is None) == entry.protocol.startswith("no accuracy")
        for file in entry.files:
            assert file.url.startswith("https://")
            assert file.url.endswith(f"/{file.name}")
            assert len(file.git_blob_id) == 40 or len(file.sha256_prefix) == 8


@pytest.mark.shared
def test_blob_ids_sizes_and_accuracies_match_the_publishers(shared: Path) -> None:
    reference = shared / "data" / "reference"
    with (reference / "git_blob_ids.tsv").open() as file:
        rows = {(r["repository"], r["path"]): r for r in csv.DictReader(file, delimiter="\t")}
    checked = 0
    for entry in CATALOG.values():
        for file in entry.files:
            if not file.git_blob_id:
                continue
            owner, project, commit, path = file.url.split("/", 6)[3:]
            row = rows[f"{owner}/{project}", path]
            assert (row["commit"], row["git_blob_id"]) == (commit, file.git_blob_id)
            checked += 1
    assert checked == 14
    for checkpoint in official_checksums():
        index = reference / "i3d_checkpoint_index" / f"{checkpoint}.model.ckpt.index"
        described = json.loads((shared / "oracles" / f"index_{checkpoint}.json").read_text())
        assert [f.size_bytes for f in verify.find_official_entry(checkpoint).files] == [
            index.stat().st_size,
            described["data_bytes"],
        ]
    numbers = (reference / "i3d_published_numbers.txt").read_text()
    for stream in ("rgb", "flow"):
        pair = [CATALOG[f"i3d-{stream}-{way}kinetics400"] for way in ("imagenet-", "")]
        line = next(x for x in numbers.splitlines() if x.lower().startswith(f"{stream}-i3d"))
        assert [f"{e.top1} / {e.top5}" in line for e in pair] == [True, True]


@pytest.mark.shared
@pytest.mark.parametrize("checkpoint", official_checksums())
def test_official_checksums_match_the_official_index(shared: Path, checkpoint: str) -> None:
    tensors = json.loads((shared / "oracles" / f"index_{checkpoint}.json").read_text())["tensors"]
    official = {t["name"]: t["crc32c_masked"] for t in tensors if not t["name"].endswith("/Momentum")}
    prefix = PREFIX.get(checkpoint, "RGB/inception_i3d/")
    assert {prefix + NAMES[name]: crc for name, crc in official_checksums()[checkpoint].items()} == official


@pytest.fixture
def declared_official(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """A tiny network whose checksums replace those of rgb_imagenet."""
    state = random_state(build_model("i3d_tiny"))
    tensors = official_names({n: t.numpy() for n, t in state.items()}, prefix="")
    table = {n: masked(np.ascontiguousarray(tensors[NAMES[n]]).tobytes(), crc32c) for n in state}
    others = {name: values for name, values in official_checksums().items() if name != "rgb_imagenet"}
    monkeypatch.setattr(verify, "official_checksums", lambda: {"rgb_imagenet": table, **others})
    return state


def test_verify_state_accepts_a_port_with_official_tensors(
    declared_official: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(to_port(declared_official, HASSONY2), tmp_path / "port.pt")
    report = verify_state(read_video_weights(tmp_path / "port.pt")[0])
    assert report.official
    assert report.nearest == "i3d-rgb-imagenet-kinetics400"
    assert len(report.equal) == 230


def test_verify_state_reports_one_wrong_bit(declared_official: dict[str, Tensor]) -> None:
    weight = declared_official["trunk.Mixed_4d.Branch_2.Conv3d_0b_3x3.conv.weight"]
    weight.view(torch.int32)[1, 2, 0, 1, 2] ^= 1
    report = verify_state(declared_official)
    assert report.different == ("trunk.Mixed_4d.Branch_2.Conv3d_0b_3x3.conv.weight",)
    assert not report.official


def test_loading_records_that_a_checkpoint_is_official(
    declared_official: dict[str, Tensor], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("quovadis.weights.formats.verify_checksums", verify.verify_checksums)
    tensors = official_names({n: t.numpy() for n, t in declared_official.items()}, prefix="RGB/inception_i3d/")
    model = load_model(write_bundle(tmp_path / "model.ckpt", tensors))
    assert model.source["published"] == "i3d-rgb-imagenet-kinetics400"
    assert model.source["labels"] == "the official order of kinetics400"
