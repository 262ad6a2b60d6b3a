"""Write video files atomically with PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, pairwise
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError, QuovadisError, StorageError
from quovadis.runtime.atomic import atomic_path

LOSSLESS = {"codec": "libx264rgb", "pixel_format": "rgb24", "options": {"qp": "0", "preset": "ultrafast"}}
"""Arguments of :func:`write_video` for lossless H.264: decoding returns exactly the pixels that were written."""

REPRODUCIBLE = {"threads": "1", "mbtree": "0"}
"""Options with which libx264 writes equal bytes for equal frames.

By default its output depends on the number of cores. With ``mbtree``, small frames differ from run to run even in one
thread; without it, files of small frames are 6 to 54 % larger at equal settings.
"""


def write_video(
    path: str | PathLike[str],
    frames: Tensor | Iterable[Tensor],
    *,
    fps: float | Fraction = 25,
    pts_seconds: Sequence[float] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    rotation_degrees: int = 0,
    comment: str = "",
) -> Path:
    """Write frames as a video file.

    The file is written under a temporary name and renamed at the end, so an interrupted call leaves no partial file.

    Args:
        path: File to write; its suffix selects the container.
        frames: uint8 tensor (T, 3, H, W), RGB, or an iterable of uint8 tensors (3, H, W).
        fps: Frames per second.
        pts_seconds: Presentation time of each frame, for a variable frame rate; rounded to a millisecond.
        codec: Name of an FFmpeg encoder, such as ``libx264``, ``libx264rgb``, ``ffv1`` or ``mpeg4``.
        pixel_format: Pixel format of the encoder input. ``yuv420p`` needs even sizes: an odd last row or column is
            cropped.
        options: Options of the encoder, for example ``{"crf": "23", "g": "12"}``. For libx264 they are added to
            :data:`REPRODUCIBLE`, so that equal frames give equal bytes.
        rotation_degrees: Clockwise rotation for display, stored as metadata; a multiple of 90.
        comment: Comment, stored as metadata.

    Returns:
        The path.

    Raises:
        InvalidTypeError: If a frame is not a uint8 tensor.
        InvalidInputError: If there are no frames, their shapes are wrong or differ, or the encoder, pixel format or
            container does not exist or does not support them.
        StorageError: If the disk is full or the folder is not writable.

    Example:
        >>> import torch
        >>> from quovadis.video.read import read_clip
        >>> frames = torch.randint(0, 256, (5, 3, 31, 45), dtype=torch.uint8)
        >>> path = write_video(getfixture("tmp_path") / "noise.mp4", frames, **LOSSLESS)
        >>> torch.equal(read_clip(path).frames, frames)
        True
    """
    target = Path(path)
    _check_arguments(fps, pts_seconds, rotation_degrees)
    rate = Fraction(fps).limit_denominator(100_000)
    with (
        atomic_path(target) as partial,
        _encoder_errors(target, codec, pixel_format),
        av.open(f"file:{partial}", "w") as container,
    ):
        if container.format.no_file:  # HLS, DASH, image sequences
            raise InvalidInputError(
                f"cannot write {target}: {target.suffix} is a format of several files "
                f"({container.format.long_name}); use .mp4 or .mkv"
            )
        if comment:
            container.metadata["comment"] = comment
        remaining = iter(frames)
        first = next(remaining, None)
        if first is None:
            raise InvalidInputError(f"{target}: a video needs at least one frame")
        _check_frame(first, 0, first)
        defaults = REPRODUCIBLE if codec.startswith("libx264") else {}
        stream = container.add_stream(codec, rate=rate, options={**defaults, **(options or {})})
        assert isinstance(stream, av.VideoStream)
        multiple = 2 if pixel_format == "yuv420p" else 1
        if min(first.shape[1:]) < multiple:
            raise InvalidInputError(
                f"{target}: {pixel_format} does not support frames of size {tuple(first.shape[1:])}"
            )
        stream.height, stream.width = (side - side % multiple for side in first.shape[1:])
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, 1000) if pts_seconds is not None else 1 / rate
        if rotation_degrees:
            stream.set_display_rotation(-rotation_degrees)
        for number, frame in enumerate(chain((first,), remaining)):
            _check_frame(frame, number, first)
            if pts_seconds is not None and number >= len(pts_seconds):
                raise InvalidInputError(
                    f"{target}: pts_seconds has {len(pts_seconds)} times, but there are more frames"
                )
            pixels = frame[:, : stream.height, : stream.width].permute(1, 2, 0)
            raw = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels.numpy()), format="rgb24")
            raw.pts = number if pts_seconds is None else round(pts_seconds[number] * 1000)
            raw.time_base = stream.codec_context.time_base
            container.mux(stream.encode(raw))
        container.mux(stream.encode(None))
    return target


@contextmanager
def _encoder_errors(target: Path, codec: str, pixel_format: str) -> Iterator[None]:
    """Convert errors of PyAV to ours."""
    try:
        yield
    except QuovadisError:
        raise
    except ValueError as error:  # an unknown name, or FFmpeg's "invalid argument"
        raise InvalidInputError(
            f"cannot write {target} with codec {codec!r} and pixel format {pixel_format!r}: {error}"
        ) from error
    except FFmpegError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error


def _check_arguments(fps: float | Fraction, pts_seconds: Sequence[float] | None, rotation_degrees: int) -> None:
    if not 0 < fps < float("inf"):
        raise InvalidInputError(f"fps must be above 0; got {fps}")
    if rotation_degrees % 90:
        raise InvalidInputError(f"rotation_degrees must be a multiple of 90; got {rotation_degrees}")
    if pts_seconds is not None:
        stamps = [round(seconds * 1000) for seconds in pts_seconds]
        if any(later <= earlier for earlier, later in pairwise(stamps)):
            raise InvalidInputError("pts_seconds must increase by at least a millisecond from frame to frame")


def _check_frame(frame: Tensor, number: int, first: Tensor) -> None:
    if not isinstance(frame, Tensor) or "uint8" not in str(frame.dtype):
        raise InvalidTypeError(
            f"frame {number} must be a uint8 tensor (3, H, W); got {getattr(frame, 'dtype', type(frame))}"
        )
    if frame.ndim != 3 or frame.shape[0] != 3:
        raise InvalidInputError(f"frame {number} must have shape (3, H, W); got {tuple(frame.shape)}")
    if frame.shape != first.shape:
        raise InvalidInputError(
            f"frame {number} has size {tuple(frame.shape[1:])}; the frames before it have {tuple(first.shape[1:])}"
        )
