"""Input sizes of an export: which of them are dynamic, and which ones are verified."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.export.card import SamplingCard
from quovadis.models.conv3d import FullyConnectedUnit
from quovadis.models.convnet_lstm import BatchNormLSTM
from quovadis.models.optimization import InferenceModel
from quovadis.models.video_model import VideoModel
from quovadis.video.clip import require_frames

DynamicAxis = Literal["batch", "time", "space"]
DYNAMIC_AXES: tuple[DynamicAxis, ...] = ("batch", "time", "space")

InputSize = tuple[int, int, int, int]
"""Batch size, number of frames of the first stream, height and width in pixels."""


@dataclass(frozen=True)
class ExportPlan:
    """Model, input size and dynamic axes of an export."""

    model: VideoModel
    size: InputSize
    dynamic_axes: frozenset[DynamicAxis]

    def stream_frames(self, stream: int, num_frames: int) -> int:
        """Number of frames of a stream if the first stream has ``num_frames``."""
        streams = self.model.spec.streams
        return num_frames * streams[stream].num_frames // streams[0].num_frames

    @property
    def min_frames(self) -> int:
        """Minimum number of frames of the first stream."""
        return max(self.model.spec.streams[0].num_frames_in(self.model.spec.min_frames), 1)

    @property
    def min_size_px(self) -> int:
        """Minimum height and width: the last pooling does not fit smaller inputs."""
        return 32 * (-(-self.model.spec.size_px // 32) - 1) + 1

    def input_shapes(self, size: InputSize) -> tuple[tuple[int, ...], ...]:
        """Shape (B, C, T, H, W) of each input."""
        batch_size, num_frames, height, width = size
        return tuple(
            (batch_size, stream.channels, self.stream_frames(i, num_frames), height, width)
            for i, stream in enumerate(self.model.spec.streams)
        )

    def random_inputs(self, size: InputSize) -> tuple[Tensor, ...]:
        """Random inputs in [-1, 1], the same for each call."""
        generator = torch.Generator().manual_seed(0)
        return tuple(torch.rand(shape, generator=generator) * 2 - 1 for shape in self.input_shapes(size))

    def sampling(self) -> SamplingCard | None:
        """Numbers for classifying a whole video; None for models with several inputs or optical flow."""
        spec = self.model.spec
        if spec.streams[0].kind != "rgb" or len(spec.streams) > 1 or spec.streams[0].first_frame:
            return None
        batch_size, num_frames, height, width = self.size
        stream = spec.streams[0]
        window = stream.num_frames_in(spec.test_frames) if "time" in self.dynamic_axes else num_frames
        return SamplingCard(
            fps=spec.fps,
            frame_stride=stream.frame_stride,
            window_frames=window,
            min_frames=min(stream.num_frames, window) if "time" in self.dynamic_axes else window,
            min_rest_frames=max(window // 20, 1),
            short_side_px=max(spec.short_side_px, height, width),
            crop_px=(height, width),
            batch_size=1 if "batch" in self.dynamic_axes else batch_size,
        )

    def sizes_to_check(self) -> list[InputSize]:
        """The size of the plan; with dynamic axes also the minimum size and two larger ones.

        The larger sizes are chosen so that different layers have inputs of odd size.
        """
        sizes = [self.size]
        for increment in (None, 1, 3) if self.dynamic_axes else ():
            batch_size, num_frames, height, width = self.size
            if "batch" in self.dynamic_axes:
                batch_size = 1 if increment is None else batch_size + 1
            if "time" in self.dynamic_axes:
                num_frames = self.min_frames if increment is None else num_frames + increment
            if "space" in self.dynamic_axes:
                if increment is None:
                    height = width = self.min_size_px
                else:
                    height, width = height + increment, width + 5 * increment + 1
            sizes.append((batch_size, num_frames, height, width))
        return list(dict.fromkeys(sizes))


def plan_export(
    model: VideoModel,
    *,
    batch_size: int,
    num_frames: int | None,
    height_px: int | None,
    width_px: int | None,
    dynamic_axes: Sequence[DynamicAxis],
) -> ExportPlan:
    """Create a plan, or raise if the model cannot be exported; see ``export_model`` for arguments and errors."""
    for name in dynamic_axes:
        if name not in DYNAMIC_AXES:
            raise UnknownNameError.among("dynamic axis", name, DYNAMIC_AXES)
    if isinstance(model, InferenceModel):
        raise InvalidInputError("an optimized model cannot be exported: use the original model")
    first, spec = model.spec.streams[0], model.spec
    num_frames = first.num_frames if num_frames is None else num_frames
    height, width = height_px or spec.size_px, width_px or spec.size_px
    plan = ExportPlan(model, (batch_size, num_frames, height, width), frozenset(dynamic_axes))
    if batch_size < 1:
        raise InvalidInputError(f"batch_size must be at least 1; got {batch_size}")
    require_frames(num_frames, plan.min_frames, f"an export of {first.kind}", spec.name)
    if min(height, width) < plan.min_size_px:
        raise InvalidInputError(
            f"{spec.name} needs frames of at least {plan.min_size_px} x {plan.min_size_px} pixels; got "
            f"{height} x {width}"
        )
    if "time" in plan.dynamic_axes and any(isinstance(module, BatchNormLSTM) for module in model.modules()):
        raise InvalidInputError(
            f"{spec.name} does not support a dynamic time axis: the batch norm of its LSTM has statistics per step, so "
            "the exported graph is unrolled over time. Export it for a fixed number of frames"
        )
    has_fully_connected = any(isinstance(module, FullyConnectedUnit) for module in model.modules())
    if "time" in plan.dynamic_axes and "space" not in plan.dynamic_axes and has_fully_connected:
        raise InvalidInputError(
            f"{spec.name} supports a dynamic time axis only together with space, because one trace of its fully "
            "connected layers is not valid for both one and several time steps. Add 'space' to the dynamic axes"
        )
    return plan
