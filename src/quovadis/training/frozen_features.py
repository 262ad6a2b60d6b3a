"""Features of a frozen network, cached in files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Subset

from quovadis import transforms
from quovadis.datasets.loader import VideoDataLoader
from quovadis.datasets.manifest import Manifest, VideoRecord, preview_names
from quovadis.errors import DatasetError, InvalidInputError, TrainingError
from quovadis.evaluation.evaluator import ProtocolVideos
from quovadis.evaluation.protocols import Protocol
from quovadis.flow.source import FlowSource
from quovadis.models.inputs import clip_to_streams, cut_clip
from quovadis.models.optimization import optimize
from quovadis.models.video_model import VideoModel
from quovadis.runtime import distributed
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.cache import cache_folder
from quovadis.runtime.hashing import sha256, sha256_text
from quovadis.video.clip import Clip
from quovadis.video.filmstrip import encode_filmstrip

_FILE_VERSION = 2
_STRIP_FRAMES, _STRIP_PX = 4, 72


@dataclass(frozen=True)
class Features:
    """Features of videos."""

    records: tuple[VideoRecord, ...]
    errors: tuple[str, ...]
    """One for each video; empty if the video could be read."""
    values: Tensor
    """float32 (readable videos, clips, T', D), with the clips of the protocol."""
    files: tuple[Path, ...] = ()
    """The cache file of each readable video; see :func:`read_filmstrip`."""

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
    records: Sequence[VideoRecord],
    folder: Path | None = None,
    *,
    protocol: Protocol,
    flow: FlowSource,
    device: torch.device,
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Features:
    """Extract the features of videos, or read them from the cache.

    Each video has its own file in the cache, named by the content of the video, in a folder for the weights, the
    protocol and the flow method. An interrupted extraction continues at the next video, and all runs, splits and folds
    share the files. All processes of a run share the work.

    Args:
        model: The network, in evaluation mode on ``device``. Its classifier is not used.
        data: The dataset of the videos.
        records: The videos.
        folder: The cache folder; by default ``features`` in :func:`quovadis.runtime.cache.cache_folder`.
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
    networks: list[VideoModel] = []

    def compute(video: Clip) -> dict[str, Tensor]:
        if not networks:  # optimized when the first video is not in the cache
            networks.append(optimize(model))
        clips = [
            part for view in protocol.views(video, model.spec) for part in _clip_features(networks[0], view, device)
        ]
        strip = encode_filmstrip(video.frames, num_frames=_STRIP_FRAMES, height_px=_STRIP_PX, quality=70)
        return {"features": torch.cat(clips), "filmstrip": torch.frombuffer(bytearray(strip), dtype=torch.uint8)}

    cache = (folder or cache_folder() / "features") / cache_key(model, protocol, flow)
    return _collect(
        cached(
            compute,
            model,
            data,
            records,
            cache,
            ("features", "filmstrip"),
            protocol=protocol,
            flow=flow,
            num_workers=num_workers,
            progress=progress,
        )
    )


@dataclass(frozen=True)
class CachedVideos:
    """Videos with their cache files."""

    records: tuple[VideoRecord, ...]
    errors: tuple[str, ...]
    """One for each video; empty if the video could be read."""
    files: tuple[Path, ...]
    """The cache file of each readable video."""


def cached(
    compute: Callable[[Clip], dict[str, Tensor]],
    model: VideoModel,
    data: Manifest,
    records: Sequence[VideoRecord],
    cache: Path,
    names: Sequence[str],
    *,
    protocol: Protocol,
    flow: FlowSource,
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> CachedVideos:
    """Compute tensors of videos that are not in a cache folder. All processes of a run share the work.

    Args:
        compute: Computes the tensors of a video, which is read as far as the protocol needs it.
        model: The network that the videos are read for.
        data: The dataset of the videos.
        records: The videos.
        cache: Folder for these tensors.
        names: Names of the tensors. Files without them are computed again.
        protocol: The clips of each video.
        flow: Source of optical flow, for models that need it.
        num_workers: Number of decoding processes; 0 decodes in this process.
        progress: Called with the number of finished videos.

    Raises:
        DatasetError: If no video can be read.
        StorageError: If the folder cannot be written to.
    """
    files = [_file(cache, record.path) for record in records]
    first_of = {path: i for i, path in reversed(list(enumerate(files))) if path is not None}
    todo = distributed.run_on_main(
        lambda: [
            i for i, path in enumerate(files) if path is None or (first_of[path] == i and not _is_complete(path, names))
        ]
    )
    if todo and distributed.is_main():
        _describe(cache, model, protocol)
    done = len(records) - len(todo)
    if progress is not None:
        progress(done)
    own = todo[distributed.rank() :: distributed.world_size()]
    source = replace(flow, videos=data.root) if model.spec.needs_flow else None
    videos = ProtocolVideos(records, model.spec, protocol, source)
    errors: dict[int, str] = {}
    with VideoDataLoader(Subset(videos, own), batch_size=None, num_workers=num_workers) as loader:
        for index, video, error in loader:
            path = files[index]
            if video is None or path is None:
                errors[index] = error
            else:
                write_atomically(path, save({name: t.contiguous() for name, t in compute(video).items()}))
            done += distributed.world_size()
            if progress is not None:
                progress(min(done, len(records)))
    for found in distributed.gather(errors):
        errors |= found
    errors |= {i: errors[first_of[path]] for i, path in enumerate(files) if path and first_of[path] in errors}
    if len(errors) == len(records):
        raise DatasetError(f"none of the {len(records)} videos of {data.name} can be read: {errors[0]}")
    readable = tuple(path for i, path in enumerate(files) if path is not None and i not in errors)
    return CachedVideos(tuple(records), tuple(errors.get(i, "") for i in range(len(records))), readable)


def require_all_classes(features: Features, data: Manifest) -> None:
    """Raise TrainingError if a class has no readable training video."""
    missing = sorted(set(range(len(data.labels))) - set(features.targets.tolist()))
    if missing:
        names = preview_names([data.labels[i] for i in missing])
        raise TrainingError(
            f"{names} of {data.name} {'has' if len(missing) == 1 else 'have'} no training video that can be read: add "
            "videos, or remove the class"
        )


@torch.inference_mode()
def _clip_features(model: VideoModel, clip: Clip, device: torch.device) -> Iterator[Tensor]:
    """Yield features (1, T', D) of each chunk of a clip that fits the model."""
    for chunk in cut_clip(transforms.center_crop(clip, model.spec.size_px), model.spec):
        inputs = [transforms.to_model(s[None].to(device)) for s in clip_to_streams(chunk, model.spec)]
        inputs = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
        yield model.features(*inputs).float().cpu()


def cache_key(model: VideoModel, protocol: Protocol, flow: FlowSource, *others: str) -> str:
    """Return a hash of everything that determines the features of a video, and of other facts."""
    flow_method = flow.method if model.spec.needs_flow else ""
    facts = [str(_FILE_VERSION), hash_trunk(model), protocol.describe(model.spec), flow_method, *others]
    return sha256_text("\n".join(facts))[:12]


def _describe(cache: Path, model: VideoModel, protocol: Protocol) -> None:
    """Write a readable description of the features."""
    content = {
        "model": model.spec.name,
        "stream": model.spec.stream,
        "weights": hash_trunk(model),
        "protocol": protocol.describe(model.spec),
    }
    write_atomically(cache / "features.json", json.dumps(content, indent=2) + "\n")


def _file(cache: Path, video: Path) -> Path | None:
    """Return the file of the features of a video; None if the video cannot be read at all."""
    try:
        digest = sha256(video)
    except OSError:
        return None
    return cache / digest[:2] / f"{digest}.safetensors"


def _is_complete(path: Path, names: Sequence[str]) -> bool:
    """Whether a cache file exists and is not damaged. Others are computed again."""
    try:
        with safe_open(path, framework="pt") as file:
            return set(names) <= set(file.keys())
    except (SafetensorError, OSError):
        return False


def read_filmstrip(path: Path) -> bytes:
    """Read the filmstrip of a video, a JPEG, from its cache file.

    Raises:
        DatasetError: If the file is damaged.
    """
    return read_tensor(path, "filmstrip").numpy().tobytes()


def read_tensor(path: Path, name: str) -> Tensor:
    """Read a tensor from a cache file.

    Raises:
        DatasetError: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)
    except (SafetensorError, OSError, ValueError) as error:
        raise DatasetError(
            f"{path} is not a valid features file ({error}): delete it to compute the features again"
        ) from error


def _collect(videos: CachedVideos) -> Features:
    values = [read_tensor(path, "features") for path in videos.files]
    shapes = {tuple(v.shape) for v in values}
    if len(shapes) > 1:
        raise InvalidInputError(
            "a classifier on frozen features needs clips of equal length, but this protocol gives clips of different "
            f"lengths; got feature shapes {sorted(shapes)[:3]}. Use the protocol paper, center-clip, ten-clips or 10x3"
        )
    return Features(videos.records, videos.errors, torch.stack(values), videos.files)
