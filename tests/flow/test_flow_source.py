"""FlowSource: stored flow reaches the model for the right frames; flow that does not match is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quovadis.datasets.clip_dataset import ClipDataset
from quovadis.datasets.load import load_dataset
from quovadis.errors import InvalidInputError
from quovadis.evaluation.evaluator import evaluate, evaluate_streams
from quovadis.flow.codec import FlowPreset, encode_flow, preset_for
from quovadis.flow.flow_files import FlowFileWriter, VideoFingerprint
from quovadis.flow.source import FlowSource
from quovadis.inference.recognizer import Recognizer
from quovadis.models.spec import ModelSpec, StreamSpec
from quovadis.models.zoo import build_model
from quovadis.video.clip import Clip
from tests.synthetic import write_square

SPEC = ModelSpec("flow", (StreamSpec("flow", 2, 8),), size_px=32, short_side_px=40, min_frames=2, test_frames=12)
PRESET = preset_for(short_side_px=40)


@pytest.fixture(autouse=True)
def _no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if flow is estimated instead of read."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("flow was estimated")

    monkeypatch.setattr("quovadis.flow.source.flow_for_clip", refuse)


def numbered_flow(num_flows: int = 23) -> torch.Tensor:
    """Flow whose value is its index: x is t / 2 pixels, y is -t / 2."""
    t = torch.arange(num_flows) / 2.0
    return torch.stack([t, -t], 1)[:, :, None, None].expand(-1, -1, 40, 48).contiguous()


def store(video: Path, path: Path, preset: FlowPreset = PRESET) -> Path:
    with FlowFileWriter(path, VideoFingerprint.of(video), preset) as writer:
        writer.write(numbered_flow())
    return path


def numbers(flow_levels: torch.Tensor) -> list[int]:
    """Return the indices t of encoded flows, uint8 (T, 2, H, W)."""
    return [round(2 * (float(level) / 255 * 40 - 20)) for level in flow_levels[:, 0].float().mean((1, 2))]


def test_dataset_reads_the_flow_of_its_frames(two_classes: Path, tmp_path: Path) -> None:
    data = load_dataset(two_classes)
    records = data.split("train")
    source = FlowSource(folder=tmp_path, videos=data.root)
    for record in records:
        store(record.path, source.file_of(record.path))
    dataset = ClipDataset(records, SPEC, flow=source, flip=False)
    starts = set()
    for epoch in range(4):
        sample = dataset[(epoch, 0)]
        assert not sample["unreadable"]
        seen = numbers(sample["streams"][0])
        assert seen == list(range(seen[0], seen[0] + 8)) or seen[-1] == 22  # the last frame has the flow before it
        starts.add(seen[0])
    assert len(starts) > 1
    middle = ClipDataset(records, SPEC, flow=source, augment=False)[(0, 0)]
    assert numbers(middle["streams"][0]) == list(range(8, 16))


def test_flow_next_to_the_video_is_found(tmp_path: Path) -> None:
    video = write_square(tmp_path / "v.mp4", seed=0)
    store(video, tmp_path / "v.flow.mp4")
    clip = Clip(torch.zeros(4, 3, 40, 48, dtype=torch.uint8), torch.arange(4) / 25, source=str(video))
    filled = FlowSource().add_to(clip, fps=25, short_side_px=40, first_frame_index=20)
    assert filled.flow is not None
    assert numbers(encode_flow(filled.flow)) == [20, 21, 22, 22]


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        (preset_for("tvl1-fast", short_side_px=40), "method is 'tvl1-fast'"),
        (preset_for(), "short_side_px is 256, not 40"),
        (replace(PRESET, fps=30), "fps is 30, not 25"),
    ],
)
def test_flow_of_another_preset_is_refused(tmp_path: Path, preset: FlowPreset, words: str) -> None:
    video = write_square(tmp_path / "v.mp4", seed=0)
    store(video, tmp_path / "v.flow.mp4", preset)
    clip = Clip(torch.zeros(4, 3, 40, 48, dtype=torch.uint8), torch.arange(4) / 25, source=str(video))
    with pytest.raises(InvalidInputError, match=words):
        FlowSource().add_to(clip, fps=25, short_side_px=40, first_frame_index=0)


def test_flow_of_another_video_is_refused(tmp_path: Path) -> None:
    video = write_square(tmp_path / "v.mp4", seed=0)
    store(video, tmp_path / "v.flow.mp4")
    clip = Clip(torch.zeros(4, 3, 40, 48, dtype=torch.uint8), torch.arange(4) / 25, source=str(video))
    FlowSource().add_to(clip, fps=25, short_side_px=40, first_frame_index=0)
    write_square(video, seed=1)  # changed after its flow was stored
    with pytest.raises(InvalidInputError, match="another video"):
        FlowSource().add_to(clip, fps=25, short_side_px=40, first_frame_index=0)


@pytest.mark.slow
def test_two_streams_are_evaluated_separately_and_together(two_classes: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = load_dataset(two_classes)
    models = [build_model("i3d_tiny", stream=stream, num_classes=2) for stream in ("rgb", "flow")]
    for model in models:
        for parameter in list(model.parameters())[-2:]:
            parameter.data.mul_(300)  # the logits of a random head are nearly zero
    source = FlowSource(folder=tmp_path)
    short_side_px = models[0].spec.short_side_px
    preset = preset_for(short_side_px=short_side_px)
    for record in data.split("test"):
        path = FlowSource(folder=tmp_path, videos=data.root).file_of(record.path)
        scaled = torch.nn.functional.interpolate(numbered_flow(), (short_side_px, round(short_side_px * 1.2)))
        with FlowFileWriter(path, VideoFingerprint.of(record.path), preset) as writer:
            writer.write(scaled)
    recognizer = Recognizer(models, data.labels, flow=source)
    results = evaluate_streams(recognizer, data, num_workers=0)
    assert [r.model for r in results] == ["i3d_tiny (rgb)", "i3d_tiny (flow)", "i3d_tiny (rgb + flow)"]
    assert evaluate(recognizer, data, num_workers=0).loss == results[-1].loss
    for model, result in zip(models, results, strict=False):
        alone = evaluate(Recognizer([model], data.labels, flow=source), data, num_workers=0)
        assert alone.loss == pytest.approx(result.loss, abs=1e-5)
    losses = [r.loss for r in results]
    assert len({round(loss, 4) for loss in losses}) == 3


def test_windows_of_a_prediction_read_their_own_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_square(tmp_path / "v.mp4", seed=0)
    model = build_model("i3d_tiny", stream="flow", num_classes=2)
    short_side_px = model.spec.short_side_px
    scaled = torch.nn.functional.interpolate(numbered_flow(), (short_side_px, round(short_side_px * 1.2)))
    with FlowFileWriter(
        tmp_path / "v.flow.mp4", VideoFingerprint.of(video), preset_for(short_side_px=short_side_px)
    ) as writer:
        writer.write(scaled)
    seen: list[list[int]] = []

    def spy(self: Recognizer, clip: Clip) -> list[torch.Tensor]:
        assert clip.flow is not None
        seen.append(numbers(encode_flow(clip.flow)))
        return [torch.zeros(2)]

    monkeypatch.setattr(Recognizer, "stream_logits", spy)
    Recognizer([model], ["a", "b"]).predict(video, window_seconds=16 / 25, stride_seconds=5 / 25)
    assert seen == [list(range(16)), list(range(5, 21)), [*range(8, 23), 22]]
