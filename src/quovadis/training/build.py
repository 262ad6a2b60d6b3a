"""Build the model of a training run."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from quovadis.errors import TrainingError
from quovadis.models.checkpointing import recompute_activations
from quovadis.models.layers import choose_batch_norm
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import choose_stream
from quovadis.runtime import distributed
from quovadis.training.recipes import ModelConfig, Recipe
from quovadis.weights.load import create_model, load_model, requires_inflation


def build_model(recipe: Recipe, labels: tuple[str, ...]) -> VideoModel:
    """Create the model of a recipe, with its initial weights and a classifier for ``labels``.

    Raises:
        TrainingError: If the weights are of another model or stream.
    """
    config = recipe.model
    if config.weights is None or requires_inflation(config.weights, config.name, config.stream):
        model = create_model(
            config.name,
            stream=config.stream,
            num_classes=len(labels),
            dropout=config.dropout,
            weights=config.weights,
        )
    else:
        model = _load_trained(config, labels)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = config.dropout
    choose_batch_norm(model, config.batch_norm, config.batch_norm_momentum)
    if recipe.recompute:
        recompute_activations(model)
    return model


def _load_trained(config: ModelConfig, labels: tuple[str, ...]) -> VideoModel:
    """Load a trained network; its classifier is kept if the classes are the same."""
    assert config.weights is not None
    model = load_model(config.weights)
    found = (model.spec.name, model.spec.stream)
    expected = (config.name, choose_stream(config.name, config.stream))
    if found != expected:
        raise TrainingError(
            f"{config.weights} holds {found[0]} ({found[1]}); the recipe asks for {expected[0]} ({expected[1]})"
        )
    if model.labels != labels:
        model.reset_head(len(labels))
    return model


def average_gradients(model: VideoModel, device: torch.device) -> VideoModel | DistributedDataParallel:
    """Wrap the model so that each backward pass averages gradients over all processes. No-op for one process."""
    if distributed.world_size() == 1:
        return model
    # Training does not read running averages, so they are not synchronized. PyTorch 2.13 renamed the option.
    new, old = "forward_sync_buffers", "broadcast_buffers"
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    keep_buffers: Any = {new if new in known else old: False}
    return DistributedDataParallel(model, device_ids=None if device.type == "cpu" else [device], **keep_buffers)
