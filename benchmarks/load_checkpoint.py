"""What loading an official-size TensorFlow checkpoint costs: ``python -m benchmarks.load_checkpoint``.

A checkpoint of 50 MB in the official layout is made in a temporary folder (the reference one from ``../shared`` if it
is there, else random values through the writer of the tests). Each run is a fresh process on one core, so that its
memory is its own: the growth of the resident memory while ``quovadis.load_model`` runs, and its peak. Beside it, in the
same run, what one does with a port's file: ``torch.load`` and ``load_state_dict`` into a network built as usual.
The bounds: under 2 s, and under twice the file in memory.
"""

import lzma
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SHARED = Path(__file__).parent.parent.parent / "shared" / "oracles" / "i3d" / "checkpoints" / "rgb"
RUNS = 5
BOUND_SECONDS = 2.0
BOUND_SIZES = 2.0

_MEASURE = """
import os, sys, threading, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import torch, quovadis
torch.set_num_threads(1)
load_model = quovadis.load_model
from quovadis.models.zoo import build_model
from quovadis.weights.files import fit_state
from quovadis.weights.from_pytorch_i3d import PYTORCH_I3D, from_port

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))

def ours(path):
    return load_model(path)

def peer(path):
    model = build_model("i3d")
    fit_state(model, from_port(torch.load(path, weights_only=True), PYTORCH_I3D), path)
    return model.eval()

with torch.device("meta"):
    build_model("i3d_tiny")  # what torch imports on first use is not what a checkpoint costs
before, peak, done = resident(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, resident())
        time.sleep(0.001)
thread = threading.Thread(target=watch)
thread.start()
start = time.perf_counter()
model = {"ours": ours, "peer": peer}[sys.argv[1]](sys.argv[2])
seconds = time.perf_counter() - start
done = True
thread.join()
print(seconds, peak - before, resident() - before)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        prefix, port = make_files(Path(temporary))
        size = os.path.getsize(f"{prefix}.data-00000-of-00001")
        print(
            f"Loading an I3D of {size / 1e6:.1f} MB on one core, median of {RUNS} fresh processes (page cache warm)\n"
        )
        print(f"{'':<42}{'seconds':>8} {'(worst)':>8}{'peak':>10}{'kept':>10}")
        results = {}
        for name, kind, path in (
            ("quovadis.load_model, TensorFlow checkpoint", "ours", prefix),
            ("torch.load of a port's .pt into a network", "peer", port),
        ):
            runs = [measure(kind, path) for _ in range(RUNS)]
            seconds, peaks, kept = (list(column) for column in zip(*runs, strict=True))
            results[kind] = (max(seconds), max(peaks))
            print(
                f"{name:<42}{statistics.median(seconds):8.2f} {max(seconds):8.2f}"
                f"{statistics.median(peaks) / size:8.2f} x{statistics.median(kept) / size:8.2f} x"
            )
        slow, large = results["ours"]
        holds = slow < BOUND_SECONDS and large < BOUND_SIZES * size
        print("\nMemory in sizes of the file, above what Python and torch had before.")
        print("Within the bounds." if holds else f"OUT OF BOUNDS: {BOUND_SECONDS} s, {BOUND_SIZES} sizes")
    raise SystemExit(0 if holds else 1)


def make_files(folder: Path) -> tuple[Path, Path]:
    """The same weights as a TensorFlow checkpoint and as a port's file."""
    import torch

    import quovadis
    from quovadis.models.zoo import build_model
    from quovadis.weights.crc32c import crc32c
    from quovadis.weights.from_pytorch_i3d import PYTORCH_I3D, to_port
    from tests.weights.bundle import official_names, write_bundle

    prefix = folder / "model.ckpt"
    if SHARED.is_dir():
        data = "model.ckpt.data-00000-of-00001"
        (folder / "model.ckpt.index").write_bytes((SHARED / "model.ckpt.index").read_bytes())
        (folder / data).write_bytes(lzma.decompress((SHARED / f"{data}.xz").read_bytes()))
    else:
        arrays = {name: tensor.numpy() for name, tensor in build_model("i3d").state_dict().items()}
        write_bundle(prefix, official_names(arrays, prefix="RGB/inception_i3d/"), crc32c=crc32c)
    state = quovadis.load_model(prefix).state_dict()
    torch.save(to_port(state, PYTORCH_I3D), folder / "port.pt")
    return prefix, folder / "port.pt"


def measure(kind: str, path: Path) -> tuple[float, float, float]:
    """Seconds, peak and lasting growth of the resident memory in bytes, in a process of its own."""
    out = subprocess.check_output([sys.executable, "-c", _MEASURE, kind, str(path)], text=True)
    seconds, peak, kept = map(float, out.split())
    return seconds, peak, kept


if __name__ == "__main__":
    main()
