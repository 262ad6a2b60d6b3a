"""Decoded frames and their conversion to upright RGB images."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property

import av
import numpy as np
import torch
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.frame import PictureType
from av.video.reformatter import ColorTrc
from numpy.typing import NDArray
from torch import Tensor

from quovadis.video.orientation import Orientation, parse_display_matrix

# Types of FFmpeg side data without a name in PyAV. If a frame has one, such as EXIF, PyAV raises and lists none.
_UNNAMED_SIDE_DATA = sorted(set(range(64)) - {t.value for t in Type})

# Larger pixel aspect ratios are errors in the file, and frames stretched by them would need much memory.
_MAX_PIXEL_ASPECT = 16
_MAX_STRETCHED_WIDTH_PX = 16384
_HDR = {ColorTrc.SMPTE2084.value: "PQ", ColorTrc.ARIB_STD_B67.value: "HLG"}


class FrameConverter:
    """Convert the frames of one stream to upright RGB images with square pixels, all of one size.

    Colors are converted by FFmpeg's ``scale`` filter with its defaults, so pixels equal those of the ``ffmpeg``
    program. Pass frames to :meth:`orient` in presentation order.

    Args:
        pixel_aspect: Width of a pixel relative to its height; None if unknown, which means square.
    """

    def __init__(self, pixel_aspect: Fraction | None = None):
        self.notes: list[str] = []
        """Remarks for the user on the frames."""
        self.orientation = Orientation()
        """Orientation of the first frame."""
        self.shown_size = 0, 0
        """Width and height of every converted frame, set by the first one."""
        self.pixel_aspect = pixel_aspect if pixel_aspect and pixel_aspect > 0 else Fraction(1)
        """Width of a pixel relative to its height; 1 if the file has no plausible value."""
        self._current: Orientation | None = None
        self._first_stored_size = 0, 0
        self._graph: tuple[tuple[str, int, int, Orientation], Graph] | None = None
        self._num_converted = 0

    def restart(self) -> None:
        """Prepare for frames from another position of the stream."""
        self._current = None

    def orient(self, raw: av.VideoFrame) -> Orientation:
        """Return the orientation of the next frame, or that of the previous frame if it has none.

        In H.264 and HEVC only key frames have one.
        """
        data = _display_matrix(raw)
        if data is not None:
            self._current, error_degrees = parse_display_matrix(data)
            if error_degrees > 1:
                self._note(
                    f"the rotation in the file is {error_degrees:.0f} degrees off a multiple of 90; rounded to the "
                    "nearest multiple"
                )
        elif self._current is None:
            self._current = self.orientation
        if self.shown_size == (0, 0):
            self.orientation, self._first_stored_size = self._current, (raw.width, raw.height)
            width = self._square_width(raw.width)
            self.shown_size = (raw.height, width) if self._current.swap_axes else (width, raw.height)
            self._describe(raw)
        elif (raw.width, raw.height) != self._first_stored_size:
            first = "x".join(map(str, self._first_stored_size))
            self._note(f"the frame size changes from {first} to {raw.width}x{raw.height}; all scaled to the first")
        return self._current

    def convert(self, raw: av.VideoFrame, orientation: Orientation) -> NDArray[np.uint8]:
        """Return the frame as uint8 (H, W, 3)."""
        wanted = raw.format.name, raw.width, raw.height, orientation
        if self._graph is None or self._graph[0] != wanted:
            size = "{}:{}".format(*self.shown_size)
            self._graph = wanted, _graph(raw, *orientation.filters, ("scale", size), ("format", "rgb24"))
        _, graph = self._graph
        raw.pts = self._num_converted  # filters expect increasing timestamps
        self._num_converted += 1
        graph.vpush(raw)
        return np.asarray(graph.vpull().to_ndarray(), np.uint8)

    def _square_width(self, width: int) -> int:
        """Return the width of a frame with square pixels."""
        aspect = self.pixel_aspect
        stretched = max(round(width * aspect), 1)
        if 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT and stretched <= max(width, _MAX_STRETCHED_WIDTH_PX):
            return stretched
        self._note(f"the pixel aspect ratio {aspect.numerator}:{aspect.denominator} is implausible; ignored")
        self.pixel_aspect = Fraction(1)
        return width

    def _describe(self, raw: av.VideoFrame) -> None:
        if raw.interlaced_frame:
            self._note("the video is interlaced and is not deinterlaced, so fast motion shows comb artifacts")
        if raw.color_trc in _HDR:
            self._note(f"the video is HDR ({_HDR[raw.color_trc]}) and is not tone-mapped, so colors look pale")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


class VideoFrame:
    """A decoded frame, converted to RGB on first access to :attr:`pixels`.

    Args:
        raw: The frame as decoded by PyAV.
        pts_seconds: Presentation time on the clock of the file.
        duration_seconds: Time for which the frame is displayed.
        converter: Converter of the stream; frames must be created in presentation order.
    """

    def __init__(self, raw: av.VideoFrame, pts_seconds: float, duration_seconds: float, converter: FrameConverter):
        self._raw = raw
        self._converter = converter
        self._orientation = converter.orient(raw)
        self.pts_seconds = pts_seconds
        self.duration_seconds = duration_seconds
        self.stored_size = raw.width, raw.height

    @property
    def end_seconds(self) -> float:
        """Time at which the frame stops being displayed."""
        return self.pts_seconds + self.duration_seconds

    @property
    def stands_alone(self) -> bool:
        """False if the frame was predicted from others, according to the decoder."""
        return self._raw.pict_type in (PictureType.NONE, PictureType.I)

    @cached_property
    def pixels(self) -> Tensor:
        """uint8 (3, H, W), RGB, upright, with square pixels; channels-last in memory."""
        return torch.from_numpy(self._converter.convert(self._raw, self._orientation)).permute(2, 0, 1)


def _display_matrix(raw: av.VideoFrame) -> bytes | None:
    try:
        data = raw.side_data
    except ValueError:
        deletions = [("sidedata", f"mode=delete:type={number}") for number in _UNNAMED_SIDE_DATA]
        graph = _graph(raw, *deletions)
        graph.vpush(raw)
        data = graph.vpull().side_data
    return bytes(data["DISPLAYMATRIX"]) if "DISPLAYMATRIX" in data else None  # type: ignore[typeddict-item]


def _graph(raw: av.VideoFrame, *filters: tuple[str, str]) -> Graph:
    """Build a chain of filters for frames like this one."""
    graph = Graph()
    # One thread: at these frame sizes, synchronizing more threads costs more than it saves.
    graph.threads = 1
    source = graph.add_buffer(width=raw.width, height=raw.height, format=raw.format, time_base=Fraction(1, 25))
    nodes = [graph.add(*named) for named in (*filters, ("buffersink", ""))]
    graph.link_nodes(source, *nodes).configure()
    return graph
