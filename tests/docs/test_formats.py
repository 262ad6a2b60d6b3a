"""The tables of the page on file formats list the keys that the program writes."""

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from quovadis.datasets.manifest_file import COLUMNS
from quovadis.evaluation.dump import score_dump, write_dump
from quovadis.inference.extract import extract_video, plan_jobs
from quovadis.inference.feature_presets import FEATURE_PRESETS
from quovadis.inference.features import FeatureExtractor
from quovadis.models.zoo import build_model
from quovadis.training import run_folder
from quovadis.weights.info import WeightsInfo
from tests.synthetic import dump_of

PAGE = (Path(__file__).parent.parent.parent / "docs" / "reference" / "formats.md").read_text()


def documented(heading: str, table: int = 0) -> list[str]:
    """The names in the first column of a table below a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.M)
    return re.findall(r"^\| `([\w.]+)` \|", tables[table], re.M)


def test_columns_of_manifests() -> None:
    assert documented("Tables and manifests") == list(COLUMNS)
    assert all(f"| `{name}` | {kind} |" in PAGE for name, kind in COLUMNS.items())


def test_metadata_of_weights() -> None:
    assert documented("Weights") == ["format", *(field.name for field in fields(WeightsInfo))]


def test_results_and_dumps(tmp_path: Path) -> None:
    dump = dump_of(torch.zeros(1, 2, 3))
    assert documented("Evaluation") == list(score_dump(dump)[0].to_dict())
    with np.load(write_dump(tmp_path / "scores.npz", dump)) as file:
        assert sorted(documented("Evaluation", 1)) == sorted(file.files)


def test_sidecars_of_features(clip_path: Path, tmp_path: Path) -> None:
    extractor = FeatureExtractor([build_model("i3d_tiny", num_classes=2)], FEATURE_PRESETS["quovadis"])
    ((job,), _) = plan_jobs({"v.mp4": clip_path}, tmp_path, extractor, ("rgb",))
    assert not extract_video(job, extractor).error
    assert documented("Features") == list(json.loads((tmp_path / "v_rgb.json").read_text()))


def test_files_of_a_run() -> None:
    listed = re.findall(r"^    (\w+\.\w+) ", run_folder.__doc__ or "", re.M)
    assert documented("Run folder") == listed
