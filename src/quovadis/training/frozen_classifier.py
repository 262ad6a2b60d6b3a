"""Train a classifier for new classes on the features of a pretrained network, in minutes on a CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from pathlib import Path

import torch

from quovadis.datasets.manifest import Manifest
from quovadis.evaluation.dump import score_dump
from quovadis.evaluation.protocols import find_protocol
from quovadis.evaluation.results import EvaluationResult
from quovadis.flow.source import FlowSource
from quovadis.runtime.atomic import write_atomically
from quovadis.training.checkpoint import trained_weights_info
from quovadis.training.classifier import score_features
from quovadis.training.frozen_features import frozen_features, hash_trunk, require_all_classes
from quovadis.training.logistic import LogisticFit, fit_head
from quovadis.weights.files import save_weights
from quovadis.weights.load import load_model


@dataclass(frozen=True)
class FrozenRun:
    """A trained classifier and its test metrics."""

    folder: Path
    """The run folder, which commands accept as ``--weights``."""
    fit: LogisticFit
    result: EvaluationResult
    """Metrics on the test split."""


def train_frozen(
    weights: str | PathLike[str],
    data: Manifest,
    out: str | PathLike[str],
    *,
    protocol: str = "center-clip",
    flow: FlowSource | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> FrozenRun:
    """Train a logistic regression on frozen features and evaluate it.

    Features are cached in ``out/features``, so an interrupted or repeated run does not compute them again. The run
    folder contains the complete network with the new classifier.

    Args:
        weights: The pretrained network: a published name, a file or a run folder.
        data: Dataset with the splits train, val (selects the strength of the regularization) and test.
        out: The run folder.
        protocol: The clips of each video; see :data:`quovadis.evaluation.protocols.PROTOCOLS`.
        flow: Source of optical flow, for networks that need it.
        progress: Called with the split and the number of its finished videos.

    Returns:
        The run folder, the classifier and its test metrics.

    Raises:
        WeightsError: If the weights cannot be read.
        DatasetError: If the data do not have a required split or cannot be read.
        TrainingError: If a class has no readable training video, or the network has no single linear classifier.
        StorageError: If ``out`` cannot be written to.

    Example:
        >>> run = train_frozen("i3d-rgb-kinetics400", quovadis.load_dataset("clips/"), "runs/mine")  # doctest: +SKIP
    """
    out = Path(out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(weights).to(device)
    flow = flow or FlowSource()
    chosen = find_protocol(protocol)
    parts = {
        split: frozen_features(
            model,
            data,
            split,
            out / "features",
            protocol=chosen,
            flow=flow,
            device=device,
            progress=None if progress is None else lambda done, split=split: progress(split, done),  # type: ignore[misc]
        )
        for split in ("train", "val", "test")
    }
    require_all_classes(parts["train"], data)
    source = hash_trunk(model)
    fit = fit_head(model, data.labels, parts["train"], parts["val"])
    described = chosen.describe(model.spec)
    info = trained_weights_info(
        model,
        data,
        recipe="frozen",
        flow_method=flow.method,
        weights=fspath(weights),
        source_weights=source,
        protocol=described,
        **asdict(fit),
    )
    save_weights(out / "best.safetensors", model.state_dict(), info)
    recipe = {"name": "frozen", "weights": fspath(weights), "protocol": described, "l2": fit.l2}
    write_atomically(out / "recipe.json", json.dumps(recipe, indent=2) + "\n")
    result = score_dump(score_features(model, parts["test"], data, "test", described))[0]
    return FrozenRun(out, fit, result)
