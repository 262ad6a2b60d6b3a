import csv
import io
import json
from pathlib import Path

import pytest
import torch

from quovadis.errors import InvalidInputError, VideoError
from quovadis.inference.prediction import Prediction, Window
from quovadis.inference.recognizer import Recognizer
from quovadis.inference.timeline import Segment, Timeline, make_timeline
from quovadis.models.zoo import build_model
from quovadis.report.timeline import read_thumbnails, write_timeline
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import awake, moving_square

LABELS = ("run", "jump", "swim")


def timeline(rows: list[list[float]], *, window: float = 2.0, stride: float = 1.0, smooth: float = 0.0) -> Timeline:
    """A timeline of probabilities, one row per window."""
    windows = tuple(
        Window(i * stride, i * stride + window, torch.tensor(row).clamp_min(1e-9).log()) for i, row in enumerate(rows)
    )
    return Timeline(Prediction("v.mp4", LABELS, torch.zeros(3), windows), smooth)


RUN, JUMP, SWIM = [0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]


def test_neighboring_windows_of_one_class_are_merged() -> None:
    segments = timeline([RUN, RUN, JUMP, RUN]).segments()
    assert [(s.start_seconds, s.stop_seconds, s.label) for s in segments] == [
        (0.0, 2.5, "run"),
        (2.5, 3.5, "jump"),
        (3.5, 5.0, "run"),
    ]
    assert segments[0].probability == pytest.approx(0.8)
    assert [s.probability for s in segments[1:]] == pytest.approx([0.7, 0.8])


def test_last_window_may_overlap_the_one_before() -> None:
    """The recognizer moves it back to end with the video."""
    windows = [Window(s, s + 2.0, torch.tensor(RUN)) for s in (0.0, 2.0, 4.0, 4.5)]
    cells = Timeline(Prediction("v", LABELS, torch.zeros(3), tuple(windows))).cells()
    assert cells == [(0.0, 2.0), (2.0, 4.0), (4.0, 5.25), (5.25, 6.5)]
    one = Timeline(Prediction("v", LABELS, torch.zeros(3), tuple(windows[:1])))
    assert one.cells() == [(0.0, 2.0)]
    assert len(one.segments()) == 1


def test_improbable_windows_leave_a_gap() -> None:
    segments = timeline([RUN, SWIM, RUN, RUN]).segments(0.5)
    assert [(s.start_seconds, s.stop_seconds) for s in segments] == [(0.0, 1.5), (2.5, 5.0)]
    assert timeline([RUN, JUMP]).segments(0.9) == ()


def test_smoothing_averages_neighbors() -> None:
    rows = [RUN, RUN, JUMP, RUN, RUN]
    smooth = timeline(rows, smooth=2.0)
    expected = torch.tensor(rows)
    expected = torch.stack([expected[max(i - 1, 0) : i + 2].mean(0) for i in range(5)])
    torch.testing.assert_close(smooth.probabilities, expected)
    assert [s.label for s in smooth.segments()] == ["run"]
    torch.testing.assert_close(timeline(rows, smooth=1.9).probabilities, timeline(rows).probabilities)


def test_curves_of_the_classes_that_last_longest() -> None:
    line = timeline([SWIM, SWIM, SWIM, JUMP, JUMP, RUN])
    assert line.top_labels(3) == ["swim", "jump", "run"]
    assert timeline([RUN, SWIM, SWIM]).top_labels(2) == ["swim", "run"]
    assert line.curves(["run"])["run"] == pytest.approx([0.3, 0.3, 0.3, 0.2, 0.2, 0.8])


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    torch.manual_seed(0)
    return Recognizer([awake(build_model("i3d_tiny", num_classes=3))], LABELS)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("v")
    return write_video(folder / "v.mp4", moving_square(60, 72, 90), **LOSSLESS)


def test_files_of_a_timeline(recognizer: Recognizer, video: Path, tmp_path: Path) -> None:
    line = make_timeline(recognizer, video)
    assert line.center_seconds == pytest.approx([0.32 * (i + 1) for i in range(6)] + [2.08], abs=1e-6)
    files = write_timeline(line, tmp_path, k=2)
    assert [f.name for f in files] == ["v.timeline.json", "v.timeline.csv", "v.timeline.png"]
    kept = json.loads(files[0].read_text())
    assert [Segment(**s) for s in kept["segments"]] == list(line.segments())
    assert list(kept["curves"]) == line.top_labels(2)
    rows = list(csv.DictReader(io.StringIO(files[1].read_text())))
    assert [(float(r["start_seconds"]), r["label"]) for r in rows] == [
        (pytest.approx(s.start_seconds, abs=1e-3), s.label) for s in line.segments()
    ]
    assert files[2].read_bytes().startswith(b"\x89PNG")
    other = make_timeline(recognizer, video, window_seconds=0.4, stride_seconds=1.0, smooth_seconds=2.0)
    assert [w.start_seconds for w in other.prediction.windows] == [0, 1, 2]


def test_filmstrip_shows_the_frames_at_their_times(video: Path) -> None:
    times, pictures = read_thumbnails(video, [], (0.0, 2.4))
    assert times == pytest.approx([(i + 0.5) * 2.4 / len(pictures) for i in range(len(pictures))])
    assert len({tuple(p.shape) for p in pictures}) == 1
    assert pictures[0].shape == (3, 96, 120)
    assert len(pictures) == round(13 * 0.95 / 1.25)
    # The bright square moves a pixel to the right with every frame.
    left = [int((p[:, 20].float().mean(0) > 150).nonzero().min()) for p in pictures]
    step = 60 / len(pictures)
    assert left == pytest.approx([round((i + 0.5) * step) * 96 / 72 for i in range(len(pictures))], abs=2.5)


def test_timeline_of_a_slow_video_covers_all_of_it(recognizer: Recognizer, tmp_path: Path) -> None:
    """Four frames, two seconds each; every frame of the filmstrip is the one on screen at its time."""
    path = write_video(tmp_path / "slow.mp4", moving_square(4, 72, 90), fps=0.5, **LOSSLESS)
    line = make_timeline(recognizer, path, window_seconds=1.0, stride_seconds=1.0)
    cells = line.cells()
    assert (cells[0][0], cells[-1][1]) == (0, pytest.approx(8.0))
    with VideoReader(path) as reader:
        small = [resize_frames(f.pixels[None], 96)[0] for f in reader.frames()]
    _, pictures = read_thumbnails(path, [], (0.0, 8.0))
    for i, picture in enumerate(pictures):
        assert torch.equal(picture, small[int((i + 0.5) * 8 / len(pictures) // 2)])


def test_invalid_arguments_are_refused(recognizer: Recognizer, video: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError):
        make_timeline(recognizer, tmp_path / "none.mp4")
    with pytest.raises(InvalidInputError, match="smooth_seconds"):
        make_timeline(recognizer, video, smooth_seconds=-1)
    line = make_timeline(recognizer, video)
    for options in ({"k": 0}, {"min_probability": 1.5}):
        with pytest.raises(InvalidInputError, match="min_probability"):
            write_timeline(line, tmp_path, **options)  # type: ignore[arg-type]
