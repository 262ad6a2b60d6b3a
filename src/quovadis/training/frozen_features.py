"""Features of a frozen network, cached in files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Subset

from quovadis import transforms
from quovadis.datasets.loader import VideoDataLoader
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import DatasetError, InvalidInputError, TrainingError
from quovadis.evaluation.evaluator import ProtocolVideos
from quovadis.evaluation.protocols import Protocol
from quovadis.flow.source import FlowSource
from quovadis.models.inputs import clip_to_streams, cut_clip
from quovadis.models.optimization import optimize
from quovadis.models.video_model import VideoModel
from quovadis.runtime import distributed
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.hashing import sha256_text
from quovadis.video.clip import Clip

_VIDEOS_PER_FILE = 64


@dataclass(frozen=True)
class Features:
    """Features of the videos of a split."""

    records: tuple[VideoRecord, ...]
    errors: tuple[str, ...]
    """One for each video; empty if the video could be read."""
    values: Tensor
    """float32 (readable videos, clips, T', D), with the clips of the protocol."""

    @property
    def targets(self) -> Tensor:
        """Class indices, int64 (readable videos,)."""
        return torch.tensor([r.label for r, e in zip(self.records, self.errors, strict=True) if not e])


def hash_trunk(model: VideoModel) -> str:
    """Compute the SHA-256 of all tensors except the classifier. Networks with equal hashes have equal features.

    >>> from quovadis.models.zoo import build_model
    >>> model = build_model("i3d_tiny", num_classes=3)
    >>> before = hash_trunk(model)
    >>> model.reset_head(5)
    >>> hash_trunk(model) == before, len(before)
    (True, 64)
    """
    digest = hashlib.sha256(f"{model.spec.name} {model.spec.stream}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith("head."):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def frozen_features(
    model: VideoModel,
    data: Manifest,
    split: str,
    folder: Path,
    *,
    protocol: Protocol,
    flow: FlowSource,
    device: torch.device,
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Features:
    """Extract the features of all videos of a split, or read them from the cache in ``folder``.

    The cache has one folder for each combination of weights, data, protocol and flow. An interrupted extraction
    continues. All processes of a run share the work and the files.

    Args:
        model: The network, in evaluation mode on ``device``. Its classifier is not used.
        data: The dataset.
        split: The split to extract.
        folder: The cache folder.
        protocol: The clips of each video. The paper does not specify them for this setting.
        flow: Source of optical flow, for models that need it.
        device: Device of the network.
        num_workers: Number of decoding processes; 0 decodes in this process.
        progress: Called with the number of finished videos.

    Raises:
        InvalidInputError: If the protocol gives clips of different lengths.
        DatasetError: If no video can be read.
        StorageError: If the folder cannot be written to.
    """
    records = data.split(split)
    cache = folder / _key(model, data, protocol, flow)
    network = optimize(model)
    starts = range(0, len(records), _VIDEOS_PER_FILE)
    missing = distributed.run_on_main(lambda: [start for start in starts if not _file(cache, split, start).is_file()])
    done = len(records) - sum(min(_VIDEOS_PER_FILE, len(records) - start) for start in missing)
    if missing and distributed.is_main():
        _describe(cache, model, data, protocol)
    missing = missing[distributed.rank() :: distributed.world_size()]
    videos = ProtocolVideos(
        records, model.spec, protocol, replace(flow, videos=data.root) if model.spec.needs_flow else None
    )
    todo = [i for start in missing for i in range(start, min(start + _VIDEOS_PER_FILE, len(records)))]
    loader = iter(VideoDataLoader(Subset(videos, todo), batch_size=None, num_workers=num_workers))
    for start in missing:
        tensors, errors = {}, {}
        for _ in range(start, min(start + _VIDEOS_PER_FILE, len(records))):
            index, video, error = next(loader)
            if video is None:
                errors[str(index)] = error
            else:
                views = protocol.views(video, model.spec)
                tensors[str(index)] = torch.cat(
                    [part for view in views for part in _clip_features(network, view, device)]
                )
            done += 1
            if progress is not None:
                progress(done)
        _write(_file(cache, split, start), tensors, errors)
    distributed.barrier()
    return _read(cache, data, split, records)


def require_all_classes(features: Features, data: Manifest) -> None:
    """Raise TrainingError if a class has no readable training video."""
    missing = sorted(set(range(len(data.labels))) - set(features.targets.tolist()))
    if missing:
        raise TrainingError(
            f"{len(missing)} classes of {data.name} have no training video that can be read: "
            f"{', '.join(data.labels[i] for i in missing[:5])}; add videos or remove the class"
        )


@torch.inference_mode()
def _clip_features(model: VideoModel, clip: Clip, device: torch.device) -> Iterator[Tensor]:
    """Yield features (1, T', D) of each chunk of a clip that fits the model."""
    for chunk in cut_clip(transforms.center_crop(clip, model.spec.size_px), model.spec):
        inputs = [transforms.to_model(s[None].to(device)) for s in clip_to_streams(chunk, model.spec)]
        inputs = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
        yield model.features(*inputs).float().cpu()


def _key(model: VideoModel, data: Manifest, protocol: Protocol, flow: FlowSource) -> str:
    flow_method = flow.method if model.spec.needs_flow else ""
    identity = [hash_trunk(model), data.fingerprint, protocol.describe(model.spec), flow_method]
    return sha256_text("\n".join(identity))[:12]


def _describe(cache: Path, model: VideoModel, data: Manifest, protocol: Protocol) -> None:
    """Write a readable description of the features."""
    content = {
        "model": model.spec.name,
        "stream": model.spec.stream,
        "weights": hash_trunk(model),
        "data": data.name,
        "data_fingerprint": data.fingerprint,
        "protocol": protocol.describe(model.spec),
    }
    write_atomically(cache / "features.json", json.dumps(content, indent=2) + "\n")


def _file(cache: Path, split: str, start: int) -> Path:
    return cache / f"{split}-{start:06d}.safetensors"


def _write(path: Path, tensors: dict[str, Tensor], errors: dict[str, str]) -> None:
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, {"errors": json.dumps(errors)}))


def _read_file(path: Path) -> tuple[dict[int, str], list[Tensor]]:
    """Read the errors (by index of the video) and the features of one file."""
    try:
        with safe_open(path, framework="pt") as file:
            errors = {int(index): str(error) for index, error in json.loads(file.metadata()["errors"]).items()}
            return errors, [file.get_tensor(index) for index in sorted(file.keys(), key=int)]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path} is not a valid features file ({error}): delete it to compute the features again"
        ) from error


def _read(cache: Path, data: Manifest, split: str, records: tuple[VideoRecord, ...]) -> Features:
    errors = [""] * len(records)
    values: list[Tensor] = []
    for start in range(0, len(records), _VIDEOS_PER_FILE):
        file_errors, features = _read_file(_file(cache, split, start))
        values += features
        for index, error in file_errors.items():
            errors[index] = error
    if not values:
        raise DatasetError(f"none of the {len(records)} {split} videos of {data.name} can be read: {errors[0]}")
    shapes = {tuple(v.shape) for v in values}
    if len(shapes) > 1:
        raise InvalidInputError(
            "a classifier on frozen features needs clips of equal length, but this protocol gives clips of different "
            f"lengths; got feature shapes {sorted(shapes)[:3]}. Use the protocol paper, center-clip, ten-clips or 10x3"
        )
    return Features(records, tuple(errors), torch.stack(values))
