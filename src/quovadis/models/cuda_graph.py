"""CUDA graphs: launch all kernels of a network at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from quovadis.models.video_model import VideoModel

_MAX_VALUES = 80_000_000
"""Values of the largest input that is run as a graph: 8 clips of 64 frames. Beyond, the GPU is slower than the host."""
_MAX_GRAPHS = 2
"""Graphs that are kept. Each one keeps the memory of its activations."""


class GraphedFeatures:
    """Compute ``network.features`` on a GPU, from the second call with the same shape on as a CUDA graph.

    A network has hundreds of kernels. For a few clips the host needs longer to launch them than the GPU to run them; a
    graph is launched as one. Large inputs and networks that cannot be captured run as usual.

    Args:
        network: Network on a GPU, without gradients.
    """

    def __init__(self, network: VideoModel):
        self.network = network
        self._graphs: OrderedDict[Any, _Graph | None] = OrderedDict()  # None after the first call
        self._failed = False
        self._lock = threading.Lock()

    def __call__(self, *streams: Tensor) -> Tensor:
        """Features (B, T', D) of inputs that were checked."""
        if (
            self._failed
            or not all(x.is_cuda for x in streams)
            or sum(x.numel() for x in streams) > _MAX_VALUES
            or torch.is_autocast_enabled("cuda")
            or torch.cuda.is_current_stream_capturing()
        ):
            return self.network.features(*streams)
        with self._lock, torch.cuda.device(streams[0].device):
            key = self._key(streams)
            if key not in self._graphs:
                self._graphs[key] = None
                while len(self._graphs) > _MAX_GRAPHS:
                    self._graphs.popitem(last=False)
                return self.network.features(*streams)
            graph = self._graphs[key]
            if graph is None:
                try:
                    graph = self._graphs[key] = _Graph(self.network, streams)
                except RuntimeError:
                    self._failed = True
                    return self.network.features(*streams)
            self._graphs.move_to_end(key)
            return graph(streams)

    def _key(self, streams: tuple[Tensor, ...]) -> Any:
        """All that a graph keeps: shapes, where the weights are, the stream, and how convolutions round."""
        shapes = tuple((x.shape, x.dtype) for x in streams)
        weights = next(self.network.parameters()).data_ptr()
        return shapes, weights, torch.cuda.current_stream().cuda_stream, torch.backends.cudnn.allow_tf32


class _Graph:
    def __init__(self, network: VideoModel, streams: tuple[Tensor, ...]):
        with torch.inference_mode(False), torch.no_grad():
            self.inputs = [torch.empty_like(x) for x in streams]
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.output = network.features(*self.inputs)

    def __call__(self, streams: tuple[Tensor, ...]) -> Tensor:
        for own, given in zip(self.inputs, streams, strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.output.clone()  # the next replay overwrites it
