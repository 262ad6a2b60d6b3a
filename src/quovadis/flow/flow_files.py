"""Flow files: the flow of a video as one MP4 file, with its preset and the fingerprint of the video.

Each frame of the file is a grayscale image with the x component above the y component, in the 256 levels of
:mod:`quovadis.flow.codec`, encoded as H.264 with a key frame every 12 frames. Compared with the usual JPEG pairs of
quality 95, a file has a third of the size and is read in half the time, with a mean error of 0.06 px instead of 0.055;
the 256 levels alone account for 0.05 (``benchmarks/flow_store.py``).
"""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
import torch
from av.error import FFmpegError
from av.video.reformatter import ColorRange
from torch import Tensor

from quovadis.errors import InvalidInputError, StorageError, TooFewFramesError, VideoError, VideoNotFoundError
from quovadis.flow.codec import PAPER, FlowPreset, decode_flow, encode_flow
from quovadis.runtime.atomic import PartialFile
from quovadis.video.opening import open_container
from quovadis.video.writer import REPRODUCIBLE

FORMAT_VERSION = 1
FULL_RANGE = int(ColorRange.JPEG)  # use all 256 levels
FLOW_SUFFIX = ".flow.mp4"
# At this quality, H.264 adds less error than the 256 levels do.
ENCODER_OPTIONS = {"crf": "18", "g": "12", "preset": "veryfast", "tune": "fastdecode", **REPRODUCIBLE}
_BYTES_PER_PIXEL = 0.028  # for both components together, measured on real clips


@dataclass(frozen=True)
class VideoFingerprint:
    """Size and hash of a video file, which identify it independently of its name.

    Example:
        >>> fingerprint = VideoFingerprint.of(getfixture("clip_path"))
        >>> len(fingerprint.sha256)
        64
    """

    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: str | PathLike[str]) -> "VideoFingerprint":
        """Compute the fingerprint of a file.

        Raises:
            VideoNotFoundError: If the file does not exist.
        """
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                return cls(os.fstat(file.fileno()).st_size, digest)
        except FileNotFoundError as error:
            raise VideoNotFoundError(f"no file at {path}") from error


@dataclass(frozen=True)
class FlowHeader:
    """Metadata of a flow file."""

    preset: FlowPreset
    """Settings with which the flow was computed."""
    video: VideoFingerprint
    """Fingerprint of the video."""
    num_flows: int
    """One less than the number of frames of the video at the frame rate of the preset."""
    height: int
    width: int


class FlowWriter(ABC):
    """Base class of flow writers. The output is written atomically, when the context manager exits without an error."""

    def __init__(self, path: str | PathLike[str], video: VideoFingerprint, preset: FlowPreset):
        self.path = Path(path)
        self.preset = preset
        self.num_flows = 0
        self.size: tuple[int, int] | None = None
        self._header: dict[str, Any] = {"version": FORMAT_VERSION, "preset": preset.to_dict(), "clip": vars(video)}

    def write(self, flow: Tensor) -> None:
        """Append flow, a float32 tensor (N, 2, H, W) in pixels with N >= 1."""
        if flow.ndim != 4 or flow.shape[1] != 2 or (self.size and tuple(flow.shape[2:]) != self.size):
            expected = f"(N, 2, {self.size[0]}, {self.size[1]})" if self.size else "(N, 2, H, W)"
            raise InvalidInputError(f"flow for {self.path} must have shape {expected}; got {tuple(flow.shape)}")
        self.size = (flow.shape[2], flow.shape[3])
        with self._storage_errors():
            self._append(flow)
        self.num_flows += len(flow)

    @abstractmethod
    def _append(self, flow: Tensor) -> None:
        """Append flow of a validated shape."""

    @abstractmethod
    def _close(self, complete: bool) -> None:
        """Close the output, and move it to its path if it is ``complete``."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove temporary files, if there are any."""

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except (FFmpegError, OSError) as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._storage_errors():
                self._close(complete=kind is None and self.num_flows > 0)
            if kind is None and self.num_flows == 0:
                raise TooFewFramesError(f"no flow was written to {self.path}; it needs at least one")
        finally:
            self._discard()


class FlowFileWriter(FlowWriter):
    """Write flow as it is computed; the file appears whole at the end, or not at all.

    Args:
        path: File to write, named ``.flow.mp4`` by convention.
        video: Fingerprint of the video.
        preset: Settings with which the flow was computed.

    Raises:
        StorageError: If the file cannot be written.
        TooFewFramesError: If no flow was written.

    Example:
        >>> path = getfixture("tmp_path") / "v.flow.mp4"
        >>> with FlowFileWriter(path, VideoFingerprint(1, "0")) as writer:
        ...     writer.write(torch.zeros(3, 2, 32, 40))
        >>> read_header(path).num_flows
        3
    """

    def __init__(self, path: str | PathLike[str], video: VideoFingerprint, preset: FlowPreset = PAPER):
        super().__init__(path, video, preset)
        self._partial = PartialFile(self.path)
        with self._storage_errors():
            self._container = av.open(f"file:{self._partial.path}", "w", format="mp4")

    def _append(self, flow: Tensor) -> None:
        images = encode_flow(flow, self.preset.clip_px).flatten(1, 2).numpy()
        if self.num_flows == 0:
            self._add_stream(*images.shape[1:])
        rows, columns = self._stream.height - images.shape[1], self._stream.width - images.shape[2]
        images = np.pad(images, ((0, 0), (0, rows), (0, columns)), mode="edge")
        for number, image in enumerate(images, self.num_flows):
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            frame.color_range = FULL_RANGE
            frame.pts = number
            self._container.mux(self._stream.encode(frame))

    def _add_stream(self, height: int, width: int) -> None:
        self._container.metadata["comment"] = json.dumps({**self._header, "size": self.size})
        rate = Fraction(self.preset.fps).limit_denominator(1001)
        stream = self._container.add_stream("libx264", rate=rate, options=ENCODER_OPTIONS)
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        # H.264 needs even sides: the last row or column is repeated, and cropped when the file is read.
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "gray"
        stream.codec_context.color_range = FULL_RANGE

    def _close(self, complete: bool) -> None:
        if complete:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        if complete:
            self._partial.commit()

    def _discard(self) -> None:
        self._partial.discard()


def read_header(path: str | PathLike[str]) -> FlowHeader:
    """Read the metadata of a flow file.

    Raises:
        VideoNotFoundError: If the file does not exist.
        InvalidInputError: If the file is not a flow file, or has a newer format.

    Example:
        >>> path = getfixture("tmp_path") / "clip.flow.mp4"
        >>> with FlowFileWriter(path, VideoFingerprint(1, "0")) as writer:
        ...     writer.write(torch.zeros(2, 2, 16, 16))
        >>> read_header(path).video
        VideoFingerprint(size_bytes=1, sha256='0')
    """
    with _open(Path(path)) as container:
        return _header(Path(path), container)


def read_flow(
    path: str | PathLike[str],
    start: int = 0,
    stop: int | None = None,
    *,
    preset: FlowPreset | None = PAPER,
    video: VideoFingerprint | None = None,
) -> Tensor:
    """Read stored flow for the frames ``start`` to ``stop`` (exclusive) of a video.

    A video has one frame more than flows. The flow of its last frame is that of the frame before, as in
    :func:`quovadis.flow.codec.repeat_last`.

    Args:
        path: Flow file, as written by :class:`FlowFileWriter` or ``quovadis flow``.
        start: Index of the first frame, at the frame rate of the preset.
        stop: Index after the last frame; None reads to the end.
        preset: Preset that the file must have; None accepts any.
        video: Fingerprint of the video that the file must belong to; None accepts any.

    Returns:
        float32 tensor (stop - start, 2, H, W) in pixels, with the errors of quantization and of H.264.

    Raises:
        VideoNotFoundError: If the file does not exist.
        InvalidInputError: If the file is not a flow file, is damaged, has another preset or belongs to another video,
            or does not have the frames.

    Example:
        >>> path = getfixture("tmp_path") / "v.flow.mp4"
        >>> with FlowFileWriter(path, VideoFingerprint(1, "0")) as writer:
        ...     writer.write(torch.zeros(3, 2, 32, 40))
        >>> read_flow(path, 1, 3).shape
        torch.Size([2, 2, 32, 40])
    """
    path = Path(path)
    with _open(path) as container:
        header = _header(path, container)
        require_match(path, header, preset, video)
        stop = header.num_flows + 1 if stop is None else stop
        if not 0 <= start < stop <= header.num_flows + 1:
            raise InvalidInputError(
                f"{path} has the flow of frames 0 to {header.num_flows}; got a request for {start} to {stop - 1}"
            )
        num_wanted = min(stop, header.num_flows) - min(start, header.num_flows - 1)
        images = list(_images(container, min(start, header.num_flows - 1), num_wanted))
    if len(images) < num_wanted:
        raise InvalidInputError(
            f"{path} is damaged: {len(images)} of {num_wanted} flows can be decoded; delete it and compute it again"
        )
    levels = torch.from_numpy(np.stack(images)[:, : 2 * header.height, : header.width].copy())
    flow = decode_flow(levels.view(-1, 2, header.height, header.width), header.preset.clip_px)
    return flow if len(flow) == stop - start else torch.cat([flow, flow[-1:]])


def require_match(path: Path, header: FlowHeader, preset: FlowPreset | None, video: VideoFingerprint | None) -> None:
    """Raise :class:`InvalidInputError` if stored flow has another preset or belongs to another video."""
    if preset is not None and (difference := header.preset.difference(preset)):
        raise InvalidInputError(
            f"{path} has flow of preset {header.preset.name!r}, expected {preset.name!r}: {difference}; delete the "
            "file to compute it again, or use its preset"
        )
    if video is not None and header.video != video:
        raise InvalidInputError(
            f"{path} is the flow of another video: its header has {header.video.size_bytes} bytes, sha256 "
            f"{header.video.sha256[:12]}..., the video has {video.size_bytes} bytes, {video.sha256[:12]}...; delete "
            "the file to compute it again"
        )


def estimate_bytes(num_flows: int, height: int, width: int) -> int:
    """Estimate the size of a flow file. Real clips have between a third and three times the estimate.

    Example:
        >>> estimate_bytes(250, 256, 340) // 1000  # ten seconds, in kB
        609
    """
    return round(num_flows * height * width * _BYTES_PER_PIXEL)


def _open(path: Path) -> av.container.InputContainer:
    try:
        return open_container(path)
    except VideoNotFoundError as error:
        raise VideoNotFoundError(f"no flow file at {path}") from error
    except VideoError as error:
        raise InvalidInputError(f"{path} is not a flow file: {error}") from error


def _header(path: Path, container: av.container.InputContainer) -> FlowHeader:
    try:
        values = json.loads(container.metadata["comment"])
        if values["version"] > FORMAT_VERSION:
            raise InvalidInputError(
                f"{path} has format {values['version']}, but only {FORMAT_VERSION} is supported; upgrade quovadis"
            )
        height, width = values["size"]
        preset, video = FlowPreset.from_dict(values["preset"]), VideoFingerprint(**values["clip"])
        return FlowHeader(preset, video, container.streams.video[0].frames, height, width)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{path} is not a flow file: it has no header of quovadis") from error


def _images(container: av.container.InputContainer, start: int, count: int) -> Iterator[np.ndarray]:
    """Decode ``count`` grayscale images, beginning at index ``start``."""
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    rate, base = stream.average_rate, stream.time_base
    assert rate is not None
    assert base is not None
    if start:
        container.seek(round(start / rate / base), stream=stream, backward=True)
    for frame in container.decode(stream):
        if frame.pts is None or round(frame.pts * base * rate) < start:
            continue
        if count == 0:
            return
        count -= 1
        yield luma(frame)


def luma(frame: av.VideoFrame) -> np.ndarray:
    """Return the encoded levels, uint8 (H, W), without FFmpeg's conversion between color ranges."""
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)[:, : frame.width]
