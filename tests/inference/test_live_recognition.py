"""Watching: what is due, what is dropped, what is kept; without waiting for any clock."""

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


class Still:
    """A frame that tells its number."""

    def __init__(self, number: int):
        self.pixels = torch.full((3, 48, 64), number % 256, dtype=torch.uint8)


def tick(number: int, fresh: bool = False) -> LiveFrame:
    return LiveFrame(number, number / FPS, Still(number), fresh or number == 0)  # type: ignore[arg-type]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Model:
    """In the place of a recognizer: says which frames it was shown, and lets things happen while it works."""

    def __init__(self, during: Callable[[], None] = lambda: None):
        self.spec = build_model("i3d_tiny", num_classes=2).spec
        self.labels = ("first", "second")
        self.needs_flow, self.device, self.flow = False, torch.device("cpu"), FlowSource("tvl1-fast")
        self.shown: list[list[int]] = []
        self._during = during

    def read_transform(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda frames: frames[..., :16, :16]

    def logits(self, clip: Clip) -> torch.Tensor:
        self.shown.append(clip.frames[:, 0, 0, 0].tolist())
        self._during()
        return torch.tensor([2.0, 0.0])


class Stream:
    """In the place of a :class:`LiveStream`."""

    name = "stream"

    def __init__(self, ticks: Iterator[LiveFrame], is_live: bool = False):
        self._ticks, self.is_live = ticks, is_live

    def frames(self, fps: float) -> Iterator[LiveFrame]:
        return self._ticks


def watcher_of(model: Any, window: int, every: int, clock: Callable[[], float] = lambda: 0.0) -> Watcher:
    return Watcher(model, window_seconds=window / FPS, every_seconds=every / FPS, clock=clock)


def rows_of(watcher: Watcher, ticks: Any) -> list[WatchRow]:
    return list(watch(watcher, Stream(iter(ticks)), fps=FPS))  # type: ignore[arg-type]


def test_a_file_is_seen_whole_and_nothing_is_dropped() -> None:
    model = Model()
    rows = rows_of(watcher_of(model, 16, 10), (tick(n) for n in range(50)))
    ends = [16, 26, 36, 46, 50]  # the last one is moved back to end with the file
    assert model.shown == [list(range(end - 16, end)) for end in ends]
    assert [round(r.stop_seconds * FPS) for r in rows] == ends
    assert [round(r.start_seconds * FPS) for r in rows] == [end - 16 for end in ends]
    assert all(r.dropped_frames == r.late_windows == 0 for r in rows)


def test_windows_that_are_far_apart_drop_nothing() -> None:
    model = Model()
    rows = rows_of(watcher_of(model, 16, 40), (tick(n) for n in range(96)))
    assert [s[-1] for s in model.shown] == [15, 55, 95]
    assert all(r.dropped_frames == 0 for r in rows)


def test_a_stream_shorter_than_a_window_is_looped() -> None:
    model = Model()
    (row,) = rows_of(watcher_of(model, 16, 8), (tick(n) for n in range(7)))
    assert model.shown == [[*range(7), *range(7), 0, 1]]
    assert row.stop_seconds == pytest.approx(7 / FPS)
    assert rows_of(watcher_of(Model(), 16, 8), ()) == []


def test_a_slow_model_gets_the_newest_frames_and_says_what_it_missed() -> None:
    """While the model works 100 frames come: latency is one piece of work, and 100 - 16 frames have no window."""
    clock = Clock()
    coming = iter(range(1, 10_000))

    def meanwhile() -> None:
        for _ in range(100):
            clock.now += 1 / FPS
            watcher.add(tick(next(coming)))

    model = Model(meanwhile)
    watcher = watcher_of(model, 16, 8, clock)
    watcher.add(tick(0))
    for _ in range(15):
        watcher.add(tick(next(coming)))
    rows = []
    for _ in range(4):
        assert watcher.wait()
        rows.append(watcher.row())
    assert model.shown == [[n % 256 for n in range(end - 16, end)] for end in (16, 116, 216, 316)]
    assert [r.dropped_frames for r in rows] == [0, 84, 84, 84]
    # Due every 8 frames: after 15 at 23, 31 ... 111: the newest frame is 115, so 11 windows were left out.
    assert [r.late_windows for r in rows] == [0, 11, 11, 11]
    assert all(r.latency_seconds == pytest.approx(100 / FPS) for r in rows)
    assert all(r.stop_seconds - r.start_seconds == pytest.approx(16 / FPS) for r in rows)
    assert len(watcher._newest) == 16  # however many came


def test_a_model_that_is_late_but_sees_every_frame_drops_none() -> None:
    coming = iter(range(1, 10_000))

    def meanwhile() -> None:
        for _ in range(12):
            watcher.add(tick(next(coming)))

    watcher = watcher_of(Model(meanwhile), 16, 4)
    watcher.add(tick(0))
    for _ in range(15):
        watcher.add(tick(next(coming)))
    rows = [watcher.row() for _ in range(5) if watcher.wait()]
    assert [r.dropped_frames for r in rows] == [0] * 5
    assert [r.late_windows for r in rows] == [0, 2, 2, 2, 2]


def test_a_stream_that_begins_anew_is_not_mixed_with_what_was_before() -> None:
    model = Model()
    rows = rows_of(watcher_of(model, 16, 16), (tick(n, fresh=n == 20) for n in range(40)))
    assert model.shown == [list(range(16)), list(range(20, 36)), list(range(24, 40))]
    assert [r.dropped_frames for r in rows] == [0, 0, 0]
    model = Model()
    rows_of(watcher_of(model, 16, 16), (tick(n, fresh=n == 20) for n in range(28)))
    assert model.shown == [list(range(16)), [*range(20, 28)] * 2]


def test_a_live_stream_is_taken_in_a_thread_and_ends_with_it() -> None:
    """The source gives the next frame only when asked: all frames are there before the model is done."""
    over = threading.Event()

    def ticks() -> Iterator[LiveFrame]:
        yield from (tick(n) for n in range(200))
        over.set()

    model = Model(lambda: over.wait(30) and None)
    rows = list(watch(watcher_of(model, 16, 8), Stream(ticks(), is_live=True), fps=FPS))  # type: ignore[arg-type]
    assert model.shown[-1] == [n % 256 for n in range(184, 200)]
    assert len(rows) <= 3
    assert sum(r.dropped_frames for r in rows) > 100


def test_an_error_of_the_stream_arises_here_and_leaving_ends_the_thread() -> None:
    def broken() -> Iterator[LiveFrame]:
        yield from (tick(n) for n in range(20))
        raise VideoError("it broke off")

    with pytest.raises(VideoError, match="it broke off"):
        list(watch(watcher_of(Model(), 16, 100), Stream(broken(), is_live=True), fps=FPS))  # type: ignore[arg-type]

    closed = threading.Event()

    def endless() -> Iterator[LiveFrame]:
        try:
            number = 0
            while True:
                yield tick(number)
                number += 1
        finally:
            closed.set()

    source = endless()
    rows = watch(watcher_of(Model(), 16, 8), Stream(source, is_live=True), fps=FPS)  # type: ignore[arg-type]
    next(rows)
    rows.close()
    del source
    assert closed.wait(30)


def test_scores_are_those_of_the_recognizer() -> None:
    """Also with flow, of which each pair is estimated once."""
    frames = moving_square(40, 48, 64)
    models = [awake(build_model("i3d_tiny", stream=stream, num_classes=2)) for stream in ("rgb", "flow")]
    recognizer = Recognizer(models, ["a", "b"], device="cpu", flow=FlowSource("tvl1-fast"))
    ticks = [LiveFrame(n, n / FPS, SimpleNamespace(pixels=f), n == 0) for n, f in enumerate(frames)]  # type: ignore[arg-type]
    pairs: list[int] = []
    estimate = module.estimate_flow

    def counted(clips: Any, *args: Any, **options: Any) -> Any:
        pairs.append(len(clips))
        return estimate(clips, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "estimate_flow", counted)
        rows = rows_of(Watcher(recognizer, window_seconds=16 / FPS, every_seconds=8 / FPS), ticks)
    assert pairs == [15, 8, 8, 8]
    small = recognizer.read_transform()(frames)
    for number, row in enumerate(rows):
        part = small[8 * number : 8 * number + 16]
        clip = flow_for_clip(Clip(part, torch.arange(16) / FPS), method="tvl1-fast")
        expected = recognizer.logits(clip).softmax(0)
        assert dict(row.top)["a"] == pytest.approx(float(expected[0]), abs=1e-5)


def test_a_paced_file_is_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock, sleep=sleep))
    rows = list(watch(watcher_of(Model(), 16, 8), Stream(tick(n) for n in range(50)), fps=FPS, realtime=True))  # type: ignore[arg-type]
    assert sum(waited) == pytest.approx(49 / FPS)
    assert rows[-1].stop_seconds == pytest.approx(50 / FPS)


def test_nonsense_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="too short for i3d_tiny"):
        watcher_of(Model(), 2, 8)
    with pytest.raises(InvalidInputError, match="at least a frame"):
        watcher_of(Model(), 16, 0)
    with pytest.raises(InvalidInputError, match="at least one class"):
        Watcher(Model(), top=0)  # type: ignore[arg-type]
