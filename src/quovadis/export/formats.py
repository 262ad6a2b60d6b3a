"""File formats of exported models: how to write and run them."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from quovadis.export.card import METADATA_KEY, OUTPUT_NAMES
from quovadis.export.plan import ExportPlan
from quovadis.export.traceable import Exportable

ExportFormat = Literal["onnx", "torch-export"]
OPSET = 20
"""ONNX opset. PyTorch's exporter writes it without version conversion."""

Run = Callable[..., tuple[Tensor, Tensor]]
"""A function from inputs to logits and features."""


class Format(NamedTuple):
    """Functions to write and run a file format."""

    write: Callable[[Exportable, ExportPlan, str], bytes]
    """Create the content of a file from a model, its plan and its card in JSON."""
    open: Callable[[bytes], Run]
    """Load the content of a file as a function."""
    runtime: Callable[[], str]
    """Name and version of the runtime used by ``open``."""


def _write_onnx(model: Exportable, plan: ExportPlan, card: str) -> bytes:
    exported = _trace(model, plan)
    with _suppress_exporter_warnings():
        program = torch.onnx.export(
            exported,
            dynamo=True,
            opset_version=OPSET,
            input_names=[stream.kind for stream in plan.model.spec.streams],
            output_names=list(OUTPUT_NAMES),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[METADATA_KEY] = card
    return program.model_proto.SerializeToString()


def _open_onnx(content: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        arrays = dict(zip(names, (x.numpy() for x in inputs), strict=True))
        logits, features = session.run(list(OUTPUT_NAMES), arrays)
        return torch.from_numpy(logits), torch.from_numpy(features)

    return run


def _onnx_runtime() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _write_torch_export(model: Exportable, plan: ExportPlan, card: str) -> bytes:
    buffer = io.BytesIO()
    with _suppress_exporter_warnings():
        torch.export.save(_trace(model, plan), buffer, extra_files={f"{METADATA_KEY}.json": card})
    return buffer.getvalue()


def _open_torch_export(content: bytes) -> Run:
    with _suppress_exporter_warnings():
        return torch.export.load(io.BytesIO(content)).module()


FORMATS: dict[ExportFormat, Format] = {
    "onnx": Format(_write_onnx, _open_onnx, _onnx_runtime),
    "torch-export": Format(_write_torch_export, _open_torch_export, lambda: f"torch {torch.__version__}"),
}


def _trace(model: Exportable, plan: ExportPlan) -> torch.export.ExportedProgram:
    """Trace one graph that is valid for all dynamic sizes.

    Dynamic axes are enlarged for the trace so that no intermediate axis has length 1, because the tracer would
    specialize the graph for it.
    """
    batch_size, num_frames, height, width = plan.size
    if "batch" in plan.dynamic_axes:
        batch_size += 1
    if "time" in plan.dynamic_axes:
        num_frames = 2 * num_frames + 32
    if "space" in plan.dynamic_axes:
        height, width = height + 32, width + 64
    # Only the shapes matter, so the tensors are not initialized.
    inputs = tuple(torch.empty(shape) for shape in plan.input_shapes((batch_size, num_frames, height, width)))
    oblivious = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with _suppress_exporter_warnings(), torch.no_grad(), oblivious:
        return torch.export.export(model, inputs, dynamic_shapes=(_dynamic_shapes(plan),))


def _dynamic_shapes(plan: ExportPlan) -> tuple[dict[int, Any], ...]:
    """Dynamic axes of each input in the format of ``torch.export``."""
    batch = torch.export.Dim("batch")
    frames = torch.export.Dim("frames", min=plan.min_frames)
    height, width = (torch.export.Dim(name, min=plan.min_size_px) for name in ("height", "width"))
    shapes = []
    for i in range(len(plan.model.spec.streams)):
        axes: dict[int, Any] = {}
        if "batch" in plan.dynamic_axes:
            axes[0] = batch
        if "time" in plan.dynamic_axes:
            multiple = plan.stream_frames(i, 1)
            axes[2] = frames if multiple == 1 else multiple * frames
        if "space" in plan.dynamic_axes:
            axes[3], axes[4] = height, width
        shapes.append(axes)
    return tuple(shapes)


@contextmanager
def _suppress_exporter_warnings() -> Iterator[None]:
    """Suppress warnings of the exporters about their internals; exported files are verified anyway."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
