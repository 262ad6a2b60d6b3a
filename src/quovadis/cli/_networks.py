"""Options of commands that recognize actions: the networks and how they run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quovadis.flow.parameters import FlowMethod
from quovadis.models.spec import Backend, Precision

if TYPE_CHECKING:
    from quovadis.inference.recognizer import Recognizer


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Base class of the options of a command."""

    weights: tuple[str, ...] = ()
    """Published names, weights files or folders of training runs. The logits of several networks are added. Defaults to
    the official Kinetics-400 network, which is downloaded once."""
    flow_method: FlowMethod = "tvl1"
    """Optical flow method, for networks that need flow; use that of the training."""
    flow_folder: Path | None = None
    """Folder written by quovadis flow. By default, flow next to a video is used, or estimated if there is none."""
    device: str | None = None
    """cpu, cuda, cuda:1 and so on. Defaults to a GPU if there is one."""
    precision: Precision = "float32"
    """Precision of convolutions. bfloat16 is faster on GPUs and on CPUs that support it; probabilities change
    slightly."""
    backend: Backend = "torch"
    """Backend of the networks. compile needs a C++ compiler, openvino the extra of that name."""

    def load(self) -> Recognizer:
        """Load the networks."""
        from quovadis.inference.recognizer import Recognizer

        return Recognizer.load(
            *self.weights,
            device=self.device,
            flow_method=self.flow_method,
            flow_folder=self.flow_folder,
            precision=self.precision,
            backend=self.backend,
        )
