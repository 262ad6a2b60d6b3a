"""``quovadis export``: a network for other runtimes."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Export:
    """Write a network for another runtime, checked against the network at the sizes that it takes, with a card.

    The file has the network's inputs (rgb, flow or both: float32, B C T H W, in [-1, 1]) and two outputs, logits and
    features. FILE.json beside it says everything that is needed to feed it; the same stands in the file.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write, for example i3d.onnx, i3d.pt2 or i3d.pt."""
    weights: tyro.conf.Positional[str | None] = None
    """A published name, a weights file or the folder of a training run; by default the official Kinetics-400 network,
    which is downloaded once."""
    format: Literal["onnx", "torch-export", "torchscript"] = "onnx"
    """onnx needs the optional part export: pip install '.[export]' in the checkout. PyTorch calls torchscript
    deprecated."""
    free: tuple[Literal["batch", "time", "space"], ...] = ("batch",)
    """Sizes that may differ from call to call; the padding is then computed within the file."""
    batch: int = 1
    """Clips, where batch is not free."""
    frames: int | None = None
    """Frames of the first input; by default those of a training clip. 250 are the paper's test clip."""
    height: int | None = None
    """Pixels; by default the model's, as is the width."""
    width: int | None = None
    """Pixels."""
    json: bool = False
    """Print the card as JSON."""


def main(args: list[str]) -> None:
    """Run the verb."""
    options = tyro.cli(Export, args=args, prog="quovadis export", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.export.export import card_path, export_model
    from quovadis.weights.load import load_model

    model = load_model(options.weights)
    print(f"exporting {model.spec.name} and comparing it with itself ...", file=sys.stderr)
    card = export_model(
        model,
        options.out,
        format=options.format,
        batch=options.batch,
        num_frames=options.frames,
        height=options.height,
        width=options.width,
        free_sizes=options.free,
    )
    if options.json:
        print(card.to_json())
        return
    print(f"{options.out} and {card_path(options.out).name}")
    for port in (*card.inputs, *card.outputs):
        print(f"  {port.name:<9} {' x '.join(map(str, port.shape)):<32} {port.axes}; {port.description}")
    assert card.check is not None
    print(
        f"  checked   {card.check.runtime}, {len(card.check.shapes)} sizes: the largest difference is "
        f"{card.check.max_relative_difference:.1e} of the largest value"
    )
