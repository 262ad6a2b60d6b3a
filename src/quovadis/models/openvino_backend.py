"""Features by OpenVINO, on a CPU: another compiler of networks, that needs no C++ compiler."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from quovadis.models.video_model import VideoModel
from quovadis.runtime.extras import missing_extra

_KEPT_SHAPES = 4
"""Of inputs whose compiled networks are kept; each holds the weights once more."""


class OpenVinoFeatures:
    """``network.features``, compiled anew for each shape of input.

    Args:
        network: its batch norms folded.
        precision: ``float32``, ``bfloat16`` or ``float16``, of the convolutions.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """

    def __init__(self, network: VideoModel, precision: str):
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise missing_extra("OpenVINO networks", "openvino") from error
        self._network = network
        self._hint = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[precision]
        self._compiled: OrderedDict[tuple[torch.Size, ...], Any] = OrderedDict()

    def __call__(self, *streams: Tensor) -> Tensor:
        """The features (B, T', D)."""
        shapes = tuple(x.shape for x in streams)
        if shapes not in self._compiled:
            self._compiled[shapes] = self._compile(streams)
            if len(self._compiled) > _KEPT_SHAPES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(shapes)
        (features,) = self._compiled[shapes]([x.contiguous().float().numpy() for x in streams]).values()
        return torch.from_numpy(features)

    def _compile(self, streams: tuple[Tensor, ...]) -> Any:
        import openvino

        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            exported = torch.export.export(_Features(self._network), streams)
            converted = openvino.convert_model(exported)
        options = {"INFERENCE_PRECISION_HINT": self._hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        return openvino.Core().compile_model(converted, "CPU", options)


class _Features(nn.Module):
    """A network whose ``forward`` is its ``features``."""

    def __init__(self, network: VideoModel):
        super().__init__()
        self.network = network

    def forward(self, *streams: Tensor) -> Tensor:
        """Features (B, T', D)."""
        return self.network.features(*streams)
