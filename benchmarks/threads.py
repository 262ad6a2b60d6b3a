"""How much does the wait policy of OpenMP threads cost at rest, and save next to other work?

    python -m benchmarks.threads [--video FILE] [--weights NAME] [--rounds 3] [--commands predict extract ...]

Runs whole commands as new processes, with the default of libgomp (threads spin), with that of quovadis and with no
spinning, next to 0, 1, 2 and 4 processes that keep a core busy. The settings take turns. Reports median wall-clock
seconds; for ``serve``, of one request for the actions of the video (extra ``web``), and for ``test``, of the fast tests
of ``tests/models``. To measure two cores of a larger machine, start it with ``taskset -c 0,1``.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.end_to_end import make_video
from benchmarks.machine import describe_machine
from quovadis.runtime.threads import SPIN_COUNT
from quovadis.weights.catalog import DEFAULT_WEIGHTS

PORT = 7893
SETTINGS = {"libgomp": "300000", "quovadis": str(SPIN_COUNT), "none": "0"}


def keep_busy() -> None:
    while True:
        pass


def commands(video: Path, folder: Path, weights: str) -> dict[str, list[str]]:
    data, program = ["--data", "motions"], ["-m", "quovadis"]
    features, evaluation = ["--out", str(folder / "features"), "--overwrite"], ["--out", str(folder / "evaluation")]
    steps = ["--max-steps", "20", "--validate-every", "20"]
    return {
        "predict": [*program, "predict", str(video), "--weights", weights],
        "extract": [*program, "extract", str(video), "--weights", weights, *features],
        "train": [*program, "train", "tiny", *data, *steps, "--out", str(folder / "run")],
        "evaluate": [*program, "evaluate", *data, "--weights", str(folder / "trained"), *evaluation],
        "serve": [*program, "serve", "--weights", weights, "--port", str(PORT)],
        "test": ["-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not slow", "tests/models"],
    }


def environment(spins: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("OMP_")} | {"GOMP_SPINCOUNT": spins}


def command_seconds(command: list[str], spins: str) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], env=environment(spins), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return time.perf_counter() - started


def request_seconds(command: list[str], spins: str, video: Path) -> float:
    """Start the server and measure one request."""
    from gradio_client import Client, handle_file

    server = subprocess.Popen([sys.executable, *command], env=environment(spins), stdout=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{PORT}/health", server)
        client = Client(f"http://127.0.0.1:{PORT}", verbose=False)
        started = time.perf_counter()
        client.predict(handle_file(str(video)), "", api_name="/recognize")
        return time.perf_counter() - started
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            urllib.request.urlopen(url).close()
            return
        except urllib.error.URLError:
            time.sleep(0.1)
    raise SystemExit(f"the server ended with code {server.returncode}")


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
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        video = options.video or make_video(folder / "video.mp4", 256, 10.0)
        if "evaluate" in options.commands:
            train = commands(video, folder, options.weights)["train"]
            command_seconds([*train[:-1], str(folder / "trained")], SETTINGS["none"])
        for name in options.commands:
            command = commands(video, folder, options.weights)[name]
            for count in options.competitors:
                found: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
                others = [multiprocessing.Process(target=keep_busy, daemon=True) for _ in range(count)]
                for other in others:
                    other.start()
                for _ in range(options.rounds):
                    for setting, spins in SETTINGS.items():
                        shutil.rmtree(folder / "run", ignore_errors=True)
                        found[setting].append(
                            request_seconds(command, spins, video)
                            if name == "serve"
                            else command_seconds(command, spins)
                        )
                for other in others:
                    other.kill()
                medians = " | ".join(f"{statistics.median(times):.1f}" for times in found.values())
                print(f"| {name} | {count} | {medians} |", flush=True)


if __name__ == "__main__":
    main()
