"""``quovadis demo``: try the pretrained network on new classes and on your video."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from quovadis.cli._demo import Demo, make_videos, print_step, run_facts
from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from torch import Tensor

    from quovadis.datasets.manifest import Manifest, VideoRecord
    from quovadis.inference.recognizer import Recognizer
    from quovadis.runtime.console import Console
    from quovadis.training.frozen_classifier import FrozenRun

_PROTOCOL = "center-16"
_WINDOW_SECONDS, _STRIDE_SECONDS = 0.64, 0.32  # 16 frames, as in training of the classifier
_REEL_PX = 96


def main(args: list[str]) -> None:
    """Run the command."""
    from quovadis.cli._arguments import reorder_arguments

    args = reorder_arguments(Demo, args)
    options = tyro.cli(Demo, args=args, prog="quovadis demo", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.cli.demo_scratch import run_from_scratch
    from quovadis.errors import DownloadError
    from quovadis.video.read import probe

    if options.video is not None:
        probe(options.video)  # report a wrong path before the download
    if options.from_scratch:
        run_from_scratch(options)
        return
    try:
        run_pretrained(options)
    except DownloadError as error:
        print(f"The pretrained network cannot be downloaded: {error}")
        print("Training a small network from scratch instead (about eight minutes).\n")
        run_from_scratch(options)


def run_pretrained(options: Demo) -> None:
    """Recognize the given video, train on frozen features, evaluate, and write the HTML page.

    Raises:
        DownloadError: If the network cannot be downloaded.
    """
    from quovadis.datasets.motions import MotionsConfig
    from quovadis.inference.recognizer import Recognizer
    from quovadis.report.evaluation import write_evaluation_page, write_results
    from quovadis.report.terminal import evaluation_table, prediction_table
    from quovadis.runtime.console import Console
    from quovadis.weights.catalog import DEFAULT_WEIGHTS

    started = time.perf_counter()
    console, errors = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
    weights = options.weights or DEFAULT_WEIGHTS
    print_step(console, "1. Network", f": {weights}")
    pretrained = Recognizer.load(weights)
    sections = []
    if options.video is not None:
        print_step(console, "   Your video", f", with {len(pretrained.labels)} classes")
        sections.append(
            _recognize(pretrained, options.video, f"Your video: {options.video.name}", options.out, console)
        )
    print_step(console, "2. Videos", ": 5 objects x 5 motions; a single frame shows the object but not the motion")
    config = MotionsConfig(
        train_per_class=options.train_per_class or 8,
        val_per_class=2,
        test_per_class=options.test_per_class or 4,
        seed=options.seed,
    )
    data = make_videos(config, errors, options.out)
    console.print(f"   {data.describe()}, in {data.root}")
    print_step(console, "3. Classifier", " for the 25 new classes: logistic regression on features of the network")
    run = _train_classifier(weights, data, options.out / "frozen", errors)
    print_step(console, "4. Evaluation", " on the test split")
    console.print(evaluation_table([run.result]))
    console.print(f"   chance is {1 / len(data.labels):.1%}; a model of single frames can reach at most 20 %")
    recognizer = Recognizer.load(run.folder)
    held_out = data.split("test")[0]
    print_step(console, "5. A video", f" from the test split (class: {data.labels[held_out.label]})")
    prediction = recognizer.predict(held_out.path, window_seconds=_WINDOW_SECONDS, stride_seconds=_STRIDE_SECONDS)
    console.print(prediction_table(prediction, 3))
    reel, classes = _write_reel(data, options.out / "reel.mp4")
    windows = (_WINDOW_SECONDS, _STRIDE_SECONDS)
    title = f"Concatenated test videos: {', '.join(classes)}"
    sections.append(_recognize(recognizer, reel, title, options.out, None, *windows))
    seconds = time.perf_counter() - started
    write_results(options.out / "evaluation.json", [run.result])
    page = write_evaluation_page(
        options.out / "report.html",
        [run.result],
        data,
        recognizer,
        title="quovadis demo",
        summary=(
            f"A classifier trained on features of {weights}: {len(data.split('train'))} videos of moving objects, "
            f"one clip of 16 frames each. Evaluated on {run.result.num_videos} test videos."
        ),
        sections=sections,
        facts={
            "command": "quovadis demo" + (f" {options.video}" if options.video else ""),
            "network": f"{pretrained.describe()}, {weights}",
            "classifier": f"L2-regularized logistic regression, l2 = {run.l2:g} selected on the validation split",
            **run_facts(data, seconds),
        },
    )
    print_step(console, "6. Page", f": {page}  ({seconds:.0f} s in total)")
    print(
        "\nNext:\n"
        "  quovadis predict YOUR_VIDEO\n"
        "  quovadis timeline YOUR_VIDEO --out timeline/\n"
        "  quovadis explain YOUR_VIDEO --out explain/"
    )


def _train_classifier(weights: str, data: Manifest, out: Path, errors: Console) -> FrozenRun:
    from quovadis.runtime.progress import TrainingProgress
    from quovadis.training.frozen_classifier import train_frozen

    with TrainingProgress(errors) as progress:
        return train_frozen(weights, data, out, protocol=_PROTOCOL, progress=progress.count)


def _recognize(
    recognizer: Recognizer,
    video: Path,
    title: str,
    out: Path,
    console: Console | None,
    window_seconds: float | None = None,
    stride_seconds: float | None = None,
) -> str:
    """Write timeline and activation maps of a video, print the prediction, and return a section of the HTML page."""
    from quovadis.inference.timeline import make_timeline
    from quovadis.report.explain import write_explanation
    from quovadis.report.page import recognition_section
    from quovadis.report.terminal import prediction_table
    from quovadis.report.timeline import write_timeline

    timeline = make_timeline(recognizer, video, window_seconds=window_seconds, stride_seconds=stride_seconds)
    explanation = recognizer.explain(video, window_seconds=window_seconds)
    if console is not None:
        console.print(prediction_table(explanation.prediction))
    images = {
        "Timeline": write_timeline(timeline, out)[2].read_bytes(),
        f"Evidence for {explanation.labels[0]}": write_explanation(explanation, out)[1].read_bytes(),
    }
    return recognition_section(title, explanation.prediction, images)


def _write_reel(data: Manifest, path: Path) -> tuple[Path, list[str]]:
    """Concatenate test videos with different objects and motions, at one size; return the file and their classes."""
    from quovadis import transforms
    from quovadis.video.read import read_clip
    from quovadis.video.resize import resize_frames
    from quovadis.video.writer import write_video

    chosen: dict[tuple[str, str], VideoRecord] = {}
    for record in data.split("test"):
        shape, motion = data.labels[record.label].split()
        if shape not in {s for s, _ in chosen} and motion not in {m for _, m in chosen}:
            chosen[shape, motion] = record

    def frames() -> Iterator[Tensor]:
        for record in chosen.values():
            clip = read_clip(record.path)
            clip_frames = resize_frames(clip.frames, _REEL_PX)
            yield from transforms.center_crop(replace(clip, frames=clip_frames), _REEL_PX).frames

    return write_video(path, frames(), fps=25), [" ".join(name) for name in chosen]
