"""Cut a long video into overlapping chunks whose features equal those of the whole video.

The features of a chunk equal those of the whole video if (1) the chunk contains their receptive fields and (2) its
layers are aligned with those of the whole video. SAME padding pads differently depending on the number of frames modulo
the stride of the network, the *phase*. A chunk is aligned if it starts at a multiple of the stride and has the phase of
the video. Features that depend on the padding of the chunk itself are computed but not kept.
"""

from dataclasses import dataclass

from quovadis.errors import InvalidInputError
from quovadis.models.receptive_field import ReceptiveField


@dataclass(frozen=True)
class Chunk:
    """Frames ``[start, stop)`` of a video, and the features ``[first_row, stop_row)`` that are kept of them."""

    start: int
    stop: int
    first_row: int
    stop_row: int
    offset: int
    """Number of features of the chunk before the first one that is kept."""


def plan_chunk(
    field: ReceptiveField, first_row: int, num_rows: int, *, phase: int, num_frames: int | None = None
) -> Chunk:
    """Find the frames that are needed for consecutive features of a video.

    Args:
        field: Receptive field of the network.
        first_row: Index of the first feature.
        num_rows: Number of features; the end of the video may make it fewer.
        phase: Number of frames of the video modulo ``field.stride``.
        num_frames: Number of frames of the video; None if the chunk cannot reach the end.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> plan_chunk(build_model("i3d_tiny").receptive_field, 20, 5, phase=2)
        Chunk(start=112, stop=258, first_row=20, stop_row=25, offset=6)
    """
    if num_rows < 1:
        raise InvalidInputError(f"a chunk needs at least one feature; got {num_rows}")
    stride, stop_row = field.stride, first_row + num_rows
    start = max(field.frame_range(first_row, phase)[0] // stride * stride, 0)
    stop = field.frame_range(stop_row - 1, phase)[1]
    stop += (phase - (stop - start)) % stride
    if num_frames is not None and stop >= num_frames:
        stop, stop_row = num_frames, field.num_features(num_frames)
    return Chunk(start, stop, first_row, stop_row, first_row - start // stride)
