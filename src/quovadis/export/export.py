"""Export of models to ONNX and torch.export, verified against the original model."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch

from quovadis.errors import UnknownNameError, WeightsError
from quovadis.export.card import OUTPUT_NAMES, CheckCard, ExportCard, TensorCard
from quovadis.export.formats import FORMATS, OPSET, ExportFormat, Format
from quovadis.export.plan import DYNAMIC_AXES, DynamicAxis, ExportPlan, plan_export
from quovadis.export.traceable import Exportable
from quovadis.models.preprocessing import channel_names, preprocessing_steps
from quovadis.models.video_model import VideoModel
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.extras import missing_extra
from quovadis.version import __version__
from quovadis.weights.verify import state_sha256

TOLERANCE = 1e-4
"""Largest accepted difference relative to the largest value of an output: a few hundred float32 roundings."""


_SCRIPT = Path(__file__).parent / "templates" / "run.py"


def export_model(
    model: VideoModel,
    path: str | PathLike[str],
    *,
    format: ExportFormat = "onnx",
    batch_size: int = 1,
    num_frames: int | None = None,
    height_px: int | None = None,
    width_px: int | None = None,
    dynamic_axes: Sequence[DynamicAxis] = ("batch",),
) -> ExportCard:
    """Export a model to ONNX or torch.export, verify the file, and write a card next to it.

    The exported model takes one float32 tensor (B, C, T, H, W) in [-1, 1] per stream, named ``rgb`` or ``flow``, and
    returns ``logits`` (B, classes) and ``features`` (B, T', D). SAME padding depends on the input size and is computed
    in the graph, so results are correct for all sizes of dynamic axes. The file is compared with the model at several
    sizes. The card ``FILE.json`` describes inputs, preprocessing, outputs and labels; the file contains a copy. For
    ONNX files of models with one RGB input, the script ``FILE.run.py`` classifies videos with numpy and onnxruntime.

    Args:
        model: Any model of this package. It is exported in evaluation mode and float32.
        path: File to write.
        format: ``"onnx"`` (opset 20, needs the extra ``export``) or ``"torch-export"`` (for ``torch.export.load``).
        batch_size: Number of clips B. If the batch axis is dynamic, it is only used for the check.
        num_frames: Number of frames T of the first stream; None uses that of a training clip.
        height_px: Height in pixels; None uses that of a training clip.
        width_px: Width in pixels; None uses that of a training clip.
        dynamic_axes: Axes with a variable size: any of ``"batch"``, ``"time"`` and ``"space"``.

    Returns:
        The card, including the largest difference from the original model.

    Raises:
        UnknownNameError: If there is no format or axis of that name.
        InvalidInputError: If the model does not support the size or the dynamic axes, or it is an optimized model.
        TooFewFramesError: If ``num_frames`` is too small for the model.
        MissingExtraError: If the format is ``"onnx"`` and the extra ``export`` is not installed.
        WeightsError: If the outputs of the file differ from those of the model. No file is written.
        StorageError: If writing fails.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> path = getfixture("tmp_path") / "tiny.pt2"
        >>> card = export_model(build_model("conv3d_tiny", num_classes=10), path, format="torch-export")
        >>> card.inputs[0].shape, card.outputs[0].shape, card.check.max_relative_difference < 1e-4
        (('batch', 3, 16, 56, 56), ('batch', 10), True)
    """
    if format not in FORMATS:
        raise UnknownNameError.among("export format", format, FORMATS)
    plan = plan_export(
        model,
        batch_size=batch_size,
        num_frames=num_frames,
        height_px=height_px,
        width_px=width_px,
        dynamic_axes=dynamic_axes,
    )
    if format == "onnx":
        _require_onnx()
    exportable = Exportable(model)
    card = _create_card(plan, exportable, Path(path), format)
    content = FORMATS[format].write(exportable, plan, card.to_json())
    card = replace(card, check=_check(plan, content, FORMATS[format], card))
    target = write_atomically(path, content)
    write_atomically(card_path(target), card.to_json().encode())
    if has_script(card):
        write_atomically(script_path(target), _SCRIPT.read_bytes())
    return card


def card_path(path: str | PathLike[str]) -> Path:
    """Path of the card of an exported file.

    >>> card_path("models/i3d.onnx").name
    'i3d.onnx.json'
    """
    path = Path(path)
    return path.with_name(path.name + ".json")


def script_path(path: str | PathLike[str]) -> Path:
    """Path of the script that classifies a video with an exported file.

    >>> script_path("models/i3d.onnx").name
    'i3d.onnx.run.py'
    """
    path = Path(path)
    return path.with_name(path.name + ".run.py")


def has_script(card: ExportCard) -> bool:
    """Return whether a script is written next to an exported file."""
    return card.format == "onnx" and card.sampling is not None


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing_extra("exports to ONNX", "export") from error


def _create_card(plan: ExportPlan, exportable: Exportable, path: Path, format: ExportFormat) -> ExportCard:
    model, spec = plan.model, plan.model.spec
    minimums: dict[DynamicAxis, dict[str, int]] = {
        "batch": {"batch": 1},
        "time": {"frames": plan.min_frames},
        "space": {"height": plan.min_size_px, "width": plan.min_size_px},
    }
    made_with = {"quovadis": __version__, "torch": torch.__version__}
    if format == "onnx":
        made_with["opset"] = str(OPSET)
    return ExportCard(
        format=format,
        file=path.name,
        model=spec.name,
        inputs=_input_cards(plan),
        outputs=_output_cards(plan, exportable),
        dtype="float32",
        value_range=(-1.0, 1.0),
        dynamic_axes={
            name: minimum
            for axis in DYNAMIC_AXES
            if axis in plan.dynamic_axes
            for name, minimum in minimums[axis].items()
        },
        fps=spec.fps,
        preprocessing=_preprocessing(plan),
        sampling=plan.sampling(),
        labels=tuple(model.labels),
        weights_sha256=state_sha256(model.state_dict()),
        source=dict(model.source),
        made_with=made_with,
    )


def _preprocessing(plan: ExportPlan) -> tuple[str, ...]:
    """Describe the steps from a video file to the prediction."""
    how = plan.sampling()
    if how is None:
        return preprocessing_steps(plan.model.spec)
    spec = replace(plan.model.spec, short_side_px=how.short_side_px)
    return (
        *preprocessing_steps(spec, how.crop_px),
        f"loop a video of fewer than {how.min_frames} frames to {how.min_frames}",
        f"cut consecutive windows of {how.window_frames} frames; the last one is moved back to end with the video, and "
        f"left out if fewer than {how.min_rest_frames} frames are not in another window",
        "average the logits over the windows, then apply softmax",
    )


def _input_cards(plan: ExportPlan) -> tuple[TensorCard, ...]:
    cards = []
    for i, (stream, fixed) in enumerate(zip(plan.model.spec.streams, plan.input_shapes(plan.size), strict=True)):
        shape: list[int | str] = list(fixed)
        if "batch" in plan.dynamic_axes:
            shape[0] = "batch"
        if "time" in plan.dynamic_axes:
            multiple = plan.stream_frames(i, 1)
            shape[2] = "frames" if multiple == 1 else f"{multiple}*frames"
        if "space" in plan.dynamic_axes:
            shape[3:] = ["height", "width"]
        cards.append(TensorCard(stream.kind, tuple(shape), "B C T H W", f"channels: {channel_names(stream)}"))
    return tuple(cards)


def _output_cards(plan: ExportPlan, exportable: Exportable) -> tuple[TensorCard, ...]:
    with torch.no_grad():
        logits, features = exportable(*plan.random_inputs((1, *plan.size[1:])))
    batch: int | str = "batch" if "batch" in plan.dynamic_axes else plan.size[0]
    steps: int | str = "steps" if "time" in plan.dynamic_axes else features.shape[1]
    return (
        TensorCard(OUTPUT_NAMES[0], (batch, logits.shape[1]), "B classes", "apply softmax to get probabilities"),
        TensorCard(OUTPUT_NAMES[1], (batch, steps, features.shape[2]), "B T' D", "inputs of the classifier"),
    )


def _check(plan: ExportPlan, content: bytes, format: Format, card: ExportCard) -> CheckCard:
    """Compare the written file with the original model (not with its rewritten copy).

    Raises:
        WeightsError: If they differ.
    """
    run, model = format.open(content), plan.model.eval()
    max_difference, max_relative, shapes = 0.0, 0.0, []
    for size in plan.sizes_to_check():
        inputs = plan.random_inputs(size)
        shapes.append(tuple(tuple(x.shape) for x in inputs))
        with torch.no_grad():
            try:
                outputs = run(*inputs)
            except (RuntimeError, AssertionError) as error:  # raised by the runtimes for unsupported sizes
                raise WeightsError(
                    f"{card.file} does not accept inputs of shape {shapes[-1]}: {error}. The file was not written"
                ) from error
            expected = (model.video_logits(model(*inputs)), model.features(*inputs))
        for name, found, reference in zip(OUTPUT_NAMES, outputs, expected, strict=True):
            if found.shape != reference.shape:
                raise WeightsError(
                    f"{card.file} returns {name} of shape {tuple(found.shape)} for inputs of shape {shapes[-1]}; "
                    f"{card.model} returns {tuple(reference.shape)}. The file was not written"
                )
            difference = float((found - reference).abs().max())
            max_difference = max(max_difference, difference)
            max_relative = max(max_relative, difference / float(reference.abs().max()))
            if not max_relative <= TOLERANCE:  # also true for NaN
                raise WeightsError(
                    f"{card.file} differs from {card.model} in {name} by {max_relative:.1e} of the largest value, for "
                    f"inputs of shape {shapes[-1]}; expected at most {TOLERANCE:g}. The file was not written"
                )
    return CheckCard(format.runtime(), tuple(shapes), max_difference, max_relative)
