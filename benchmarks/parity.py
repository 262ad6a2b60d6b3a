"""Does I3D compute the same values as the official TensorFlow graph at every endpoint?

    python -m benchmarks.parity

Peer: the official graph in float64, whose values are in the reference data or, in part, in ``tests/golden``. Prints the
largest absolute difference of I3D in float32 and float64, and the tolerance, which follows from the float32 noise of
TensorFlow. The weights are from a port's file. The column ``checkpoint`` is for the same weights from a TensorFlow
checkpoint in float32, if that is available. The exit code is 1 if a tolerance is exceeded.
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
from quovadis.weights.from_pytorch_i3d import PYTORCH_I3D, from_port
from quovadis.weights.load import load_model
from quovadis.weights.state_dict import fit_state

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "i3d"
SHARED = ROOT.parent / "shared" / "oracles" / "i3d"
SIZES = ("17x112x96", "19x197x211", "24x224x224")

# Tolerances for float32 and float64. Noise grows with depth; a row applies to all endpoints up to its own.
_BY_DEPTH = {
    "Conv3d_1a_7x7": (2e-5, 1e-12),
    "Conv3d_2c_3x3": (3e-5, 1e-12),
    "Mixed_3c": (1e-4, 1e-11),
    "Mixed_4f": (5e-4, 1e-11),
    "Mixed_5c": (1e-3, 1e-11),
}
_FULL = {"avg_pool": (3e-4, 1e-11), "Logits": (1e-3, 1e-11), "Predictions": (3e-5, 1e-12)}


@dataclass(frozen=True)
class Row:
    """Difference at one endpoint for one input size and precision."""

    size: str
    endpoint: str
    precision: str
    rms: float
    """Root mean square of the reference values."""
    difference: float
    """Largest absolute difference from the official graph in float64."""
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.difference <= self.tolerance


def data_folder() -> Path:
    """Return the folder of the reference values."""
    return SHARED if SHARED.is_dir() else GOLDEN


def reference_model(folder: Path) -> VideoModel:
    """Load I3D with the synthetic reference weights from a port's file."""
    packed = (folder / "pytorch_port" / "rgb.pt.xz").read_bytes()
    state = torch.load(io.BytesIO(lzma.decompress(packed)), weights_only=True)
    model = build_model("i3d", stream="rgb", num_classes=400)
    fit_state(model, from_port(state, PYTORCH_I3D), "rgb.pt.xz")
    return model.eval()


def checkpoint_model(folder: Path) -> VideoModel | None:
    """Load I3D with the same weights from a TensorFlow checkpoint, or return None if it is not available."""
    index = folder / "checkpoints" / "rgb" / "model.ckpt.index"
    if not index.is_file():
        return None
    data = "model.ckpt.data-00000-of-00001"
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / index.name).write_bytes(index.read_bytes())
        (Path(temporary) / data).write_bytes(lzma.decompress(index.with_name(f"{data}.xz").read_bytes()))
        return load_model(temporary)


def compare(model: VideoModel, folder: Path, size: str, dtype: torch.dtype) -> Iterator[Row]:
    """Compare every endpoint in the reference data for one input."""
    video = np.load(folder / "inputs" / f"rgb_{size}.npz")["video"]
    expected = np.load(folder / "expected" / f"rgb__rgb_{size}.npz")
    x = torch.from_numpy(video.astype(np.float32) / np.float32(127.5) - np.float32(1))
    x = x.permute(0, 4, 1, 2, 3).to(dtype)
    precision = str(dtype).removeprefix("torch.")
    column = 1 if dtype == torch.float64 else 0
    model = model.to(dtype)
    pooled: list[torch.Tensor] = []  # the values of features(), without a second forward pass
    hook = model.get_submodule("head").register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    with torch.inference_mode():
        outputs = model.endpoints(x)
    hook.remove()
    full_outputs: dict[str, torch.Tensor] = {key: outputs[key] for key in ("Logits", "Predictions") if key in outputs}
    if pooled:
        full_outputs["avg_pool"] = pooled[0].permute(0, 2, 3, 4, 1)
    tolerances = iter(_BY_DEPTH.items())
    last, tolerance = next(tolerances)
    for name, output in outputs.items():
        if f"f64/{name}/sample" not in expected:
            continue
        ndhwc = output.permute(0, 2, 3, 4, 1).double().numpy()
        reference = expected[f"f64/{name}/sample"]
        if tuple(expected[f"f64/{name}/shape"]) != ndhwc.shape:
            raise AssertionError(f"{name}: shape {ndhwc.shape}, expected {tuple(expected[f'f64/{name}/shape'])}")
        flat = ndhwc.reshape(-1)
        difference = max(
            np.abs(flat[expected[f"f64/{name}/sample_idx"]] - reference).max(),
            np.abs(flat[:64] - expected[f"f64/{name}/first64"]).max(),
            np.abs(ndhwc.mean((0, 1, 2, 3)) - expected[f"f64/{name}/channel_mean"]).max(),
        )
        rms = float(np.sqrt(np.mean(reference**2)))
        yield Row(size, name, precision, rms, float(difference), tolerance[column])
        if name == last:
            last, tolerance = next(tolerances, (last, tolerance))
    for name, output in full_outputs.items():
        reference = expected[f"f64/{name}"].reshape(output.shape)
        difference = np.abs(output.double().numpy() - reference).max()
        rms = float(np.sqrt(np.mean(reference**2)))
        yield Row(size, name, precision, rms, float(difference), _FULL[name][column])


def main() -> None:
    folder = data_folder()
    model = reference_model(folder)
    from_checkpoint = checkpoint_model(folder)
    sizes = [s for s in SIZES if (folder / "inputs" / f"rgb_{s}.npz").is_file()]
    print("I3D (RGB, synthetic weights) compared with the official graph in float64\n")
    print(
        f"{'input':>12}  {'endpoint':<18}{'rms':>7}  {'float32':>9} {'checkpoint':>10} {'allowed':>8}  "
        f"{'float64':>9} {'allowed':>8}"
    )
    passed = True
    for size in sizes:
        singles = list(compare(model, folder, size, torch.float32))
        loaded = (
            list(compare(from_checkpoint, folder, size, torch.float32)) if from_checkpoint else [None] * len(singles)
        )
        doubles = list(compare(model, folder, size, torch.float64))
        for single, row, double in zip(singles, loaded, doubles, strict=True):
            good = single.holds and double.holds and (row is None or row.holds)
            passed &= good
            print(
                f"{size:>12}  {single.endpoint:<18}{single.rms:7.3f}  {single.difference:9.1e} "
                f"{f'{row.difference:.1e}' if row else '-':>10} {single.tolerance:8.0e}  {double.difference:9.1e} "
                f"{double.tolerance:8.0e}{'' if good else '  <- exceeded'}"
            )
    print("\nAll within tolerance." if passed else "\nOUT OF TOLERANCE.")
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
