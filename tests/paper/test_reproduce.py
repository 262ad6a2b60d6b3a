"""Reproduction of the paper's tables: the plan, and a small reproduction that is interrupted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quovadis.cli import main
from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import DatasetError, TrainingError, UnknownNameError
from quovadis.evaluation.dump import read_dump
from quovadis.paper import reproduction as reproduction
from quovadis.paper.inputs import ReproduceRecipes, TrainingInputs
from quovadis.paper.plan import Cell, Run, plan_table, table_1
from quovadis.paper.published import ARCHITECTURES, paper_table
from quovadis.paper.reproduction import reproduce
from quovadis.paper.tables import result_grid
from quovadis.training import experiment as experiments
from quovadis.training.classifier import ClassifierRecipe
from quovadis.training.progress import NullProgress
from quovadis.training.recipes import DataConfig, ModelConfig, OptimizerConfig, Recipe
from quovadis.training.run_folder import RunFolder
from tests.synthetic import write_square
from tests.training.test_architectures import quick_flow

__all__ = ["quick_flow"]  # a fixture

QUICK = Recipe(
    name="quick",
    max_steps=1,
    validate_every=1,
    model=ModelConfig(name="i3d_tiny", batch_norm_momentum=0.5),
    optimizer=OptimizerConfig(learning_rate=0.01),
    data=DataConfig(batch_size=2, num_workers=0),
)
RECIPES = ReproduceRecipes(
    source=QUICK, original=QUICK, full_ft=QUICK, fixed=ClassifierRecipe(max_steps=2, validate_every=2)
)


@pytest.fixture(scope="module")
def large(two_classes: Path) -> Manifest:
    whole = load_dataset(two_classes)
    return replace(whole, records=tuple(r for split in ("train", "val", "test") for r in whole.split(split)[::2]))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Other videos of the same two classes: 2 + 2 + 2."""
    root = tmp_path_factory.mktemp("small")
    records = []
    for number, split in enumerate(("train", "val", "test")):
        for label, name in enumerate(("left", "right")):
            path = write_square(root / split / f"{name}.mp4", seed=900 + number, reverse=name == "left")
            records.append(VideoRecord(path, label, split))
    return Manifest("small", root, ("left", "right"), tuple(records))


def make_inputs(large: Manifest, *small: Manifest) -> TrainingInputs:
    data = {"kinetics": [large], **({"ucf101": small} if small else {})}
    return TrainingInputs(data, RECIPES, variant="tiny", protocol="center-clip")


def cell(table: str, row: str, column: str) -> Cell:
    return next(c for c in plan_table(table) if (c.row, c.column) == (row, column))


@pytest.mark.parametrize("table", ["table2", "table3", "table4", "table5"])
def test_plan_has_the_cells_of_the_paper(table: str) -> None:
    published = paper_table(table)
    numbers = {(r, c) for r in published.rows for c in published.columns if published.value(r, c) is not None}
    if table == "table5":
        numbers = {(r, c) for r, c in numbers if "i3d" in r}
    planned = [(c.row, c.column) for c in plan_table(table)]
    assert set(planned) == numbers
    assert len(planned) == len(numbers)


def test_cells_need_the_runs_of_the_paper() -> None:
    both = cell("table2", "i3d", "hmdb51 rgb+flow")
    assert both.splits == ((Run("i3d", "rgb", "imagenet", "original", "hmdb51"), replace(both.runs[0], stream="flow")),)
    joint = cell("table2", "two_stream", "hmdb51 rgb+flow")
    assert joint.runs == (Run("two_stream", "rgb+flow", "imagenet", "original", "hmdb51"),)
    assert cell("table2", "conv3d", "kinetics rgb").runs[0].init == "random"
    frozen = cell("table4", "convnet_lstm", "ucf101 fixed random").runs
    assert frozen == (Run("convnet_lstm", "rgb", "random", "fixed", "ucf101"),)
    assert frozen[0].source == Run("convnet_lstm", "rgb", "random", "original", "kinetics")
    last = cell("table5", "i3d rgb+flow random", "hmdb51")
    assert [[(r.stream, r.split, r.setting) for r in runs] for runs in last.splits] == [
        [("rgb", n, "full-ft"), ("flow", n, "full-ft")] for n in (1, 2, 3)
    ]
    # All tables together: 8 networks and streams from scratch on Kinetics, and what is trained on the small ones.
    kinetics = {r for t in ("table2", "table3") for c in plan_table(t) for r in c.runs if r.data == "kinetics"}
    assert {r.source for t in ("table4", "table5") for c in plan_table(t) for r in c.runs} - {None} <= kinetics
    assert {r.init for c in plan_table("table2", inflated=False) for r in c.runs} == {"random"}


def test_computed_table_1_matches_the_paper() -> None:
    ours, published = table_1(), paper_table("table1")
    for row in ARCHITECTURES:
        for column in published.columns:
            theirs = published.value(row, column)
            assert theirs is not None
            if column == "parameters":  # whole millions, rounded down or to the nearest
                assert theirs in (int(ours[row, column]), round(ours[row, column]))
            else:
                assert ours[row, column] == pytest.approx(theirs)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_flow")
def test_killed_reproduction_continues(
    large: Manifest, small: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, str]] = []
    train = experiments.train

    def counted(recipe: Recipe, data: Manifest, out: Path, **options: object) -> RunFolder:
        if len(trained) == 2:
            trained.clear()
            raise KeyboardInterrupt
        trained.append((recipe.model.stream or "", data.name))
        return train(recipe, data, out, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(experiments, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        reproduce("table5", make_inputs(large, small), tmp_path)
    kept = json.loads((tmp_path / "table5.json").read_text())
    filled = [(c["row"], c["column"]) for c in kept["cells"] if c["ours"] is not None]
    assert filled == [("i3d rgb random", "ucf101")]
    cells = reproduce("table5", make_inputs(large, small), tmp_path)
    assert trained == [("flow", "squares"), ("flow", "small")], "the two runs on RGB were kept"

    ours = {(c.cell.row, c.cell.column): c for c in cells if c.results}
    assert set(ours) == {(f"i3d {stream} random", "ucf101") for stream in ("rgb", "flow", "rgb+flow")}
    for (row, _), found in ours.items():
        dumps = [read_dump(tmp_path / folder / "scores.npz") for folder in found.folders]
        assert [f"i3d_tiny ({s})" for s in row.split()[1].split("+")] == [d.models[0] for d in dumps]
        right = sum(d.logits[0] for d in dumps).argmax(1) == dumps[0].targets  # type: ignore[union-attr]
        assert found.ours == pytest.approx(100 * float(right.float().mean()))
        assert found.difference == pytest.approx(found.ours - found.published)  # type: ignore[operator]
        assert [r.data_fingerprint for r in found.results] == [small.fingerprint]
    reasons = {c.reason for c in cells if not c.results}
    assert reasons == {
        "no 2D network for the cells with ImageNet; no data for ucf101 split 2; no data for ucf101 split 3",
        "no data for hmdb51 split 1; no data for hmdb51 split 2; no data for hmdb51 split 3",
    }
    text = (tmp_path / "table5.md").read_text()
    assert text.strip() == result_grid("table5", make_inputs(large, small), cells).to_markdown()
    for needed in (
        small.fingerprint,
        large.fingerprint,
        "for context only",
        "center-clip",
        "95.1",
        "mean of the splits",
    ):
        assert needed in text
        assert needed in (tmp_path / "table5.html").read_text()
    assert "difference" not in text

    # Table 4 finds its sources here, and a further split only needs what is new.
    trained.clear()
    monkeypatch.setattr(reproduction, "plan_table", lambda *_, **__: (cell("table4", "i3d", "ucf101 fixed random"),))
    (frozen,) = reproduce("table4", make_inputs(large, small), tmp_path)
    assert trained == []
    assert len(frozen.folders) == 2
    assert all("fixed" in folder for folder in frozen.folders)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_flow")
def test_result_is_the_mean_over_splits(
    large: Manifest, small: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = {"val": "test", "test": "val"}
    second = replace(
        small, name="second", records=tuple(replace(r, split=swap.get(r.split, r.split)) for r in small.records)
    )
    monkeypatch.setattr(reproduction, "plan_table", lambda *_, **__: (cell("table5", "i3d rgb random", "ucf101"),))
    (found,) = reproduce("table5", make_inputs(large, small, second, small), tmp_path)
    assert found.ours == pytest.approx(100 * np.mean([r.top1 for r in found.results]))
    assert [r.dataset for r in found.results] == ["small", "second", "small"]
    assert found.reason == ""
    again = replace(make_inputs(large, small), recipes=replace(RECIPES, full_ft=replace(QUICK, seed=1)))
    (other,) = reproduce("table5", again, tmp_path)
    assert other.folders[0] != found.folders[0], "another recipe is another run"


def test_invalid_inputs_are_rejected(large: Manifest, small: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown table with results 'table1'"):
        reproduce("table1", make_inputs(large), tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'ucf101'"):
        TrainingInputs({"ucf10": [small]}, RECIPES)
    with pytest.raises(TrainingError, match="ucf101 has 3 splits; got 4"):
        make_inputs(large, *[small] * 4)
    with pytest.raises(TrainingError, match="no published weights"):
        replace(make_inputs(large, small), published_weights=True)
    swap = {"train": "test", "test": "train"}
    leaking = replace(large, records=tuple(replace(r, split=swap.get(r.split, r.split)) for r in large.records))
    with pytest.raises(DatasetError, match="were seen in training on squares"):
        reproduce("table5", make_inputs(large, leaking), tmp_path)
    testless = replace(large, records=tuple(r for r in large.records if r.split != "test"))
    with pytest.raises(DatasetError, match="no videos in its test split"):
        reproduce("table3", make_inputs(testless), tmp_path)


def test_cells_without_data_stay_empty(tmp_path: Path) -> None:
    cells = reproduce("table4", TrainingInputs({}, RECIPES), tmp_path)
    assert len(cells) == 54
    assert not any(c.results for c in cells)
    lines = (tmp_path / "table4.md").read_text().splitlines()
    assert "| Two-Stream I3D | hmdb51 full-ft random |  | 81.3 |  |" in lines
    assert "Not run, 27 cells or parts of them: no data for hmdb51 split 1." in lines


def test_published_weights_replace_i3d_on_kinetics(small: Manifest, tmp_path: Path) -> None:
    """They are not fetched here; what the plan makes of them is looked at."""
    with_published = TrainingInputs({"ucf101": [small]}, RECIPES, published_weights=True)
    runs = reproduction._Runs(with_published, tmp_path, NullProgress())
    tuned = Run("i3d", "flow", "imagenet", "full-ft", "ucf101")
    assert runs.missing_input(tuned) == ""
    assert runs._source_weights(tuned.source or tuned) == "i3d-flow-imagenet-kinetics400"
    assert runs.missing_input(replace(tuned, setting="original")) == "no 2D network for the cells with ImageNet"
    assert runs.missing_input(Run("conv3d", "rgb", "random", "fixed", "ucf101")) == "no data for kinetics"
    assert runs.missing_input(replace(tuned, data="kinetics", setting="original")) == "no data for kinetics"


@pytest.mark.slow
@pytest.mark.usefixtures("quick_flow")
def test_reproduce_command(small: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = small.save(tmp_path / "small.parquet")
    main(["reproduce", "table1", "--out", str(tmp_path)])
    assert "79.63" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "table1.json").read_text())["cells"]) == 35
    main(
        [
            *("reproduce", "table4", "--data", f"hmdb51={data}", "--variant", "tiny", "--out", str(tmp_path)),
            *("--original.max-steps", "1", "--original.data.num-workers", "0", "--original.data.batch-size", "2"),
            *("--protocol", "center-clip", "--json"),
        ]
    )
    content = json.loads(capsys.readouterr().out)
    done = {(c["row"], c["column"]) for c in content["cells"] if c["ours"] is not None}
    assert done == {(row, "hmdb51 original random") for row in ARCHITECTURES}
    assert content["recipes"]["original"]["data"]["flow_method"] == "tvl1-fast"
    with pytest.raises(SystemExit):
        main(["reproduce", "table2", "--out", str(tmp_path)])
    assert "tables 2 to 5 need --data" in capsys.readouterr().err


def test_variant_selects_the_default_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[Any] = []
    monkeypatch.setattr("quovadis.cli.reproduce._reproduce", options.append)
    cases = [
        ([], 110_000),
        (["--variant", "tiny"], 600),
        (["--variant=tiny"], 600),
        (["--image-model", "runs --variant tiny"], 110_000),
    ]
    for args, max_steps in cases:
        main(["reproduce", "table2", *args])
        assert options[-1].recipes.source.max_steps == max_steps
