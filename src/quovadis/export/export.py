"""Networks for other runtimes: ONNX, torch.export and TorchScript, each compared with the network it was made from."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch

from quovadis.errors import UnknownNameError, WeightsError
from quovadis.export.card import OUTPUT_NAMES, CheckCard, ExportCard, PortCard
from quovadis.export.formats import FORMATS, OPSET, ExportFormat, Format
from quovadis.export.plan import FREE_SIZES, ExportPlan, FreeSize, plan_export
from quovadis.export.traceable import Exportable
from quovadis.models.preprocessing import channel_names, preprocessing_steps
from quovadis.models.video_model import VideoModel
from quovadis.runtime.extras import missing_extra
from quovadis.version import __version__
from quovadis.weights.files import write_atomically
from quovadis.weights.verify import state_sha256

TOLERANCE = 1e-4
"""Largest difference from the network, relative to the largest value of the output: some hundred float32 roundings."""


def export_model(
    model: VideoModel,
    path: str | PathLike[str],
    *,
    format: ExportFormat = "onnx",
    batch: int = 1,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    free_sizes: Sequence[FreeSize] = ("batch",),
) -> ExportCard:
    """Write a network for another runtime, compare the file with the network, and write a card beside it.

    The file takes the inputs of the network, ``rgb`` or ``flow`` or both, float32 (B, C, T, H, W) in [-1, 1], and
    gives ``logits`` (B, classes) and ``features`` (B, T', D). Padding is right at every size that is free: it is
    arithmetic within the graph. The card, ``FILE.json``, says what goes in and what comes out; a copy is in the file.

    Args:
        model: any network here; it is exported as it answers in evaluation mode, in float32.
        path: the file to write.
        format: ``onnx`` (opset 20), ``torch-export`` (for ``torch.export.load``) or ``torchscript`` (for
            ``torch.jit.load``, which PyTorch calls deprecated).
        batch: clips; where batch is free, those of the check.
        num_frames: T of the first stream; by default that of a training clip.
        height: in pixels; by default that of the model.
        width: likewise.
        free_sizes: any of ``batch``, ``time`` and ``space``; the others are fixed.

    Returns:
        The card, with the largest difference that was found.

    Raises:
        UnknownNameError: no such format or size. InvalidInputError: sizes that the network does not take, or that
            cannot be free in it. MissingExtraError: the extra ``export`` is not installed.
        WeightsError: the file does not give what the network gives; then no file is left. StorageError: disk full.

    >>> from quovadis.models.zoo import build_model
    >>> path = getfixture("tmp_path") / "tiny.pt"
    >>> card = export_model(build_model("conv3d_tiny", num_classes=10), path, format="torchscript")
    >>> card.inputs[0].shape, card.outputs[0].shape, card.check.max_relative_difference < 1e-4
    (('batch', 3, 16, 56, 56), ('batch', 10), True)
    """
    if format not in FORMATS:
        raise UnknownNameError.among("export format", format, FORMATS)
    plan = plan_export(model, batch, num_frames, height, width, free_sizes)
    if format == "onnx":
        _require_onnx()
    network = Exportable(model)
    card = _card(plan, network, Path(path), format)
    content = FORMATS[format].write(network, plan, card.to_json())
    card = replace(card, check=_check(plan, content, FORMATS[format], card))
    target = write_atomically(path, content)
    write_atomically(card_path(target), card.to_json().encode())
    return card


def card_path(path: str | PathLike[str]) -> Path:
    """Where the card of an exported file lies.

    >>> card_path("models/i3d.onnx").name
    'i3d.onnx.json'
    """
    path = Path(path)
    return path.with_name(path.name + ".json")


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing_extra("exports to ONNX", "export") from error


def _card(plan: ExportPlan, network: Exportable, path: Path, format: ExportFormat) -> ExportCard:
    model, spec, free = plan.model, plan.model.spec, plan.free
    smallest: dict[FreeSize, dict[str, int]] = {
        "batch": {"batch": 1},
        "time": {"frames": plan.min_steps},
        "space": {"height": plan.min_size_px, "width": plan.min_size_px},
    }
    made_with = {"quovadis": __version__, "torch": torch.__version__}
    if format == "onnx":
        made_with["opset"] = str(OPSET)
    return ExportCard(
        format=format,
        file=path.name,
        model=spec.name,
        inputs=_inputs(plan),
        outputs=_outputs(plan, network),
        dtype="float32",
        value_range=(-1.0, 1.0),
        free_sizes={name: least for kind in FREE_SIZES if kind in free for name, least in smallest[kind].items()},
        fps=spec.fps,
        preprocessing=preprocessing_steps(model.spec),
        labels=tuple(model.labels),
        weights_sha256=state_sha256(model.state_dict()),
        source=dict(model.source),
        made_with=made_with,
    )


def _inputs(plan: ExportPlan) -> tuple[PortCard, ...]:
    ports = []
    shapes = plan.input_shapes(plan.batch, plan.steps, plan.height, plan.width)
    for i, (stream, fixed) in enumerate(zip(plan.model.spec.streams, shapes, strict=True)):
        shape: list[int | str] = list(fixed)
        if "batch" in plan.free:
            shape[0] = "batch"
        if "time" in plan.free:
            multiple = plan.frames(i, 1)
            shape[2] = "frames" if multiple == 1 else f"{multiple}*frames"
        if "space" in plan.free:
            shape[3:] = ["height", "width"]
        ports.append(PortCard(stream.kind, tuple(shape), "B C T H W", f"channels: {channel_names(stream)}"))
    return tuple(ports)


def _outputs(plan: ExportPlan, network: Exportable) -> tuple[PortCard, ...]:
    with torch.no_grad():
        logits, features = network(*plan.inputs(1, plan.steps, plan.height, plan.width))
    batch: int | str = "batch" if "batch" in plan.free else plan.batch
    steps: int | str = "steps" if "time" in plan.free else features.shape[1]
    return (
        PortCard(OUTPUT_NAMES[0], (batch, logits.shape[1]), "B classes", "their softmax is the probabilities"),
        PortCard(OUTPUT_NAMES[1], (batch, steps, features.shape[2]), "B T' D", "what the classifier sees"),
    )


def _check(plan: ExportPlan, content: bytes, kind: Format, card: ExportCard) -> CheckCard:
    """Compare what was written with the network itself, not with its rewritten copy.

    Raises:
        WeightsError: they differ.
    """
    run, model = kind.open(content), plan.model.eval()
    largest, relative, shapes = 0.0, 0.0, []
    for size in plan.sizes_to_check():
        inputs = plan.inputs(*size)
        shapes.append(tuple(tuple(x.shape) for x in inputs))
        with torch.no_grad():
            try:
                found = run(*inputs)
            except RuntimeError as error:  # what every runtime here raises for a size that it does not take
                raise WeightsError(f"{card.file} does not take inputs of {shapes[-1]}: {error}; not written") from error
            expected = (model.answer(model(*inputs)), model.features(*inputs))
        for name, got, want in zip(OUTPUT_NAMES, found, expected, strict=True):
            if got.shape != want.shape:
                raise WeightsError(
                    f"{card.file} gives {name} of {tuple(got.shape)} where {card.model} gives {tuple(want.shape)}, for "
                    f"inputs of {shapes[-1]}; not written"
                )
            difference = float((got - want).abs().max())
            largest = max(largest, difference)
            relative = max(relative, difference / float(want.abs().max()))
            if not relative <= TOLERANCE:  # also where it is no number
                raise WeightsError(
                    f"{card.file} differs from {card.model} by {relative:.1e} of its largest value in {name}, for "
                    f"inputs of {shapes[-1]}; at most {TOLERANCE:g} is round-off; not written"
                )
    return CheckCard(kind.runtime(), tuple(shapes), largest, relative)
