"""Check an installed quovadis without extras and without its sources; run by ``make smoke``."""

import contextlib
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import torch

import quovadis
from quovadis.datasets.kinetics.class_names import class_labels
from quovadis.errors import MissingExtraError
from quovadis.export.export import export_model
from quovadis.video.writer import write_video


def quovadis_command(*arguments: object) -> str:
    """Run a command and return its output."""
    return subprocess.check_output([sys.executable, "-m", "quovadis", *map(str, arguments)], text=True)


def check(place: Path) -> None:
    """Raise unless everything works."""
    metadata = distribution("quovadis").metadata
    assert metadata["Version"] == quovadis.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert len(class_labels("kinetics400")) == 400  # a data file of the package
    assert '"healthy": true' in quovadis_command("doctor", "--json")
    for label in ("left", "right"):
        for number in range(4):
            frames = torch.randint(0, 256, (20, 3, 48, 48), dtype=torch.uint8)
            write_video(place / "clips" / label / f"{number}.mp4", frames)
    run = place / "run"
    steps = ("--max-steps", 2, "--validate-every", 2, "--data.batch-size", 4)
    quovadis_command("train", "tiny", "--data", place / "clips", "--out", run, *steps)
    assert "left" in quovadis_command("predict", place / "clips" / "left" / "0.mp4", "--weights", run)
    assert "top-1" in quovadis_command("evaluate", "--data", place / "clips", "--weights", run)
    assert quovadis.estimate_flow(quovadis.read_clip(place / "clips" / "left" / "0.mp4").frames[:2]).shape[0] == 1
    model = quovadis.load_model(run)
    assert export_model(model, place / "tiny.pt", format="torch-export").check is not None
    with contextlib.suppress(MissingExtraError):  # the extra may not be installed
        export_model(model, place / "tiny.onnx")


if __name__ == "__main__":
    assert "src" not in Path(quovadis.__file__).parts, quovadis.__file__
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder))
    print(f"quovadis {quovadis.__version__} works: {Path(quovadis.__file__).parent}")
