"""Features of a frozen network, computed once and kept: what the classifier of the setting "Fixed" is trained on."""

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
from quovadis.datasets.loader import SafeDataLoader
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import DatasetError, InvalidInputError
from quovadis.evaluation.evaluate import ProtocolVideos
from quovadis.evaluation.protocols import Protocol
from quovadis.flow.source import FlowSource
from quovadis.models.inputs import clip_to_streams, cut_clip
from quovadis.models.optimize import optimize
from quovadis.models.video_model import VideoModel
from quovadis.runtime import distributed
from quovadis.video.clip import Clip
from quovadis.weights.files import write_atomically

_VIDEOS_PER_FILE = 64


@dataclass(frozen=True)
class Features:
    """Features of the videos of a split, and what became of those that could not be read."""

    records: tuple[VideoRecord, ...]
    errors: tuple[str, ...]
    """One a video; empty where it could be read."""
    values: Tensor
    """float32 (readable videos, clips, T', D): the clips are those that the protocol takes from each video."""

    @property
    def targets(self) -> Tensor:
        """int64 (readable videos,)."""
        return torch.tensor([r.label for r, e in zip(self.records, self.errors, strict=True) if not e])


def hash_trunk(model: VideoModel) -> str:
    """sha256 of all tensors but the classifier's: equal hashes, equal features.

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
    on_video: Callable[[int], None] | None = None,
) -> Features:
    """What the network's classifier sees of every video of a split; read from ``folder`` where it was kept.

    Below ``folder`` there is a folder for each combination of weights, data, protocol and flow. Files appear whole or
    not at all, so what was computed before a kill is not computed again. Processes that work together share the files.

    Args:
        model: the network, in evaluation mode on ``device``; its classifier does not matter.
        data: the videos.
        split: which of them.
        folder: where features are kept.
        protocol: which clips of a video; the paper is silent about this setting, so they are those of the test.
        flow: where optical flow comes from, where the model wants it.
        device: where the network is.
        num_workers: processes that decode; 0 decodes here.
        on_video: called with the number of videos done.

    Raises:
        InvalidInputError: the protocol takes clips of several lengths. DatasetError: no video can be read.
        StorageError: the folder cannot be written to.
    """
    records = data.split(split)
    place = folder / _key(model, data, protocol, flow)
    network = optimize(model)
    starts = range(0, len(records), _VIDEOS_PER_FILE)
    missing = distributed.run_on_main(lambda: [start for start in starts if not _file(place, split, start).is_file()])
    done = len(records) - sum(min(_VIDEOS_PER_FILE, len(records) - start) for start in missing)
    if missing and distributed.is_main():
        _describe(place, model, data, protocol)
    missing = missing[distributed.rank() :: distributed.world_size()]
    videos = ProtocolVideos(records, model.spec, protocol, replace(flow, videos=data.root) if _flows(model) else None)
    todo = [i for start in missing for i in range(start, min(start + _VIDEOS_PER_FILE, len(records)))]
    loader = iter(SafeDataLoader(Subset(videos, todo), batch_size=None, num_workers=num_workers))
    for start in missing:
        tensors, errors = {}, {}
        for _ in range(start, min(start + _VIDEOS_PER_FILE, len(records))):
            index, video, error = next(loader)
            if video is None:
                errors[str(index)] = error
            else:
                views = protocol.views(video, model.spec)
                tensors[str(index)] = torch.cat([part for view in views for part in _of_clip(network, view, device)])
            done += 1
            if on_video is not None:
                on_video(done)
        _write(_file(place, split, start), tensors, errors)
    distributed.barrier()
    return _read(place, data, split, records)


@torch.inference_mode()
def _of_clip(model: VideoModel, clip: Clip, device: torch.device) -> Iterator[Tensor]:
    """Features (1, T', D) of each piece that the model takes of a clip."""
    for piece in cut_clip(transforms.center_crop(clip, model.spec.size_px), model.spec):
        inputs = [transforms.to_model(s[None].to(device)) for s in clip_to_streams(piece, model.spec)]
        inputs = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
        yield model.features(*inputs).float().cpu()


def _flows(model: VideoModel) -> bool:
    return model.spec.needs_flow


def _key(model: VideoModel, data: Manifest, protocol: Protocol, flow: FlowSource) -> str:
    made_of = [hash_trunk(model), data.fingerprint, protocol.describe(model.spec), flow.method if _flows(model) else ""]
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:12]


def _describe(place: Path, model: VideoModel, data: Manifest, protocol: Protocol) -> None:
    """For people: what the features of a folder are of."""
    made_of = {
        "model": model.spec.name,
        "stream": model.spec.stream,
        "weights": hash_trunk(model),
        "data": data.name,
        "data_fingerprint": data.fingerprint,
        "protocol": protocol.describe(model.spec),
    }
    write_atomically(place / "features.json", (json.dumps(made_of, indent=2) + "\n").encode())


def _file(place: Path, split: str, start: int) -> Path:
    return place / f"{split}-{start:06d}.safetensors"


def _write(path: Path, tensors: dict[str, Tensor], errors: dict[str, str]) -> None:
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, {"errors": json.dumps(errors)}))


def _read_file(path: Path) -> tuple[dict[int, str], list[Tensor]]:
    """The errors, by the number of the video, and the features of one file."""
    try:
        with safe_open(path, framework="pt") as file:
            errors = {int(index): str(error) for index, error in json.loads(file.metadata()["errors"]).items()}
            return errors, [file.get_tensor(index) for index in sorted(file.keys(), key=int)]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path} is not a file of features ({error}): delete it to have it computed again"
        ) from error


def _read(place: Path, data: Manifest, split: str, records: tuple[VideoRecord, ...]) -> Features:
    errors = [""] * len(records)
    values: list[Tensor] = []
    for start in range(0, len(records), _VIDEOS_PER_FILE):
        found, of_videos = _read_file(_file(place, split, start))
        values += of_videos
        for index, error in found.items():
            errors[index] = error
    if not values:
        raise DatasetError(f"none of the {len(records)} {split} videos of {data.name} can be read: {errors[0]}")
    shapes = {tuple(v.shape) for v in values}
    if len(shapes) > 1:
        raise InvalidInputError(
            "a classifier on frozen features needs clips of one length, and this protocol takes what each video has: "
            "use the protocol paper, center-clip, ten-clips or 10x3"
        )
    return Features(records, tuple(errors), torch.stack(values))
