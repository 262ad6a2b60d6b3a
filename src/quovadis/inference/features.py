"""Extract features of videos of any length at constant memory.

Features are the input of a network's classifier, for windows or for the whole video. They equal those of the whole
video in memory up to float32 rounding.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from os import PathLike

import torch
from torch import Tensor

from quovadis import transforms
from quovadis.errors import InvalidInputError, TooFewFramesError, VideoError
from quovadis.flow.source import FlowSource
from quovadis.inference import feature_stream
from quovadis.inference.feature_chunks import Chunk, plan_chunk
from quovadis.inference.feature_presets import FEATURE_PRESETS, WHOLE, FeaturePreset
from quovadis.inference.feature_stream import CroppedFrames
from quovadis.inference.frame_buffer import FrameBuffer, FrameSegment
from quovadis.models.optimization import for_inference
from quovadis.models.precision import full_float32
from quovadis.models.receptive_field import ReceptiveField
from quovadis.models.spec import Backend, StreamKind
from quovadis.models.video_model import VideoModel
from quovadis.runtime.prefetch import Item, prefetch
from quovadis.video.reader import Damaged, VideoReader
from quovadis.video.sampling import fit_length
from quovadis.weights.verify import state_sha256


@dataclass(frozen=True)
class FeatureRows:
    """Consecutive features of a video, one row per window or per step of the whole video."""

    features: dict[StreamKind, Tensor]
    """float32 (rows, crops, D) for each stream, on the CPU."""
    start_seconds: list[float]
    """Start of the first frame of each row. For the whole video, a row stands for 16 frames with I3D."""
    center_seconds: list[float]
    """Middle of the frames that each row depends on."""
    stop_seconds: list[float]
    """End of the last frame of each row."""
    notes: tuple[str, ...] = ()
    """Caveats about the file, such as damage; with the last rows of a video."""

    def __len__(self) -> int:
        return len(self.start_seconds)

    @classmethod
    def join(cls, batches: Sequence[FeatureRows]) -> FeatureRows:
        """Concatenate the rows of a video."""
        return cls(
            {kind: torch.cat([b.features[kind] for b in batches]) for kind in batches[0].features},
            [t for b in batches for t in b.start_seconds],
            [t for b in batches for t in b.center_seconds],
            [t for b in batches for t in b.stop_seconds],
            batches[-1].notes,
        )


class FrameCountError(VideoError):
    """The number of frames of a video differs from its header, so its features must be computed again."""

    def __init__(self, source: str, num_frames: int):
        super().__init__(
            f"{source} has {num_frames} frames, but its header gives another number: pass num_frames={num_frames}"
        )
        self.num_frames = num_frames


class FeatureExtractor:
    """Extract features of videos.

    Args:
        models: One network per stream: RGB, flow, or both.
        preset: Frame rate, windows and crops; see :data:`quovadis.inference.feature_presets.FEATURE_PRESETS`.
        device: Where the networks run. Defaults to a GPU if there is one.
        batch_frames: Maximum number of frames in a network at a time. Limits memory use; does not affect the result.
            For whole videos, about 100 more frames of context are added.
        flow: Source of optical flow.
        backend: Backend of the networks, in float32; see :func:`quovadis.optimize`.
        damaged: ``use``: for a damaged file, compute the features of the part that decodes, with a note. ``refuse``:
            raise VideoDamagedError.

    Raises:
        InvalidInputError: If a model has several streams, two models have the same stream or different input settings,
            a window is too short for them, or the whole video is requested for a network without a receptive field.

    Example:
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
        damaged: Damaged = "use",
    ):
        if not models:
            raise InvalidInputError("features need at least one network")
        if batch_frames < 1:
            raise InvalidInputError(f"batch_frames must be at least 1; got {batch_frames}")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.models: dict[StreamKind, VideoModel] = {}
        self.weights_sha256: dict[StreamKind, str] = {}
        """Hash of all tensors of each network; see :func:`quovadis.weights.verify.state_sha256`."""
        for model in models:
            kinds = [stream.kind for stream in model.spec.streams]
            if len(kinds) != 1 or kinds[0] in self.models:
                raise InvalidInputError(
                    f"features need one network per stream; {model.spec.name} takes {' and '.join(kinds)}"
                    + (f", and there is already a network for {kinds[0]}" if len(kinds) == 1 else "")
                )
            self.models[kinds[0]] = for_inference(model, self.device, backend=backend)
            self.weights_sha256[kinds[0]] = state_sha256(model.state_dict())
        self.preset = preset
        self.batch_frames = batch_frames
        self.flow = flow or FlowSource()
        self.damaged = damaged
        self.spec = models[0].spec
        self.window = preset.window_frames(self.spec)
        """Frames of a window; :data:`~quovadis.inference.feature_presets.WHOLE` for the whole video."""
        self._receptive_field = models[0].receptive_field
        self._check_models()
        self.stride = self.receptive_field.stride if self.window == WHOLE else preset.stride_frames(self.spec)
        """Frames from one row to the next."""

    def _check_models(self) -> None:
        for model in self.models.values():
            spec = model.spec
            for field in ("short_side_px", "size_px", "min_frames"):
                if getattr(spec, field) != getattr(self.spec, field):
                    raise InvalidInputError(f"{self.spec.name} and {spec.name} need videos of different sizes")
            if self.preset.rate(spec) != self.preset.rate(self.spec) or self.preset.window_frames(spec) != self.window:
                raise InvalidInputError(f"{self.spec.name} and {spec.name} need videos at different frame rates")
        if self.window == WHOLE:
            if self._receptive_field is None:
                raise InvalidInputError(
                    f"{self.spec.name} has no temporal receptive field, so features of the whole video cannot be "
                    "computed in chunks: use windows"
                )
        elif self.window < self.spec.min_frames:
            raise InvalidInputError(
                f"a window of {self.window} frames is too short for {self.spec.name}, which needs at least "
                f"{self.spec.min_frames}"
            )

    @property
    def receptive_field(self) -> ReceptiveField:
        """Temporal receptive field of the networks; only for features of the whole video."""
        assert self._receptive_field is not None
        return self._receptive_field

    def num_rows(self, num_frames: int) -> int:
        """Number of rows of a video with ``num_frames`` frames at the rate of the preset.

        ``ceil(T / 8) - 1`` for a whole video through I3D; ``floor((T - window) / stride) + 1`` for windows; 1 for a
        shorter video, which is looped.
        """
        if num_frames < 1:
            return 0
        if self.window == WHOLE:
            return self.receptive_field.num_features(max(num_frames, self.spec.min_frames))
        if self.preset.padding == "edge":
            return (num_frames - 1) // self.stride + 1
        usable = num_frames - self.preset.one_more_frame
        return max((usable - self.window) // self.stride + 1, 1)

    def count_frames(self, reader: VideoReader) -> int:
        """Number of frames of a video at the rate of the preset, from its header or else by decoding."""
        rate = self.preset.rate(self.spec)
        if rate is not None:
            return reader.num_resampled_frames(rate)
        return reader.info.num_frames or 1

    def seconds_per_row(self) -> float:
        """Measure the time that the networks need for a row, without decoding and optical flow."""
        num_frames = 2 * self.spec.min_frames if self.window == WHOLE else self.window
        crops = 10 if self.preset.crop == "ten" else 1

        def run() -> float:
            started = time.perf_counter()
            for kind, model in self.models.items():
                channels = model.spec.streams[0].channels
                size = self.spec.size_px
                self._features(kind, torch.zeros(crops, num_frames, channels, size, size, dtype=torch.uint8))
            return time.perf_counter() - started

        run()  # prepares the kernels
        return run() / (self.receptive_field.num_features(num_frames) if self.window == WHOLE else 1)

    def extract(self, path: str | PathLike[str]) -> FeatureRows:
        """Extract all features of a video into memory.

        Raises:
            VideoError: If the video cannot be read completely.
            TooFewFramesError: If the video is too short and the preset has ``short="error"``.
            InvalidInputError: If features contain NaN or infinity.
        """
        try:
            batches = list(self.rows(path))
        except FrameCountError as error:
            batches = list(self.rows(path, num_frames=error.num_frames))
        return FeatureRows.join(batches)

    def rows(
        self,
        path: str | PathLike[str],
        kinds: Iterable[StreamKind] | None = None,
        *,
        num_frames: int | None = None,
    ) -> Iterator[FeatureRows]:
        """Yield the features of a video as they are computed, at constant memory.

        Decoding and optical flow run in threads.

        Args:
            path: Video file.
            kinds: Streams. Defaults to all that have a network.
            num_frames: Number of frames at the rate of the preset. By default it is taken from the header. It is
                needed only for the whole video, and only modulo the stride of the network.

        Raises:
            VideoError: If the video cannot be read completely.
            TooFewFramesError: If the video is too short and the preset has ``short="error"``.
            FrameCountError: If the video has another number of frames.
            InvalidInputError: If features contain NaN or infinity.
        """
        streams = tuple(self.models if kinds is None else kinds)
        with VideoReader(path) as reader, ExitStack() as threads:
            frame_seconds = 1 / (self.preset.rate(self.spec) or reader.info.fps or 25.0)
            buffer = FrameBuffer(str(path), streams, frame_seconds)
            if self.window == WHOLE and num_frames is None:
                num_frames = self.count_frames(reader)
            blocks = self._read(reader, threads, "flow" in streams, frame_seconds)
            batches = (
                self._chunks(blocks, buffer, num_frames or 0) if self.window == WHOLE else self._windows(blocks, buffer)
            )
            num_done = 0
            last: FeatureRows | None = None
            for rows in batches:
                _require_finite(rows, num_done, str(path))
                num_done += len(rows)
                if last is not None:
                    yield last
                last = rows
            if last is not None:
                yield replace(last, notes=(*reader.notes, *reader.damage_notes()))

    def _read(
        self, reader: VideoReader, threads: ExitStack, with_flow: bool, frame_seconds: float
    ) -> Iterator[CroppedFrames]:
        """Decode, compute flow and crop, each in a thread. Closing ``threads`` stops them, the last one first."""
        preset, spec = self.preset, self.spec

        def in_thread(items: Iterable[Item]) -> Generator[Item, None, None]:
            return threads.enter_context(closing(prefetch(items)))

        clips = in_thread(feature_stream.decode(reader, preset, spec, self.damaged))
        if preset.padding == "edge":
            before, after = self.window // 2, (self.window - 1) // 2
            clips = in_thread(feature_stream.repeat_edges(clips, before, after, frame_seconds))
        if with_flow:
            rate = preset.rate(spec)
            fits_stored_flow = preset.aspect is None and preset.padding == "none"
            stored = (rate, spec.short_side_px) if rate is not None and fits_stored_flow else None
            clips = in_thread(feature_stream.add_flow(clips, self.flow, stored=stored, device=self.device))
        return in_thread(feature_stream.crop(clips, preset, spec))

    def _windows(self, blocks: Iterable[CroppedFrames], buffer: FrameBuffer) -> Iterator[FeatureRows]:
        """Yield the rows of windows in batches."""
        batch: list[FrameSegment] = []
        start = 0
        for block in blocks:
            buffer.add(block)
            while buffer.stop >= start + self.window + self.preset.one_more_frame:
                batch.append(buffer.segment(start, start + self.window))
                start += self.stride
                if len(batch) * self.window * buffer.num_crops >= self.batch_frames:
                    yield self._average(batch)
                    batch = []
            buffer.drop_before(start)
        if start == 0 and buffer.stop:
            batch.append(self._loop(buffer, self.window))
        if batch:
            yield self._average(batch)

    def _chunks(self, blocks: Iterable[CroppedFrames], buffer: FrameBuffer, expected: int) -> Iterator[FeatureRows]:
        """Yield the rows of the whole video, chunk by chunk; ``expected`` frames determine the phase."""
        field, row = self.receptive_field, 0
        phase = expected % field.stride
        for block in blocks:
            buffer.add(block)
            num_rows = max(self.batch_frames // (buffer.num_crops * field.stride), 1)
            while buffer.stop >= (chunk := plan_chunk(field, row, num_rows, phase=phase)).stop:
                yield self._convolve(buffer, chunk, phase)
                row = chunk.stop_row
                buffer.drop_before(plan_chunk(field, row, 1, phase=phase).start)
        if row and buffer.stop % field.stride != phase:
            raise FrameCountError(buffer.source, buffer.stop)
        if 0 < buffer.stop < self.spec.min_frames:
            yield self._average([self._loop(buffer, self.spec.min_frames)])
            return
        phase = buffer.stop % field.stride
        while row < field.num_features(buffer.stop):
            chunk = plan_chunk(field, row, num_rows, phase=phase, num_frames=buffer.stop)
            yield self._convolve(buffer, chunk, phase)
            row = chunk.stop_row

    def _loop(self, buffer: FrameBuffer, num_frames: int) -> FrameSegment:
        """Loop a video that is too short."""
        if self.preset.short == "error":
            raise TooFewFramesError(
                f"{buffer.source} has {buffer.stop} frames, but a row of features needs {num_frames}: use "
                "short='loop' or a shorter window"
            )
        return buffer.segment(0, buffer.stop).take(fit_length(buffer.stop, num_frames, "loop"))

    def _average(self, segments: list[FrameSegment]) -> FeatureRows:
        """Compute one row for each segment: the mean over the time steps of the features."""
        features = {}
        for kind in segments[0].streams:
            batch = torch.cat([s.streams[kind] for s in segments])
            features[kind] = self._features(kind, batch).mean(1).unflatten(0, (len(segments), -1))
        starts, stops = [s.start_seconds for s in segments], [s.stop_seconds for s in segments]
        return FeatureRows(features, starts, [(a + b) / 2 for a, b in zip(starts, stops, strict=True)], stops)

    def _convolve(self, buffer: FrameBuffer, chunk: Chunk, phase: int) -> FeatureRows:
        """Compute the rows that are kept of a chunk."""
        field, rows = self.receptive_field, range(chunk.first_row, chunk.stop_row)
        kept = slice(chunk.offset, chunk.offset + len(rows))
        segment = buffer.segment(chunk.start, chunk.stop)
        features = {kind: self._features(kind, x).transpose(0, 1)[kept] for kind, x in segment.streams.items()}
        return FeatureRows(
            features,
            [buffer.seconds_at(row * field.stride) for row in rows],
            [buffer.seconds_at(field.center(row, phase)) for row in rows],
            [buffer.seconds_at(row * field.stride + field.frames_per_feature) for row in rows],
        )

    @torch.inference_mode()
    def _features(self, kind: StreamKind, frames: Tensor) -> Tensor:
        """Compute features (B, T', D) of frames, uint8 (B, T, C, size, size)."""
        x = transforms.to_model(frames.to(self.device))
        with full_float32():
            return self.models[kind].features(x).float().cpu()


def _require_finite(rows: FeatureRows, first_row: int, source: str) -> None:
    for kind, values in rows.features.items():
        bad = ~values.isfinite().flatten(1).all(1)
        if bad.any():
            raise InvalidInputError(
                f"the {kind} features of {source} contain NaN or infinity in row {first_row + int(bad.nonzero()[0])}: "
                "check the weights"
            )
