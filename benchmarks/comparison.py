"""The paper's comparison at a size for this machine: ``python -m benchmarks.comparison --out runs/comparison``.

All five networks in their tiny variants, on RGB, flow and both:

- on ``motions-source`` (the place of Kinetics) from random weights, and inflated from a 2D network that was trained on
  single frames of it (the place of ImageNet);
- on ``motions-target``, other things that move otherwise, and on any labeled videos given with ``--real``: alone
  (Original), a new classifier on frozen features (Fixed), and all of the network from the source's weights (Full-FT).

``--real`` is split by group into ``--splits`` splits, and the mean and the standard deviation over them are given.
Every run is kept in ``--out`` and done once, so the script goes on where it was stopped, and two may work at the same
time on other ``--networks``. At the end, ``results.json``, ``results.md`` and ``curves.png`` are written of all that is
done; with ``--networks`` and no name, nothing else happens.
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
from quovadis.datasets.prepare import PrepareSettings, prepare
from quovadis.evaluation.dump import LogitDump, join_dumps, read_dump, score_dump
from quovadis.models.zoo import build_model
from quovadis.training.classifier import ClassifierRecipe
from quovadis.training.experiment import SCORES, Experiment, Setting, run_experiment
from quovadis.training.loop import NullProgress, train
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
PICTURES = "pictures"


@dataclass(frozen=True)
class Plan:
    """What is trained how."""

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


class Teller(NullProgress):
    """One line a validation."""

    def validation(self, row: dict[str, Any]) -> None:
        self.note(f"  {row}")

    def note(self, message: str) -> None:
        print(time.strftime("%H:%M:%S"), message, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Study:
    """All experiments, by what they are called in the tables."""

    out: Path
    plan: Plan
    source: Manifest
    target: Manifest
    real: tuple[Manifest, ...]

    @property
    def pictures(self) -> Path:
        return self.out / PICTURES

    def on_source(self, network: str, stream: str, init: str) -> Experiment:
        weights = str(self.pictures) if init == "inflated" else None
        recipe = replace(self.plan.source, model=self.model(network, stream, weights))
        return Experiment("original", recipe, self.source)

    def on_small(self, network: str, stream: str, setting: Setting, data: Manifest) -> Experiment | None:
        """None while the run on the source that it starts from is not done."""
        init = "inflated" if network in INFLATABLE else "random"
        weights = str(self.pictures) if init == "inflated" and setting == "original" else None
        recipe = replace(
            self.plan.target if data is self.target else self.plan.real, model=self.model(network, stream, weights)
        )
        source = self.out / self.on_source(network, stream, init).folder_name
        if setting == "original":
            return Experiment(setting, recipe, data)
        if not (source / SCORES).is_file():
            return None
        fixed = self.plan.fixed if setting == "fixed" else None
        return Experiment(setting, recipe, data, classifier=fixed, source=source)

    def model(self, network: str, stream: str, weights: str | None) -> ModelConfig:
        return replace(self.plan.source.model, name=f"{network}_tiny", stream=stream, weights=weights)  # type: ignore[arg-type]

    def transferred(self, network: str) -> tuple[str, ...]:
        """What is transferred: all streams together, as in Table 4."""
        return STREAMS[network] if network == "i3d" else STREAMS[network][-1:]

    def work(self, networks: Sequence[str]) -> Iterator[Experiment]:
        """In an order in which tables fill evenly."""
        for init in ("inflated", "random"):
            for network in networks:
                if init == "random" or network in INFLATABLE:
                    yield from (self.on_source(network, stream, init) for stream in STREAMS[network])
        for data in (self.target, *self.real):
            for network in networks:
                for stream in self.transferred(network):
                    for setting in SETTINGS:
                        experiment = self.on_small(network, stream, setting, data)
                        assert experiment is not None
                        yield experiment

    def scores(self, experiment: Experiment | None) -> LogitDump | None:
        if experiment is None or not (self.out / experiment.folder_name / SCORES).is_file():
            return None
        return read_dump(self.out / experiment.folder_name / SCORES)

    def seconds(self) -> float:
        """That all training steps took."""
        logs = [RunFolder(folder).log for folder in self.out.iterdir() if (folder / "log.jsonl").is_file()]
        return sum(row.get("seconds", 0.0) for log in logs for row in read_log(log))


def load_study(options: argparse.Namespace) -> Study:
    def stored(name: str, source: str) -> Manifest:
        folder = options.out / "data" / name
        if not (folder / "manifest.parquet").is_file():
            print(f"preparing {source}", file=sys.stderr, flush=True)
            settings = PrepareSettings(short_side_px=SHORT_SIDE_PX, flow_method=FLOW)
            prepare(load_dataset(source), folder, settings, num_workers=torch.get_num_threads())
        return load_dataset(folder / "manifest.parquet")

    real: tuple[Manifest, ...] = ()
    if options.real:
        whole = stored("real", str(options.real))
        table = whole.root / "splits.tsv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(("path", "label", "group"))
            writer.writerows((whole.relative(r), whole.labels[r.label], r.group) for r in whole.records)
        real = tuple(
            replace(load_dataset(table, split_seed=seed), name=f"{options.real.parent.name}-{seed}")
            for seed in range(options.splits)
        )
    source, target = (stored(name, name) for name in ("motions-source", "motions-target"))
    return Study(options.out, make_plan(options), source, target, real)


def top1(study: Study, experiments: Sequence[Experiment | None]) -> float | None:
    """Percent, of the logits of all of them added; None where one is not done."""
    dumps = [dump for e in experiments if (dump := study.scores(e)) is not None]
    return None if len(dumps) < len(experiments) else 100 * score_dump(join_dumps(dumps))[-1].top1


def source_table(study: Study) -> list[dict[str, Any]]:
    rows = []
    for network, streams in STREAMS.items():
        shown = (*streams, "rgb+flow") if network == "i3d" else streams
        for init in ("random", "inflated") if network in INFLATABLE else ("random",):
            parts = {s: s.split("+") if network == "i3d" else [s] for s in shown}
            figures = {s: top1(study, [study.on_source(network, p, init) for p in parts[s]]) for s in shown}
            rows.append({"network": network, "first weights": init, **figures})
    return rows


def small_table(study: Study, splits: Sequence[Manifest]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for network in STREAMS:
        streams = study.transferred(network)
        together = [(stream,) for stream in streams] + ([streams] if len(streams) > 1 else [])
        for seen in together:
            row: dict[str, Any] = {"network": network, "stream": "+".join(seen)}
            for setting in SETTINGS:
                found = [top1(study, [study.on_small(network, s, setting, data) for s in seen]) for data in splits]
                row[setting] = [figure for figure in found if figure is not None]
            rows.append(row)
    return rows


def majority(data: Manifest) -> float:
    """Percent that are right where always the most frequent class of the test is said."""
    labels = [r.label for r in data.split("test")]
    return 100 * max(labels.count(label) for label in labels) / len(labels)


def words(figures: float | list[float] | None) -> str:
    if figures is None or figures == []:
        return ""
    if isinstance(figures, float):
        return f"{figures:.1f}"
    spread = f" ± {statistics.stdev(figures):.1f}" if len(figures) > 1 else ""
    return f"{statistics.mean(figures):.1f}{spread}"


def markdown(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    lines = [f"| {' | '.join(columns)} |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in rows:
        cells = [row.get(c) for c in columns]
        lines.append("| " + " | ".join(c if isinstance(c, str) else words(c) for c in cells) + " |")
    return "\n".join(lines)


def draw_curves(study: Study, path: Path) -> None:
    """Validation accuracy over steps: first weights on the source, and settings on the target."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(15, 5.6), sharey="row", layout="constrained")
    for column, network in enumerate(STREAMS):
        top, bottom = axes[0][column], axes[1][column]
        for stream, color in zip(STREAMS[network], ("tab:blue", "tab:orange", "tab:green"), strict=False):
            for init, style in (("random", "--"), ("inflated", "-")):
                if init == "random" or network in INFLATABLE:
                    _curve(top, study, study.on_source(network, stream, init), f"{stream}, {init}", color, style)
        for stream, color in zip(study.transferred(network), ("tab:blue", "tab:orange"), strict=False):
            for setting, style in (("original", "--"), ("full-ft", "-")):
                experiment = study.on_small(network, stream, setting, study.target)  # type: ignore[arg-type]
                _curve(bottom, study, experiment, f"{stream}, {setting}", color, style)
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
    hours = study.seconds() / 3600
    source, target, real = source_table(study), small_table(study, [study.target]), small_table(study, study.real)
    parts = [
        f"{describe_machine()}. {hours:.1f} hours of training steps in all. Top-1 in percent on the test videos.",
        f"### On the source: {study.source.describe()}, fingerprint {study.source.fingerprint}",
        markdown(source, ("network", "first weights", "rgb", "flow", "rgb+flow")),
        f"### To the target: {study.target.describe()}, fingerprint {study.target.fingerprint}",
        markdown(target, ("network", "stream", *SETTINGS)),
    ]
    if study.real:
        always = [majority(data) for data in study.real]
        parts += [
            f"### To real videos: {', '.join(f'{d.describe()}, fingerprint {d.fingerprint}' for d in study.real)}",
            markdown(real, ("network", "stream", *SETTINGS)),
            f"Mean and standard deviation over {len(study.real)} splits. Always the commonest class: {words(always)}.",
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
    parser.add_argument("--real", type=Path, help="a table of labeled videos, with groups")
    parser.add_argument("--splits", type=int, default=3, help="of --real")
    parser.add_argument("--source-steps", type=int, default=200)
    parser.add_argument("--target-steps", type=int, default=100)
    parser.add_argument("--real-steps", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=0.03)
    parser.add_argument("--num-workers", type=int, default=1, help="processes that decode")
    options = parser.parse_args()
    study, teller = load_study(options), Teller()
    if not (study.pictures / "best.safetensors").is_file() or options.networks:
        recipe = replace(study.plan.source, model=study.model("two_stream", "rgb", None))
        train(recipe, study.source, study.pictures, progress=teller)
    for experiment in study.work(options.networks):
        run_experiment(experiment, study.out, progress=teller)
    write_report(study)


if __name__ == "__main__":
    main()
