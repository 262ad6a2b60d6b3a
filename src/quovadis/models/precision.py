"""Full float32 precision on GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Disable TF32 in cuDNN convolutions within the context.

    PyTorch enables TF32 by default. Its 11-bit mantissa would change features noticeably. No effect on CPUs.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
