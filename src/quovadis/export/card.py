"""Export cards: inputs, outputs, preprocessing, labels and verification of an exported model."""

import json
from dataclasses import asdict, dataclass
from typing import Any

METADATA_KEY = "quovadis"
"""Key of the card in the metadata of an exported file."""
OUTPUT_NAMES = ("logits", "features")


@dataclass(frozen=True)
class TensorCard:
    """One input or output of an exported model.

    Attributes:
        name: Name of the tensor in the file.
        shape: Sizes. A string stands for a dynamic size.
        axes: Names of the axes, such as ``B C T H W``.
        description: Meaning of the values.
    """

    name: str
    shape: tuple[int | str, ...]
    axes: str
    description: str


@dataclass(frozen=True)
class CheckCard:
    """Comparison of an exported file with the original model.

    Attributes:
        runtime: Runtime and version that ran the file.
        shapes: Input shapes of each comparison.
        max_difference: Largest absolute difference of logits and features.
        max_relative_difference: Largest difference relative to the largest absolute value of the output.
    """

    runtime: str
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    max_difference: float
    max_relative_difference: float


@dataclass(frozen=True)
class SamplingCard:
    """Numbers for classifying a whole video: frames, size, crop and windows.

    Attributes:
        fps: Frame rate to which a video is resampled. Frame k is the one on screen just before (k + 0.5) / fps seconds
            from the start, as in the filter ``fps`` of FFmpeg.
        frame_stride: The input takes every ``frame_stride``-th of these frames, from the first one on. The following
            numbers count these frames.
        window_frames: Length of a window. The windows are consecutive, and the last one is moved back to end with the
            video. A video shorter than a window has one window, the whole video.
        min_frames: A shorter video is looped to this length.
        min_rest_frames: Frames after the last whole window are not used if they are fewer than this.
        short_side_px: Short side to which frames are resized. The long side is rounded to the nearest integer, halves
            to even.
        crop_px: Height and width of the center crop, at row ``floor((height - crop) / 2)``; columns alike.
        batch_size: Number of clips that one call needs; 1 if the batch axis is dynamic.
        average: What is averaged over the windows, before softmax.
    """

    fps: float
    frame_stride: int
    window_frames: int
    min_frames: int
    min_rest_frames: int
    short_side_px: int
    crop_px: tuple[int, int]
    batch_size: int
    average: str = "logits"


@dataclass(frozen=True)
class ExportCard:
    """Description of an exported file, sufficient to run it without this package.

    Attributes:
        format: Name of the file format.
        file: Name of the file.
        model: Name of the model.
        inputs: Inputs in order.
        outputs: Logits and features.
        dtype: dtype of inputs and outputs.
        value_range: Range of the input values.
        dynamic_axes: Minimum of each dynamic size by its name in the shapes.
        fps: Frame rate of the training videos in frames per second.
        preprocessing: Steps from a video file to the inputs and from the logits to the prediction, in order.
        sampling: The numbers of these steps. None for models with several inputs or optical flow.
        labels: Class names in the order of the logits.
        weights_sha256: Hash of the weights; see :func:`quovadis.weights.verify.state_sha256`.
        source: Origin of the weights.
        made_with: Versions of the software that wrote the file.
        check: Comparison with the original model. None in the copy inside the file, which is written before the check.
    """

    format: str
    file: str
    model: str
    inputs: tuple[TensorCard, ...]
    outputs: tuple[TensorCard, ...]
    dtype: str
    value_range: tuple[float, float]
    dynamic_axes: dict[str, int]
    fps: float
    preprocessing: tuple[str, ...]
    labels: tuple[str, ...]
    weights_sha256: str
    source: dict[str, Any]
    made_with: dict[str, str]
    sampling: SamplingCard | None = None
    check: CheckCard | None = None

    def to_json(self) -> str:
        """Serialize the card to JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)
