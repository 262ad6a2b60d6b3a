"""Human-readable description of the preprocessing of a model, for model cards and exported files."""

from quovadis.models.spec import ModelSpec, StreamSpec


def preprocessing_steps(spec: ModelSpec) -> tuple[str, ...]:
    """Describe the steps from a video file to the inputs of a model, in order.

    >>> from quovadis.models.zoo import build_model
    >>> preprocessing_steps(build_model("i3d_tiny").spec)[0]
    'sample frames at 25 fps by timestamp'
    """
    steps = [
        f"sample frames at {spec.fps:g} fps by timestamp",
        f"resize the short side to {spec.short_side_px} px: bilinear, half-pixel centers, no antialiasing, uint8",
    ]
    if spec.needs_flow:
        steps.append("flow: TV-L1 on grayscale uint8 frames in pixels; the last flow frame is repeated")
        steps.append("flow: clip to [-20, 20] px and quantize to 256 levels (uint8)")
    steps += [
        f"{stream.kind}: take every {stream.frame_stride}th frame, starting at frame {stream.first_frame}"
        for stream in spec.streams
        if stream.frame_stride > 1 or stream.first_frame
    ]
    steps.append(f"center crop of {spec.size_px} x {spec.size_px} px")
    steps.append("uint8 to float32: value / 127.5 - 1")
    return tuple(steps)


def channel_names(stream: StreamSpec) -> str:
    """Names of the channels of a stream in order."""
    return "R, G, B" if stream.kind == "rgb" else "x to the right, y down"
