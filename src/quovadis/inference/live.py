"""Recognize a stream while it goes on: the newest window, again and again, with bounded latency and memory.

A thread takes the stream as it comes and keeps as many frames as one window has, no more. Whenever a window is due, the
newest frames are recognized. Where that takes longer than the stream gives time, windows become rarer and frames are
dropped, and each row says how many; nothing waits in a line that grows.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from quovadis.datasets.clip_dataset import clip_extent
from quovadis.errors import InvalidInputError
from quovadis.flow.estimate import estimate_flow
from quovadis.inference.prediction import Prediction
from quovadis.inference.recognizer import Recognizer
from quovadis.video.clip import Clip
from quovadis.video.frame import VideoFrame
from quovadis.video.live import LiveFrame, LiveStream
from quovadis.video.sampling import fit_length

_WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class WatchRow:
    """What is seen in one window of a stream."""

    start_seconds: float
    """Since the start of the stream."""
    stop_seconds: float
    top: tuple[tuple[str, float], ...]
    """Most probable classes first, with probabilities."""
    latency_seconds: float
    """From the arrival of the newest frame of the window to this row."""
    dropped_frames: int
    """Frames since the last row that no window saw and that would have been seen, had the model kept up."""
    late_windows: int
    """Windows since the last row that were due and were left out."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "start_seconds": round(self.start_seconds, 3),
            "stop_seconds": round(self.stop_seconds, 3),
            "top": [{"label": name, "probability": p} for name, p in self.top],
            "latency_seconds": round(self.latency_seconds, 4),
            "dropped_frames": self.dropped_frames,
            "late_windows": self.late_windows,
        }


@dataclass(frozen=True)
class _Seen:
    """A frame as the networks see it, with when it came."""

    number: int
    picture: Tensor
    """uint8 (3, h, w), resized."""
    arrived: float


class Watcher:
    """The newest window of a stream; one thread may add to it while another asks for rows.

    Args:
        recognizer: the model or models.
        window_seconds: length of a window; by default that of a training clip.
        every_seconds: from one window to the next; by default half a window.
        top: classes in a row.
        clock: seconds that never go back.

    Raises:
        InvalidInputError: a window that is too short for the model; less than a frame from one to the next.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        window_seconds: float | None = None,
        every_seconds: float | None = None,
        top: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ):
        spec = recognizer.spec
        self.window = clip_extent(spec)[2] if window_seconds is None else round(window_seconds * spec.fps)
        """Frames, at the rate of the model."""
        self.every = max(self.window // 2, 1) if every_seconds is None else round(every_seconds * spec.fps)
        if self.window < spec.min_frames:
            raise InvalidInputError(
                f"a window of {self.window} frames is too short for {spec.name}, which needs at least "
                f"{spec.min_frames}: use {spec.min_frames / spec.fps:.2f} seconds or more"
            )
        if self.every < 1:
            raise InvalidInputError(f"from one window to the next there is at least a frame; got {every_seconds} s")
        if top < 1:
            raise InvalidInputError(f"a row has at least one class; got {top}")
        self.source = ""
        """Name of the stream, for messages; :func:`watch` sets it."""
        self._recognizer, self._top, self._clock = recognizer, top, clock
        self._resize = recognizer.read_transform()
        self._step = spec.clip_stride
        self._full = -(-self.window // self._step)
        self._newest: deque[_Seen] = deque(maxlen=self._full)
        self._last_frame: tuple[VideoFrame, Tensor] | None = None
        self._flow: dict[int, Tensor] = {}
        self._due = self.window - 1
        self._seen_to = -1
        """The newest frame of the last row."""
        self._begin = 0
        """The first frame since the stream began, or began anew."""
        self._change = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None

    def warm_up(self) -> None:
        """Recognize a window of nothing: the first one takes longer, and a stream would not wait for it."""
        size = self._recognizer.spec.short_side_px
        self._recognize([_Seen(n, torch.zeros(3, size, size, dtype=torch.uint8), 0.0) for n in range(self._full)])
        self._flow.clear()

    def add(self, tick: LiveFrame) -> None:
        """Take a frame; the oldest one makes room."""
        if tick.fresh:
            self._last_frame = None
        if not tick.fresh and (tick.number - self._begin) % self._step:
            return
        if self._last_frame is None or self._last_frame[0] is not tick.frame:
            self._last_frame = tick.frame, self._resize(tick.frame.pixels[None])[0]
        seen = _Seen(tick.number, self._last_frame[1], self._clock())
        with self._change:
            if tick.fresh:
                self._newest.clear()
                self._begin, self._seen_to = tick.number, tick.number - 1
                self._due = tick.number + self.window - 1
            self._newest.append(seen)
            self._change.notify()

    def end(self, error: BaseException | None = None) -> None:
        """No more frames come, because of an error or not."""
        with self._change:
            self._ended, self._error = True, error
            self._change.notify()

    @property
    def is_due(self) -> bool:
        """True when a whole window is there that is far enough from the last one."""
        return len(self._newest) == self._full and self._newest[-1].number + self._step > self._due

    def wait(self) -> bool:
        """Wait until a window is due; False when none will be.

        Raises:
            VideoError: what ended the stream.
        """
        with self._change:
            while not self.is_due:
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return False
                self._change.wait(_WAIT_SECONDS)
            return True

    @property
    def has_rest(self) -> bool:
        """True when frames came after the last row, or there was none."""
        return bool(self._newest) and self._newest[-1].number > self._seen_to

    def row(self) -> WatchRow:
        """Recognize the newest window; a stream shorter than one is looped, as in the paper."""
        with self._change:
            seen, begin, seen_to, due = list(self._newest), self._begin, self._seen_to, self._due
            last = seen[-1].number + self._step - 1
            self._seen_to = last
            self._due = last + self.every
        first_window = seen_to < begin
        dropped = 0 if first_window else max(last - seen_to - max(self.window, self.every), 0)
        prediction = self._recognize(seen)
        fps = self._recognizer.spec.fps
        return WatchRow(
            start_seconds=seen[0].number / fps,
            stop_seconds=(last + 1) / fps,
            top=tuple(prediction.top(self._top)),
            latency_seconds=self._clock() - seen[-1].arrived,
            dropped_frames=dropped + (max(seen[0].number - begin, 0) if first_window else 0),
            late_windows=max((last - due) // self.every, 0),
        )

    def _recognize(self, seen: list[_Seen]) -> Prediction:
        recognizer = self._recognizer
        flow = self._window_flow(seen) if recognizer.needs_flow else None
        times = torch.tensor([s.number / recognizer.spec.fps for s in seen], dtype=torch.float64)
        clip = Clip(torch.stack([s.picture for s in seen]), times, flow, self.source)
        if len(clip) < self._full:
            clip = clip.take(torch.from_numpy(fit_length(len(clip), self._full, "loop")))
        return Prediction("", recognizer.labels, recognizer.logits(clip), ())

    def _window_flow(self, seen: list[_Seen]) -> Tensor:
        """float32 (T, 2, h, w), the last one repeated; only pairs that no window before had are estimated."""
        kept = {s.number for s in seen}
        shape = seen[0].picture.shape[1:]
        self._flow = {n: f for n, f in self._flow.items() if n in kept and f.shape[1:] == shape}
        missing = [(a, b) for a, b in pairwise(seen) if a.number not in self._flow]
        if missing:
            pairs = [torch.stack([a.picture, b.picture]) for a, b in missing]
            flows = estimate_flow(pairs, self._recognizer.flow.method, device=self._recognizer.device)
            self._flow |= {a.number: flow[0] for (a, _), flow in zip(missing, flows, strict=True)}
        flows = [self._flow[s.number] for s in seen[:-1]] or [torch.zeros(2, *shape)]
        return torch.stack([*flows, flows[-1]] if len(seen) > 1 else flows)


def watch(
    watcher: Watcher, stream: LiveStream, *, fps: float, realtime: bool = False
) -> Generator[WatchRow, None, None]:
    """Rows for as long as a stream goes on.

    A stream that nobody knows the end of is taken as it comes, and what the model has no time for is dropped. A file,
    also one behind an address, waits for the model: every window is recognized, as fast as that goes, unless it is
    paced.

    Args:
        watcher: the model and its windows.
        stream: where frames come from.
        fps: frames a second that the model is made for.
        realtime: show a file at its own pace, as if it were a camera.

    Raises:
        VideoError: the stream cannot be read, or broke off and did not come back. InvalidInputError: logits that are
            NaN or infinite.
    """
    watcher.source = stream.name
    ticks = stream.frames(fps)
    if realtime and not stream.is_live:
        ticks = _paced(ticks)
    elif not stream.is_live:
        for tick in ticks:
            watcher.add(tick)
            if watcher.is_due:
                yield watcher.row()
        if watcher.has_rest:
            yield watcher.row()
        return
    left = threading.Event()
    threading.Thread(target=_capture, args=(watcher, ticks, left), daemon=True).start()
    try:
        while watcher.wait():
            yield watcher.row()
        if watcher.has_rest:
            yield watcher.row()
    finally:
        left.set()


def _capture(watcher: Watcher, ticks: Iterable[LiveFrame], left: threading.Event) -> None:
    """What the thread does until the stream ends, or nobody looks any more."""
    try:
        for tick in ticks:
            if left.is_set():
                return
            watcher.add(tick)
    except BaseException as error:
        watcher.end(error)
    else:
        watcher.end()


def _paced(ticks: Iterable[LiveFrame]) -> Iterator[LiveFrame]:
    """Each no sooner than its time."""
    began = time.monotonic()
    for tick in ticks:
        time.sleep(max(began + tick.seconds - time.monotonic(), 0.0))
        yield tick
