"""Build the model of a training run."""

from __future__ import annotations

import inspect
from itertools import takewhile
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from quovadis.errors import TrainingError, UnknownNameError
from quovadis.models.batch_norm import BatchNormMixin
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
        TrainingError: If the weights are of another model or stream, or layers are frozen that have random weights.
        UnknownNameError: If the model does not have the endpoint of ``train_from``.
    """
    config = recipe.model
    if config.train_from is not None and config.weights is None:
        raise TrainingError(
            f"--model.train-from {config.train_from} keeps the layers before it as they are, so they need trained "
            "weights; set --model.weights"
        )
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
    if config.train_from is not None:
        freeze_before(model, config.train_from)
    if recipe.recompute:
        recompute_activations(model)
    return model


def freeze_before(model: VideoModel, endpoint: str) -> None:
    """Exclude the layers before an endpoint from training; also the running averages of their batch norms.

    Args:
        model: A network with a single trunk: I3D, I3D-R50, 3D-ConvNet or ConvNet+LSTM. It is modified in place.
        endpoint: The first layer to train.

    Raises:
        TrainingError: If the network has several trunks.
        UnknownNameError: If the trunk has no such endpoint.

    Example:
        >>> model = create_model("i3d_tiny", num_classes=2)
        >>> freeze_before(model, "Mixed_5c")
        >>> sorted({name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad})
        ['Mixed_5c', 'bias', 'weight']
    """
    trunk = getattr(model, "trunk", None)
    if trunk is None:
        raise TrainingError(
            f"--model.train-from is not supported by {model.spec.name}, whose streams have separate layers; omit it"
        )
    names = getattr(trunk, "endpoint_names", None) or [name for name, _ in trunk.named_children()]
    layers = {name: trunk.get_submodule(name) for name in names}
    endpoints = [name for name, layer in layers.items() if not isinstance(layer, BatchNormMixin)]
    if endpoint not in endpoints:
        raise UnknownNameError.among("endpoint", endpoint, endpoints)
    for name in takewhile(lambda name: name != endpoint, layers):
        layer = layers[name]
        layer.requires_grad_(False)
        choose_batch_norm(layer, "frozen", momentum=0.0)


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
