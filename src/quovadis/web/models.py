"""The models offered by the web demo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike

import torch

from quovadis.datasets.clip_dataset import clip_extent
from quovadis.errors import UnknownNameError
from quovadis.flow.estimate import estimate_flow
from quovadis.inference.recognizer import Recognizer
from quovadis.models.spec import ModelSpec
from quovadis.video.clip import Clip
from quovadis.weights.catalog import CATALOG

_MAX_SHOWN_LABELS = 3


@dataclass(frozen=True)
class ModelRegistry:
    """Recognizers by name: all networks together, and each network alone.

    ``rgb``, ``flow`` and ``rgb+flow`` are the networks of ``--weights``; those of ``--compare`` have the prefix
    ``compare:``. Duplicate names are numbered.
    """

    recognizers: dict[str, Recognizer]

    def __getitem__(self, name: str) -> Recognizer:
        if name not in self.recognizers:
            raise UnknownNameError.among("model", name, self.recognizers)
        return self.recognizers[name]

    @property
    def names(self) -> list[str]:
        """Names in display order; the first one is the default."""
        return list(self.recognizers)

    def describe(self, name: str) -> str:
        """Describe a model: classes, streams, and the published accuracy if all of its networks are published."""
        recognizer = self[name]
        streams = " + ".join(_describe_streams(model.spec) for model in recognizer.models)
        entries = [CATALOG.get(network["weights"]) for network in recognizer.networks]
        known = [entry for entry in entries if entry is not None]
        if not known or len(known) < len(recognizer.models):
            return f"{_describe_labels(recognizer.labels)}, {streams}; {recognizer.describe()}"
        dataset = known[0].dataset.rstrip("0123456789").capitalize()
        accuracy = " and ".join(f"{entry.top1:.1f} %" for entry in known if entry.top1 is not None)
        published = f", {accuracy} top-1 as published" if accuracy else ""
        return f"{len(recognizer.labels)} {dataset} actions, {streams}{published}; {', '.join(e.name for e in known)}"

    def warm_up(self) -> None:
        """Run each network once on a blank clip, which compiles and caches its kernels."""
        for recognizer in self.recognizers.values():
            if len(recognizer.models) == 1:
                _warm_up(recognizer)

    @property
    def default_pair(self) -> tuple[str, str]:
        """The two models to compare by default: the first of ``--weights`` and of ``--compare``, or the first two."""
        others = [name for name in self.names if name.startswith("compare:")] or self.names[1:] or self.names
        return self.names[0], others[0]

    @classmethod
    def load(
        cls,
        weights: Sequence[str | PathLike[str]],
        compare: Sequence[str | PathLike[str]] = (),
        *,
        device: str | None = None,
        flow_method: str = "tvl1",
    ) -> ModelRegistry:
        """Load models from published names, weights files or run folders.

        Args:
            weights: Weights of one or more networks whose logits are added; empty for the default network.
            compare: Weights of a second recognizer.
            device: Device of the networks; by default a GPU if available.
            flow_method: Method for estimating optical flow.

        Raises:
            InvalidInputError: If the networks cannot be combined.
            WeightsError: If weights cannot be read.
        """
        recognizers = _split_networks(Recognizer.load(*weights, device=device, flow_method=flow_method))
        if compare:
            second = _split_networks(Recognizer.load(*compare, device=device, flow_method=flow_method))
            recognizers |= {f"compare:{name}": recognizer for name, recognizer in second.items()}
        return cls(recognizers)


def _split_networks(recognizer: Recognizer) -> dict[str, Recognizer]:
    """Return the recognizer itself, then one recognizer for each of its networks."""
    single: dict[str, Recognizer] = {}
    for index, model in enumerate(recognizer.models):
        kind = model.spec.stream
        names = [kind, *(f"{kind} {i}" for i in range(2, len(recognizer.models) + 1))]
        name = next(n for n in names if n not in single)
        single[name] = Recognizer([model], recognizer.labels, device=recognizer.device, flow=recognizer.flow)
        single[name].networks = recognizer.networks[index : index + 1]
    if len(single) == 1:
        return single
    kinds = {kind for model in recognizer.models for kind in model.spec.stream.split("+")}
    name = "+".join(kind for kind in ("rgb", "flow") if kind in kinds)
    return {name if name not in single else "all": recognizer, **single}


def _warm_up(recognizer: Recognizer) -> None:
    spec = recognizer.spec
    num_frames, side = clip_extent(spec)[0], spec.short_side_px
    clip = Clip(torch.zeros(num_frames, 3, side, side, dtype=torch.uint8), torch.arange(num_frames) / spec.fps)
    if recognizer.needs_flow:
        two = estimate_flow(clip.frames[:2], recognizer.flow.method, device=recognizer.device)
        clip = replace(clip, flow=two[:1].cpu().expand(num_frames, -1, -1, -1))
    recognizer.logits(clip)


def _describe_streams(spec: ModelSpec) -> str:
    return " + ".join("RGB" if stream.kind == "rgb" else stream.kind for stream in spec.streams)


def _describe_labels(labels: Sequence[str]) -> str:
    """Return the number of classes and the first labels.

    >>> _describe_labels(["run", "jump"]), _describe_labels(["a", "b", "c", "d"])
    ('2 classes (run, jump)', '4 classes (a, b, c ...)')
    """
    shown = ", ".join(labels[:_MAX_SHOWN_LABELS]) + (" ..." if len(labels) > _MAX_SHOWN_LABELS else "")
    return f"{len(labels)} class{'es' * (len(labels) != 1)} ({shown})"
