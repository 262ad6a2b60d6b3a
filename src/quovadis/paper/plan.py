"""The runs that each cell of the paper's tables needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

from quovadis.models.spec import StreamChoice
from quovadis.models.zoo import build_model
from quovadis.paper.published import ARCHITECTURES, INITS, SETTINGS, STREAMS, Init, paper_table
from quovadis.training.experiment import Setting

Dataset = Literal["kinetics", "ucf101", "hmdb51"]
Variant = Literal["paper", "tiny"]
"""``paper``: the paper's networks. ``tiny``: few channels and 64 x 64 inputs, to try out a plan."""

DATASETS: tuple[Dataset, ...] = ("kinetics", "ucf101", "hmdb51")
TABLES = ("table1", "table2", "table3", "table4", "table5")
_TARGETS: tuple[Dataset, ...] = ("ucf101", "hmdb51")
_OFFICIAL_SPLITS = (1, 2, 3)


@dataclass(frozen=True)
class Run:
    """One network, trained on one dataset and evaluated on its test videos."""

    model: str
    """One of :data:`quovadis.paper.published.ARCHITECTURES`."""
    stream: StreamChoice
    init: Init
    """Initial weights before training on Kinetics."""
    setting: Setting
    data: Dataset
    split: int = 1
    """Split of UCF-101 or HMDB-51."""

    @property
    def source(self) -> Run | None:
        """The run whose weights this one starts from."""
        if self.setting == "original":
            return None
        return Run(self.model, self.stream, self.init, "original", "kinetics")


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    row: str
    column: str
    splits: tuple[tuple[Run, ...], ...]
    """For each split, the runs whose logits are added. The number is the mean over the splits."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of all splits."""
        return tuple(run for runs in self.splits for run in runs)


def plan_table(table: str, *, inflated: bool = True) -> tuple[Cell, ...]:
    """Return the cells of a table for which the paper reports a number of its own networks, row by row.

    Args:
        table: ``"table2"`` to ``"table5"``.
        inflated: Start Table 2 from an inflated 2D network as in the paper; otherwise from random weights.

    >>> [len(plan_table(table)) for table in TABLES[1:]]
    [31, 17, 54, 12]
    >>> plan_table("table3")[-1].runs[1]
    Run(model='i3d', stream='flow', init='random', setting='original', data='kinetics', split=1)
    """
    cells = {
        "table2": lambda: _table_2(inflated),
        "table3": _table_3,
        "table4": _table_4,
        "table5": _table_5,
    }[table]()
    published = paper_table(table)
    return tuple(cell for cell in cells if published.value(cell.row, cell.column) is not None)


def _table_2(inflated: bool) -> Iterator[Cell]:
    for model, data, stream in product(ARCHITECTURES, (*_TARGETS, "kinetics"), STREAMS):
        init: Init = "imagenet" if inflated and model != "conv3d" else "random"
        yield Cell(model, f"{data} {stream}", (_runs(model, stream, init, "original", data),))


def _table_3() -> Iterator[Cell]:
    for model, init, stream in product(ARCHITECTURES, INITS, STREAMS):
        yield Cell(model, f"{init} {stream}", (_runs(model, stream, init, "original", "kinetics"),))


def _table_4() -> Iterator[Cell]:
    for model, data, setting, init in product(ARCHITECTURES, _TARGETS, SETTINGS, INITS):
        stream: StreamChoice = "rgb" if model in ("convnet_lstm", "conv3d") else "rgb+flow"
        yield Cell(model, f"{data} {setting} {init}", (_runs(model, stream, init, setting, data),))


def _table_5() -> Iterator[Cell]:
    for init, stream, data in product(INITS, STREAMS, _TARGETS):
        splits = tuple(_runs("i3d", stream, init, "full-ft", data, split) for split in _OFFICIAL_SPLITS)
        yield Cell(f"i3d {stream} {init}", data, splits)


def _runs(
    model: str, stream: StreamChoice, init: Init, setting: Setting, data: Dataset, split: int = 1
) -> tuple[Run, ...]:
    """Return the runs whose logits are added. Two-stream I3D is two networks; other two-stream models are one."""
    streams: tuple[StreamChoice, ...] = ("rgb", "flow") if model == "i3d" and stream == "rgb+flow" else (stream,)
    return tuple(Run(model, s, init, setting, data, split) for s in streams)


def network_name(model: str, variant: Variant) -> str:
    """Return the name of a network for :func:`quovadis.create_model`."""
    return model if variant == "paper" else f"{model}_tiny"


def table_1(variant: Variant = "paper") -> dict[tuple[str, str], float]:
    """Compute Table 1 from the networks. Returns the value of each (row, column); parameters in millions.

    >>> {name: round(table_1()[name, "parameters"], 2) for name in ARCHITECTURES}
    {'convnet_lstm': 8.95, 'conv3d': 79.63, 'two_stream': 12.06, 'fused_two_stream': 39.76, 'i3d': 25.36}
    """
    import torch

    values: dict[tuple[str, str], float] = {}
    for row in ARCHITECTURES:
        with torch.device("meta"):  # allocates no memory
            streams = ("rgb", "flow") if row == "i3d" else (None,)
            models = [build_model(network_name(row, variant), stream=stream) for stream in streams]
        values[row, "parameters"] = sum(p.numel() for model in models for p in model.parameters()) / 1e6
        specs = [model.spec for model in models]
        for kind in ("rgb", "flow"):
            used = [(spec, stream) for spec in specs for stream in spec.streams if stream.kind == kind]
            values[row, f"train {kind} frames"] = sum(stream.num_frames for _, stream in used)
            values[row, f"test {kind} frames"] = sum(stream.num_frames_in(spec.test_frames) for spec, stream in used)
        values[row, "train seconds"] = max(spec.train_seconds for spec in specs)
        values[row, "test seconds"] = max(spec.test_seconds for spec in specs)
    return values
