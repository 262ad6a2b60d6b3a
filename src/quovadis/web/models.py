"""The models that a page offers to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

from quovadis.errors import UnknownNameError
from quovadis.inference.recognizer import Recognizer
from quovadis.models.spec import ModelSpec
from quovadis.weights.catalog import CATALOG

_SHOWN_LABELS = 3


@dataclass(frozen=True)
class ModelRegistry:
    """Recognizers by name: each network alone, and all of ``--weights`` together.

    ``rgb``, ``flow`` and ``rgb+flow`` are the networks of ``--weights``; those of ``--compare`` have ``compare:`` in
    front. Names that would be the same are numbered.
    """

    recognizers: dict[str, Recognizer]

    def __getitem__(self, name: str) -> Recognizer:
        if name not in self.recognizers:
            raise UnknownNameError.among("choice of networks", name, self.recognizers)
        return self.recognizers[name]

    @property
    def names(self) -> list[str]:
        """In the order to be shown; the first is the default."""
        return list(self.recognizers)

    def describe(self, name: str) -> str:
        """What the networks of a choice are: classes, streams, and the accuracy where they are published ones."""
        recognizer = self[name]
        streams = " + ".join(_stream_words(model.spec) for model in recognizer.models)
        entries = [CATALOG.get(network["weights"]) for network in recognizer.networks]
        known = [entry for entry in entries if entry is not None]
        if not known or len(known) < len(recognizer.models):
            return f"{_counted_labels(recognizer.labels)}, {streams}; {recognizer.describe()}"
        dataset = known[0].dataset.rstrip("0123456789").capitalize()
        accuracy = " and ".join(f"{entry.top1:.1f} %" for entry in known if entry.top1 is not None)
        published = f", {accuracy} top-1 as published" if accuracy else ""
        return f"{len(recognizer.labels)} {dataset} actions, {streams}{published}; {', '.join(e.name for e in known)}"

    @property
    def pair(self) -> tuple[str, str]:
        """Which two are compared unless asked otherwise: the whole of both runs, or the first two."""
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
        """From weights files or run folders.

        Args:
            weights: one a stream; their logits are added. None for the default network.
            compare: the same of a second recognizer.
            device: where the networks run.
            flow_method: how optical flow is estimated.

        Raises:
            InvalidInputError: some that do not go together. WeightsError: they cannot be read.
        """
        recognizers = _choices(Recognizer.load(*weights, device=device, flow_method=flow_method))
        if compare:
            second = _choices(Recognizer.load(*compare, device=device, flow_method=flow_method))
            recognizers |= {f"compare:{name}": recognizer for name, recognizer in second.items()}
        return cls(recognizers)


def _choices(whole: Recognizer) -> dict[str, Recognizer]:
    """All networks together, then each alone."""
    alone: dict[str, Recognizer] = {}
    for number, model in enumerate(whole.models):
        kind = model.spec.stream
        names = [kind, *(f"{kind} {i}" for i in range(2, len(whole.models) + 1))]
        name = next(n for n in names if n not in alone)
        alone[name] = Recognizer([model], whole.labels, device=whole.device, flow=whole.flow)
        alone[name].networks = whole.networks[number : number + 1]
    if len(alone) == 1:
        return alone
    together = {kind: None for model in whole.models for kind in model.spec.stream.split("+")}
    name = "+".join(kind for kind in ("rgb", "flow") if kind in together)
    return {name if name not in alone else "all": whole, **alone}


def _stream_words(spec: ModelSpec) -> str:
    return " + ".join("RGB" if stream.kind == "rgb" else stream.kind for stream in spec.streams)


def _counted_labels(labels: Sequence[str]) -> str:
    """How many classes, and the first of them.

    >>> _counted_labels(["run", "jump"]), _counted_labels(["a", "b", "c", "d"])
    ('2 classes (run, jump)', '4 classes (a, b, c ...)')
    """
    shown = ", ".join(labels[:_SHOWN_LABELS]) + (" ..." if len(labels) > _SHOWN_LABELS else "")
    return f"{len(labels)} class{'es' * (len(labels) != 1)} ({shown})"
