"""Train the last blocks of a network on stored activations of the block before them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis import transforms
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import TrainingError, UnknownNameError
from quovadis.evaluation.protocols import Protocol
from quovadis.flow.source import FlowSource
from quovadis.models.i3d import I3D
from quovadis.models.inputs import clip_to_streams
from quovadis.models.layers import choose_batch_norm
from quovadis.models.optimization import optimize
from quovadis.models.video_model import VideoModel
from quovadis.runtime.cache import cache_folder
from quovadis.training.frozen_features import CachedVideos, cache_key, cached, read_tensor
from quovadis.video.clip import Clip


@dataclass(frozen=True)
class LastBlocksRecipe:
    """How the last blocks are trained: AdamW with one cycle of the learning rate, batch norm frozen."""

    train_from: str = "Mixed_5b"
    """The first block that is trained."""
    num_epochs: int = 12
    batch_size: int = 16
    learning_rate: float = 3e-4
    """Maximum of the cycle."""
    weight_decay: float = 1e-2
    mirror: bool = True
    """Train on mirror images, too. Unsuitable for classes that differ in left and right."""


@dataclass(frozen=True)
class LastBlocksResult:
    """Top-1 accuracy of the classifier on frozen features and of the trained blocks, on validation videos."""

    frozen_accuracy: float
    accuracy: float

    @property
    def kept(self) -> bool:
        """Whether the trained blocks are saved: only if they are more accurate."""
        return self.accuracy > self.frozen_accuracy

    def describe(self) -> str:
        """Describe the result in one sentence.

        >>> LastBlocksResult(0.8, 0.85).describe()
        'training the last blocks: top-1 85.0% instead of 80.0%, kept'
        """
        verdict = "kept" if self.kept else "not kept: the network has its original blocks"
        return f"training the last blocks: top-1 {self.accuracy:.1%} instead of {self.frozen_accuracy:.1%}, {verdict}"


def require_i3d(model: VideoModel, endpoint: str) -> I3D:
    """Return the model if it is an I3D with this block.

    Raises:
        TrainingError: If the network is another one.
        UnknownNameError: If there is no such block.
    """
    if not isinstance(model, I3D):
        raise TrainingError(
            f"the last blocks of {model.spec.name} cannot be trained on stored activations; use i3d, or train finetune "
            "with --model.train-from"
        )
    names = model.trunk.endpoint_names[1:]
    if endpoint not in names:
        raise UnknownNameError.among("endpoint", endpoint, names)
    return model


def cached_activations(
    model: I3D,
    data: Manifest,
    records: Sequence[VideoRecord],
    endpoint: str,
    *,
    protocol: Protocol,
    flow: FlowSource,
    device: torch.device,
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> CachedVideos:
    """Compute the inputs of a block for each video and its mirror image, or find them in the cache.

    A file contains ``activations``, float16 (2, C, T, H, W): 1.3 MB for 64 frames and ``Mixed_5b``.

    Args:
        model: A network in evaluation mode on ``device``.
        data: The dataset of the videos.
        records: The videos.
        endpoint: The block.
        protocol: A protocol with one clip a video.
        flow: Source of optical flow, for models that need it.
        device: Device of the network.
        num_workers: Number of decoding processes; 0 decodes in this process.
        progress: Called with the number of finished videos.

    Raises:
        TrainingError: If the protocol has several clips.
        DatasetError: If no video can be read.
        StorageError: If the files cannot be written.
    """
    names = model.trunk.endpoint_names
    before = names[names.index(endpoint) - 1]
    networks: list[VideoModel] = []

    @torch.inference_mode()
    def compute(video: Clip) -> dict[str, Tensor]:
        if not networks:  # optimized when the first video is not in the cache
            networks.append(optimize(model))
        views = list(protocol.views(video, model.spec))
        if len(views) != 1:
            raise TrainingError(
                f"training the last blocks needs a protocol with one clip a video; got {len(views)} clips: use "
                "center-clip"
            )
        clip = transforms.center_crop(views[0], model.spec.size_px)
        outputs = []
        for view in (clip, transforms.flip_left_right(clip)):
            inputs = [transforms.to_model(s[None].to(device)) for s in clip_to_streams(view, model.spec)]
            inputs = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
            outputs.append(networks[0].endpoints(*inputs, names=[before])[before].half().cpu())
        return {"activations": torch.cat(outputs)}

    return cached(
        compute,
        model,
        data,
        records,
        cache_folder() / "features" / cache_key(model, protocol, flow, "activations", before),
        ("activations",),
        protocol=protocol,
        flow=flow,
        num_workers=num_workers,
        progress=progress,
    )


class Tail(nn.Module):
    """The blocks of an I3D from an endpoint on, and its classifier. Batch norm keeps its running averages.

    Args:
        model: The network, which is copied.
        endpoint: The first block.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> model, clip = build_model("i3d_tiny", num_classes=2).eval(), torch.rand(1, 3, 16, 64, 64)
        >>> x = model.endpoints(clip, names=["MaxPool3d_5a_2x2"])["MaxPool3d_5a_2x2"]
        >>> torch.allclose(Tail(model, "Mixed_5b").eval()(x), model(clip), atol=1e-6)
        True
    """

    def __init__(self, model: I3D, endpoint: str):
        super().__init__()
        shared = {id(model.source): model.source, id(model.spec): model.spec}
        self.model = copy.deepcopy(model, shared)
        trunk = self.model.trunk
        first = trunk.endpoint_names.index(endpoint)
        for name in trunk.endpoint_names[:first]:
            trunk.get_submodule(name).requires_grad_(False)
        self._names = trunk.endpoint_names[first:]
        choose_batch_norm(self.model, "frozen", momentum=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs of the first block (B, C, T, H, W) to logits (B, classes)."""
        for name in self._names:
            x = self.model.trunk.get_submodule(name)(x)
        return self.model.classify_map(x)


def train_tail(
    tail: Tail,
    files: Sequence[Path],
    targets: Tensor,
    recipe: LastBlocksRecipe,
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Train a tail in place, in each epoch on each video or its mirror image at random.

    Args:
        tail: The blocks and the classifier to continue from.
        files: The cache file of each training video; see :func:`cached_activations`.
        targets: int64 (N,): the class of each training video.
        recipe: Epochs, batch size and rates.
        seed: Seed of the order, the mirror images and dropout.
        progress: Called with the number of finished epochs.
    """
    device = next(tail.parameters()).device
    parameters = [p for p in tail.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    num_batches = -(-len(files) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=num_batches * recipe.num_epochs
    )
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    tail.train()
    for epoch in range(recipe.num_epochs):
        for batch in torch.randperm(len(files), generator=generator).chunk(num_batches):
            mirrored = torch.randint(2, batch.shape, generator=generator) * recipe.mirror
            pairs = zip(batch.tolist(), mirrored.tolist(), strict=True)
            x = torch.stack([read_tensor(files[i], "activations")[m] for i, m in pairs]).to(device).float()
            loss = F.cross_entropy(tail(_channels_last(x)), targets[batch].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        progress(epoch + 1)
    tail.eval()


@torch.inference_mode()
def tail_logits(tail: Tail, files: Sequence[Path]) -> Tensor:
    """Compute the logits of videos, float64 (N, classes), without mirror images.

    Args:
        tail: The blocks and the classifier.
        files: The cache file of each video; see :func:`cached_activations`.
    """
    tail.eval()
    device = next(tail.parameters()).device
    inputs = (read_tensor(file, "activations")[:1].to(device).float() for file in files)
    return torch.cat([tail(_channels_last(x)).double().cpu() for x in inputs])


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)
