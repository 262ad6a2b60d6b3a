"""Our I3D against the official graph, endpoint by endpoint: ``python -m benchmarks.parity``.

Reads the reference numbers from ``../shared/oracles/i3d`` if it is there, else the part of them in ``tests/golden``.
Prints the largest difference to the float64 values of the official graph, ours in float32 and in float64, beside the
tolerance that the float32 noise of TensorFlow itself suggests. The weights come from a port's file; the column
``checkpoint`` has the same weights from a TensorFlow checkpoint (``-`` where that is not at hand), in float32.
"""

import io
import lzma
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.weights.files import fit_state
from quovadis.weights.from_pytorch_i3d import PYTORCH_I3D, from_port
from quovadis.weights.load import load_model

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "i3d"
SHARED = ROOT.parent / "shared" / "oracles" / "i3d"
SIZES = ("17x112x96", "19x197x211", "24x224x224")

# Largest absolute difference allowed, float32 and float64. Noise grows with depth; a row holds up to its endpoint.
_BY_DEPTH = {
    "Conv3d_1a_7x7": (2e-5, 1e-12),
    "Conv3d_2c_3x3": (3e-5, 1e-12),
    "Mixed_3c": (1e-4, 1e-11),
    "Mixed_4f": (5e-4, 1e-11),
    "Mixed_5c": (1e-3, 1e-11),
}
_WHOLE = {"avg_pool": (3e-4, 1e-11), "Logits": (1e-3, 1e-11), "Predictions": (3e-5, 1e-12)}


@dataclass(frozen=True)
class Row:
    """One endpoint at one size in one precision."""

    size: str
    endpoint: str
    precision: str
    rms: float
    """Of the reference values."""
    difference: float
    """Largest absolute difference to the official graph in float64."""
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.difference <= self.tolerance


def data_folder() -> Path:
    """Where the reference numbers are."""
    return SHARED if SHARED.is_dir() else GOLDEN


def reference_model(folder: Path) -> VideoModel:
    """Our network with the synthetic reference weights."""
    packed = (folder / "pytorch_port" / "rgb.pt.xz").read_bytes()
    state = torch.load(io.BytesIO(lzma.decompress(packed)), weights_only=True)
    model = build_model("i3d", stream="rgb", num_classes=400)
    fit_state(model, from_port(state, PYTORCH_I3D), "rgb.pt.xz")
    return model.eval()


def checkpoint_model(folder: Path) -> VideoModel | None:
    """The same from a TensorFlow checkpoint, or None where there is none."""
    index = folder / "checkpoints" / "rgb" / "model.ckpt.index"
    if not index.is_file():
        return None
    data = "model.ckpt.data-00000-of-00001"
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / index.name).write_bytes(index.read_bytes())
        (Path(temporary) / data).write_bytes(lzma.decompress(index.with_name(f"{data}.xz").read_bytes()))
        return load_model(temporary)


def compare(model: VideoModel, folder: Path, size: str, dtype: torch.dtype) -> Iterator[Row]:
    """Run one input and compare every endpoint that the reference has."""
    video = np.load(folder / "inputs" / f"rgb_{size}.npz")["video"]
    expected = np.load(folder / "expected" / f"rgb__rgb_{size}.npz")
    x = torch.from_numpy(video.astype(np.float32) / np.float32(127.5) - np.float32(1))
    x = x.permute(0, 4, 1, 2, 3).to(dtype)
    precision = str(dtype).removeprefix("torch.")
    column = 1 if dtype == torch.float64 else 0
    model = model.to(dtype)
    pooled: list[torch.Tensor] = []  # what features() gives, without a second run
    hook = model.get_submodule("head").register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    with torch.inference_mode():
        outputs = model.endpoints(x)
    hook.remove()
    wholes: dict[str, torch.Tensor] = {key: outputs[key] for key in ("Logits", "Predictions") if key in outputs}
    if pooled:
        wholes["avg_pool"] = pooled[0].permute(0, 2, 3, 4, 1)
    tolerances = iter(_BY_DEPTH.items())
    last, tolerance = next(tolerances)
    for name, output in outputs.items():
        if f"f64/{name}/sample" not in expected:
            continue
        ndhwc = output.permute(0, 2, 3, 4, 1).double().numpy()
        want = expected[f"f64/{name}/sample"]
        if tuple(expected[f"f64/{name}/shape"]) != ndhwc.shape:
            raise AssertionError(f"{name}: shape {ndhwc.shape}, expected {tuple(expected[f'f64/{name}/shape'])}")
        flat = ndhwc.reshape(-1)
        difference = max(
            np.abs(flat[expected[f"f64/{name}/sample_idx"]] - want).max(),
            np.abs(flat[:64] - expected[f"f64/{name}/first64"]).max(),
            np.abs(ndhwc.mean((0, 1, 2, 3)) - expected[f"f64/{name}/channel_mean"]).max(),
        )
        rms = float(np.sqrt(np.mean(want**2)))
        yield Row(size, name, precision, rms, float(difference), tolerance[column])
        if name == last:
            last, tolerance = next(tolerances, (last, tolerance))
    for name, output in wholes.items():
        want = expected[f"f64/{name}"].reshape(output.shape)
        difference = np.abs(output.double().numpy() - want).max()
        rms = float(np.sqrt(np.mean(want**2)))
        yield Row(size, name, precision, rms, float(difference), _WHOLE[name][column])


def main() -> None:
    folder = data_folder()
    model = reference_model(folder)
    from_checkpoint = checkpoint_model(folder)
    sizes = [s for s in SIZES if (folder / "inputs" / f"rgb_{s}.npz").is_file()]
    print("I3D (RGB, synthetic weights) against the official graph in float64\n")
    print(
        f"{'input':>12}  {'endpoint':<18}{'rms':>7}  {'float32':>9} {'checkpoint':>10} {'allowed':>8}  "
        f"{'float64':>9} {'allowed':>8}"
    )
    holds = True
    for size in sizes:
        singles = list(compare(model, folder, size, torch.float32))
        loaded = (
            list(compare(from_checkpoint, folder, size, torch.float32)) if from_checkpoint else [None] * len(singles)
        )
        doubles = list(compare(model, folder, size, torch.float64))
        for single, row, double in zip(singles, loaded, doubles, strict=True):
            good = single.holds and double.holds and (row is None or row.holds)
            holds &= good
            print(
                f"{size:>12}  {single.endpoint:<18}{single.rms:7.3f}  {single.difference:9.1e} "
                f"{f'{row.difference:.1e}' if row else '-':>10} {single.tolerance:8.0e}  {double.difference:9.1e} "
                f"{double.tolerance:8.0e}{'' if good else '  <- too far'}"
            )
    print("\nAll within tolerance." if holds else "\nOUT OF TOLERANCE.")
    raise SystemExit(0 if holds else 1)


if __name__ == "__main__":
    main()
