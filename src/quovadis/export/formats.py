"""The file formats of an export: how each is written, and how it is run."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from quovadis.export.card import HEADER, OUTPUT_NAMES
from quovadis.export.plan import ExportPlan
from quovadis.export.traceable import Exportable

ExportFormat = Literal["onnx", "torch-export", "torchscript"]
OPSET = 20
"""Of the operators of ONNX: what PyTorch's exporter writes without a conversion afterwards."""

Run = Callable[..., tuple[Tensor, Tensor]]
"""Inputs to logits and features."""


class Format(NamedTuple):
    """A way to write a network, and to run what was written."""

    write: Callable[[Exportable, ExportPlan, str], bytes]
    """Network, plan and the text of the card to the content of the file."""
    open: Callable[[bytes], Run]
    """The content of a file to a function."""
    runtime: Callable[[], str]
    """What runs it here, with its version."""


def _write_onnx(network: Exportable, plan: ExportPlan, text: str) -> bytes:
    exported = _trace(network, plan)
    with _quiet():
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
    program.model.metadata_props[HEADER] = text
    return program.model_proto.SerializeToString()


def _open_onnx(content: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        arrays = dict(zip(names, (x.numpy() for x in inputs), strict=True))
        logits, features = session.run(list(OUTPUT_NAMES), arrays)
        return torch.from_numpy(logits), torch.from_numpy(features)

    return run


def _onnx_runtime() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _write_torch_export(network: Exportable, plan: ExportPlan, text: str) -> bytes:
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(_trace(network, plan), buffer, extra_files={f"{HEADER}.json": text})
    return buffer.getvalue()


def _open_torch_export(content: bytes) -> Run:
    with _quiet():
        return torch.export.load(io.BytesIO(content)).module()


def _write_torchscript(network: Exportable, plan: ExportPlan, text: str) -> bytes:
    buffer = io.BytesIO()
    with _quiet(), torch.no_grad():
        inputs = plan.inputs(plan.batch, plan.steps, plan.height, plan.width)
        traced = torch.jit.trace(network, inputs, check_trace=False)
        torch.jit.save(traced, buffer, _extra_files={f"{HEADER}.json": text})
    return buffer.getvalue()


def _open_torchscript(content: bytes) -> Run:
    with _quiet():
        return torch.jit.load(io.BytesIO(content))


def _torch_runtime() -> str:
    return f"torch {torch.__version__}"


FORMATS: dict[ExportFormat, Format] = {
    "onnx": Format(_write_onnx, _open_onnx, _onnx_runtime),
    "torch-export": Format(_write_torch_export, _open_torch_export, _torch_runtime),
    "torchscript": Format(_write_torchscript, _open_torchscript, _torch_runtime),
}


def _trace(network: Exportable, plan: ExportPlan) -> torch.export.ExportedProgram:
    """One graph for all sizes that are free.

    It is made at sizes so large that no axis within the network has length 1, which would be taken for a constant.
    """
    size = [plan.batch, plan.steps, plan.height, plan.width]
    if "batch" in plan.free:
        size[0] += 1
    if "time" in plan.free:
        size[1] = 2 * size[1] + 32
    if "space" in plan.free:
        size[2], size[3] = size[2] + 32, size[3] + 64
    shapes = plan.input_shapes(*size)
    # Only shapes and layout matter, so the memory is never touched.
    inputs = tuple(torch.empty(shape) for shape in shapes)
    oblivious = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with _quiet(), torch.no_grad(), oblivious:
        return torch.export.export(network, inputs, dynamic_shapes=(_free_axes(plan),))


def _free_axes(plan: ExportPlan) -> tuple[dict[int, Any], ...]:
    """For each input its free axes, as ``torch.export`` wants them."""
    batch = torch.export.Dim("batch")
    frames = torch.export.Dim("frames", min=plan.min_steps)
    height, width = (torch.export.Dim(name, min=plan.min_size_px) for name in ("height", "width"))
    axes = []
    for i in range(len(plan.model.spec.streams)):
        own: dict[int, Any] = {}
        if "batch" in plan.free:
            own[0] = batch
        if "time" in plan.free:
            multiple = plan.frames(i, 1)
            own[2] = frames if multiple == 1 else multiple * frames
        if "space" in plan.free:
            own[3], own[4] = height, width
        axes.append(own)
    return tuple(axes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on their own insides: what matters is compared afterwards."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
