from pathlib import Path

import numpy as np
import pytest
import torch

from quovadis.datasets.motions import (
    EMBEDDED,
    MOTIONS,
    OTHER_MOTIONS,
    OTHER_SHAPES,
    SHAPES,
    MotionsConfig,
    _poses,
    _shape,
    load_motions,
    motions_clip,
)
from quovadis.errors import DatasetError, InvalidInputError
from quovadis.video.read import probe, read_clip

SMALL = MotionsConfig(train_per_class=1, val_per_class=1, test_per_class=1, size_px=48, seconds=0.5)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("motions")
    load_motions(SMALL, root=root)
    return root


def test_files_are_h264_and_every_class_is_in_every_split(written: Path) -> None:
    data = load_motions(SMALL, root=written)
    assert len(data.labels) == 25
    for split in ("train", "val", "test"):
        assert sorted(r.label for r in data.split(split)) == list(range(25))
    info = probe(data.records[0].path, count=True)
    assert info.codec == "h264"
    assert info.fps in (20, 25, 30)
    assert not info.variable_frame_rate


def test_files_and_frames_in_memory_are_the_same_videos(written: Path) -> None:
    clip = motions_clip(SMALL, "test", 7, 0)
    file = read_clip(written / "test" / SMALL.labels[7].replace(" ", "_") / "0000.mp4", fps=None)
    assert file.frames.shape == clip.frames.shape
    assert torch.allclose(file.pts_seconds, clip.pts_seconds, atol=1e-3)
    difference = (file.frames.float() - clip.frames.float()).abs().mean()
    assert difference < 8  # compression and noise
    other = motions_clip(SMALL, "test", 7, 1)
    assert other.frames.shape != clip.frames.shape or (other.frames.float() - clip.frames.float()).abs().mean() > 15


def test_the_same_seed_gives_the_same_video_and_no_two_splits_share_one() -> None:
    first = motions_clip(SMALL, "train", 0, 0)
    assert torch.equal(first.frames, motions_clip(SMALL, "train", 0, 0).frames)
    for split, number, seed in (("val", 0, 0), ("test", 0, 0), ("train", 1, 0), ("train", 0, 1)):
        other = motions_clip(MotionsConfig(size_px=48, seconds=0.5, seed=seed), split, 0, number)
        assert first.frames.shape != other.frames.shape or not torch.equal(first.frames, other.frames)


def test_the_same_seed_gives_the_same_bytes_and_fingerprint(tmp_path: Path) -> None:
    config = MotionsConfig(1, 1, 1, size_px=128, seconds=0.6, shapes=("disc",), motions=("spins",))
    one, other = (load_motions(config, root=tmp_path / name) for name in ("one", "other"))
    assert one.fingerprint == other.fingerprint
    for a, b in zip(one.records, other.records, strict=True):
        assert a.path.read_bytes() == b.path.read_bytes()


def test_interrupted_writing_continues(written: Path) -> None:
    data = load_motions(SMALL, root=written)
    gone, stays = data.records[3].path, data.records[4].path
    before = stays.stat().st_mtime_ns
    content = gone.read_bytes()
    gone.unlink()
    load_motions(SMALL, root=written)
    assert gone.read_bytes() == content
    assert stays.stat().st_mtime_ns == before


def test_a_folder_with_another_configuration_is_refused(written: Path) -> None:
    with pytest.raises(DatasetError, match="of another configuration"):
        load_motions(MotionsConfig(seed=1), root=written)


def test_a_label_beyond_the_last_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="labels 0 to 24; got 25"):
        motions_clip(SMALL, "train", 25, 0)


@pytest.mark.parametrize("quantity", ["x", "y", "radius"])
def test_one_frame_does_not_reveal_the_motion(quantity: str) -> None:
    """The pose at a random time is uniform for every motion (Kolmogorov-Smirnov)."""
    seconds = np.arange(40) / 25
    for motion in (*MOTIONS, *OTHER_MOTIONS):
        rng = np.random.default_rng(5)
        values = np.sort([_poses(motion, seconds, rng)[quantity][rng.integers(40)] for _ in range(3000)])
        distance = np.abs(values - (np.arange(3000) + 0.5) / 3000).max()
        assert distance < 1.63 / np.sqrt(3000), f"{quantity} of {motion}: 1 % level of the test"


def test_only_the_named_quantities_move() -> None:
    seconds = np.arange(10) / 25
    moving = {"slides": {"x"}, "bounces": {"y"}, "drifts": {"x", "y"}, "spins": {"angle"}, "pulses": {"radius"}}
    for motion, names in moving.items():
        pose = _poses(motion, seconds, np.random.default_rng(0))
        assert {name for name, values in pose.items() if np.ptp(values) > 0} == names


def test_source_and_target_of_transfer_share_no_shapes_motions_or_frames() -> None:
    large, other = EMBEDDED["motions-source"], EMBEDDED["motions-target"]
    assert not set(large.labels) & set(other.labels)
    assert not {*SHAPES, *MOTIONS} & {*OTHER_SHAPES, *OTHER_MOTIONS}
    assert len(other.labels) == len(large.labels) == 9
    assert large.total > 2 * other.total
    a, b = (motions_clip(config, "train", 0, 0).frames for config in (large, other))
    assert a.shape != b.shape or not torch.equal(a, b)


@pytest.mark.parametrize("shape", [*SHAPES, *OTHER_SHAPES])
def test_every_shape_is_visible_and_differs_from_all_others(shape: str) -> None:
    """Each shape covers part of its bounding square, and no two cover the same part."""
    v, u = (
        torch.linspace(-1, 1, 41)[i].numpy() for i in torch.meshgrid(torch.arange(41), torch.arange(41), indexing="ij")
    )
    covers = {name: _shape(name, u, v, np.float32(20))[0] > 0.5 for name in (*SHAPES, *OTHER_SHAPES)}
    assert 0.15 < covers[shape].mean() < 0.85
    for name, other in covers.items():
        if name != shape:
            assert (covers[shape] != other).mean() > 0.05, name
