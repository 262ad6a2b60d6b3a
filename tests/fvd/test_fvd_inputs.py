from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quovadis.errors import DatasetError, InvalidInputError, InvalidTypeError, UnknownNameError, VideoDamagedError
from quovadis.fvd.array_videos import ArrayFormat, ArrayVideos
from quovadis.fvd.inputs import FolderVideos, FrameFolders, open_videos
from quovadis.fvd.sampling import FrameSampling
from quovadis.video.writer import LOSSLESS, write_video


@pytest.mark.parametrize(("num_available", "frame_stride"), [(20, 4), (16, 4), (9, 2), (4, 1), (23, 3)])
def test_random_starts_cover_every_start_that_fits(num_available: int, frame_stride: int) -> None:
    sampling = FrameSampling(num_frames=4, frame_stride=frame_stride, random_start=True)
    starts = {sampling.start(num_available, number) for number in range(500)}
    inside = {s for s in range(num_available) if s + 3 * frame_stride <= num_available - 1}
    assert starts == inside


def test_the_last_frame_of_a_video_can_be_taken() -> None:
    """All pixels of frame t equal t."""
    video = np.arange(20, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(3, 3)
    videos = ArrayVideos(np.stack([video] * 100))
    sampling = FrameSampling(num_frames=4, frame_stride=4, random_start=True)
    clips = [videos.read(number, sampling, lambda frame: frame) for number in range(100)]
    taken = [clip.frames[:, 0, 0, 0].tolist() for clip in clips if clip is not None]
    assert len(taken) == 100
    assert all(np.diff(frames).tolist() == [4, 4, 4] for frames in taken)
    assert (min(f[0] for f in taken), max(f[-1] for f in taken)) == (0, 19)


def test_video_needs_num_frames_times_frame_stride_frames() -> None:
    sampling = FrameSampling(num_frames=4, frame_stride=4, random_start=True)
    assert sampling.start(15, 0) is None
    assert sampling.start(16, 0) is not None


def test_all_frames_are_taken_by_default() -> None:
    assert FrameSampling().start(1, 0) == 0
    assert list(range(100))[FrameSampling().frames_from(0)] == list(range(100))
    assert list(range(100))[FrameSampling(frame_stride=3).frames_from(2)] == list(range(2, 100, 3))
    assert list(range(100))[FrameSampling(num_frames=5, frame_stride=3).frames_from(2)] == [2, 5, 8, 11, 14]


def test_random_start_depends_on_seed_and_index() -> None:
    def starts(seed: int) -> list[int | None]:
        sampling = FrameSampling(num_frames=4, random_start=True, seed=seed)
        return [sampling.start(1000, number) for number in range(5)]

    assert starts(0) == starts(0)
    assert len({*starts(0), *starts(1)}) == 10
    assert FrameSampling(num_frames=4).start(1000, 3) == 0


def gray_video(path: Path, num_frames: int, height: int = 32, width: int = 48) -> Path:
    """Frame t is gray of level 5 t."""
    levels = 5 * torch.arange(num_frames, dtype=torch.uint8).view(-1, 1, 1, 1)
    return write_video(path, levels.repeat(1, 3, height, width), fps=25, **LOSSLESS)


def test_folder_of_videos(tmp_path: Path) -> None:
    gray_video(tmp_path / "b.mp4", 20)
    gray_video(tmp_path / "a" / "c.mp4", 7)
    videos = FolderVideos(tmp_path)
    assert [videos.path(n) for n in range(len(videos))] == ["a/c.mp4", "b.mp4"]

    def numbers(number: int, **choice: object) -> list[int] | None:
        taken = videos.read(number, FrameSampling(**choice), lambda frame: frame)  # type: ignore[arg-type]
        return None if taken is None else (taken.frames[:, 0, 0, 0].float() / 5).round().int().tolist()

    assert numbers(1) == list(range(20))
    assert numbers(1, num_frames=4, frame_stride=4) == [0, 4, 8, 12]
    assert numbers(0, num_frames=7) == list(range(7))
    assert numbers(0, num_frames=8) is None
    assert numbers(0, num_frames=8, random_start=True) is None
    assert numbers(1, fps=12.5) == list(range(0, 20, 2))
    for seed in range(4):
        found = numbers(1, num_frames=4, frame_stride=4, random_start=True, seed=seed)
        assert found is not None
        assert np.diff(found).tolist() == [4, 4, 4]
        assert 0 <= found[0] <= found[-1] < 20


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (20, 31), (20, 20)])
def test_frames_are_cropped_to_the_center_square(height: int, width: int) -> None:
    """An image with a black and a white half along its longer side keeps the border in the middle."""
    picture = np.zeros((height, width, 3), np.uint8)
    if width >= height:
        picture[:, (width + 1) // 2 :] = 255
    else:
        picture[(height + 1) // 2 :] = 255
    videos = ArrayVideos(picture[None, None])
    clip = videos.read(0, FrameSampling(resolution_px=20), lambda frame: frame)
    assert clip is not None
    assert (clip.frames.shape, clip.height, clip.width) == ((1, 3, 20, 20), 20, 20)
    along = clip.frames[0, 0].float().mean(0 if width >= height else 1)
    assert along[:7].max() < 20
    assert along[13:].min() > 235
    assert float(along.mean()) == pytest.approx(127.5, abs=8)


def test_invalid_arrays_are_refused_with_a_hint() -> None:
    with pytest.raises(InvalidTypeError, match=r"or floating point with a declared range; got int64$"):
        ArrayVideos(np.zeros((1, 2, 4, 4, 3), np.int64))
    for shape, hint in (
        ((1, 2, 3, 4, 4), r"--layout NTCHW \(layout='NTCHW'\)$"),
        ((1, 3, 2, 4, 4), r"--layout NCTHW \(layout='NCTHW'\)$"),
        ((1, 2, 4, 4, 4), r"got \(1, 2, 4, 4, 4\)$"),
        ((2, 4, 4, 3), r"got \(2, 4, 4, 3\); declare grayscale videos with --layout NTHW, or add the axis"),
        ((2, 4, 4, 4, 1), r"declare one channel with --grayscale \(grayscale=True\)$"),
        ((0, 2, 4, 4, 3), r"got \(0, 2, 4, 4, 3\)$"),
    ):
        with pytest.raises(InvalidInputError, match=hint):
            ArrayVideos(np.zeros(shape, np.uint8))
    with pytest.raises(InvalidInputError, match="cannot be read at 25"):
        ArrayVideos(np.zeros((1, 2, 4, 4, 3), np.uint8)).read(0, FrameSampling(fps=25), lambda frame: frame)


@pytest.mark.parametrize(
    ("low", "high", "declaration"),
    [
        (0.0, 1.0, r"black and white at 0, 1, declare --value-range 0 1 \(value_range=\(0, 1\)\)$"),
        (-1.0, 1.0, r"black and white at -1, 1, declare --value-range -1 1 \("),
        (0.0, 255.0, r"black and white at 0, 255, declare --value-range 0 255 \("),
        (-7.0, 300.0, r"values from -7 to 300; declare the values of black and white$"),
        (0.0, np.nan, "the values are not finite$"),
    ],
)
def test_floats_without_a_declared_range_are_refused(low: float, high: float, declaration: str) -> None:
    videos = np.full((2, 3, 4, 4, 3), low, np.float32)
    videos[0, 1, 2] = high
    with pytest.raises(InvalidTypeError, match=declaration):
        ArrayVideos(videos)


def rgb(videos: ArrayVideos) -> np.ndarray:
    sampled = videos.read(1, FrameSampling(), lambda frame: frame)
    assert sampled is not None
    return sampled.frames.numpy()


def test_declared_layouts_and_ranges_give_the_same_videos() -> None:
    array = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), np.uint8)
    expected = rgb(ArrayVideos(array))
    assert np.array_equal(expected, array[1].transpose(0, 3, 1, 2))
    for layout, order in (("NTCHW", (0, 1, 4, 2, 3)), ("NCTHW", (0, 4, 1, 2, 3))):
        assert np.array_equal(rgb(ArrayVideos(array.transpose(order), form=ArrayFormat(layout))), expected)
    for black, white in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        floats = (array / 255 * (white - black) + black).astype(np.float32)
        for given in (floats, torch.from_numpy(floats).to(torch.float64)):
            assert np.array_equal(rgb(ArrayVideos(given, form=ArrayFormat(value_range=(black, white)))), expected)
    gray = array[..., 0]
    for given, form in ((gray, ArrayFormat("NTHW")), (gray[..., None], ArrayFormat(grayscale=True))):
        assert np.array_equal(rgb(ArrayVideos(given, form=form)), gray[1][:, None].repeat(3, 1))


def test_values_outside_of_the_declared_range_are_refused() -> None:
    videos = np.zeros((2, 3, 4, 4, 3), np.float32)
    videos[1, 2, 3] = 1.5
    with pytest.raises(InvalidInputError, match=r"array\[1\] has values from 0 to 1.5, outside of the declared range"):
        ArrayVideos(videos, form=ArrayFormat(value_range=(0, 1)))
    videos[1, 2, 3] = np.nan
    with pytest.raises(InvalidInputError, match=r"array\[1\] contains NaN"):
        ArrayVideos(videos, form=ArrayFormat(value_range=(0, 1)))
    with pytest.raises(UnknownNameError, match="layout"):
        ArrayFormat("TNHWC")
    with pytest.raises(InvalidInputError, match="black < white"):
        ArrayFormat(value_range=(1, 0))


def test_lists_and_tensor_files(tmp_path: Path, clip_path: Path) -> None:
    array = np.arange(2 * 3 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 4, 3)
    torch.save(torch.from_numpy(array), tmp_path / "a.pt")
    torch.save({"videos": torch.from_numpy(array), "seed": torch.tensor(1)}, tmp_path / "b.pt")
    torch.save({"a": 1, "b": 2}, tmp_path / "c.pt")
    assert {open_videos(tmp_path / f"{n}.pt").sha256 for n in "ab"} == {ArrayVideos(array).sha256}
    with pytest.raises(DatasetError, match="must contain a tensor"):
        open_videos(tmp_path / "c.pt")
    (tmp_path / "bad.pt").write_bytes(b"no tensor")
    with pytest.raises(DatasetError, match=r"bad\.pt cannot be read as an array"):
        open_videos(tmp_path / "bad.pt")
    (tmp_path / "list.txt").write_text(f"{clip_path}\n")
    listed = open_videos(tmp_path / "list.txt")
    assert (len(listed), listed.path(0), listed.name) == (1, str(clip_path), "list.txt")
    assert open_videos([clip_path, str(clip_path)]).path(1) == str(clip_path)
    assert open_videos(listed) is listed
    sampled = listed.read(0, FrameSampling(num_frames=5), lambda frame: frame)
    assert sampled is not None
    assert sampled.frames.shape == (5, 3, 48, 64)


def test_array_files(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 4, 3)
    other = np.zeros((1, 1), np.uint8)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "one.npz", anything=array)
    np.savez(tmp_path / "two.npz", other=other, videos=array)
    np.savez(tmp_path / "unnamed.npz", array)
    found = [open_videos(tmp_path / name) for name in ("a.npy", "one.npz", "two.npz", "unnamed.npz")]
    assert {videos.sha256 for videos in found} == {ArrayVideos(array).sha256}
    assert ArrayVideos(array).sha256 != ArrayVideos(array[::-1]).sha256
    assert ArrayVideos(array).sha256 != ArrayVideos(array.reshape(3, 2, 4, 4, 3)).sha256
    np.savez(tmp_path / "none.npz", a=array, b=array)
    with pytest.raises(DatasetError, match="must be under 'videos'"):
        open_videos(tmp_path / "none.npz")
    with pytest.raises(DatasetError, match="no file at"):
        open_videos(tmp_path / "absent.npy")
    with pytest.raises(DatasetError, match="no file at"):
        open_videos(tmp_path / "a.txt")
    with pytest.raises(DatasetError, match=r"nor a .* or .txt file: there is no such file"):
        open_videos(tmp_path / "absent")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(DatasetError, match="cannot be read as an array"):
        open_videos(tmp_path / "bad.npz")


def frame_folder(folder: Path, num_frames: int, suffix: str = ".png") -> Path:
    """Frame t is gray of level 5 t; names are not zero-padded, so they must be sorted by number."""
    folder.mkdir(parents=True)
    for t in range(num_frames):
        Image.new("RGB", (48, 32), (5 * t,) * 3).save(folder / f"frame_{t}{suffix}")
    return folder


def test_folders_of_frames(tmp_path: Path) -> None:
    frame_folder(tmp_path / "b", 12)
    frame_folder(tmp_path / "group" / "a", 11, ".jpg")
    frame_folder(tmp_path / "__MACOSX" / "a", 11)
    (tmp_path / "b" / "._frame_0.png").write_bytes(b"no picture")
    (tmp_path / "b" / "notes.txt").touch()
    videos = open_videos(tmp_path)
    assert isinstance(videos, FrameFolders)
    assert [videos.path(n) for n in range(len(videos))] == ["b", "group/a"]

    def levels(number: int, **choice: object) -> list[int] | None:
        taken = videos.read(number, FrameSampling(**choice), lambda frame: frame)  # type: ignore[arg-type]
        return None if taken is None else (taken.frames[:, 0, 0, 0].float() / 5).round().int().tolist()

    assert levels(0) == list(range(12))
    assert levels(1) == list(range(11))
    assert levels(1, num_frames=3, frame_stride=3) == [0, 3, 6]
    assert levels(1, num_frames=12) is None
    with pytest.raises(InvalidInputError, match="no frame rate"):
        levels(0, fps=25.0)
    before = videos.sha256
    Image.new("RGB", (48, 32), (9,) * 3).save(tmp_path / "b" / "frame_3.png")
    assert open_videos(tmp_path).sha256 != before


def test_unreadable_frames_and_different_sizes_are_errors(tmp_path: Path) -> None:
    folder = frame_folder(tmp_path / "a", 3)
    (folder / "frame_1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    with pytest.raises(VideoDamagedError, match=r"frame_1\.png is not a readable PNG or JPEG image"):
        open_videos(tmp_path).read(0, FrameSampling(), lambda frame: frame)
    Image.new("RGB", (8, 8)).save(folder / "frame_1.png")
    with pytest.raises(VideoDamagedError, match="several sizes"):
        open_videos(tmp_path).read(0, FrameSampling(), lambda frame: frame)


def test_a_folder_with_neither_videos_nor_frames_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").touch()
    with pytest.raises(DatasetError, match="no video files and no subfolders of PNG or JPEG frames"):
        open_videos(tmp_path)
