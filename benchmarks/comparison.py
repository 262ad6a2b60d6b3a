"""How do the five architectures of the paper compare at small scale?

    python -m benchmarks.comparison --out runs/comparison [--real TABLE]

Trains the tiny variants of all five networks on RGB, flow and both:

- on the generated dataset ``motions-source`` (instead of Kinetics): from random weights, and inflated from a 2D network
  that was trained on single frames of the dataset (instead of ImageNet)
- on the generated dataset ``motions-target`` and on the labeled videos of ``--real``: from scratch (Original), with a
  new classifier on frozen features (Fixed), and end to end from the weights of the source (Full-FT)

``--real`` is split by group into ``--splits`` splits; the mean and standard deviation over the splits are reported.
Finished runs in ``--out`` are not repeated, so an interrupted benchmark can be continued, and several processes can run
with different ``--networks``. At the end, ``results.json``, ``results.md`` and ``curves.png`` are written for all
finished runs. ``--networks`` without a name only writes these files.
"""

import argparse
import csv
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import torch

from benchmarks.machine import describe_machine
from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest
from quovadis.datasets.preparation import PrepareSettings, prepare
from quovadis.evaluation.dump import LogitDump, join_dumps, read_dump, score_dump
from quovadis.models.zoo import build_model
from quovadis.training.classifier import ClassifierRecipe
from quovadis.training.experiment import SCORES, Experiment, Setting, run_experiment
from quovadis.training.loop import train
from quovadis.training.progress import NullProgress
from quovadis.training.recipes import DataConfig, ModelConfig, Recipe, tiny
from quovadis.training.run_folder import RunFolder, read_log

STREAMS: dict[str, tuple[str, ...]] = {
    "convnet_lstm": ("rgb",),
    "conv3d": ("rgb",),
    "two_stream": ("rgb", "flow", "rgb+flow"),
    "fused_two_stream": ("rgb", "flow", "rgb+flow"),
    "i3d": ("rgb", "flow"),
}
INFLATABLE = tuple(name for name in STREAMS if name != "conv3d")
SETTINGS: tuple[Setting, ...] = ("original", "fixed", "full-ft")
SHORT_SIDE_PX = 72
FLOW = "tvl1-fast"
IMAGE_MODEL = "image_model"


@dataclass(frozen=True)
class Plan:
    """Recipes of all runs."""

    source: Recipe
    target: Recipe
    real: Recipe
    fixed: ClassifierRecipe


def make_plan(options: argparse.Namespace) -> Plan:
    base = replace(tiny(), data=DataConfig(batch_size=16, num_workers=options.num_workers, flow_method=FLOW))  # type: ignore[arg-type]
    base = replace(base, optimizer=replace(base.optimizer, learning_rate=options.learning_rate))

    def steps(count: int) -> Recipe:
        return replace(base, max_steps=count, validate_every=max(count // 4, 1))

    fixed = ClassifierRecipe(max_steps=500, dropout=0.0)
    return Plan(steps(options.source_steps), steps(options.target_steps), steps(options.real_steps), fixed)


class PrintProgress(NullProgress):
    """Print one line per validation."""

    def validation(self, row: dict[str, Any]) -> None:
        self.note(f"  {row}")

    def note(self, message: str) -> None:
        print(time.strftime("%H:%M:%S"), message, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Study:
    """All experiments of the benchmark."""

    out: Path
    plan: Plan
    source: Manifest
    target: Manifest
    real: tuple[Manifest, ...]

    @property
    def image_model(self) -> Path:
        return self.out / IMAGE_MODEL

    def source_experiment(self, network: str, stream: str, init: str) -> Experiment:
        weights = str(self.image_model) if init == "inflated" else None
        recipe = replace(self.plan.source, model=self.model(network, stream, weights))
        return Experiment("original", recipe, self.source)

    def transfer_experiment(self, network: str, stream: str, setting: Setting, data: Manifest) -> Experiment | None:
        """Return an experiment on a small dataset, or None if its source run is not finished."""
        init = "inflated" if network in INFLATABLE else "random"
        weights = str(self.image_model) if init == "inflated" and setting == "original" else None
        recipe = replace(
            self.plan.target if data is self.target else self.plan.real, model=self.model(network, stream, weights)
        )
        source = self.out / self.source_experiment(network, stream, init).folder_name
        if setting == "original":
            return Experiment(setting, recipe, data)
        if not (source / SCORES).is_file():
            return None
        fixed = self.plan.fixed if setting == "fixed" else None
        return Experiment(setting, recipe, data, classifier=fixed, source=source)

    def model(self, network: str, stream: str, weights: str | None) -> ModelConfig:
        return replace(self.plan.source.model, name=f"{network}_tiny", stream=stream, weights=weights)  # type: ignore[arg-type]

    def transferred(self, network: str) -> tuple[str, ...]:
        """Return the streams that are transferred, as in Table 4."""
        return STREAMS[network] if network == "i3d" else STREAMS[network][-1:]

    def experiments(self, networks: Sequence[str]) -> Iterator[Experiment]:
        """Yield all experiments in an order in which the tables fill evenly."""
        for init in ("inflated", "random"):
            for network in networks:
                if init == "random" or network in INFLATABLE:
                    yield from (self.source_experiment(network, stream, init) for stream in STREAMS[network])
        for data in (self.target, *self.real):
            for network in networks:
                for stream in self.transferred(network):
                    for setting in SETTINGS:
                        experiment = self.transfer_experiment(network, stream, setting, data)
                        assert experiment is not None
                        yield experiment

    def scores(self, experiment: Experiment | None) -> LogitDump | None:
        if experiment is None or not (self.out / experiment.folder_name / SCORES).is_file():
            return None
        return read_dump(self.out / experiment.folder_name / SCORES)

    def training_seconds(self) -> float:
        """Return the total time of all training steps."""
        logs = [RunFolder(folder).log for folder in self.out.iterdir() if (folder / "log.jsonl").is_file()]
        return sum(row.get("seconds", 0.0) for log in logs for row in read_log(log))


def load_study(options: argparse.Namespace) -> Study:
    def prepared(name: str, source: str) -> Manifest:
        folder = options.out / "data" / name
        if not (folder / "manifest.parquet").is_file():
            print(f"preparing {source}", file=sys.stderr, flush=True)
            settings = PrepareSettings(short_side_px=SHORT_SIDE_PX, flow_method=FLOW)
            prepare(load_dataset(source), folder, settings, num_workers=torch.get_num_threads())
        return load_dataset(folder / "manifest.parquet")

    real: tuple[Manifest, ...] = ()
    if options.real:
        whole = prepared("real", str(options.real))
        table = whole.root / "splits.tsv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(("path", "label", "group"))
            writer.writerows((whole.relative(r), whole.labels[r.label], r.group) for r in whole.records)
        real = tuple(
            replace(load_dataset(table, split_seed=seed), name=f"{options.real.parent.name}-{seed}")
            for seed in range(options.splits)
        )
    source, target = (prepared(name, name) for name in ("motions-source", "motions-target"))
    return Study(options.out, make_plan(options), source, target, real)


def top1(study: Study, experiments: Sequence[Experiment | None]) -> float | None:
    """Return the top-1 accuracy in percent of the summed logits, or None if an experiment is not finished."""
    dumps = [dump for e in experiments if (dump := study.scores(e)) is not None]
    return None if len(dumps) < len(experiments) else 100 * score_dump(join_dumps(dumps))[-1].top1


def source_table(study: Study) -> list[dict[str, Any]]:
    rows = []
    for network, streams in STREAMS.items():
        shown = (*streams, "rgb+flow") if network == "i3d" else streams
        for init in ("random", "inflated") if network in INFLATABLE else ("random",):
            parts = {s: s.split("+") if network == "i3d" else [s] for s in shown}
            accuracies = {s: top1(study, [study.source_experiment(network, p, init) for p in parts[s]]) for s in shown}
            rows.append({"network": network, "initial weights": init, **accuracies})
    return rows


def small_table(study: Study, splits: Sequence[Manifest]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for network in STREAMS:
        streams = study.transferred(network)
        together = [(stream,) for stream in streams] + ([streams] if len(streams) > 1 else [])
        for fused in together:
            row: dict[str, Any] = {"network": network, "stream": "+".join(fused)}
            for setting in SETTINGS:
                found = [
                    top1(study, [study.transfer_experiment(network, s, setting, data) for s in fused])
                    for data in splits
                ]
                row[setting] = [accuracy for accuracy in found if accuracy is not None]
            rows.append(row)
    return rows


def majority(data: Manifest) -> float:
    """Return the accuracy in percent of always predicting the most frequent test class."""
    labels = [r.label for r in data.split("test")]
    return 100 * max(labels.count(label) for label in labels) / len(labels)


def format_accuracy(accuracy: float | list[float] | None) -> str:
    if accuracy is None or accuracy == []:
        return ""
    if isinstance(accuracy, float):
        return f"{accuracy:.1f}"
    std = f" ± {statistics.stdev(accuracy):.1f}" if len(accuracy) > 1 else ""
    return f"{statistics.mean(accuracy):.1f}{std}"


def markdown(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    lines = [f"| {' | '.join(columns)} |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in rows:
        cells = [row.get(c) for c in columns]
        lines.append("| " + " | ".join(c if isinstance(c, str) else format_accuracy(c) for c in cells) + " |")
    return "\n".join(lines)


def draw_curves(study: Study, path: Path) -> None:
    """Plot validation accuracy over steps: initial weights on the source, settings on the target."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(15, 5.6), sharey="row", layout="constrained")
    for column, network in enumerate(STREAMS):
        top, bottom = axes[0][column], axes[1][column]
        for stream, color in zip(STREAMS[network], ("tab:blue", "tab:orange", "tab:green"), strict=False):
            for init, style in (("random", "--"), ("inflated", "-")):
                if init == "random" or network in INFLATABLE:
                    _curve(
                        top, study, study.source_experiment(network, stream, init), f"{stream}, {init}", color, style
                    )
        for stream, color in zip(study.transferred(network), ("tab:blue", "tab:orange"), strict=False):
            for setting, style in (("original", "--"), ("full-ft", "-")):
                transfer = study.transfer_experiment(network, stream, setting, study.target)  # type: ignore[arg-type]
                _curve(bottom, study, transfer, f"{stream}, {setting}", color, style)
        top.set_title(f"{network}_tiny")
        for axis in (top, bottom):
            axis.set_ylim(0, 1)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7)
        bottom.set_xlabel("steps of 16 clips")
    axes[0][0].set_ylabel("validation accuracy, source")
    axes[1][0].set_ylabel("validation accuracy, target")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _curve(axis: Any, study: Study, experiment: Experiment | None, label: str, color: str, style: str) -> None:
    if study.scores(experiment) is None or experiment is None:
        return
    rows = [r for r in read_log(RunFolder(study.out / experiment.folder_name).log) if "val_accuracy" in r]
    axis.plot([r["step"] for r in rows], [r["val_accuracy"] for r in rows], style, color=color, label=label, marker=".")


def write_report(study: Study) -> None:
    hours = study.training_seconds() / 3600
    source, target, real = source_table(study), small_table(study, [study.target]), small_table(study, study.real)
    parts = [
        f"{describe_machine()}. {hours:.1f} hours of training steps in total. Top-1 on the test videos in percent.",
        f"### Source: {study.source.describe()}, fingerprint {study.source.fingerprint}",
        markdown(source, ("network", "initial weights", "rgb", "flow", "rgb+flow")),
        f"### Target: {study.target.describe()}, fingerprint {study.target.fingerprint}",
        markdown(target, ("network", "stream", *SETTINGS)),
    ]
    if study.real:
        baseline = [majority(data) for data in study.real]
        parts += [
            f"### Real videos: {', '.join(f'{d.describe()}, fingerprint {d.fingerprint}' for d in study.real)}",
            markdown(real, ("network", "stream", *SETTINGS)),
            f"Mean and std over {len(study.real)} splits. Most frequent class: {format_accuracy(baseline)}.",
        ]
    (study.out / "results.md").write_text("\n\n".join(parts) + "\n")
    content = {
        "machine": describe_machine(),
        "hours": hours,
        "source": source,
        "target": target,
        "real": real,
        "recipes": {name: getattr(study.plan, name).to_dict() for name in ("source", "target", "real", "fixed")},
        "protocols": {n: build_model(f"{n}_tiny").spec.protocol for n in STREAMS},
    }
    (study.out / "results.json").write_text(json.dumps(content, indent=2) + "\n")
    draw_curves(study, study.out / "curves.png")
    print((study.out / "results.md").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", nargs="*", choices=list(STREAMS), default=list(STREAMS))
    parser.add_argument("--real", type=Path, help="table of labeled videos with groups")
    parser.add_argument("--splits", type=int, default=3, help="number of splits of --real")
    parser.add_argument("--source-steps", type=int, default=200)
    parser.add_argument("--target-steps", type=int, default=100)
    parser.add_argument("--real-steps", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=0.03)
    parser.add_argument("--num-workers", type=int, default=1, help="number of decoding processes")
    options = parser.parse_args()
    study, progress = load_study(options), PrintProgress()
    if not (study.image_model / "best.safetensors").is_file() or options.networks:
        recipe = replace(study.plan.source, model=study.model("two_stream", "rgb", None))
        train(recipe, study.source, study.image_model, progress=progress)
    for experiment in study.experiments(options.networks):
        run_experiment(experiment, study.out, progress=progress)
    write_report(study)


if __name__ == "__main__":
    main()
