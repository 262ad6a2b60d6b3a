"""From which size of a clip on are two threads faster than one?

    python -m benchmarks.small_clips [--rounds 15]

Networks with random weights, optimized for a CPU. Both ways take turns; reports medians.
"""

import argparse
import statistics
import time

import torch

import quovadis
from benchmarks.machine import describe_machine
from quovadis.models import fast_layers

CLIPS = [
    ("i3d_tiny", (16, 64, 64)),
    ("i3d_tiny", (32, 64, 64)),
    ("i3d_tiny", (64, 64, 64)),
    ("i3d_tiny", (64, 112, 112)),
    ("i3d", (16, 224, 224)),
]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(f"{describe_machine()}; {options.rounds} rounds\n")
    print("| network | clip | positions x weights | two threads (ms) | one (ms) |\n| --- | --- | --- | --- | --- |")
    for name, size in CLIPS:
        model = quovadis.optimize(quovadis.create_model(name, num_classes=10).eval())
        (trunk,) = (m for m in model.modules() if isinstance(m, fast_layers.FastTrunk))
        x = torch.rand(1, 3, *size)
        milliseconds: dict[float, list[float]] = {0: [], float("inf"): []}
        for _ in range(options.rounds):
            for limit, times in milliseconds.items():
                fast_layers._SMALL_CLIP = limit
                started = time.perf_counter()
                model(x)
                times.append(1e3 * (time.perf_counter() - started))
        two, one = (statistics.median(times) for times in milliseconds.values())
        work = x[0, 0].numel() * trunk.num_weights
        print(f"| {name} | {'x'.join(map(str, size))} | {work:.1e} | {two:.0f} | {one:.0f} |", flush=True)


if __name__ == "__main__":
    main()
