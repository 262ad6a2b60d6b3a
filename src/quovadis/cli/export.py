"""``quovadis export``: export a model to other runtimes."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Export:
    """Export a model to ONNX or torch.export and compare the file with the original model.

    The file takes the inputs of the model (rgb, flow or both: float32, B C T H W, in [-1, 1]) and returns logits and
    features. A card, FILE.json, describes inputs, preprocessing, outputs and labels; the file contains a copy. For ONNX
    files of models with one RGB input, the script FILE.run.py classifies videos with numpy and onnxruntime alone.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write, for example i3d.onnx or i3d.pt2."""
    weights: tyro.conf.Positional[str | None] = None
    """Published name, weights file or run folder; by default, the official Kinetics-400 model (downloaded once)."""
    format: Literal["onnx", "torch-export"] = "onnx"
    """File format. onnx needs the extra "export": pip install '.[export]' in the checkout."""
    dynamic_axes: tuple[Literal["batch", "time", "space"], ...] = ("batch",)
    """Axes whose size may differ between calls."""
    batch_size: int = 1
    """Number of clips if the batch axis is not dynamic."""
    num_frames: int | None = None
    """Number of frames of the first input; by default, that of a training clip. The paper's test clips have 250."""
    height_px: int | None = None
    """Height in pixels; by default, that of a training clip."""
    width_px: int | None = None
    """Width in pixels; by default, that of a training clip."""
    json: bool = False
    """Print the card as JSON."""


def main(args: list[str]) -> None:
    """Run ``quovadis export``."""
    options = tyro.cli(Export, args=args, prog="quovadis export", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.export.export import card_path, export_model, has_script, script_path
    from quovadis.weights.load import load_model

    model = load_model(options.weights)
    print(f"exporting {model.spec.name} and comparing the file with the original model ...", file=sys.stderr)
    card = export_model(
        model,
        options.out,
        format=options.format,
        batch_size=options.batch_size,
        num_frames=options.num_frames,
        height_px=options.height_px,
        width_px=options.width_px,
        dynamic_axes=options.dynamic_axes,
    )
    if options.json:
        print(card.to_json())
        return
    names = [card_path(options.out).name, *([script_path(options.out).name] if has_script(card) else [])]
    print(f"wrote {options.out} and {' and '.join(names)}")
    for tensor in (*card.inputs, *card.outputs):
        print(f"  {tensor.name:<9} {' x '.join(map(str, tensor.shape)):<32} {tensor.axes}; {tensor.description}")
    assert card.check is not None
    print(
        f"  checked   {card.check.runtime}, {len(card.check.shapes)} input sizes: largest difference "
        f"{card.check.max_relative_difference:.1e} of the largest value"
    )
