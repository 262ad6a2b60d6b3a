"""Live recognition: due windows, dropped frames and errors, with a simulated clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quovadis.errors import InvalidInputError, VideoError
from quovadis.flow.estimate import flow_for_clip
from quovadis.flow.source import FlowSource
from quovadis.inference import live as module
from quovadis.inference.live import Watcher, WatchRow, watch
from quovadis.inference.recognizer import Recognizer
from quovadis.models.zoo import build_model
from quovadis.video.clip import Clip
from quovadis.video.live import LiveFrame
from tests.synthetic import awake, moving_square

FPS = 25.0


class NumberedFrame:
    """A frame whose pixels are its number."""

    def __init__(self, number: int):
        self.pixels = torch.full((3, 48, 64), number % 256, dtype=torch.uint8)


def live_frame(number: int, restarted: bool = False) -> LiveFrame:
    return LiveFrame(number, number / FPS, NumberedFrame(number), restarted or number == 0)  # type: ignore[arg-type]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Model:
    """Stands in for a recognizer: records its frames and calls a function during inference."""

    def __init__(self, during: Callable[[], None] = lambda: None):
        self.spec = build_model("i3d_tiny", num_classes=2).spec
        self.labels = ("first", "second")
        self.needs_flow, self.device, self.flow = False, torch.device("cpu"), FlowSource("tvl1-fast")
        self.inputs: list[list[int]] = []
        self._during = during

    def read_transform(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda frames: frames[..., :16, :16]

    def logits(self, clip: Clip) -> torch.Tensor:
        self.inputs.append(clip.frames[:, 0, 0, 0].tolist())
        self._during()
        return torch.tensor([2.0, 0.0])


class Stream:
    """Stands in for a :class:`LiveStream`."""

    name = "stream"

    def __init__(self, frames: Iterator[LiveFrame], is_live: bool = False):
        self._frames, self.is_live = frames, is_live

    def frames(self, fps: float) -> Iterator[LiveFrame]:
        return self._frames


def watcher_of(model: Any, window: int, stride: int, clock: Callable[[], float] = lambda: 0.0) -> Watcher:
    return Watcher(model, window_seconds=window / FPS, stride_seconds=stride / FPS, clock=clock)


def rows_of(watcher: Watcher, frames: Any) -> list[WatchRow]:
    return list(watch(watcher, Stream(iter(frames)), fps=FPS))  # type: ignore[arg-type]


def test_no_frames_of_a_file_are_dropped() -> None:
    model = Model()
    rows = rows_of(watcher_of(model, 16, 10), (live_frame(n) for n in range(50)))
    ends = [16, 26, 36, 46, 50]  # the last one is moved back to end with the file
    assert model.inputs == [list(range(end - 16, end)) for end in ends]
    assert [round(r.stop_seconds * FPS) for r in rows] == ends
    assert [round(r.start_seconds * FPS) for r in rows] == [end - 16 for end in ends]
    assert all(r.dropped_frames == r.late_windows == 0 for r in rows)


def test_frames_between_distant_windows_are_not_dropped() -> None:
    model = Model()
    rows = rows_of(watcher_of(model, 16, 40), (live_frame(n) for n in range(96)))
    assert [s[-1] for s in model.inputs] == [15, 55, 95]
    assert all(r.dropped_frames == 0 for r in rows)


def test_stream_shorter_than_a_window_is_looped() -> None:
    model = Model()
    (row,) = rows_of(watcher_of(model, 16, 8), (live_frame(n) for n in range(7)))
    assert model.inputs == [[*range(7), *range(7), 0, 1]]
    assert row.stop_seconds == pytest.approx(7 / FPS)
    assert rows_of(watcher_of(Model(), 16, 8), ()) == []


def test_slow_model_gets_the_newest_frames_and_counts_dropped_ones() -> None:
    """100 frames arrive during inference: the latency is one inference, and 100 - 16 frames are in no window."""
    clock = Clock()
    numbers = iter(range(1, 10_000))

    def add_frames() -> None:
        for _ in range(100):
            clock.now += 1 / FPS
            watcher.add(live_frame(next(numbers)))

    model = Model(add_frames)
    watcher = watcher_of(model, 16, 8, clock)
    watcher.add(live_frame(0))
    for _ in range(15):
        watcher.add(live_frame(next(numbers)))
    rows = []
    for _ in range(4):
        assert watcher.wait()
        rows.append(watcher.row())
    assert model.inputs == [[n % 256 for n in range(end - 16, end)] for end in (16, 116, 216, 316)]
    assert [r.dropped_frames for r in rows] == [0, 84, 84, 84]
    # Due every 8 frames: after 15 at 23, 31 ... 111: the newest frame is 115, so 11 windows were skipped.
    assert [r.late_windows for r in rows] == [0, 11, 11, 11]
    assert all(r.latency_seconds == pytest.approx(100 / FPS) for r in rows)
    assert all(r.stop_seconds - r.start_seconds == pytest.approx(16 / FPS) for r in rows)
    assert len(watcher._newest) == 16  # independent of the number of frames added


def test_late_model_that_gets_every_frame_drops_none() -> None:
    numbers = iter(range(1, 10_000))

    def add_frames() -> None:
        for _ in range(12):
            watcher.add(live_frame(next(numbers)))

    watcher = watcher_of(Model(add_frames), 16, 4)
    watcher.add(live_frame(0))
    for _ in range(15):
        watcher.add(live_frame(next(numbers)))
    rows = [watcher.row() for _ in range(5) if watcher.wait()]
    assert [r.dropped_frames for r in rows] == [0] * 5
    assert [r.late_windows for r in rows] == [0, 2, 2, 2, 2]


def test_restarted_stream_is_not_mixed_with_earlier_frames() -> None:
    model = Model()
    rows = rows_of(watcher_of(model, 16, 16), (live_frame(n, restarted=n == 20) for n in range(40)))
    assert model.inputs == [list(range(16)), list(range(20, 36)), list(range(24, 40))]
    assert [r.dropped_frames for r in rows] == [0, 0, 0]
    model = Model()
    rows_of(watcher_of(model, 16, 16), (live_frame(n, restarted=n == 20) for n in range(28)))
    assert model.inputs == [list(range(16)), [*range(20, 28)] * 2]


def test_live_stream_is_read_in_a_thread() -> None:
    """All frames of the source arrive during the first inference."""
    over = threading.Event()

    def frames() -> Iterator[LiveFrame]:
        yield from (live_frame(n) for n in range(200))
        over.set()

    model = Model(lambda: over.wait(30) and None)
    rows = list(watch(watcher_of(model, 16, 8), Stream(frames(), is_live=True), fps=FPS))  # type: ignore[arg-type]
    assert model.inputs[-1] == [n % 256 for n in range(184, 200)]
    assert len(rows) <= 3
    assert sum(r.dropped_frames for r in rows) > 100


def test_stream_errors_are_raised_and_closing_stops_the_thread() -> None:
    def broken() -> Iterator[LiveFrame]:
        yield from (live_frame(n) for n in range(20))
        raise VideoError("it broke off")

    with pytest.raises(VideoError, match="it broke off"):
        list(watch(watcher_of(Model(), 16, 100), Stream(broken(), is_live=True), fps=FPS))  # type: ignore[arg-type]

    closed = threading.Event()

    def endless() -> Iterator[LiveFrame]:
        try:
            number = 0
            while True:
                yield live_frame(number)
                number += 1
        finally:
            closed.set()

    source = endless()
    rows = watch(watcher_of(Model(), 16, 8), Stream(source, is_live=True), fps=FPS)  # type: ignore[arg-type]
    next(rows)
    rows.close()
    del source
    assert closed.wait(30)


def test_rows_match_the_recognizer() -> None:
    """Also with flow, where each pair of frames is estimated once."""
    frames = moving_square(40, 48, 64)
    models = [awake(build_model("i3d_tiny", stream=stream, num_classes=2)) for stream in ("rgb", "flow")]
    recognizer = Recognizer(models, ["a", "b"], device="cpu", flow=FlowSource("tvl1-fast"))
    live = [LiveFrame(n, n / FPS, SimpleNamespace(pixels=f), n == 0) for n, f in enumerate(frames)]  # type: ignore[arg-type]
    pairs: list[int] = []
    estimate = module.estimate_flow

    def counted(clips: Any, *args: Any, **options: Any) -> Any:
        pairs.append(len(clips))
        return estimate(clips, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "estimate_flow", counted)
        rows = rows_of(Watcher(recognizer, window_seconds=16 / FPS, stride_seconds=8 / FPS), live)
    assert pairs == [15, 8, 8, 8]
    small = recognizer.read_transform()(frames)
    for number, row in enumerate(rows):
        part = small[8 * number : 8 * number + 16]
        clip = flow_for_clip(Clip(part, torch.arange(16) / FPS), method="tvl1-fast")
        expected = recognizer.logits(clip).softmax(0)
        assert dict(row.top)["a"] == pytest.approx(float(expected[0]), abs=1e-5)


def test_realtime_file_is_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock, sleep=sleep))
    rows = list(watch(watcher_of(Model(), 16, 8), Stream(live_frame(n) for n in range(50)), fps=FPS, realtime=True))  # type: ignore[arg-type]
    assert sum(slept) == pytest.approx(49 / FPS)
    assert rows[-1].stop_seconds == pytest.approx(50 / FPS)


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="too short for i3d_tiny"):
        watcher_of(Model(), 2, 8)
    with pytest.raises(InvalidInputError, match="at least one frame"):
        watcher_of(Model(), 16, 0)
    with pytest.raises(InvalidInputError, match="at least 1 class"):
        Watcher(Model(), top=0)  # type: ignore[arg-type]
