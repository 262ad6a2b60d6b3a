"""Human-readable description of the preprocessing of a model, for model cards and exported files."""

from quovadis.models.spec import ModelSpec, StreamSpec


def preprocessing_steps(spec: ModelSpec, crop_px: tuple[int, int] | None = None) -> tuple[str, ...]:
    """Describe the steps from a video file to the inputs of a model, in order.

    Args:
        spec: Specification of the model.
        crop_px: Height and width of the center crop; by default ``spec.size_px`` for both.

    Returns:
        One text per step.

    Example:
    >>> from quovadis.models.zoo import build_model
    >>> preprocessing_steps(build_model("i3d_tiny").spec)[0]
    'sample frames at 25 fps: frame k is the one on screen just before (k + 0.5) / 25 s, as in the fps filter of FFmpeg'
    """
    height, width = crop_px or (spec.size_px, spec.size_px)
    steps = [
        f"sample frames at {spec.fps:g} fps: frame k is the one on screen just before (k + 0.5) / {spec.fps:g} s, "
        "as in the fps filter of FFmpeg",
        f"resize the short side to {spec.short_side_px} px and round the long side to the nearest pixel, halves to "
        "even: bilinear, half-pixel centers, no antialiasing, uint8",
    ]
    if spec.needs_flow:
        steps.append("flow: TV-L1 on grayscale uint8 frames in pixels; the last flow frame is repeated")
        steps.append("flow: clip to [-20, 20] px and quantize to 256 levels (uint8)")
    steps += [
        f"{stream.kind}: take every {stream.frame_stride}th frame, starting at frame {stream.first_frame}"
        for stream in spec.streams
        if stream.frame_stride > 1 or stream.first_frame
    ]
    steps.append(
        f"center crop of {height} x {width} px: first row floor((height - {height}) / 2), first column "
        f"floor((width - {width}) / 2)"
    )
    steps.append("uint8 to float32: value / 127.5 - 1")
    return tuple(steps)


def channel_names(stream: StreamSpec) -> str:
    """Names of the channels of a stream in order."""
    return "R, G, B" if stream.kind == "rgb" else "x to the right, y down"
