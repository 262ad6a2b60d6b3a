import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from quovadis import transforms
from quovadis.errors import InvalidInputError, TooFewFramesError, VideoDamagedError, VideoError
from quovadis.flow.codec import encode_flow, preset_for
from quovadis.flow.estimate import flow_for_clip
from quovadis.flow.source import FlowJob, FlowSource, store_flow
from quovadis.inference import feature_stream
from quovadis.inference.feature_presets import FEATURE_PRESETS, WHOLE, FeaturePreset, find_feature_preset
from quovadis.inference.feature_stream import CroppedFrames
from quovadis.inference.features import FeatureExtractor, FrameCountError
from quovadis.inference.frame_buffer import FrameBuffer
from quovadis.models.i3d import I3D, i3d_tiny_spec
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.video.clip import Clip
from quovadis.video.read import read_clip
from quovadis.video.resize import resize_frames_to
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import awake, moving_square

OURS = FEATURE_PRESETS["quovadis"]
TOLERANCE = {"atol": 1e-3, "rtol": 1e-4}  # the features are of order one to ten


@pytest.fixture(scope="module")
def tiny() -> VideoModel:
    torch.manual_seed(0)
    return awake(build_model("i3d_tiny", num_classes=2))


@pytest.fixture(scope="module")
def tiny_flow() -> VideoModel:
    torch.manual_seed(1)
    return awake(build_model("i3d_tiny", stream="flow", num_classes=2))


def video(folder: Path, num_frames: int, **options: object) -> Path:
    """A lossless video of 72 x 90 pixels: the short side of the tiny network."""
    path = folder / f"{num_frames}.mp4"
    return path if path.exists() else write_video(path, moving_square(num_frames, 72, 90), **{**LOSSLESS, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@torch.inference_mode()
def by_hand(
    model: VideoModel, clip: Clip, start: int = 0, stop: int | None = None, corner: tuple[int, int] | None = None
) -> Tensor:
    """Features (T', D) of a segment of a clip, cropped by slicing: the center, or the square at a corner."""
    x = clip.frames if model.spec.streams[0].kind == "rgb" else encode_flow(clip.flow)  # type: ignore[arg-type]
    size = model.spec.size_px
    top, left = corner or ((clip.height - size) // 2, (clip.width - size) // 2)
    return model.features(transforms.to_model(x[start:stop, :, top : top + size, left : left + size])[None])[0]


@pytest.mark.parametrize(("num_frames", "window", "stride"), [(75, 16, 8), (40, 21, 7), (33, 9, 30), (32, 16, 16)])
def test_windows_match_the_video_in_memory(
    tiny: VideoModel, place: Path, num_frames: int, window: int, stride: int
) -> None:
    path = video(place, num_frames)
    clip = read_clip(path)
    extractor = FeatureExtractor([tiny], OURS.with_options(window=window, stride=stride), batch_frames=50)
    rows = extractor.extract(path)
    starts = range(0, num_frames - window + 1, stride)
    expected = torch.stack([by_hand(tiny, clip, s, s + window).mean(0) for s in starts])
    assert rows.features["rgb"].shape == (len(starts), 1, 256)
    assert len(rows) == extractor.num_rows(num_frames) == len(starts)
    torch.testing.assert_close(rows.features["rgb"][:, 0], expected, **TOLERANCE)
    assert rows.start_seconds == pytest.approx([s / 25 for s in starts])
    assert rows.center_seconds == pytest.approx([(s + window / 2) / 25 for s in starts])


@pytest.mark.parametrize("num_frames", [9, 16, 150, 151, 152, 153])
def test_whole_video_in_chunks(tiny: VideoModel, place: Path, num_frames: int) -> None:
    """Five rows at a time: chunks of 40 new frames, where a row depends on 107."""
    path = video(place, num_frames)
    extractor = FeatureExtractor([tiny], OURS.whole(), batch_frames=40)
    rows = extractor.extract(path)
    expected = by_hand(tiny, read_clip(path))
    assert len(rows) == len(expected) == -(-num_frames // 8) - 1 == extractor.num_rows(num_frames)
    torch.testing.assert_close(rows.features["rgb"][:, 0], expected, **TOLERANCE)
    assert rows.start_seconds == pytest.approx([8 * r / 25 for r in range(len(expected))])
    centers = [extractor.receptive_field.center(r, num_frames) / 25 for r in range(len(expected))]
    assert rows.center_seconds == pytest.approx(centers)


@pytest.mark.slow
@pytest.mark.parametrize("num_frames", [141, 150])
def test_whole_video_through_the_full_network(place: Path, num_frames: int) -> None:
    """All 1024 channels, on small frames."""
    torch.manual_seed(0)
    full = awake(I3D(num_classes=2, spec=replace(i3d_tiny_spec("rgb"), size_px=32)))
    path = video(place, num_frames)
    rows = FeatureExtractor([full], OURS.whole(), batch_frames=48).extract(path)
    expected = by_hand(full, read_clip(path))
    assert rows.features["rgb"].shape == (-(-num_frames // 8) - 1, 1, 1024)
    torch.testing.assert_close(rows.features["rgb"][:, 0], expected, **TOLERANCE)


def test_both_streams_with_flow_across_blocks(
    tiny: VideoModel, tiny_flow: VideoModel, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_stream, "BLOCK_FRAMES", 7)
    path = video(place, 36)
    clip = flow_for_clip(read_clip(path))
    extractor = FeatureExtractor([tiny, tiny_flow], OURS.with_options(window=16, stride=5))
    rows = extractor.extract(path)
    for kind, model in (("rgb", tiny), ("flow", tiny_flow)):
        expected = torch.stack([by_hand(model, clip, s, s + 16).mean(0) for s in (0, 5, 10, 15, 20)])
        torch.testing.assert_close(rows.features[kind][:, 0], expected, **TOLERANCE)  # type: ignore[index]
    (only_flow,) = extractor.rows(path, ["flow"])
    assert list(only_flow.features) == ["flow"]
    torch.testing.assert_close(only_flow.features["flow"], rows.features["flow"], **TOLERANCE)


def test_stored_flow_is_read(
    tiny_flow: VideoModel, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = video(place, 36)
    stored = tmp_path / "36.flow.mp4"
    list(store_flow(FlowJob(path, stored, preset_for("tvl1", short_side_px=72))))
    estimated = FeatureExtractor([tiny_flow], OURS.with_options(window=16)).extract(path)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("stored flow must not be estimated again")

    monkeypatch.setattr(feature_stream, "estimate_flow", never)
    monkeypatch.setattr(feature_stream, "BLOCK_FRAMES", 7)
    source = FlowSource(folder=tmp_path)
    rows = FeatureExtractor([tiny_flow], OURS.with_options(window=16), flow=source).extract(path)
    difference = (rows.features["flow"] - estimated.features["flow"]).abs().mean()
    assert 0 < difference < 0.2 * estimated.features["flow"].std()
    with pytest.raises(InvalidInputError, match="expected 'tvl1-fast"):
        FeatureExtractor([tiny_flow], OURS, flow=FlowSource("tvl1-fast", tmp_path)).extract(path)


def test_ten_crops_and_stretched_frames(tiny: VideoModel, place: Path) -> None:
    path = video(place, 33)
    preset = OURS.with_options(window=16, crop="ten", aspect=340 / 256, shape="TCD")
    rows = FeatureExtractor([tiny], preset, batch_frames=1).extract(path)
    assert rows.features["rgb"].shape == (2, 10, 256)
    frames = resize_frames_to(read_clip(path).frames, 72, 96)
    clips = [Clip(f, torch.zeros(33)) for f in (frames, frames.flip(3))]
    for crop, corner in enumerate([(0, 0), (0, 32), (4, 16), (8, 0), (8, 32)] * 2):
        expected = by_hand(tiny, clips[crop // 5], 16, 32, corner)[0]
        torch.testing.assert_close(rows.features["rgb"][1, crop], expected, **TOLERANCE)


def test_ten_crops_of_the_whole_video(tiny: VideoModel, place: Path) -> None:
    path = video(place, 135)
    rows = FeatureExtractor([tiny], OURS.whole().with_options(crop="ten"), batch_frames=640).extract(path)
    clip = read_clip(path)
    mirrored = Clip(clip.frames.flip(3), clip.pts_seconds)
    torch.testing.assert_close(rows.features["rgb"][:, 3], by_hand(tiny, clip, corner=(8, 0)), **TOLERANCE)
    torch.testing.assert_close(rows.features["rgb"][:, 9], by_hand(tiny, mirrored, corner=(8, 26)), **TOLERANCE)


@pytest.mark.slow
def test_window_around_every_frame(tiny: VideoModel, tiny_flow: VideoModel, place: Path) -> None:
    """MS-TCN: the first and last frames are repeated, so their flow is zero."""
    path = video(place, 23)
    preset = FEATURE_PRESETS["ms-tcn"]
    extractor = FeatureExtractor([tiny, tiny_flow], preset)
    rows = extractor.extract(path)
    assert len(rows) == extractor.num_rows(23) == 23
    clip = read_clip(path)
    index = torch.arange(-10, 33).clamp(0, 22)
    padded = flow_for_clip(Clip(clip.frames[index], torch.zeros(43)))
    assert padded.flow is not None
    assert (padded.flow[:10] == 0).all()
    for kind, model in (("rgb", tiny), ("flow", tiny_flow)):
        expected = torch.stack([by_hand(model, padded, i, i + 21).mean(0) for i in range(23)])
        torch.testing.assert_close(rows.features[kind][:, 0], expected, **TOLERANCE)  # type: ignore[index]
    assert rows.center_seconds == pytest.approx([(i + 0.5) / 25 for i in range(23)])
    assert len(FeatureExtractor([tiny], preset.with_options(stride=4)).extract(path)) == extractor.num_rows(23) // 4 + 1
    assert len(FeatureExtractor([tiny], preset).extract(video(place, 2))) == 2


def test_video_features_needs_one_more_frame(tiny: VideoModel, place: Path) -> None:
    preset = FEATURE_PRESETS["video-features"].with_options(window=16, stride=16)
    extractor = FeatureExtractor([tiny], preset)
    for num_frames, count in ((32, 1), (33, 2), (48, 2), (49, 3)):
        rows = extractor.extract(video(place, num_frames))
        assert len(rows) == extractor.num_rows(num_frames) == count == (num_frames - 17) // 16 + 1
    assert rows.stop_seconds == pytest.approx([16 / 25, 32 / 25, 48 / 25])


@pytest.mark.parametrize("num_frames", [1, 5, 15])
def test_short_video_is_looped_or_refused(tiny: VideoModel, place: Path, num_frames: int) -> None:
    path = video(place, num_frames)
    clip = read_clip(path)
    for preset, length in ((OURS, 16), (OURS.whole(), 9)):
        extractor = FeatureExtractor([tiny], preset)
        if num_frames >= length:
            continue
        rows = extractor.extract(path)
        looped = clip.take(torch.arange(length) % num_frames)
        torch.testing.assert_close(rows.features["rgb"][0, 0], by_hand(tiny, looped).mean(0), **TOLERANCE)
        assert len(rows) == extractor.num_rows(num_frames) == 1
        with pytest.raises(TooFewFramesError, match=f"has {num_frames} frames, but a row of features needs {length}"):
            FeatureExtractor([tiny], preset.with_options(short="error")).extract(path)


def test_video_of_one_frame_has_zero_flow(tiny_flow: VideoModel, place: Path) -> None:
    rows = FeatureExtractor([tiny_flow], OURS).extract(video(place, 1))
    still = Clip(torch.zeros(16, 3, 72, 90, dtype=torch.uint8), torch.zeros(16), torch.zeros(16, 2, 72, 90))
    torch.testing.assert_close(rows.features["flow"][0, 0], by_hand(tiny_flow, still).mean(0), **TOLERANCE)


def test_rates(tiny: VideoModel, place: Path, tmp_path: Path) -> None:
    """At 50 fps each frame is repeated; at the rate of the file, uneven times are kept."""
    path = video(place, 32)
    twice = FeatureExtractor([tiny], OURS.with_options(fps=50.0)).extract(path)
    assert len(twice) == 4
    looped = read_clip(path).take(torch.arange(32) // 2)
    torch.testing.assert_close(twice.features["rgb"][0, 0], by_hand(tiny, looped, 0, 16)[0], **TOLERANCE)
    assert twice.start_seconds == pytest.approx([0, 0.32, 0.64, 0.96])
    times = [0.04 * i + (0.5 if i > 20 else 0) for i in range(33)]
    uneven = write_video(tmp_path / "v.mkv", moving_square(33, 72, 90), pts_seconds=times, **LOSSLESS)  # type: ignore[arg-type]
    rows = FeatureExtractor([tiny], OURS.with_options(fps="file", window=16)).extract(uneven)
    assert rows.start_seconds == pytest.approx([times[0], times[16]], abs=1e-3)
    assert rows.stop_seconds == pytest.approx([times[16], times[32]], abs=1e-3)
    whole = FeatureExtractor([tiny], OURS.whole().with_options(fps="file")).extract(uneven)
    assert whole.start_seconds == pytest.approx([times[8 * r] for r in range(4)], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [-1, 1, 3])
def test_wrong_length_in_the_header_needs_a_second_pass(
    tiny: VideoModel, place: Path, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    path = video(place, 150)
    expected = by_hand(tiny, read_clip(path))
    extractor = FeatureExtractor([tiny], OURS.whole(), batch_frames=64)
    monkeypatch.setattr(FeatureExtractor, "count_frames", lambda self, reader: 150 + wrong)
    with pytest.raises(FrameCountError, match="has 150 frames, but its header gives another number"):
        list(extractor.rows(path))
    torch.testing.assert_close(extractor.extract(path).features["rgb"][:, 0], expected, **TOLERANCE)
    monkeypatch.setattr(FeatureExtractor, "count_frames", lambda self, reader: 150 + 8 * wrong)
    rows = torch.cat([r.features["rgb"] for r in extractor.rows(path)])  # the same grid
    torch.testing.assert_close(rows[:, 0], expected, **TOLERANCE)


def test_file_without_a_length_is_counted(tiny: VideoModel, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", moving_square(40, 72, 90), codec="mpeg2video", fps=25)
    for preset in (OURS.whole(), OURS.whole().with_options(fps="file")):
        assert len(FeatureExtractor([tiny], preset).extract(path)) in (4, 5)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(tiny: VideoModel, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: set[int] = set()
    most_clips, most_frames = [0], [0]
    made, added = Clip.__post_init__, FrameBuffer.add

    def count_clips(self: Clip) -> None:
        made(self)
        alive.add(id(self))
        weakref.finalize(self, alive.discard, id(self))
        most_clips[0] = max(most_clips[0], len(alive))

    def count_frames(self: FrameBuffer, block: CroppedFrames) -> None:
        added(self, block)
        most_frames[0] = max(most_frames[0], len(self))

    monkeypatch.setattr(Clip, "__post_init__", count_clips)
    monkeypatch.setattr(FrameBuffer, "add", count_frames)
    monkeypatch.setattr(feature_stream, "BLOCK_FRAMES", 4)
    for preset in (OURS.with_options(window=16, stride=8), OURS.whole()):
        FeatureExtractor([tiny], preset, batch_frames=64).extract(video(place, 250))
    assert most_clips[0] <= 12
    assert most_frames[0] <= 64 + 107 + 8 + 4


def test_bad_videos(tiny: VideoModel, place: Path, tmp_path: Path) -> None:
    extractor = FeatureExtractor([tiny], OURS)
    with pytest.raises(VideoError, match="no file at"):
        extractor.extract(tmp_path / "none.mp4")
    whole = write_video(tmp_path / "w.avi", moving_square(100, 72, 90), codec="mpeg4", options={"g": "5"})
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    with pytest.raises(VideoDamagedError, match="is damaged"):
        FeatureExtractor([tiny], OURS, damaged="refuse").extract(cut)
    windows = FeatureExtractor([tiny], OURS.with_options(window=16))
    rows, complete = windows.extract(cut), windows.extract(whole)
    assert 1 < len(rows) < len(complete)
    torch.testing.assert_close(rows.features["rgb"][:-1], complete.features["rgb"][: len(rows) - 1])
    assert "the file is damaged" in rows.notes[0]
    assert complete.notes == ()
    broken = build_model("i3d_tiny", num_classes=2).eval()
    torch.nn.init.constant_(next(broken.parameters()), float("nan"))
    with pytest.raises(InvalidInputError, match=r"rgb features of .* contain NaN or infinity in row 0"):
        FeatureExtractor([broken], OURS).extract(video(place, 32))


def test_unsuitable_networks_are_refused(tiny: VideoModel, tiny_flow: VideoModel) -> None:
    with pytest.raises(InvalidInputError, match="at least one network"):
        FeatureExtractor([])
    with pytest.raises(InvalidInputError, match="there is already a network for rgb"):
        FeatureExtractor([tiny, tiny])
    with pytest.raises(InvalidInputError, match="different sizes"):
        FeatureExtractor([tiny, build_model("i3d", stream="flow", num_classes=2)])
    with pytest.raises(InvalidInputError, match=r"window of 8 frames is too short for i3d_tiny, .* at least 9"):
        FeatureExtractor([tiny], OURS.with_options(window=8))
    with pytest.raises(InvalidInputError, match="batch_frames"):
        FeatureExtractor([tiny], OURS, batch_frames=0)
    with pytest.raises(InvalidInputError, match="conv3d_tiny has no temporal receptive field"):
        FeatureExtractor([build_model("conv3d_tiny", num_classes=2)], OURS.whole())


def test_presets_are_data() -> None:
    assert find_feature_preset("ms-tcn").window == 21
    with pytest.raises(LookupError, match="did you mean 'actionformer'"):
        find_feature_preset("action-former")
    for preset in FEATURE_PRESETS.values():
        assert preset.source
        assert preset.name == "quovadis" or preset.differs
    spec = build_model("i3d", num_classes=1).spec
    assert (OURS.window_frames(spec), OURS.stride_frames(spec), OURS.rate(spec)) == (64, 64, 25)
    assert FEATURE_PRESETS["actionformer"].size(spec) == (256, 340)
    assert (FEATURE_PRESETS["pytorch-i3d"].window, OURS.size(spec)) == (WHOLE, None)
    assert FEATURE_PRESETS["ms-tcn"].whole().padding == "none"
    for bad in (
        {"window": -1},
        {"stride": 0},
        {"fps": 0},
        {"fps": "fast"},
        {"window": WHOLE, "padding": "edge"},
        {"window": WHOLE, "stride": 8},
        {"crop": "ten", "shape": "DT"},
    ):
        with pytest.raises(InvalidInputError):
            FeaturePreset("mine", "here", **bad)  # type: ignore[arg-type]
