"""With which sizes a network is exported, which of them are free, and at which it is checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.models.conv3d import FullyConnectedUnit
from quovadis.models.convnet_lstm import BatchNormLSTM
from quovadis.models.optimize import InferenceModel
from quovadis.models.video_model import VideoModel
from quovadis.video.clip import require_frames

FreeSize = Literal["batch", "time", "space"]
FREE_SIZES: tuple[FreeSize, ...] = ("batch", "time", "space")


@dataclass(frozen=True)
class ExportPlan:
    """The sizes that a network is exported with, and which of them are free."""

    model: VideoModel
    batch: int
    steps: int
    """Frames of the first stream; the others have as many times more as in training."""
    height: int
    width: int
    free: frozenset[FreeSize]

    def frames(self, stream: int, steps: int) -> int:
        """Frames of a stream where the first one has ``steps``."""
        streams = self.model.spec.streams
        return steps * streams[stream].num_frames // streams[0].num_frames

    @property
    def min_steps(self) -> int:
        """Fewest frames of the first stream."""
        return max(self.model.spec.streams[0].frames_in(self.model.spec.min_frames), 1)

    @property
    def min_size_px(self) -> int:
        """Below this the last pooling does not fit."""
        return 32 * (-(-self.model.spec.size_px // 32) - 1) + 1

    def input_shapes(self, batch: int, steps: int, height: int, width: int) -> tuple[tuple[int, ...], ...]:
        """Of the inputs, where the first stream has ``steps`` frames."""
        return tuple(
            (batch, stream.channels, self.frames(i, steps), height, width)
            for i, stream in enumerate(self.model.spec.streams)
        )

    def inputs(self, batch: int, steps: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Random inputs of that size, the same at every call, with values in [-1, 1]."""
        random = torch.Generator().manual_seed(0)
        return tuple(
            torch.rand(shape, generator=random) * 2 - 1 for shape in self.input_shapes(batch, steps, height, width)
        )

    def sizes_to_check(self) -> list[tuple[int, int, int, int]]:
        """The exported size; where sizes are free, the smallest, and two larger ones that are odd at other layers."""
        sizes = [(self.batch, self.steps, self.height, self.width)]
        for more in (None, 1, 3) if self.free else ():
            size = list(sizes[0])
            if "batch" in self.free:
                size[0] = 1 if more is None else self.batch + 1
            if "time" in self.free:
                size[1] = self.min_steps if more is None else self.steps + more
            if "space" in self.free:
                size[2:] = [self.min_size_px] * 2 if more is None else [self.height + more, self.width + 5 * more + 1]
            sizes.append((size[0], size[1], size[2], size[3]))
        return list(dict.fromkeys(sizes))


def plan_export(
    model: VideoModel,
    batch: int,
    num_frames: int | None,
    height: int | None,
    width: int | None,
    free_sizes: Sequence[FreeSize],
) -> ExportPlan:
    """The plan, or a reason why the network cannot be exported so; arguments as of ``export_model``.

    Raises:
        UnknownNameError: no such size. InvalidInputError: sizes that the network does not take, or that cannot be free.
        TooFewFramesError: too few frames.
    """
    for name in free_sizes:
        if name not in FREE_SIZES:
            raise UnknownNameError.among("size", name, FREE_SIZES)
    if isinstance(model, InferenceModel):
        raise InvalidInputError("an optimized network cannot be exported: give the network that it was made from")
    first, spec = model.spec.streams[0], model.spec
    steps = first.num_frames if num_frames is None else num_frames
    plan = ExportPlan(model, batch, steps, height or spec.size_px, width or spec.size_px, frozenset(free_sizes))
    if batch < 1:
        raise InvalidInputError(f"batch must be at least 1; got {batch}")
    require_frames(steps, plan.min_steps, f"an export of {first.kind}", spec.name)
    if min(plan.height, plan.width) < plan.min_size_px:
        raise InvalidInputError(
            f"{spec.name} takes pictures of {plan.min_size_px} pixels a side or more; got {plan.height} x {plan.width}"
        )
    if "time" in plan.free and any(isinstance(module, BatchNormLSTM) for module in model.modules()):
        raise InvalidInputError(
            f"time cannot be free in an export of {spec.name}: its LSTM has statistics of its own for each step, so "
            "the steps are written out one by one; export it for a number of frames"
        )
    one_cell = any(isinstance(module, FullyConnectedUnit) for module in model.modules())
    if "time" in plan.free and "space" not in plan.free and one_cell:
        raise InvalidInputError(
            f"time can be free in an export of {spec.name} only together with space: PyTorch's trace does not hold for "
            "one step and for several where its last grid is a single cell; add space to the free sizes"
        )
    return plan
