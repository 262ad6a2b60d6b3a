"""The tables of the paper as data.

References:
    Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", arXiv:1705.07750v3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from quovadis.errors import UnknownNameError
from quovadis.models.spec import StreamChoice

if TYPE_CHECKING:
    from quovadis.training.experiment import Setting

Init = Literal["imagenet", "random"]
"""Initial weights: inflated from an Inception-v1 trained on ImageNet, or random."""

ARCHITECTURES: dict[str, str] = {
    "convnet_lstm": "ConvNet+LSTM",
    "conv3d": "3D-ConvNet",
    "two_stream": "Two-Stream",
    "fused_two_stream": "3D-Fused Two-Stream",
    "i3d": "Two-Stream I3D",
}
"""The five networks in the order of the tables: name in :func:`quovadis.list_models`, and name in the paper."""

STREAMS: tuple[StreamChoice, ...] = ("rgb", "flow", "rgb+flow")
SETTINGS: "tuple[Setting, ...]" = ("original", "fixed", "full-ft")
"""Training on the small dataset only; a new classifier on frozen features; end-to-end fine-tuning (section 4.1)."""
INITS: tuple[Init, ...] = ("imagenet", "random")


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    >>> table_2 = paper_table("table2")
    >>> table_2.value("i3d", "ucf101 rgb+flow"), table_2.value("conv3d", "ucf101 flow")
    (93.4, None)
    """

    name: str
    title: str
    unit: str
    """Unit of the numbers; empty if each column has a different one."""
    rows: dict[str, str]
    """Name of each row, and its name in the paper."""
    columns: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]
    """The numbers row by row; None where the paper has none."""
    notes: tuple[str, ...]
    """What to know when comparing with these numbers."""

    def value(self, row: str, column: str) -> float | None:
        """Return the published number, or None if the paper leaves the cell empty.

        Raises:
            UnknownNameError: If the row or column does not exist.
        """
        if row not in self.rows:
            raise UnknownNameError.among(f"row of {self.name}", row, self.rows)
        if column not in self.columns:
            raise UnknownNameError.among(f"column of {self.name}", column, self.columns)
        return self.cells[list(self.rows).index(row)][self.columns.index(column)]


def paper_table(name: str) -> PaperTable:
    """Return a table of the paper.

    Args:
        name: ``"table1"`` to ``"table5"``, or ``"table3-top5"`` (top-5 of I3D, from the official README).

    Raises:
        UnknownNameError: If the table does not exist.

    Example:
        >>> paper_table("table2").title
        'Training and testing on the same dataset'
    """
    if name not in PAPER:
        raise UnknownNameError.among("table", name, PAPER)
    return PAPER[name]


def paper_value(table: str, row: str, column: str) -> float | None:
    """Return the published number of a cell, or None if the paper leaves it empty.

    Raises:
        UnknownNameError: If the table, row or column does not exist.

    >>> paper_value("table4", "i3d", "ucf101 full-ft imagenet")
    98.0
    """
    return paper_table(name=table).value(row, column)


def _rows(text: str, num_columns: int) -> tuple[tuple[float | None, ...], ...]:
    """Parse one row per line; a dash is an empty cell."""
    rows = tuple(tuple(None if w == "-" else float(w) for w in line.split()) for line in text.split("\n") if line)
    assert {len(row) for row in rows} == {num_columns}
    return rows


def _columns(*parts: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all combinations.

    >>> _columns(("a", "b"), ("x", "y"))
    ('a x', 'a y', 'b x', 'b y')
    """
    names = [""]
    for part in parts:
        names = [f"{name} {word}".strip() for name in names for word in part]
    return tuple(names)


_TABLE_1 = """
9 25 0 5 50 0 10
79 16 0 0.64 240 0 9.6
12 1 10 0.4 25 250 10
39 5 50 2 25 250 10
25 64 64 2.56 250 250 10
"""

_TABLE_2 = """
81.0 - - 36.0 - - 63.3 - -
51.6 - - 24.3 - - 56.1 - -
83.6 85.6 91.2 43.2 56.3 58.3 62.2 52.4 65.6
83.2 85.8 89.3 49.2 55.5 56.8 - - 67.2
84.5 90.6 93.4 49.8 61.9 66.4 71.1 63.4 74.2
"""

_TABLE_3 = """
63.3 - - 53.9 - -
- - - 56.1 - -
62.2 52.4 65.6 57.9 49.6 62.8
- - 67.2 - - 62.7
71.1 63.4 74.2 68.4 61.5 71.6
"""

_TABLE_3_TOP5 = """
89.3 84.9 91.3 88.0 83.4 90.0
"""

_TABLE_4 = """
81.0 54.2 88.1 82.6 91.0 86.8 36.0 18.3 50.8 47.1 53.4 49.7
- 51.6 - 76.0 - 79.9 - 24.3 - 47.0 - 49.4
91.2 83.6 93.9 93.3 94.2 93.8 58.3 47.1 66.6 65.9 66.6 64.3
89.3 69.5 94.3 89.8 94.2 91.5 56.8 37.3 69.9 64.6 71.0 66.5
93.4 88.8 97.7 97.4 98.0 97.6 66.4 62.2 79.7 78.6 81.2 81.3
"""

_TABLE_5_ROWS = {
    "two-stream-2014": "Two-Stream",
    "idt": "IDT",
    "dynamic-image-networks": "Dynamic Image Networks + IDT",
    "tdd": "TDD + IDT",
    "two-stream-fusion": "Two-Stream Fusion + IDT",
    "tsn": "Temporal Segment Networks",
    "st-resnet": "ST-ResNet + IDT",
    "deep-networks": "Deep Networks, Sports-1M",
    "c3d": "C3D, one network, Sports-1M",
    "c3d-ensemble": "C3D, ensemble, Sports-1M",
    "c3d-ensemble-idt": "C3D, ensemble + IDT, Sports-1M",
    "i3d rgb imagenet": "RGB-I3D, ImageNet + Kinetics",
    "i3d flow imagenet": "Flow-I3D, ImageNet + Kinetics",
    "i3d rgb+flow imagenet": "Two-Stream I3D, ImageNet + Kinetics",
    "i3d rgb random": "RGB-I3D, Kinetics",
    "i3d flow random": "Flow-I3D, Kinetics",
    "i3d rgb+flow random": "Two-Stream I3D, Kinetics",
}

_TABLE_5 = """
88.0 59.4
86.4 61.7
89.1 65.2
91.5 65.9
93.5 69.2
94.2 69.4
94.6 70.3
65.2 -
82.3 -
85.2 -
90.1 -
95.6 74.8
96.7 77.1
98.0 80.7
95.1 74.3
96.5 77.3
97.8 80.9
"""

_TOP1 = "top-1 accuracy, percent"
_KINETICS_TEST = (
    "Kinetics: held-out test set. The released weights, evaluated by third parties on the validation set, give lower "
    "numbers."
)

PAPER: dict[str, PaperTable] = {
    table.name: table
    for table in (
        PaperTable(
            name="table1",
            title="Parameters and temporal footprints",
            unit="",
            rows=ARCHITECTURES,
            columns=("parameters", *_columns(("train", "test"), ("rgb frames", "flow frames", "seconds"))),
            cells=_rows(_TABLE_1, 7),
            notes=(
                "Parameters in millions; frames at 25 fps.",
                "Two-Stream I3D: sum of two networks.",
            ),
        ),
        PaperTable(
            name="table2",
            title="Training and testing on the same dataset",
            unit=_TOP1,
            rows=ARCHITECTURES,
            columns=_columns(("ucf101", "hmdb51", "kinetics"), STREAMS),
            cells=_rows(_TABLE_2, 9),
            notes=(
                "UCF-101 and HMDB-51: split 1.",
                _KINETICS_TEST,
                "Initialized from an Inception-v1 trained on ImageNet, except 3D-ConvNet (random weights).",
                "Two-Stream, RGB or flow only: a network for single frames or flow stacks, averaged over 25 samples.",
                "ConvNet+LSTM on Kinetics is 63.3 as in Table 3; one transcription of this table has 63.6.",
            ),
        ),
        PaperTable(
            name="table3",
            title="Kinetics, with and without ImageNet",
            unit=_TOP1,
            rows=ARCHITECTURES,
            columns=_columns(INITS, STREAMS),
            cells=_rows(_TABLE_3, 6),
            notes=(_KINETICS_TEST,),
        ),
        PaperTable(
            name="table3-top5",
            title="Kinetics, with and without ImageNet: top-5 of I3D, from the official README",
            unit="top-5 accuracy, percent",
            rows={"i3d": ARCHITECTURES["i3d"]},
            columns=_columns(INITS, STREAMS),
            cells=_rows(_TABLE_3_TOP5, 6),
            notes=(_KINETICS_TEST,),
        ),
        PaperTable(
            name="table4",
            title="Transfer from Kinetics",
            unit=_TOP1,
            rows=ARCHITECTURES,
            columns=_columns(("ucf101", "hmdb51"), SETTINGS, INITS),
            cells=_rows(_TABLE_4, 12),
            notes=(
                "Split 1 of each dataset. HMDB-51 is lower in Table 5, which is the mean of three splits.",
                "imagenet, random: initial weights before training on Kinetics.",
                "RGB for ConvNet+LSTM and 3D-ConvNet, RGB and flow for the other networks.",
            ),
        ),
        PaperTable(
            name="table5",
            title="State of the art",
            unit=_TOP1,
            rows=_TABLE_5_ROWS,
            columns=("ucf101", "hmdb51"),
            cells=_rows(_TABLE_5, 2),
            notes=(
                "Mean of the three official splits.",
                "The numbers of the abstract come from two models: 98.0 on UCF-101 with ImageNet, 80.9 on HMDB-51 "
                "without.",
                "An earlier version of the paper reported 97.9 and 80.2.",
            ),
        ),
    )
}
"""The tables by name."""
