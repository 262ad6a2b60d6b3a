"""Every code block of the documentation and the README is run, or checked if it has a reason not to be run."""

import os
import re
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import pytest
import torch

from quovadis.cli import main
from quovadis.datasets.kinetics.class_names import class_labels
from quovadis.models.zoo import build_model
from quovadis.paper.published import paper_value
from quovadis.training import recipes
from quovadis.video.writer import write_video
from quovadis.weights.catalog import CATALOG
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from tests.docs.blocks import Block, blocks_of, run
from tests.synthetic import moving_square, write_square

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXPORTS = all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def few_steps(name: str) -> recipes.Recipe:
    """Shorten a recipe; the test only checks that the command works."""
    recipe = recipes.RECIPES[name]()
    return replace(recipe, max_steps=2, validate_every=2, data=replace(recipe.data, batch_size=4, num_workers=0))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages use: video.mp4, clips/, runs/mine, runs/flow, real/, generated/."""
    root = tmp_path_factory.mktemp("docs")
    for i in range(5):
        for label in ("left", "right"):
            write_square(root / "clips" / label / f"{i}.mp4", seed=i, reverse=label == "left")
        for folder in ("real", "generated"):
            write_square(root / folder / f"{i}.mp4", seed=10 * i + len(folder), num_frames=16)
    write_video(root / "video.mp4", moving_square(40, 48, 64), fps=25)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("quovadis.cli.train.find_recipe", few_steps)
        main(["train", "tiny", "--data", "clips", "--out", "runs/mine"])
    info = WeightsInfo("i3d_tiny", {"stream": "flow", "num_classes": 2}, ("left", "right"))
    flow = build_model("i3d_tiny", stream="flow", num_classes=2)
    for place in ("flow", "demo/flow"):
        save_weights(root / "runs" / place / "best.safetensors", flow.state_dict(), info)
    shutil.copytree(root / "runs" / "mine", root / "runs" / "demo" / "rgb")
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 400}, class_labels("kinetics400"))
    save_weights(root / "default.safetensors", build_model("i3d_tiny", num_classes=400).state_dict(), info)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs(
    page: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = blocks_of(page)
    if not any(block.language in ("python", "bash") for block in blocks):
        return
    place = tmp_path / "place"
    shutil.copytree(workspace, place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("quovadis.cli.train.find_recipe", few_steps)
    # Replaces the default network, which would have to be downloaded.
    monkeypatch.setattr("quovadis.weights.load.get_weights", lambda name, **_: place / "default.safetensors")
    matplotlib.use("agg")
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        if "onnx" in block.code and not block.reason and not EXPORTS:
            continue  # the extra is not installed; test_export says so
        torch.manual_seed(0)
        run(block, names)
    assert os.getcwd() == str(place)


@pytest.mark.slow
@pytest.mark.pretrained
@pytest.mark.shared
def test_the_readme_shows_the_output_of_the_official_network(
    pretrained: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(shared / "data" / "clips" / "k_tai_chi.mp4", tmp_path / "video.mp4")
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(ROOT / "README.md")
    for index, block in enumerate(blocks):
        if block.language == "text":
            run(blocks[index - 1], {})
            printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
            assert printed == block.code.splitlines(), blocks[index - 1].where
    assert sum(block.language == "text" for block in blocks) == 2


def test_links_of_the_readme_exist() -> None:
    """The documentation build does not check them."""
    links = re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", (ROOT / "README.md").read_text())
    targets = [link or source for link, source in links if not link.startswith("http")]
    assert len(targets) > 20
    for target in targets:
        file, _, anchor = target.partition("#")
        path = ROOT / (file or "README.md")
        assert path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in headings}, target


def test_the_readme_has_the_published_accuracies() -> None:
    text = (ROOT / "README.md").read_text()
    for entry in CATALOG.values():
        if entry.top1 is not None and entry.dataset == "kinetics400":
            row = next(line for line in text.splitlines() if f"| `{entry.name}` |" in line)
            assert row.endswith(f"| {entry.top1} | {entry.top5} |")
    for column in ("imagenet rgb+flow", "random rgb+flow"):
        top1, top5 = (paper_value(table, "i3d", column) for table in ("table3", "table3-top5"))
        assert f"| {top1} | {top5} |" in text
    ucf, hmdb = (paper_value("table5", "i3d rgb+flow imagenet", dataset) for dataset in ("ucf101", "hmdb51"))
    assert f"{ucf} on UCF-101 and {hmdb} on HMDB-51" in text


def test_the_page_on_pretrained_networks_has_the_whole_catalog() -> None:
    rows = [line.split(" | ") for line in (ROOT / "docs" / "pretrained.md").read_text().splitlines()]
    found = {row[0].strip("| `"): row for row in rows if len(row) == 6 and row[0].startswith("| `")}
    assert found.keys() == CATALOG.keys()
    for name, (_, classes, top1, top5, sources, license) in found.items():
        entry = CATALOG[name]
        assert classes.startswith(f"{entry.num_classes}, ")
        assert [top1, top5] == ["-" if value is None else f"{value:.1f}" for value in (entry.top1, entry.top5)]
        assert entry.project in sources
        assert entry.license.startswith(license.strip("| "))
        assert entry.package is None or f"{entry.package.name} {entry.package.version}" in sources


def test_the_layout_names_every_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    names = {path.name for path in (ROOT / "src" / "quovadis").iterdir() if not path.name.startswith(("_", "py."))}
    assert {name for name in names - {"version.py"} if f"{name}/" not in text and name not in text} == set()


def test_the_files_that_contributors_change_exist() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add a part")[2].partition("## Write code")[0]
    paths = [word for word in re.findall(r"`([\w./-]+)`", table) if "/" in word or word.endswith(".md")]
    assert len(paths) > 20
    assert [p for p in paths if not (ROOT / p).exists() and not (ROOT / "src" / "quovadis" / p).exists()] == []


def block(code: str, language: str = "bash", reason: str = "") -> Block:
    return Block(Path("page.md"), 1, language, code, reason)


def test_a_block_that_is_not_run_is_checked() -> None:
    run(block("quovadis predict v.mp4 --weights w --top 3", reason="the network"), {})
    run(block("torchrun --nproc-per-node 8 -m quovadis train kinetics --data d", reason="a GPU"), {})
    run(block("import quovadis\nquovadis.probe('gone.mp4')", "python", "large data"), {})
    with pytest.raises(AssertionError, match=r"predict v.mp4 --wieghts w exits with 2"):
        run(block("quovadis predict v.mp4 --wieghts w", reason="the network"), {})
    with pytest.raises(AssertionError, match="no command 'pridect'"):
        run(block("quovadis pridect v.mp4", reason="the network"), {})
    with pytest.raises(AssertionError, match=r"no quovadis.prob"):
        run(block("import quovadis\nquovadis.prob('gone.mp4')", "python", "large data"), {})
    with pytest.raises(AssertionError, match=r"quovadis\.video has no Clop"):
        run(block("from quovadis.video import Clop", "python", "large data"), {})


def test_no_block_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```\nquovadis predict\n```\n")
    with pytest.raises(AssertionError, match="after the fence"):
        blocks_of(page)
    page.write_text("<!-- not run: needs luck -->\n```bash\nquovadis predict\n```\n")
    with pytest.raises(AssertionError, match="'luck' is not an accepted reason"):
        blocks_of(page)
    page.write_text("```bash\nquovadis predict\n")
    with pytest.raises(AssertionError, match="is not closed"):
        blocks_of(page)
    with pytest.raises(AssertionError, match="ls is not quovadis"):
        run(block("ls"), {})
    with pytest.raises(AssertionError, match="exits with 1"):
        run(block("quovadis probe gone.mp4"), {})
    with pytest.raises(ZeroDivisionError):
        run(block("1 / 0", "python"), {})
