"""How much time and memory does loading an official-size TensorFlow checkpoint take?

    python -m benchmarks.load_checkpoint

Peer: ``torch.load`` of a port's file and ``load_state_dict`` into a model on the CPU. Each run is a new process on one
core; time, peak and final growth of the resident memory are measured. The checkpoint of 50 MB has the official layout.
It is the reference checkpoint if that is available, otherwise it is written with random values. The exit code is 1 if
quovadis takes more than 2 s or more than twice the file size in memory.
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
MAX_SECONDS = 2.0
MAX_FILE_SIZES = 2.0

_MEASURE = """
import os, sys, threading, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import torch, quovadis
torch.set_num_threads(1)
load_model = quovadis.load_model
from quovadis.models.zoo import build_model
from quovadis.weights.from_pytorch_i3d import PYTORCH_I3D, from_port
from quovadis.weights.state_dict import fit_state

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
    build_model("i3d_tiny")  # exclude torch's lazy imports
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
        print(f"Loading an I3D of {size / 1e6:.1f} MB on one core, median of {RUNS} new processes (page cache warm)\n")
        print(f"{'':<42}{'seconds':>8} {'(max)':>8}{'peak':>10}{'final':>10}")
        results = {}
        for name, kind, path in (
            ("quovadis.load_model, TensorFlow checkpoint", "ours", prefix),
            ("torch.load of a port's .pt into a model", "peer", port),
        ):
            runs = [measure(kind, path) for _ in range(RUNS)]
            seconds, peaks, final = (list(column) for column in zip(*runs, strict=True))
            results[kind] = (max(seconds), max(peaks))
            print(
                f"{name:<42}{statistics.median(seconds):8.2f} {max(seconds):8.2f}"
                f"{statistics.median(peaks) / size:8.2f} x{statistics.median(final) / size:8.2f} x"
            )
        max_seconds, max_bytes = results["ours"]
        passed = max_seconds < MAX_SECONDS and max_bytes < MAX_FILE_SIZES * size
        print("\nMemory is relative to the file size, without the memory of Python and torch before loading.")
        print("Passed." if passed else f"FAILED: the limits are {MAX_SECONDS} s and {MAX_FILE_SIZES} file sizes")
    raise SystemExit(0 if passed else 1)


def make_files(folder: Path) -> tuple[Path, Path]:
    """Write the same weights as a TensorFlow checkpoint and as a port's file."""
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
    """Measure seconds, and peak and final growth of the resident memory in bytes, in a new process."""
    out = subprocess.check_output([sys.executable, "-c", _MEASURE, kind, str(path)], text=True)
    seconds, peak, final = map(float, out.split())
    return seconds, peak, final


if __name__ == "__main__":
    main()
