"""All networks of the paper through one loop: from video files to figures, and the loss at every step of the LSTM."""

import io
import lzma
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quovadis.datasets.clip_dataset import ClipDataset, EpochBatchSampler
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.datasets.motions import MotionsConfig, motions_clip
from quovadis.errors import TrainingError, UnknownNameError
from quovadis.evaluation.evaluator import evaluate
from quovadis.flow import source as flow_files
from quovadis.inference.recognizer import Recognizer
from quovadis.models.layers import ShiftBatchNorm, StepBatchNorm
from quovadis.models.zoo import MODELS
from quovadis.training.loop import train
from quovadis.training.recipes import DataConfig, ModelConfig, OptimizerConfig, Recipe, ScheduleConfig
from quovadis.training.run_folder import read_log
from quovadis.transforms import to_model
from quovadis.video.clip import Clip
from quovadis.video.writer import write_video
from quovadis.weights.files import load_weights
from quovadis.weights.load import create_model
from tests.models.test_inflate import GOLDEN

SHOWN = ("disc slides", "square bounces")
TINY = [(name, stream) for name in MODELS if name.endswith("_tiny") for stream in MODELS[name].streams]


def recipe(name: str, stream: str | None = None, **model: object) -> Recipe:
    return Recipe(
        name="test",
        max_steps=2,
        validate_every=2,
        model=ModelConfig(name=name, stream=stream, batch_norm_momentum=0.5, batch_norm_clips=0, **model),  # type: ignore[arg-type]
        optimizer=OptimizerConfig(learning_rate=0.01),
        data=DataConfig(batch_size=2, num_workers=0),
    )


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Two classes of the embedded dataset, two videos of each for training, one each for the rest."""
    root, config = tmp_path_factory.mktemp("motions"), MotionsConfig()
    records = []
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        for label, name in enumerate(SHOWN):
            for number in range(count):
                clip = motions_clip(config, split, config.labels.index(name), number)
                path = write_video(root / split / name / f"{number}.mp4", clip.frames, options={"preset": "ultrafast"})
                records.append(VideoRecord(path, label, split))
    return Manifest("motions", root, SHOWN, tuple(records))


@pytest.fixture
def quick_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences of brightness in the place of TV-L1, whose own tests are elsewhere."""

    def differences(clip: Clip, **_: object) -> Clip:
        gray = clip.frames.float().mean(1, keepdim=True)
        return replace(clip, flow=(gray.roll(-1, 0) - gray).repeat(1, 2, 1, 1) / 10)

    monkeypatch.setattr(flow_files, "flow_for_clip", differences)


@pytest.mark.usefixtures("quick_flow")
@pytest.mark.parametrize(("name", "stream"), TINY)
def test_each_network_trains_and_is_evaluated_by_its_protocol(
    motions: Manifest, tmp_path: Path, name: str, stream: str
) -> None:
    folder = train(recipe(name, stream), motions, tmp_path)
    rows = list(read_log(folder.log))
    assert [row["step"] for row in rows] == [1, 2, 2]
    assert all(torch.isfinite(torch.tensor(row.get("loss", row.get("val_loss")))) for row in rows)
    info = load_weights(folder.best)[1]
    assert (info.model, info.options) == (name, {"stream": stream, "num_classes": 2})
    assert (info.source["flow_method"] == "tvl1") is ("flow" in stream)
    recognizer = Recognizer.load(folder.root)
    assert recognizer.models[0].spec.stream == stream
    result = evaluate(recognizer, motions, num_workers=0)
    assert (result.num_videos, result.unreadable) == (2, ())
    assert result.protocol.startswith(f"{recognizer.spec.protocol}: ")


@pytest.mark.usefixtures("quick_flow")
def test_default_streams_are_those_of_the_paper(motions: Manifest, tmp_path: Path) -> None:
    folder = train(recipe("two_stream_tiny"), motions, tmp_path / "run")
    again = train(recipe("two_stream_tiny", weights=str(folder.root)), motions, tmp_path / "again")
    assert load_weights(again.best)[1].options["stream"] == "rgb+flow"
    with pytest.raises(TrainingError, match=r"holds two_stream_tiny \(rgb\+flow\); the recipe asks for .* \(rgb\)"):
        train(recipe("two_stream_tiny", "rgb", weights=str(folder.root)), motions, tmp_path / "other")
    with pytest.raises(UnknownNameError, match="unknown stream 'both'"):
        train(recipe("two_stream_tiny", "both"), motions, tmp_path / "other")


@pytest.mark.usefixtures("on_cpu")
def test_lstm_loss_includes_every_time_step(motions: Manifest, tmp_path: Path) -> None:
    """One step of training against the same by hand, with the cross-entropy of each step written out."""
    plain = replace(
        recipe("convnet_lstm_tiny", dropout=0.0),
        max_steps=1,
        validate_every=1,
        optimizer=OptimizerConfig(learning_rate=0.05, momentum=0.0, weight_decay=0.0),
    )
    folder = train(plain, motions, tmp_path)
    after = load_weights(folder.last)[0]
    torch.manual_seed(plain.seed)
    model = create_model("convnet_lstm_tiny", num_classes=2, dropout=0.0).channels_last()
    for module in model.modules():
        if isinstance(module, ShiftBatchNorm | StepBatchNorm):
            module.momentum = 0.5
    clips = ClipDataset(motions.split("train"), model.spec, seed=plain.seed)
    samples = [clips[key] for key in next(iter(EpochBatchSampler(len(clips), 2, seed=plain.seed)))]
    x = to_model(torch.stack([s["streams"][0] for s in samples]))
    scores = model(x.contiguous(memory_format=torch.channels_last_3d)).log_softmax(2)
    assert scores.shape == (2, 8, 2)
    losses = [-scores[i, t, s["label"]] for i, s in enumerate(samples) for t in range(8)]
    loss = torch.stack(losses).mean()
    loss.backward()
    row = next(iter(read_log(folder.log)))
    assert row["loss"] == pytest.approx(loss.item(), abs=1e-5)
    right = sum(int(scores[i, -1].argmax()) == s["label"] for i, s in enumerate(samples))
    assert row["accuracy"] == right / 2, "the last step answers"
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(after[name], parameter.detach() - 0.05 * parameter.grad, atol=1e-5, rtol=1e-3)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(after[name], buffer, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_training_starts_from_a_2d_network(motions: Manifest, tmp_path: Path) -> None:
    """At full size, on single frames, with a rate of zero: the weights of the file come out again."""
    packed = (GOLDEN / "googlenet_torchvision.pt.xz").read_bytes()
    googlenet = torch.load(io.BytesIO(lzma.decompress(packed)), weights_only=True)
    torch.save(googlenet, tmp_path / "googlenet.pth")
    still = replace(
        recipe("two_stream", "rgb", weights=str(tmp_path / "googlenet.pth")),
        max_steps=1,
        validate_every=1,
        optimizer=OptimizerConfig(learning_rate=0.0),
        schedule=ScheduleConfig(min_learning_rate=0.0),
    )
    after = load_weights(train(still, motions, tmp_path / "run").last)[0]
    gamma = googlenet["inception4c.branch2.1.bn.weight"].view(-1, 1, 1, 1)
    found = after["trunks.rgb.Mixed_4d.Branch_1.Conv2d_0b_3x3.conv.weight"]
    torch.testing.assert_close(found, googlenet["inception4c.branch2.1.conv.weight"] * gamma)
    assert after["head.rgb.weight"].shape == (2, 1024)
