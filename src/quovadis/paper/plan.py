"""The paper's tables as a plan: which runs each cell needs. Nothing is done here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quovadis.models.zoo import build_model
from quovadis.paper.published import ARCHITECTURES, paper_table
from quovadis.training.experiment import Setting

Init = Literal["imagenet", "random"]
"""First weights: inflated from an Inception-v1 of ImageNet, or random."""
Variant = Literal["paper", "tiny"]
"""The paper's networks, or those with few channels at 64 x 64, with which a plan can be tried."""

DATASETS = ("kinetics", "ucf101", "hmdb51")
TABLES = ("table1", "table2", "table3", "table4", "table5")
_OFFICIAL_SPLITS = (1, 2, 3)


@dataclass(frozen=True)
class Run:
    """One network, trained in one way on one dataset, and measured on its test videos."""

    model: str
    """One of :data:`quovadis.paper.published.ARCHITECTURES`."""
    stream: str
    init: Init
    """What its first weights, before Kinetics, are."""
    setting: Setting
    data: str
    """One of :data:`DATASETS`."""
    split: int = 1
    """Of UCF-101 and HMDB-51."""

    @property
    def source(self) -> Run | None:
        """The run whose weights this one starts from."""
        if self.setting == "original":
            return None
        return Run(self.model, self.stream, self.init, "original", "kinetics")


@dataclass(frozen=True)
class Cell:
    """One number of a table: the mean over splits of runs whose logits are added."""

    row: str
    column: str
    splits: tuple[tuple[Run, ...], ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All of them."""
        return tuple(run for runs in self.splits for run in runs)


def plan_table(table: str, *, inflated: bool = True) -> tuple[Cell, ...]:
    """The cells of one of the tables 2 to 5 for which the paper has a number of its own networks, row by row.

    Args:
        table: which.
        inflated: without a 2D network to start from, Table 2 can be run from random weights.

    >>> [len(plan_table(table)) for table in TABLES[1:]]
    [31, 17, 54, 12]
    >>> plan_table("table3")[-1].runs[1]
    Run(model='i3d', stream='flow', init='random', setting='original', data='kinetics', split=1)
    """
    published = paper_table(table)
    rows = [row for row in published.rows if table != "table5" or row.startswith("i3d ")]
    return tuple(
        _cell(table, row, column, inflated)
        for row in rows
        for column in published.columns
        if published.value(row, column) is not None
    )


def _cell(table: str, row: str, column: str, inflated: bool) -> Cell:
    words = column.split()
    setting: Setting = "original"
    init: Init
    if table == "table2":
        data, stream = words
        init = "random" if row == "conv3d" or not inflated else "imagenet"
        return Cell(row, column, (_together(row, stream, init, setting, data, 1),))
    if table == "table3":
        init, stream = words  # type: ignore[assignment]
        return Cell(row, column, (_together(row, stream, init, setting, "kinetics", 1),))
    if table == "table4":
        data, setting, init = words  # type: ignore[assignment]
        stream = "rgb" if row in ("convnet_lstm", "conv3d") else "rgb+flow"
        return Cell(row, column, (_together(row, stream, init, setting, data, 1),))
    model, stream, init = row.split()  # type: ignore[assignment]
    splits = tuple(_together(model, stream, init, "full-ft", column, number) for number in _OFFICIAL_SPLITS)
    return Cell(row, column, splits)


def _together(model: str, stream: str, init: Init, setting: Setting, data: str, split: int) -> tuple[Run, ...]:
    """The runs whose logits are added: two-stream I3D is two networks, the other two-stream ones are one each."""
    streams = stream.split("+") if model == "i3d" else [stream]
    return tuple(Run(model, s, init, setting, data, split) for s in streams)


def network_name(model: str, variant: Variant) -> str:
    """The name for :func:`quovadis.create_model`."""
    return model if variant == "paper" else f"{model}_tiny"


def table_1(variant: Variant = "paper") -> dict[tuple[str, str], float]:
    """Table 1, computed from the networks themselves: the number of each (row, column); parameters in millions.

    >>> {name: round(table_1()[name, "parameters"], 2) for name in ARCHITECTURES}
    {'convnet_lstm': 8.95, 'conv3d': 79.63, 'two_stream': 12.06, 'fused_two_stream': 39.76, 'i3d': 25.36}
    """
    import torch

    found: dict[tuple[str, str], float] = {}
    for row in ARCHITECTURES:
        with torch.device("meta"):  # counts need no memory
            streams = ("rgb", "flow") if row == "i3d" else (None,)
            models = [build_model(network_name(row, variant), stream=stream) for stream in streams]
        found[row, "parameters"] = sum(p.numel() for model in models for p in model.parameters()) / 1e6
        specs = [model.spec for model in models]
        for kind in ("rgb", "flow"):
            taken = [(spec, stream) for spec in specs for stream in spec.streams if stream.kind == kind]
            found[row, f"train {kind} frames"] = sum(stream.num_frames for _, stream in taken)
            found[row, f"test {kind} frames"] = sum(stream.frames_in(spec.test_frames) for spec, stream in taken)
        found[row, "train seconds"] = max(spec.train_seconds for spec in specs)
        found[row, "test seconds"] = max(spec.test_seconds for spec in specs)
    return found
