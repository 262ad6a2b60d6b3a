"""Options and steps shared by both demos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from quovadis.runtime.threads import num_cores

if TYPE_CHECKING:
    from quovadis.datasets.manifest import Manifest
    from quovadis.datasets.motions import MotionsConfig
    from quovadis.runtime.console import Console


@dataclass(frozen=True)
class Demo:
    """Recognize actions with the pretrained network, and train a classifier for new classes on its features.

    Downloads the default network, generates the small dataset "motions", trains a classifier on frozen features,
    evaluates it, and writes an HTML page with a timeline and activation maps. Run the command again to continue. If the
    network cannot be downloaded, a small one is trained from scratch.
    """

    video: tyro.conf.Positional[Path | None] = None
    """A video to recognize with the 400 classes of Kinetics."""
    out: Path = Path("runs/demo")
    """Folder for videos, runs and the HTML page."""
    from_scratch: bool = False
    """Train a small two-stream network from random weights instead (about eight minutes, no download)."""
    max_steps: int = 300
    """Training steps of each stream, for --from-scratch."""
    train_per_class: int | None = None
    """Training videos per class. Default: 8, or 16 with --from-scratch."""
    test_per_class: int | None = None
    """Test videos per class. Default: 4, or 6 with --from-scratch."""
    weights: str | None = None
    """Pretrained network: a published name, a weights file or a run folder. Default: the official RGB network."""
    seed: int = 0
    """Seed of the videos and of training."""


def run_facts(data: Manifest, seconds: float) -> dict[str, str]:
    """Describe data, machine and duration of a demo for the HTML page."""
    from quovadis.training.run_folder import environment

    versions = environment()
    return {
        "data": f"{data.describe()}, fingerprint {data.fingerprint}",
        "machine": f"{versions['platform']}, {num_cores()} cores, torch {versions['torch']}",
        "time": f"{seconds:.0f} seconds in total",
    }


def print_step(console: Console, name: str, description: str) -> None:
    """Print the heading of a step, with a bold name."""
    from rich.text import Text

    console.print(Text.assemble((name, "bold"), description))


def make_videos(config: MotionsConfig, errors: Console, out: Path) -> Manifest:
    """Generate the dataset "motions", or load it if it is complete."""
    from quovadis.datasets.motions import load_motions
    from quovadis.runtime.progress import progress_bar

    with progress_bar(errors) as bar:
        task = bar.add_task("writing videos", total=config.total)
        return load_motions(
            config,
            root=out / "motions",
            num_workers=num_cores(),
            progress=lambda done: bar.update(task, completed=done),
        )
