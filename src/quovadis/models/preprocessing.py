"""Preprocessing in words: the steps from a video file to the inputs of a model."""

from quovadis.models.spec import ModelSpec, StreamSpec


def preprocessing_steps(spec: ModelSpec) -> tuple[str, ...]:
    """The steps from a video file to the inputs of a network, in order, in words.

    >>> from quovadis.models.zoo import build_model
    >>> len(preprocessing_steps(build_model("i3d_tiny", stream="flow").spec))
    6
    """
    steps = [
        f"take frames at {spec.fps:g} a second by their timestamps",
        f"resize to a short side of {spec.short_side_px} px: bilinear, half-pixel centers, no antialiasing, to bytes",
    ]
    if spec.needs_flow:
        steps.append("flow: TV-L1 on gray bytes from each frame to the next, the last one repeated; pixels")
        steps.append("flow: clip to -20 ... 20 px and round to bytes, 256 levels")
    steps += [_sampling(stream) for stream in spec.streams if stream.frame_stride > 1 or stream.first_frame]
    steps.append(f"crop the center, {spec.size_px} x {spec.size_px} px")
    steps.append("bytes to floats: value / 127.5 - 1")
    return tuple(steps)


def channel_names(stream: StreamSpec) -> str:
    """The channels of a stream in words."""
    return "R, G, B" if stream.kind == "rgb" else "x to the right, y down"


def _sampling(stream: StreamSpec) -> str:
    return f"{stream.kind}: of the frames take every {stream.frame_stride}th from number {stream.first_frame} on"
