"""A network whose numbers are worth comparing."""

import torch

from quovadis.models.layers import ShiftBatchNorm, StepBatchNorm
from quovadis.models.video_model import VideoModel


def settled(model: VideoModel) -> VideoModel:
    """The model in evaluation mode after one random batch has set the statistics of its batch norms.

    Fresh statistics are those of no data at all: signals die out on the way, and the logits of all clips look alike.
    """
    size = model.spec.size_px
    for module in model.modules():
        if isinstance(module, ShiftBatchNorm | StepBatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(*(torch.randn(4, s.channels, s.num_frames, size, size) for s in model.spec.streams))
    return model.eval()
