"""Recognize actions in live streams with bounded latency and memory.

A thread reads the stream and keeps only the frames of one window. When a window is due, the newest frames are
recognized. If the model is too slow, windows become less frequent and frames are dropped; each row counts them.
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
from quovadis.inference.video_windows import window_frames
from quovadis.video.clip import Clip
from quovadis.video.frame import VideoFrame
from quovadis.video.live import LiveFrame, LiveStream
from quovadis.video.sampling import fit_length

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class WatchRow:
    """Most probable classes of one window of a stream, from :func:`watch`."""

    start_seconds: float
    """Time since the start of the stream."""
    stop_seconds: float
    top: tuple[tuple[str, float], ...]
    """The most probable classes with their probabilities, in descending order."""
    latency_seconds: float
    """Time from the arrival of the newest frame to this row."""
    dropped_frames: int
    """Number of frames since the last row that are in no window because the model was too slow."""
    late_windows: int
    """Number of windows since the last row that were skipped because the model was too slow."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {
            "start_seconds": round(self.start_seconds, 3),
            "stop_seconds": round(self.stop_seconds, 3),
            "top": [{"label": name, "probability": p} for name, p in self.top],
            "latency_seconds": round(self.latency_seconds, 4),
            "dropped_frames": self.dropped_frames,
            "late_windows": self.late_windows,
        }


@dataclass(frozen=True)
class _ResizedFrame:
    number: int
    pixels: Tensor
    """uint8 (3, h, w)."""
    arrival_seconds: float


class Watcher:
    """Recognize the newest window of a stream.

    One thread may call :meth:`add` and :meth:`end` while another calls :meth:`wait` and :meth:`row`; see :func:`watch`.

    Args:
        recognizer: One or more models.
        window_seconds: Length of a window. Defaults to that of a training clip.
        stride_seconds: Time from one window to the next. Defaults to half a window.
        top: Number of classes in a row.
        clock: Monotonic clock, in seconds.

    Raises:
        InvalidInputError: If the window is too short for the model, or the stride is shorter than a frame.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"])
        >>> watcher = Watcher(recognizer, stride_seconds=0.24)
        >>> rows = list(watch(watcher, LiveStream(str(getfixture("clip_path"))), fps=25.0))
        >>> [round(row.stop_seconds, 2) for row in rows]
        [0.64, 0.88, 1.12, 1.2]
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        window_seconds: float | None = None,
        stride_seconds: float | None = None,
        top: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ):
        spec = recognizer.spec
        self.window, self.stride = window_frames(
            spec, window_seconds, stride_seconds, default_window=clip_extent(spec)[2]
        )
        """Frames at the rate of the model."""
        if stride_seconds is None:
            self.stride = max(self.window // 2, 1)
        if top < 1:
            raise InvalidInputError(f"top must be at least 1 class; got {top}")
        self.source = ""
        """Name of the stream for error messages; set by :func:`watch`."""
        self._recognizer, self._top, self._clock = recognizer, top, clock
        self._resize = recognizer.read_transform()
        self._step = spec.clip_stride
        self._num_kept = -(-self.window // self._step)
        self._newest: deque[_ResizedFrame] = deque(maxlen=self._num_kept)
        self._last_frame: tuple[VideoFrame, Tensor] | None = None
        self._flow: dict[int, Tensor] = {}
        self._due = self.window - 1
        """Number of the last frame of the next window."""
        self._recognized = -1
        """Number of the last frame of the last row."""
        self._first = 0
        """Number of the first frame since the stream started or restarted."""
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None

    def warm_up(self) -> None:
        """Recognize a window of black frames, because the first pass through a model takes longer."""
        size = self._recognizer.spec.short_side_px
        black = torch.zeros(3, size, size, dtype=torch.uint8)
        self._recognize([_ResizedFrame(n, black, 0.0) for n in range(self._num_kept)])
        self._flow.clear()

    def add(self, frame: LiveFrame) -> None:
        """Add a frame; the oldest one is dropped."""
        if frame.restarted:
            self._last_frame = None
        elif (frame.number - self._first) % self._step:
            return
        if self._last_frame is None or self._last_frame[0] is not frame.frame:
            self._last_frame = frame.frame, self._resize(frame.frame.pixels[None])[0]
        resized = _ResizedFrame(frame.number, self._last_frame[1], self._clock())
        with self._changed:
            if frame.restarted:
                self._newest.clear()
                self._first, self._recognized = frame.number, frame.number - 1
                self._due = frame.number + self.window - 1
            self._newest.append(resized)
            self._changed.notify()

    def end(self, error: BaseException | None = None) -> None:
        """Signal that no more frames follow, possibly because of an error."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    @property
    def is_due(self) -> bool:
        """Whether a whole window is available and its stride has passed."""
        return len(self._newest) == self._num_kept and self._newest[-1].number + self._step > self._due

    def wait(self) -> bool:
        """Wait until a window is due. Return False if the stream has ended.

        Raises:
            VideoError: If the stream ended with this error.
        """
        with self._changed:
            while not self.is_due:
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return False
                self._changed.wait(_POLL_SECONDS)
            return True

    @property
    def has_remaining_frames(self) -> bool:
        """Whether frames were added after the last row."""
        return bool(self._newest) and self._newest[-1].number > self._recognized

    def row(self) -> WatchRow:
        """Recognize the newest window. A stream shorter than a window is looped, as in the paper."""
        with self._changed:
            frames, first, recognized, due = list(self._newest), self._first, self._recognized, self._due
            last = frames[-1].number + self._step - 1
            self._recognized = last
            self._due = last + self.stride
        if recognized < first:  # the first window since the start
            dropped = max(frames[0].number - first, 0)
        else:
            dropped = max(last - recognized - max(self.window, self.stride), 0)
        prediction = self._recognize(frames)
        fps = self._recognizer.spec.fps
        return WatchRow(
            start_seconds=frames[0].number / fps,
            stop_seconds=(last + 1) / fps,
            top=tuple(prediction.top(self._top)),
            latency_seconds=self._clock() - frames[-1].arrival_seconds,
            dropped_frames=dropped,
            late_windows=max((last - due) // self.stride, 0),
        )

    def _recognize(self, frames: list[_ResizedFrame]) -> Prediction:
        recognizer = self._recognizer
        flow = self._window_flow(frames) if recognizer.needs_flow else None
        times = torch.tensor([f.number / recognizer.spec.fps for f in frames], dtype=torch.float64)
        clip = Clip(torch.stack([f.pixels for f in frames]), times, flow, self.source)
        if len(clip) < self._num_kept:
            clip = clip.take(torch.from_numpy(fit_length(len(clip), self._num_kept, "loop")))
        return Prediction("", recognizer.labels, recognizer.logits(clip), ())

    def _window_flow(self, frames: list[_ResizedFrame]) -> Tensor:
        """Flow of a window, float32 (T, 2, h, w); the flow of earlier windows is reused and the last one repeated."""
        numbers = {f.number for f in frames}
        shape = frames[0].pixels.shape[1:]
        self._flow = {n: flow for n, flow in self._flow.items() if n in numbers and flow.shape[1:] == shape}
        missing = [(a, b) for a, b in pairwise(frames) if a.number not in self._flow]
        if missing:
            pairs = [torch.stack([a.pixels, b.pixels]) for a, b in missing]
            flows = estimate_flow(pairs, self._recognizer.flow.method, device=self._recognizer.device)
            self._flow |= {a.number: flow[0] for (a, _), flow in zip(missing, flows, strict=True)}
        flows = [self._flow[f.number] for f in frames[:-1]] or [torch.zeros(2, *shape)]
        return torch.stack([*flows, flows[-1]] if len(frames) > 1 else flows)


def watch(
    watcher: Watcher, stream: LiveStream, *, fps: float, realtime: bool = False
) -> Generator[WatchRow, None, None]:
    """Recognize a stream and yield a row for each window.

    Frames of a live stream that the model has no time for are dropped. Of a file, or a URL of a file, every window is
    recognized as fast as possible, unless ``realtime`` is set.

    Args:
        watcher: The models and windows.
        stream: Source of frames.
        fps: Frame rate of the models.
        realtime: Read a file at its own frame rate, as if it were a camera.

    Raises:
        VideoError: If the stream cannot be read, or reconnecting fails.
        InvalidInputError: If logits are NaN or infinite.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> watcher = Watcher(Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"]), top=1)
        >>> rows = watch(watcher, LiveStream(str(getfixture("clip_path"))), fps=25.0)
        >>> next(rows).dropped_frames
        0
    """
    watcher.source = stream.name
    frames = stream.frames(fps)
    if stream.is_live or realtime:
        if not stream.is_live:
            frames = _paced(frames)
        stopped = threading.Event()
        threading.Thread(target=_capture, args=(watcher, frames, stopped), daemon=True).start()
        try:
            while watcher.wait():
                yield watcher.row()
        finally:
            stopped.set()
    else:
        for frame in frames:
            watcher.add(frame)
            if watcher.is_due:
                yield watcher.row()
    if watcher.has_remaining_frames:
        yield watcher.row()


def _capture(watcher: Watcher, frames: Iterable[LiveFrame], stopped: threading.Event) -> None:
    """Add the frames of a stream to a watcher, in a thread."""
    try:
        for frame in frames:
            if stopped.is_set():
                return
            watcher.add(frame)
    except BaseException as error:
        watcher.end(error)
    else:
        watcher.end()


def _paced(frames: Iterable[LiveFrame]) -> Iterator[LiveFrame]:
    """Delay each frame until its time."""
    start = time.monotonic()
    for frame in frames:
        time.sleep(max(start + frame.seconds - time.monotonic(), 0.0))
        yield frame
