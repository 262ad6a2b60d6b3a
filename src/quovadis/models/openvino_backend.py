"""Feature computation with OpenVINO on a CPU."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from quovadis.models.video_model import VideoModel
from quovadis.runtime.extras import missing_extra

_MAX_COMPILED = 4
"""Number of compiled networks in the cache. Each one has a copy of the weights."""


class OpenVinoFeatures:
    """``network.features``, compiled by OpenVINO for each input shape.

    Args:
        network: A model without batch norm; see :func:`quovadis.models.optimization.fold_batch_norm`.
        precision: Precision of the convolutions: ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        MissingExtraError: If OpenVINO is not installed.
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
        """Compute features (B, T', D)."""
        shapes = tuple(x.shape for x in streams)
        if shapes not in self._compiled:
            self._compiled[shapes] = self._compile(streams)
            if len(self._compiled) > _MAX_COMPILED:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(shapes)
        (features,) = self._compiled[shapes]([x.contiguous().float().numpy() for x in streams]).values()
        return torch.from_numpy(features)

    def _compile(self, streams: tuple[Tensor, ...]) -> Any:
        import openvino

        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # warnings about internals of the exporter
            exported = torch.export.export(_Features(self._network), streams)
            converted = openvino.convert_model(exported)
        options = {"INFERENCE_PRECISION_HINT": self._hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        return openvino.Core().compile_model(converted, "CPU", options)


class _Features(nn.Module):
    """A module whose ``forward`` calls ``network.features``, as required by ``torch.export``."""

    def __init__(self, network: VideoModel):
        super().__init__()
        self.network = network

    def forward(self, *streams: Tensor) -> Tensor:
        """Compute features (B, T', D)."""
        return self.network.features(*streams)
