"""Models with meaningful batch norm statistics."""

import torch

from quovadis.models.batch_norm import BatchNormMixin
from quovadis.models.video_model import VideoModel


def settled(model: VideoModel, size_px: int | None = None) -> VideoModel:
    """Set the batch norm statistics from one random batch; return the model in evaluation mode.

    With the initial statistics, activations vanish and all clips have almost the same logits.
    """
    size = size_px or model.spec.size_px
    for module in model.modules():
        if isinstance(module, BatchNormMixin):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(*(torch.randn(4, s.channels, s.num_frames, size, size) for s in model.spec.streams))
    return model.eval()
