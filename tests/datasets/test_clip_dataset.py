from itertools import islice
from pathlib import Path

import pytest
import torch

from quovadis.datasets.clip_dataset import ClipDataset, EpochBatchSampler, clip_extent, collate
from quovadis.datasets.load import load_dataset
from quovadis.datasets.loader import VideoDataLoader
from quovadis.datasets.manifest import VideoRecord
from quovadis.errors import DatasetError, InvalidInputError
from quovadis.flow.source import FlowSource
from quovadis.models.inputs import clip_to_streams
from quovadis.models.spec import ModelSpec, StreamSpec
from quovadis.models.zoo import build_model
from quovadis.video.clip import Clip
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import with_numbered_flow

SPEC = ModelSpec("toy", (StreamSpec("rgb", 3, num_frames=8, frame_stride=2),), 32, 36, min_frames=1, test_frames=16)


@pytest.fixture
def records(two_classes: Path) -> tuple[VideoRecord, ...]:
    return load_dataset(two_classes).split("train")


def test_a_sample_has_the_shape_of_the_spec(records: tuple[VideoRecord, ...]) -> None:
    sample = ClipDataset(records, SPEC)[0, 3]
    assert [(s.dtype, tuple(s.shape)) for s in sample["streams"]] == [(torch.uint8, (8, 3, 32, 32))]
    assert (sample["label"], sample["unreadable"]) == (records[3].label, {})


def test_augmentation_is_a_function_of_seed_epoch_and_index(records: tuple[VideoRecord, ...]) -> None:
    def cuts(seed: int, epoch: int) -> torch.Tensor:
        data = ClipDataset(records, SPEC, seed=seed)
        return torch.stack([data[epoch, i]["streams"][0] for i in range(6)])

    assert torch.equal(cuts(0, 0), cuts(0, 0))
    assert not torch.equal(cuts(0, 0), cuts(0, 1))
    assert not torch.equal(cuts(0, 0), cuts(1, 0))


def test_workers_give_the_same_batches_as_the_main_process(records: tuple[VideoRecord, ...]) -> None:
    def batches(workers: int) -> list[torch.Tensor]:
        data = ClipDataset(records, SPEC, seed=3)
        order = EpochBatchSampler(len(data), 4, seed=3)
        loader = VideoDataLoader(data, batch_sampler=order, collate_fn=collate, num_workers=workers)
        return [batch["streams"][0] for batch in islice(loader, 4)]

    assert all(torch.equal(a, b) for a, b in zip(batches(0), batches(2), strict=True))


def test_validation_clips_are_the_same_in_every_epoch(records: tuple[VideoRecord, ...]) -> None:
    data = ClipDataset(records, SPEC, augment=False)
    assert torch.equal(data[0, 2]["streams"][0], data[7, 2]["streams"][0])


def numbered_video(path: Path, num_frames: int) -> VideoRecord:
    """Write a video of 36 x 48 pixels; frame t is gray level 5 t, with two white middle columns."""
    levels = 5 * torch.arange(num_frames, dtype=torch.uint8).view(-1, 1, 1, 1)
    frames = levels.repeat(1, 3, 36, 48)
    frames[..., 23:25] = 255
    return VideoRecord(write_video(path, frames, fps=25, **LOSSLESS), 0, "train")


def frame_numbers(frames: torch.Tensor) -> list[int]:
    return (frames[:, 0, 0, 0].float() / 5).round().int().tolist()


def test_validation_takes_the_middle_frames_and_the_center_crop(tmp_path: Path) -> None:
    """8 frames with stride 2 span 15 of 40 frames, which leaves 12 before and 13 after."""
    (frames,) = ClipDataset([numbered_video(tmp_path / "v.mp4", 40)], SPEC, augment=False)[0, 0]["streams"]
    assert frame_numbers(frames) == [12, 14, 16, 18, 20, 22, 24, 26]
    white = (frames > 250).all(1).all(0).all(0).nonzero().flatten().tolist()
    assert white == [15, 16]


def test_training_starts_at_any_frame_with_a_whole_clip_after_it(tmp_path: Path) -> None:
    data = ClipDataset([numbered_video(tmp_path / "v.mp4", 18)], SPEC)
    clips = [frame_numbers(data[epoch, 0]["streams"][0]) for epoch in range(40)]
    assert {clip[0] for clip in clips} == {0, 1, 2, 3}
    assert all(clip == list(range(clip[0], clip[0] + 15, 2)) for clip in clips)


def test_a_short_video_is_looped(tmp_path: Path) -> None:
    for augment in (False, True):
        data = ClipDataset([numbered_video(tmp_path / "v.mp4", 5)], SPEC, augment=augment)
        assert frame_numbers(data[0, 0]["streams"][0]) == [0, 2, 4, 0, 2, 4, 0, 2]


def test_flow_covers_the_clip_and_the_frame_after_it(tmp_path: Path) -> None:
    asked = []

    class Recording(FlowSource):
        def add_to(self, clip: Clip, *, fps: float, short_side_px: int, first_frame_index: int = 0) -> Clip:
            asked.append((frame_numbers(clip.frames), fps, short_side_px, first_frame_index))
            return with_numbered_flow(clip)

    both = ModelSpec("two", (StreamSpec("rgb", 3, 8), StreamSpec("flow", 2, 8)), 32, 36, min_frames=1, test_frames=16)
    record = numbered_video(tmp_path / "v.mp4", 40)
    rgb, flow = ClipDataset([record], both, augment=False, flow=Recording())[0, 0]["streams"]
    assert asked == [(list(range(16, 25)), 25.0, 36, 16)]
    assert frame_numbers(rgb) == frame_numbers(flow) == list(range(16, 24))


def test_half_of_the_clips_are_flipped_unless_disabled(records: tuple[VideoRecord, ...]) -> None:
    plain, flipped = ClipDataset(records, SPEC, flip=False), ClipDataset(records, SPEC)
    mirrored = []
    for key in [(epoch, i) for epoch in range(4) for i in range(len(records))]:
        a, b = plain[key]["streams"][0], flipped[key]["streams"][0]
        mirrored.append(torch.equal(a.flip(3), b))
        assert mirrored[-1] or torch.equal(a, b)
    assert 0.25 < sum(mirrored) / len(mirrored) < 0.75


def test_an_unreadable_video_is_replaced_by_one_of_its_class_and_reported(
    records: tuple[VideoRecord, ...], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("not a video")
    listed = [VideoRecord(broken, 0, "train"), *records]
    first, again = ClipDataset(listed, SPEC)[5, 0], ClipDataset(listed, SPEC)[5, 0]
    assert list(first["unreadable"]) == [str(broken)]
    assert "not a video that FFmpeg can open" in first["unreadable"][str(broken)]
    assert first["label"] == 0
    assert torch.equal(first["streams"][0], again["streams"][0])


def test_an_unreadable_validation_video_is_not_replaced(records: tuple[VideoRecord, ...], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("not a video")
    clips = ClipDataset([VideoRecord(broken, 0, "val"), *records], SPEC, augment=False)
    batch = collate([clips[0, 0], clips[0, 1]])
    assert (len(batch["streams"][0]), batch["labels"].tolist()) == (1, [records[0].label])
    assert list(batch["unreadable"]) == [str(broken)]
    alone = collate([clips[0, 0]])
    assert (alone["streams"], alone["labels"].tolist()) == ([], [])


def test_classes_without_a_readable_video_are_found(records: tuple[VideoRecord, ...], tmp_path: Path) -> None:
    broken = [tmp_path / f"{i}.mp4" for i in range(3)]
    for path in broken:
        path.write_text("not a video")
    listed = [VideoRecord(path, label, "val") for path, label in zip(broken, (0, 7, 7), strict=True)]
    found = ClipDataset([*listed, *records], SPEC).unreadable_classes()
    assert list(found) == [7]
    assert found[7].startswith(f"{broken[1]} is not a video")


def test_a_class_of_unreadable_videos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no")
    with pytest.raises(
        DatasetError, match=r"a.mp4 is not a video .*; 9 other videos of its class cannot be read either"
    ):
        ClipDataset([VideoRecord(tmp_path / "a.mp4", 0, "train")], SPEC)[0, 0]


@pytest.mark.parametrize(("num_items", "batch"), [(10, 3), (7, 7), (3, 8), (1, 4)])
def test_every_video_occurs_once_per_epoch(num_items: int, batch: int) -> None:
    stream = [key for b in islice(EpochBatchSampler(num_items, batch, seed=1), 40) for key in b]
    for epoch in range(len(stream) // num_items):
        part = stream[epoch * num_items : (epoch + 1) * num_items]
        assert sorted(part) == [(epoch, i) for i in range(num_items)]


def test_batches_start_at_any_step_and_are_divided_among_ranks() -> None:
    whole = list(islice(EpochBatchSampler(11, 6, seed=2), 8))
    assert list(islice(EpochBatchSampler(11, 6, seed=2, start=5), 3)) == whole[5:]
    parts = [list(islice(EpochBatchSampler(11, 2, seed=2, rank=r, num_ranks=3), 8)) for r in range(3)]
    assert [a + b + c for a, b, c in zip(*parts, strict=True)] == whole


def test_a_step_has_the_same_videos_for_any_number_of_processes() -> None:
    """Split 12 clips per step into (processes, clips per batch, batches per step)."""

    def step(s: int, ranks: int, size: int, parts: int) -> list[tuple[int, int]]:
        batches = [EpochBatchSampler(17, size, seed=5, start=s * parts, rank=r, num_ranks=ranks) for r in range(ranks)]
        return sorted(key for b in batches for batch in islice(b, parts) for key in batch)

    for s in (0, 1, 9):
        expected = step(s, 1, 12, 1)
        assert len(set(expected)) == 12
        for ranks, size, parts in ((1, 4, 3), (2, 6, 1), (2, 3, 2), (3, 4, 1), (3, 2, 2), (12, 1, 1), (4, 1, 3)):
            assert step(s, ranks, size, parts) == expected


def test_the_extent_covers_the_longest_stream() -> None:
    assert clip_extent(SPEC) == (8, 2, 15)
    two = ModelSpec("two", (StreamSpec("rgb", 3, 1), StreamSpec("flow", 2, 10)), 32, 36, 1, 16)
    assert clip_extent(two) == (10, 1, 10)


def test_a_flipped_clip_has_flipped_flow(records: tuple[VideoRecord, ...]) -> None:
    """Flow is computed before crop and flip and transformed with the frames: 255 - x is the byte of -x pixels."""
    both = ModelSpec("two", (StreamSpec("rgb", 3, 8), StreamSpec("flow", 2, 8)), 32, 36, min_frames=1, test_frames=16)
    plain, flipped = ClipDataset(records, both, flip=False), ClipDataset(records, both)
    seen = set()
    for key in [(0, i) for i in range(len(records))]:
        (rgb, flow), (rgb_flipped, flow_flipped) = plain[key]["streams"], flipped[key]["streams"]
        assert (flow.shape, flow.dtype) == (torch.Size([8, 2, 32, 32]), torch.uint8)
        mirrored = torch.equal(rgb.flip(3), rgb_flipped)
        seen.add(mirrored)
        expected = flow.flip(3).int() if mirrored else flow.int()
        if mirrored:
            expected[:, 0] = 255 - expected[:, 0]
        assert (expected - flow_flipped.int()).abs().max() <= 1
    assert seen == {True, False}


def test_a_clip_without_flow_is_refused_if_the_model_needs_flow() -> None:
    spec = build_model("i3d_tiny", stream="flow", num_classes=2).spec
    clip = Clip(torch.zeros(16, 3, 64, 64, dtype=torch.uint8), torch.zeros(16), source="a.mp4")
    with pytest.raises(InvalidInputError, match=r"i3d_tiny needs optical flow, but a\.mp4 has none"):
        clip_to_streams(clip, spec)
