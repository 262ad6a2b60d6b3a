"""Device and mixed precision of a training run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor

from quovadis.errors import TrainingError
from quovadis.models.safe_convolution import require_bf16

PrecisionName = Literal["no", "bf16", "fp16"]
_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast and gradient scaling on the device of this process.

    Args:
        name: ``"no"`` trains in float32. ``"bf16"`` and ``"fp16"`` run the forward pass in mixed precision; ``"fp16"``
            also scales the loss.

    Raises:
        TrainingError: If the device does not support the precision.
    """

    def __init__(self, name: PrecisionName):
        self.device = _device()
        kind = self.device.type
        if name == "fp16" and kind != "cuda":
            raise TrainingError(f"--precision fp16 needs a CUDA GPU; got the device {kind}. Use --precision no")
        if name == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported():
            raise TrainingError(f"{torch.cuda.get_device_name()} does not support --precision bf16; use --precision no")
        if name == "bf16" and kind == "cpu":
            require_bf16()
        self._dtype = _DTYPES[name]
        self._scaler = torch.amp.GradScaler(kind, enabled=name == "fp16")

    @property
    def scales_loss(self) -> bool:
        """Whether the loss is scaled. Steps with infinite gradients are then skipped and not an error."""
        return self._scaler.is_enabled()

    def autocast(self) -> AbstractContextManager[Any]:
        """Run the forward pass and the loss in mixed precision."""
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype is not None)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a loss."""
        self._scaler.scale(loss).backward()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters and clear the gradients."""
        self._scaler.step(optimizer)
        self._scaler.update()
        optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the gradient scaler; empty if it is not used."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of the gradient scaler."""
        self._scaler.load_state_dict(state)


def _device() -> torch.device:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return torch.device("cpu")
    return torch.device(accelerator.type, torch.accelerator.current_device_index())
