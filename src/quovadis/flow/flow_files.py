"""Flow on disk: one small MP4 a clip, with both components, their scale, the preset and the fingerprint of the video.

A frame of the file is a gray picture with the x component above the y component, in the 256 levels of
:mod:`quovadis.flow.codec`, as H.264 with a key frame every 12. ``benchmarks/flow_store.py`` has the figures behind this
choice: against the JPEG pairs of the field (quality 95) a third of the size and half the time to read, one file instead
of two for every frame, and 0.06 px mean error in all instead of 0.055, of which the 256 levels alone make 0.05.
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

FORMAT_VERSION = 1
FULL_RANGE = int(ColorRange.JPEG)  # gray uses all 256 levels
FILE_ENDING = ".flow.mp4"
# Measured: what it adds to the error of the 256 levels stays under that error.
ENCODER_OPTIONS = {"crf": "18", "g": "12", "preset": "veryfast", "tune": "fastdecode"}
ENCODER_OPTIONS |= {"threads": "1", "mbtree": "0"}  # equal flow, equal bytes: as in quovadis.video.writer
_BYTES_PER_PIXEL = 0.028  # for both components together, on real clips


@dataclass(frozen=True)
class VideoFingerprint:
    """Which video a flow belongs to: its size and hash, whatever its name.

    >>> VideoFingerprint.of(getfixture("clip_path")) == VideoFingerprint.of(getfixture("clip_path"))
    True
    """

    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: str | PathLike[str]) -> "VideoFingerprint":
        """The fingerprint of a file.

        Raises:
            VideoNotFoundError: nothing at that path.
        """
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                return cls(os.fstat(file.fileno()).st_size, digest)
        except FileNotFoundError as error:
            raise VideoNotFoundError(f"no file at {path}") from error


@dataclass(frozen=True)
class FlowHeader:
    """What a flow file says about itself."""

    preset: FlowPreset
    clip: VideoFingerprint
    num_flows: int
    """One less than the video has frames at the preset's rate."""
    height: int
    width: int


class FlowSink(ABC):
    """Takes flow as it is computed; what it makes appears whole at the end, or not at all."""

    def __init__(self, path: str | PathLike[str], clip: VideoFingerprint, preset: FlowPreset):
        self.path = Path(path)
        self.preset = preset
        self.num_flows = 0
        self.size: tuple[int, int] | None = None
        self._header: dict[str, Any] = {"version": FORMAT_VERSION, "preset": preset.to_dict(), "clip": vars(clip)}

    def write(self, flow: Tensor) -> None:
        """Append float32 (N, 2, H, W) in pixels, N at least 1."""
        if flow.ndim != 4 or flow.shape[1] != 2 or (self.size and tuple(flow.shape[2:]) != self.size):
            expected = f"(N, 2, {self.size[0]}, {self.size[1]})" if self.size else "(N, 2, H, W)"
            raise InvalidInputError(f"flow for {self.path} must have shape {expected}; got {tuple(flow.shape)}")
        self.size = (flow.shape[2], flow.shape[3])
        with self._storing():
            self._append(flow)
        self.num_flows += len(flow)

    @abstractmethod
    def _append(self, flow: Tensor) -> None:
        """Write flow of the right size, after the ``num_flows`` that are there."""

    @abstractmethod
    def _close(self, whole: bool) -> None:
        """End the writing; put the result in its place where it is ``whole``."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove what is half done; nothing is left of it after :meth:`_close`."""

    @contextmanager
    def _storing(self) -> Iterator[None]:
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
            with self._storing():
                self._close(whole=kind is None and self.num_flows > 0)
            if kind is None and self.num_flows == 0:
                raise TooFewFramesError(f"no flow was written to {self.path}: it needs at least one")
        finally:
            self._discard()


class FlowWriter(FlowSink):
    """Write flow as it is computed; the file appears whole at the end, or not at all.

    Args:
        path: the file; the ending ``.flow.mp4`` is customary.
        clip: fingerprint of the video.
        preset: how the flow was made.

    Raises:
        StorageError: the file cannot be written.
        TooFewFramesError: nothing was written.

    >>> path = getfixture("tmp_path") / "v.flow.mp4"
    >>> with FlowWriter(path, VideoFingerprint(1, "0")) as writer:
    ...     writer.write(torch.zeros(3, 2, 32, 40))
    >>> read_header(path).num_flows
    3
    """

    def __init__(self, path: str | PathLike[str], clip: VideoFingerprint, preset: FlowPreset = PAPER):
        super().__init__(path, clip, preset)
        self._partial = PartialFile(self.path)
        with self._storing():
            self._container = av.open(f"file:{self._partial.path}", "w", format="mp4")

    def _append(self, flow: Tensor) -> None:
        pictures = encode_flow(flow, self.preset.clip_px).flatten(1, 2).numpy()
        if self.num_flows == 0:
            self._begin(*pictures.shape[1:])
        rows, columns = self._stream.height - pictures.shape[1], self._stream.width - pictures.shape[2]
        pictures = np.pad(pictures, ((0, 0), (0, rows), (0, columns)), mode="edge")
        for number, picture in enumerate(pictures, self.num_flows):
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame.color_range = FULL_RANGE
            frame.pts = number
            self._container.mux(self._stream.encode(frame))

    def _begin(self, height: int, width: int) -> None:
        self._container.metadata["comment"] = json.dumps({**self._header, "size": self.size})
        rate = Fraction(self.preset.fps).limit_denominator(1001)
        stream = self._container.add_stream("libx264", rate=rate, options=ENCODER_OPTIONS)
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        # H.264 has even sides; the missing row or column repeats the last one and is cut off again.
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "gray"
        stream.codec_context.color_range = FULL_RANGE

    def _close(self, whole: bool) -> None:
        if whole:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        if whole:
            self._partial.commit()

    def _discard(self) -> None:
        self._partial.discard()


def read_header(path: str | PathLike[str]) -> FlowHeader:
    """What a flow file says about itself.

    Raises:
        VideoNotFoundError: no such file. InvalidInputError: it is not a flow file, or of a later version.
    """
    with _open(Path(path)) as container:
        return _header(Path(path), container)


def read_flow(
    path: str | PathLike[str],
    start: int = 0,
    stop: int | None = None,
    *,
    preset: FlowPreset | None = PAPER,
    clip: VideoFingerprint | None = None,
) -> Tensor:
    """Read stored flow, from frame ``start`` of the video to ``stop`` (exclusive).

    Args:
        path: a file by :class:`FlowWriter`.
        start: the first frame, at the preset's rate.
        stop: behind the last frame; None is the end. A video has one frame more than flows: asked for its last frame,
            the last flow is given again, as :func:`quovadis.flow.codec.repeat_last` does.
        preset: what the flow must have been made with; None takes any.
        clip: the video that it must belong to; None does not check.

    Returns:
        float32 (stop - start, 2, H, W) in pixels; of each value off by half a level and what H.264 loses.

    Raises:
        InvalidInputError: another preset, another video, no flow file, or frames that it does not have.
    """
    path = Path(path)
    with _open(path) as container:
        header = _header(path, container)
        require_match(path, header, preset, clip)
        stop = header.num_flows + 1 if stop is None else stop
        if not 0 <= start < stop <= header.num_flows + 1:
            raise InvalidInputError(
                f"{path} holds the flow of frames 0 to {header.num_flows}; asked for {start} to {stop - 1}"
            )
        wanted = min(stop, header.num_flows) - min(start, header.num_flows - 1)
        pictures = list(_pictures(container, min(start, header.num_flows - 1), wanted))
    if len(pictures) < wanted:
        raise InvalidInputError(f"{path} is damaged: {len(pictures)} of {wanted} flows decode; estimate them anew")
    levels = torch.from_numpy(np.stack(pictures)[:, : 2 * header.height, : header.width].copy())
    flow = decode_flow(levels.view(-1, 2, header.height, header.width), header.preset.clip_px)
    return flow if len(flow) == stop - start else torch.cat([flow, flow[-1:]])


def require_match(path: Path, header: FlowHeader, preset: FlowPreset | None, clip: VideoFingerprint | None) -> None:
    """Raise :class:`InvalidInputError` for flow that was made otherwise, or of another video."""
    if preset is not None and (difference := header.preset.difference(preset)):
        raise InvalidInputError(
            f"{path} holds flow of preset {header.preset.name!r}, wanted is {preset.name!r}: {difference}; delete the "
            "file to estimate it anew, or ask for its preset"
        )
    if clip is not None and header.clip != clip:
        raise InvalidInputError(
            f"{path} is the flow of another video ({header.clip.size_bytes} bytes, sha256 {header.clip.sha256[:12]}...)"
            f" than this one ({clip.size_bytes} bytes, {clip.sha256[:12]}...); delete it to estimate it anew"
        )


def estimate_bytes(num_flows: int, height: int, width: int) -> int:
    """About how large a flow file becomes; real clips lie between a third and three times of it.

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
                f"{path} has format {values['version']}, known is {FORMAT_VERSION}: upgrade quovadis"
            )
        height, width = values["size"]
        preset, clip = FlowPreset.from_dict(values["preset"]), VideoFingerprint(**values["clip"])
        return FlowHeader(preset, clip, container.streams.video[0].frames, height, width)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{path} is not a flow file: it lacks the header that quovadis writes") from error


def _pictures(container: av.container.InputContainer, start: int, count: int) -> Iterator[np.ndarray]:
    """``count`` gray pictures from number ``start`` on."""
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
    """uint8 (H, W): the levels as they were coded, past FFmpeg's conversions between ranges of gray."""
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)[:, : frame.width]
