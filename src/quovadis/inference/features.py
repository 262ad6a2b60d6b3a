"""Features of videos of any length: what the classifier of a network sees, for every window or for the whole video.

Features of a stream are exactly those of the whole video in memory (up to the rounding of float32), also those of
networks that are convolved over the whole of it; see :mod:`quovadis.inference.time_axis`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from os import PathLike

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quovadis import transforms
from quovadis.errors import InvalidInputError, TooFewFramesError, VideoError
from quovadis.flow.source import FlowSource
from quovadis.inference import feature_stream
from quovadis.inference.feature_presets import FEATURE_PRESETS, WHOLE, FeaturePreset
from quovadis.inference.feature_stream import CroppedFrames
from quovadis.inference.time_axis import TIME_AXES, Piece, TimeAxis
from quovadis.models.optimize import Backend, for_inference
from quovadis.models.precision import full_float32
from quovadis.models.spec import StreamKind
from quovadis.models.video_model import VideoModel
from quovadis.runtime.prefetch import Item, prefetch
from quovadis.video.reader import VideoReader
from quovadis.video.sampling import fit_length
from quovadis.weights.verify import state_sha256

_FAR = 10**9
"""More frames than any video has."""


@dataclass(frozen=True)
class FeatureRows:
    """Features of consecutive rows of a video."""

    features: dict[StreamKind, Tensor]
    """float32 (rows, crops, D) for each stream, on the CPU."""
    start_seconds: list[float]
    """When the first frame of each row begins; of a whole video, the first of the 16 that it stands for."""
    center_seconds: list[float]
    """The middle of the frames that each row sees."""
    stop_seconds: list[float]
    """When the frame behind each row begins."""

    def __len__(self) -> int:
        return len(self.start_seconds)


class LengthDiffersError(VideoError):
    """A video has another number of frames than its header says, so that the grid of its features is another."""

    def __init__(self, source: str, num_frames: int):
        super().__init__(f"{source} has {num_frames} frames, and its header says otherwise: begin anew with num_frames")
        self.num_frames = num_frames


class FeatureExtractor:
    """Networks with one way of taking features.

    Args:
        models: one a stream: an RGB network, a flow network, or both.
        preset: rates, windows, crops; see :data:`quovadis.inference.feature_presets.FEATURE_PRESETS`.
        device: where the networks run; by default a GPU if there is one.
        batch_frames: frames in a network at a time; bounds the memory. Of a whole video, so many new ones, and about
            100 more that are seen again.
        flow: where optical flow comes from.
        backend: what runs the networks, in float32; see :func:`quovadis.optimize`, through which every network goes.

    Raises:
        InvalidInputError: models that take several streams, or two of one stream, or that see videos differently; a
            window that is too short for them; the whole video for a network whose time axis is not known.

    >>> from quovadis.models.zoo import build_model
    >>> extractor = FeatureExtractor([build_model("i3d_tiny", num_classes=2)])
    >>> rows = extractor.extract(getfixture("clip_path"))
    >>> rows.features["rgb"].shape, [round(s, 2) for s in rows.center_seconds]
    (torch.Size([1, 1, 256]), [0.32])
    """

    def __init__(
        self,
        models: Sequence[VideoModel],
        preset: FeaturePreset = FEATURE_PRESETS["quovadis"],
        *,
        device: str | torch.device | None = None,
        batch_frames: int = 512,
        flow: FlowSource | None = None,
        backend: Backend = "torch",
    ):
        if not models:
            raise InvalidInputError("features need at least one network")
        if batch_frames < 1:
            raise InvalidInputError(f"batch_frames must be at least 1; got {batch_frames}")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.models: dict[StreamKind, VideoModel] = {}
        self.weights_sha256: dict[StreamKind, str] = {}
        """Of all tensors of each network; see :func:`quovadis.weights.verify.state_sha256`."""
        for model in models:
            kinds = [stream.kind for stream in model.spec.streams]
            if len(kinds) != 1 or kinds[0] in self.models:
                raise InvalidInputError(
                    f"features are of one network a stream; {model.spec.name} takes {' and '.join(kinds)}"
                    + (f", and there is a network for {kinds[0]} already" if len(kinds) == 1 else "")
                )
            self.models[kinds[0]] = for_inference(model, self.device, backend=backend)
            self.weights_sha256[kinds[0]] = state_sha256(model.state_dict())
        self.preset = preset
        self.batch_frames = batch_frames
        self.flow = flow or FlowSource()
        self.spec = models[0].spec
        self.window = preset.window_frames(self.spec)
        self.stride = preset.stride_frames(self.spec)
        self._require_models_that_go_together()

    def _require_models_that_go_together(self) -> None:
        for model in self.models.values():
            spec = model.spec
            for what in ("short_side_px", "size_px", "min_frames"):
                if getattr(spec, what) != getattr(self.spec, what):
                    raise InvalidInputError(f"{self.spec.name} and {spec.name} see videos at different sizes")
            if self.preset.rate(spec) != self.preset.rate(self.spec) or self.preset.window_frames(spec) != self.window:
                raise InvalidInputError(f"{self.spec.name} and {spec.name} see videos at different rates")
        if self.window == WHOLE:
            if self.spec.name not in TIME_AXES:
                raise InvalidInputError(
                    f"the time axis of {self.spec.name} is not known, so it cannot be convolved over a whole video "
                    f"piece by piece; use windows. Known: {', '.join(TIME_AXES)}"
                )
        elif self.window < self.spec.min_frames:
            raise InvalidInputError(
                f"a window of {self.window} frames is too short for {self.spec.name}, which needs at least "
                f"{self.spec.min_frames}"
            )

    @property
    def axis(self) -> TimeAxis:
        """How time passes through the network."""
        return TIME_AXES[self.spec.name]

    def num_rows(self, num_frames: int) -> int:
        """Rows of a video of so many frames, at the rate of the preset.

        ``ceil(T / 8) - 1`` for a whole video through I3D; ``floor((T - window) / stride) + 1`` for windows; 1 for a
        shorter video that is looped.
        """
        if num_frames < 1:
            return 0
        if self.window == WHOLE:
            return self.axis.num_rows(max(num_frames, self.spec.min_frames))
        if self.preset.padding == "edge":
            return (num_frames - 1) // self.stride + 1
        usable = num_frames - self.preset.one_more_frame
        return max((usable - self.window) // self.stride + 1, 1)

    def count_frames(self, reader: VideoReader) -> int:
        """Frames of a video at the rate of the preset: as its header says, or else by decoding it."""
        rate = self.preset.rate(self.spec)
        if rate is not None:
            return reader.num_resampled_frames(rate)
        return reader.info.num_frames or 1

    def extract(self, path: str | PathLike[str]) -> FeatureRows:
        """All features of a video, in memory.

        Raises:
            VideoError: it cannot be read, or only in part. TooFewFramesError: too short, and ``short="error"``.
            InvalidInputError: NaN in the features.
        """
        try:
            batches = list(self.rows(path))
        except LengthDiffersError as error:
            batches = list(self.rows(path, num_frames=error.num_frames))
        features = {kind: torch.cat([b.features[kind] for b in batches]) for kind in self.models}
        times = [[t for b in batches for t in getattr(b, f"{name}_seconds")] for name in ("start", "center", "stop")]
        return FeatureRows(features, *times)

    def rows(
        self,
        path: str | PathLike[str],
        kinds: Iterable[StreamKind] | None = None,
        *,
        num_frames: int | None = None,
    ) -> Iterator[FeatureRows]:
        """Features of a video as they are computed, at constant memory; decoding and flow run in threads.

        Args:
            path: any video file.
            kinds: streams; by default all that there are networks for.
            num_frames: of the video, at the rate of the preset; None believes the header. It matters only modulo 8, and
                only where the whole video is convolved.

        Raises:
            VideoError: it cannot be read, or only in part. TooFewFramesError: too short, and ``short="error"``.
            LengthDiffersError: it has another number of frames. InvalidInputError: NaN in the features.
        """
        chosen = tuple(self.models if kinds is None else kinds)
        with VideoReader(path) as reader:
            rate = self.preset.rate(self.spec)
            frame_seconds = 1 / (rate or reader.info.fps or 25.0)
            expected = 0
            if self.window == WHOLE:
                expected = self.count_frames(reader) if num_frames is None else num_frames
            with ExitStack() as threads:
                stream = self._stream(reader, threads, "flow" in chosen, frame_seconds)
                frames = _Frames(str(path), chosen, frame_seconds)
                cut = self._pieces(stream, frames, expected) if self.window == WHOLE else self._windows(stream, frames)
                done = 0
                for rows in cut:
                    _require_finite(rows, done, str(path))
                    done += len(rows)
                    yield rows

    def _stream(
        self, reader: VideoReader, threads: ExitStack, with_flow: bool, frame_seconds: float
    ) -> Iterator[CroppedFrames]:
        """Decode, flow and crop, each in its thread; all have ended once ``threads`` is closed, the last one first."""
        preset, spec = self.preset, self.spec

        def in_thread(items: Iterable[Item]) -> Generator[Item, None, None]:
            return threads.enter_context(closing(prefetch(items)))

        clips = in_thread(feature_stream.decode(reader, preset, spec))
        if preset.padding == "edge":
            before, after = self.window // 2, (self.window - 1) // 2
            clips = in_thread(feature_stream.repeat_edges(clips, before, after, frame_seconds))
        if with_flow:
            rate = preset.rate(spec)
            on_grid = rate is not None and preset.aspect is None and preset.padding == "none"
            stored = (rate, spec.short_side_px) if on_grid and rate is not None else None
            clips = in_thread(feature_stream.add_flow(clips, self.flow, stored=stored, device=self.device))
        return in_thread(feature_stream.crop(clips, preset, spec))

    def _windows(self, stream: Iterable[CroppedFrames], frames: _Frames) -> Iterator[FeatureRows]:
        """Rows of windows; those of one batch together."""
        waiting: list[_Stretch] = []
        start = 0
        for block in stream:
            frames.add(block)
            while frames.stop >= start + self.window + self.preset.one_more_frame:
                waiting.append(frames.take(start, start + self.window))
                start += self.stride
                if len(waiting) * self.window * frames.num_crops >= self.batch_frames:
                    yield self._averaged(waiting)
                    waiting = []
            frames.drop_before(start)
        if start == 0 and frames.stop:
            waiting.append(self._looped(frames, self.window))
        if waiting:
            yield self._averaged(waiting)

    def _pieces(self, stream: Iterable[CroppedFrames], frames: _Frames, expected: int) -> Iterator[FeatureRows]:
        """Rows of the whole video, piece by piece."""
        axis, row = self.axis, 0
        endless = _FAR * axis.stride + expected % axis.stride
        for block in stream:
            frames.add(block)
            rows_at_once = max(self.batch_frames // (frames.num_crops * axis.stride), 1)
            while frames.stop >= (piece := axis.piece(row, rows_at_once, endless)).stop:
                yield self._convolved(frames, piece, endless)
                row = piece.stop_row
                frames.drop_before(axis.piece(row, 1, endless).start)
        if row and (frames.stop - expected) % axis.stride:
            raise LengthDiffersError(frames.source, frames.stop)
        if 0 < frames.stop < self.spec.min_frames:
            yield self._averaged([self._looped(frames, self.spec.min_frames)])
            return
        while row < axis.num_rows(frames.stop):
            piece = axis.piece(row, rows_at_once, frames.stop)
            yield self._convolved(frames, piece, frames.stop)
            row = piece.stop_row

    def _looped(self, frames: _Frames, num_frames: int) -> _Stretch:
        """A video that is too short, again and again."""
        if self.preset.short == "error":
            raise TooFewFramesError(
                f"{frames.source} has {frames.stop} frames, and a row of features needs {num_frames}: use "
                "short='loop', or a shorter window"
            )
        return frames.take(0, frames.stop).picked(fit_length(frames.stop, num_frames, "loop"))

    def _averaged(self, stretches: list[_Stretch]) -> FeatureRows:
        """One row for each stretch: the mean over the steps that the network leaves of it."""
        features = {}
        for kind in stretches[0].streams:
            batch = torch.cat([s.streams[kind] for s in stretches])
            features[kind] = self._features(kind, batch).mean(1).unflatten(0, (len(stretches), -1))
        starts, stops = [s.start_seconds for s in stretches], [s.stop_seconds for s in stretches]
        return FeatureRows(features, starts, [(a + b) / 2 for a, b in zip(starts, stops, strict=True)], stops)

    def _convolved(self, frames: _Frames, piece: Piece, num_frames: int) -> FeatureRows:
        """The rows that are kept of a piece."""
        kept = slice(piece.offset, piece.offset + piece.stop_row - piece.first_row)
        stretch = frames.take(piece.start, piece.stop)
        features = {k: self._features(k, x).transpose(0, 1)[kept] for k, x in stretch.streams.items()}
        rows, axis = range(piece.first_row, piece.stop_row), self.axis
        starts = [frames.seconds_at(row * axis.stride) for row in rows]
        centers = [frames.seconds_at(axis.center(row, num_frames)) for row in rows]
        return FeatureRows(features, starts, centers, [frames.seconds_at(r * axis.stride + axis.share) for r in rows])

    @torch.inference_mode()
    def _features(self, kind: StreamKind, frames: Tensor) -> Tensor:
        """uint8 (B, T, C, size, size) to float32 (B, T', D) on the CPU."""
        x = transforms.to_model(frames.to(self.device))
        with full_float32():
            return self.models[kind].features(x).float().cpu()


@dataclass(frozen=True)
class _Stretch:
    """Frames that go through the network together."""

    streams: dict[StreamKind, Tensor]
    """uint8 (crops, T, C, size, size)."""
    start_seconds: float
    stop_seconds: float

    def picked(self, index: NDArray[np.int64]) -> _Stretch:
        streams = {kind: x[:, torch.from_numpy(index)] for kind, x in self.streams.items()}
        return _Stretch(streams, self.start_seconds, self.stop_seconds)


class _Frames:
    """The frames of a video that are still needed; positions count from the start of the video."""

    def __init__(self, source: str, kinds: Sequence[StreamKind], frame_seconds: float):
        self.source = source
        self.stop = 0
        """Frames so far."""
        self.num_crops = 1
        self._kinds = kinds
        self._frame_seconds = frame_seconds
        self._first = 0
        self._streams: dict[StreamKind, deque[Tensor]] = {kind: deque() for kind in kinds}
        self._seconds: deque[float] = deque()

    def add(self, block: CroppedFrames) -> None:
        self.num_crops = block.streams["rgb"].shape[1]
        for kind in self._kinds:
            self._streams[kind].extend(block.streams[kind])
        self._seconds.extend(block.seconds)
        self.stop += len(block.seconds)

    def drop_before(self, position: int) -> None:
        for _ in range(min(position, self.stop) - self._first):
            for frames in self._streams.values():
                frames.popleft()
            self._seconds.popleft()
        self._first = max(self._first, min(position, self.stop))

    def take(self, start: int, stop: int) -> _Stretch:
        begin, end = start - self._first, stop - self._first
        streams = {kind: torch.stack(list(islice(f, begin, end)), 1) for kind, f in self._streams.items()}
        return _Stretch(streams, self.seconds_at(start), self.seconds_at(stop))

    def seconds_at(self, position: float) -> float:
        """When a frame begins, or a moment between two; frames before and behind those that are here go on evenly."""
        if not self._seconds:
            return position * self._frame_seconds
        inside = min(max(position - self._first, 0.0), len(self._seconds) - 1.0)
        before = int(inside)
        after = min(before + 1, len(self._seconds) - 1)
        share = inside - before
        seconds = self._seconds[before] * (1 - share) + self._seconds[after] * share
        return seconds + (position - self._first - inside) * self._frame_seconds


def _require_finite(rows: FeatureRows, first_row: int, source: str) -> None:
    for kind, values in rows.features.items():
        bad = ~values.isfinite().flatten(1).all(1)
        if bad.any():
            raise InvalidInputError(
                f"the {kind} features of {source} have NaN or infinity in row {first_row + int(bad.nonzero()[0])}: are "
                "these the right weights?"
            )
