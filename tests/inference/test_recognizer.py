from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quovadis import transforms
from quovadis.errors import InvalidInputError, VideoError, WeightsError
from quovadis.flow import source as flow_files
from quovadis.inference.recognizer import Recognizer
from quovadis.models.spec import ModelSpec
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.video.read import read_clip
from quovadis.video.resize import resize_frames
from quovadis.video.sampling import windows
from quovadis.video.writer import LOSSLESS, write_video
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from tests.synthetic import moving_square, numbered_clip, numbers_of, with_numbered_flow

LABELS = ("run", "jump", "swim")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    torch.manual_seed(0)
    return Recognizer([build_model("i3d_tiny", num_classes=3)], LABELS)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("v") / "long.mp4", moving_square(110, 72, 90), **LOSSLESS)


def test_prediction_is_the_mean_over_windows(recognizer: Recognizer, long_video: Path) -> None:
    """110 frames in windows of 32: at 0, 32, 64 and, moved back to the end, 78."""
    prediction = recognizer.predict(long_video, window_seconds=32 / 25)
    assert [round(w.start_seconds * 25) for w in prediction.windows] == [0, 32, 64, 78]
    assert [round(w.stop_seconds * 25) for w in prediction.windows] == [32, 64, 96, 110]
    model, spec = recognizer.models[0], recognizer.spec
    whole = resize_frames(read_clip(long_video).frames, spec.short_side_px)
    left, top = (whole.shape[3] - 64) // 2, (whole.shape[2] - 64) // 2
    crop = whole[:, :, top : top + 64, left : left + 64]
    with torch.inference_mode():
        expected = [model(transforms.to_model(crop[s : s + 32]).unsqueeze(0))[0] for s in (0, 32, 64, 78)]
    for window, logits in zip(prediction.windows, expected, strict=True):
        torch.testing.assert_close(window.logits, logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(prediction.logits, torch.stack(expected).mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(prediction.probabilities.sum(), torch.tensor(1.0))


def test_window_and_stride(recognizer: Recognizer, long_video: Path) -> None:
    prediction = recognizer.predict(long_video, window_seconds=1.0, stride_seconds=0.5)
    found = [(round(w.start_seconds * 25), round(w.stop_seconds * 25)) for w in prediction.windows]
    assert found == windows(110, 25, 12)
    assert found[-2:] == [(84, 109), (85, 110)]
    with pytest.raises(InvalidInputError, match=r"a window of 5 frames is too short .* use 0.36 seconds or more"):
        recognizer.predict(long_video, window_seconds=0.2)
    with pytest.raises(InvalidInputError, match="stride must be at least one frame"):
        recognizer.predict(long_video, stride_seconds=0.0)


def test_window_times_are_independent_of_frame_times(recognizer: Recognizer, tmp_path: Path) -> None:
    """At one frame per two seconds, several windows contain the same frame."""
    path = write_video(tmp_path / "slow.mp4", moving_square(3, 72, 90), fps=0.5, **LOSSLESS)
    found = recognizer.predict(path, window_seconds=1.0).windows
    assert [w.start_seconds for w in found] == pytest.approx([0, 1, 2, 3, 4, 5])
    assert [w.stop_seconds for w in found] == pytest.approx([1, 2, 3, 4, 5, 6])


def test_notes_about_the_file_are_in_the_prediction(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(20, 72, 90), options={"x264-params": "tff=1"})
    (note,) = recognizer.predict(path).notes
    assert "interlaced" in note


def test_windows_that_fit_exactly_are_not_repeated(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", moving_square(64, 72, 90), **LOSSLESS)
    assert [round(w.start_seconds * 25) for w in recognizer.predict(path).windows] == [0, 16, 32, 48]


@pytest.mark.parametrize(("num_frames", "stops"), [(80, [40, 80]), (81, [40, 80]), (82, [40, 80, 82])])
def test_rest_below_5_percent_of_a_window_is_not_used(
    num_frames: int, stops: list[int], recognizer: Recognizer, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "v.mp4", moving_square(num_frames, 72, 90), **LOSSLESS)
    found = recognizer.predict(path, window_seconds=40 / 25).windows
    assert [round(w.stop_seconds * 25) for w in found] == stops
    every_frame = recognizer.predict(path, window_seconds=40 / 25, stride_seconds=40 / 25).windows
    assert round(every_frame[-1].stop_seconds * 25) == num_frames


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_short_video_is_looped_with_a_note(recognizer: Recognizer, tmp_path: Path, num_frames: int) -> None:
    path = write_video(tmp_path / "short.mp4", moving_square(num_frames, 72, 90), **LOSSLESS)
    prediction = recognizer.predict(path)
    assert prediction.notes == (f"the video has {num_frames} frames at 25 fps; looped to 16",)
    looped = write_video(
        tmp_path / "looped.mp4", moving_square(num_frames, 72, 90)[torch.arange(16) % num_frames], **LOSSLESS
    )
    torch.testing.assert_close(prediction.logits, recognizer.predict(looped).logits, atol=1e-5, rtol=0)


def test_memory_does_not_grow_with_the_video(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quovadis.video import reader

    alive, most = set(), [0]
    original = reader.VideoFrame.__init__

    def counted(self: reader.VideoFrame, *args: object) -> None:
        import weakref

        original(self, *args)  # type: ignore[arg-type]
        alive.add(id(self))
        weakref.finalize(self, alive.discard, id(self))
        most[0] = max(most[0], len(alive))

    monkeypatch.setattr(reader.VideoFrame, "__init__", counted)
    path = write_video(tmp_path / "v.mp4", moving_square(200, 72, 90), options={"preset": "ultrafast"})
    recognizer.predict(path)
    assert most[0] <= 6


def test_damaged_video_is_recognized_from_the_part_that_decodes(recognizer: Recognizer, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "w.avi", moving_square(100, 72, 90), codec="mpeg4", options={"g": "5"})
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    prediction = recognizer.predict(cut)
    assert "damaged" in prediction.notes[-1]
    with pytest.raises(VideoError):
        recognizer.predict(tmp_path / "none.mp4")


def test_logits_of_models_are_added(long_video: Path) -> None:
    a, b = build_model("i3d_tiny", num_classes=3), build_model("i3d_tiny", num_classes=3)
    one, two = Recognizer([a], LABELS).predict(long_video), Recognizer([b], LABELS).predict(long_video)
    both = Recognizer([a, b], LABELS)
    torch.testing.assert_close(both.predict(long_video).logits, one.logits + two.logits, atol=1e-5, rtol=0)
    assert both.describe() == "i3d_tiny (rgb + rgb)"


def test_models_that_cannot_be_fused_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one model"):
        Recognizer([], LABELS)
    with pytest.raises(InvalidInputError, match="has 2 classes, but there are 3 labels"):
        Recognizer([build_model("i3d_tiny", num_classes=2)], LABELS)
    with pytest.raises(InvalidInputError, match="different frame rates or sizes"):
        Recognizer([build_model("i3d_tiny", num_classes=3), build_model("i3d", num_classes=3)], LABELS)


def test_loading_from_files_and_run_folders(tmp_path: Path) -> None:
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 3}, LABELS)
    save_weights(tmp_path / "best.safetensors", build_model("i3d_tiny", num_classes=3).state_dict(), info)
    assert Recognizer.load(tmp_path).labels == LABELS
    other = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 3}, ("a", "b", "c"))
    save_weights(tmp_path / "other.safetensors", build_model("i3d_tiny", num_classes=3).state_dict(), other)
    with pytest.raises(InvalidInputError, match="have different classes"):
        Recognizer.load(tmp_path, tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError):
        Recognizer.load(tmp_path / "empty")


class Recording(VideoModel):
    """Model that records the frames of its inputs; its logits are the number of the first frame."""

    def __init__(self, name: str, stream: str | None = None):
        super().__init__()
        with torch.device("meta"):
            spec: ModelSpec = build_model(name, stream=stream).spec
        self.spec = replace(spec, size_px=16, short_side_px=16)
        self.bias = nn.Parameter(torch.zeros(1))
        self.num_classes = self.feature_dim = 1
        self.seen: list[list[dict[str, list[int]]]] = []

    def __deepcopy__(self, memo: object) -> "Recording":
        return self  # the optimized copy records its inputs here

    def forward(self, *streams: Tensor) -> Tensor:
        return self.classify(self.features(*streams))

    def features(self, *streams: Tensor) -> Tensor:
        self.check_inputs(*streams)
        frames = [((x + 1) * 127.5).round().to(torch.uint8).transpose(1, 2) for x in streams]
        kinds = [s.kind for s in self.spec.streams]
        self.seen.append([dict(zip(kinds, map(numbers_of, clip), strict=True)) for clip in zip(*frames, strict=True)])
        return torch.stack([clip[0, 0, 0, 0].float().view(1, 1) for clip in frames[0]])

    def classify(self, features: Tensor) -> Tensor:
        return features[:, 0]

    def first_filters(self) -> dict[str, Tensor]:
        return {}

    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        raise AssertionError("a recognizer needs no endpoints")

    def new_head(self, num_classes: int) -> nn.Module:
        raise AssertionError("a recognizer replaces no classifier")


@pytest.fixture
def numbered_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of 256 numbered frames; its flow carries the numbers too."""
    monkeypatch.setattr(flow_files, "flow_for_clip", with_numbered_flow)
    return write_video(tmp_path / "numbered.mp4", numbered_clip(256).frames, **LOSSLESS)


def test_network_on_every_fifth_frame(numbered_video: Path) -> None:
    model = Recording("convnet_lstm")
    prediction = Recognizer([model], ["a"]).predict(numbered_video, stride_seconds=10)
    assert model.seen == [[{"rgb": list(range(0, 250, 5))}], [{"rgb": list(range(10, 256, 5))}]]
    assert [round(w.start_seconds * 25) for w in prediction.windows] == [0, 10]
    assert [round(w.stop_seconds * 25) for w in prediction.windows] == [250, 256]
    model.seen.clear()
    Recognizer([model], ["a"]).predict(numbered_video, window_seconds=4, stride_seconds=2.2)
    assert [clip["rgb"][:2] + clip["rgb"][-1:] for (clip,) in model.seen] == [
        [0, 5, 95], [55, 60, 150], [110, 115, 205], [160, 165, 255],
    ]  # fmt: skip


def test_video_shorter_than_the_window_has_one_window_for_any_stride(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mp4", numbered_clip(99).frames, **LOSSLESS)
    model = Recording("convnet_lstm")
    Recognizer([model], ["a"]).predict(path, window_seconds=4, stride_seconds=1 / 25)
    assert model.seen == [[{"rgb": list(range(0, 99, 5))}]]


def test_two_streams_get_frames_of_the_same_time(numbered_video: Path) -> None:
    model = Recording("two_stream")
    Recognizer([model], ["a"]).predict(numbered_video, stride_seconds=10)
    first, last = model.seen
    assert first == [{"rgb": [10 * n + 5], "flow": list(range(10 * n, 10 * n + 10))} for n in range(25)]
    assert last == [{"rgb": [10 * n + 11], "flow": list(range(10 * n + 6, 10 * n + 16))} for n in range(25)]


def test_clips_are_scored_in_batches_and_averaged() -> None:
    """33 clips of 16 frames, at most 15 at a time, so memory does not grow with the video."""
    model = Recording("conv3d")
    logits = Recognizer([model], ["a"]).logits(numbered_clip(16 * 33))
    assert [len(batch) for batch in model.seen] == [15, 15, 3]
    numbers = [clip["rgb"][0] for batch in model.seen for clip in batch]
    assert numbers == [16 * n % 256 for n in range(33)]
    assert float(logits) == pytest.approx(sum(numbers) / 33)


def test_short_video_is_looped_for_two_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_files, "flow_for_clip", with_numbered_flow)
    path = write_video(tmp_path / "short.mp4", numbered_clip(7).frames, **LOSSLESS)
    model = Recording("two_stream")
    prediction = Recognizer([model], ["a"]).predict(path)
    assert model.seen == [[{"rgb": [5], "flow": [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]}]]
    assert prediction.notes == ("the video has 7 frames at 25 fps; looped to 10",)


def test_models_with_different_clip_strides_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="different frame rates or sizes"):
        Recognizer([Recording("convnet_lstm"), Recording("i3d")], ["a"])
    Recognizer([Recording("two_stream"), Recording("i3d")], ["a"])
