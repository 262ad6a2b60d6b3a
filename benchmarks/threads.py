"""How much does the wait policy of OpenMP threads cost at rest, and save next to other work?

    python -m benchmarks.threads [--video FILE] [--weights NAME] [--rounds 3] [--commands predict extract ...]

Runs whole commands as new processes, with the default of libgomp (threads spin), with that of quovadis and with no
spinning, next to 0, 1, 2 and 4 processes that keep a core busy. The settings take turns. Reports median wall-clock
seconds. To measure two cores of a larger machine, start it with ``taskset -c 0,1``.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.end_to_end import make_video
from benchmarks.machine import describe_machine
from quovadis.runtime.threads import SPIN_COUNT
from quovadis.weights.catalog import DEFAULT_WEIGHTS

SETTINGS = {"libgomp": "300000", "quovadis": str(SPIN_COUNT), "none": "0"}


def keep_busy() -> None:
    while True:
        pass


def commands(video: Path, folder: Path, weights: str) -> dict[str, list[str]]:
    data = ["--data", "motions"]
    return {
        "predict": ["predict", str(video), "--weights", weights],
        "extract": ["extract", str(video), "--weights", weights, "--out", str(folder / "features"), "--overwrite"],
        "train": ["train", "tiny", *data, "--max-steps", "20", "--validate-every", "20", "--out", str(folder / "run")],
        "evaluate": ["evaluate", *data, "--weights", str(folder / "trained"), "--out", str(folder / "evaluation")],
    }


def seconds(command: list[str], spins: str, out: Path) -> float:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")} | {"GOMP_SPINCOUNT": spins}
    subprocess.run(["rm", "-rf", str(out)], check=True)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "quovadis", *command], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS, help="network of predict and extract")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--commands", nargs="+", default=["predict", "extract", "train", "evaluate"])
    parser.add_argument("--competitors", nargs="+", type=int, default=[0, 1, 2, 4])
    options = parser.parse_args()
    print(f"{describe_machine()}; {options.rounds} rounds; load before: {os.getloadavg()[0]:.2f}\n")
    print(f"| command | busy processes | {' | '.join(SETTINGS)} |\n| --- | --- | {'--- | ' * len(SETTINGS)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = options.video or make_video(folder / "video.mp4", 256, 10.0)
        if "evaluate" in options.commands:
            train = commands(video, folder, options.weights)["train"]
            seconds([*train[:-1], str(folder / "trained")], SETTINGS["none"], folder / "trained")
        for command in options.commands:
            for count in options.competitors:
                found: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
                others = [multiprocessing.Process(target=keep_busy, daemon=True) for _ in range(count)]
                for other in others:
                    other.start()
                for _ in range(options.rounds):
                    for setting, spins in SETTINGS.items():
                        found[setting].append(
                            seconds(commands(video, folder, options.weights)[command], spins, folder / "run")
                        )
                for other in others:
                    other.kill()
                medians = " | ".join(f"{statistics.median(times):.1f}" for times in found.values())
                print(f"| {command} | {count} | {medians} |", flush=True)


if __name__ == "__main__":
    main()
