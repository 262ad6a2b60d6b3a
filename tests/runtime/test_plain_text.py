"""Text from files stays text: on the terminal, in figures, in Markdown and in HTML."""

import ast
import html
import io
import sys
from pathlib import Path

import pytest
import torch

from quovadis.cli import main
from quovadis.datasets.statistics import ClassCount, DatasetStatistics, Overlap
from quovadis.evaluation.results import EvaluationResult, VideoResult
from quovadis.inference.prediction import Prediction, Window
from quovadis.report.charts import bars_svg, confusion_svg, histogram_svg
from quovadis.report.dataset import dataset_page, statistics_table
from quovadis.report.figure_text import escape_mathtext, lettering
from quovadis.report.filters import draw_filters
from quovadis.report.grid import Grid
from quovadis.report.terminal import evaluation_table, prediction_table
from quovadis.report.timeline import Bar, draw_timeline
from quovadis.runtime.console import Console
from quovadis.runtime.plain_text import escape, print, printable
from quovadis.runtime.progress import progress_bar

SOURCE = Path(__file__).parents[2] / "src" / "quovadis"
MARKUP = ["[/b]x", "[red]x", "[link=http://a]x[/link]", ":smile:", "a[web]b", "\\[x]", "[/]"]
MATH = [r"$\frac{$", "$a$", r"\$5 $x$", "_", "_x", "$$", "100 $ and 5 $", r"\$"]
SCRIPTS = ["中文标签", "日本語", "한국어", "👍🏽 ok", "👩‍👩‍👧", "עברית", "ไทย"]
CONTROL = ["a\x1b[31mred", "a\x1b]0;title\x07b", "a\x9b31m", "a\rb", "a\x08b", "a\u202eb", "a\x00b", "a\udcffb"]
HOSTILE = [*MARKUP, *MATH, *SCRIPTS, *CONTROL, "<script>alert(1)</script>", "'\"&amp;"]


def shown(renderable: object, encoding: str = "utf-8") -> str:
    """What a console writes."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    Console(file=stream, width=200).print(renderable)
    stream.seek(0)
    return stream.read()


def prediction(*labels: str) -> Prediction:
    logits = torch.arange(len(labels), dtype=torch.float32)
    windows = (Window(0.0, 1.0, logits), Window(1.0, 2.0, logits))
    return Prediction(labels[0], labels, logits, windows, notes=(labels[0],))


def result(name: str) -> EvaluationResult:
    video = VideoResult(name, name, (), error=name)
    numbers = {"top1": 0.5, "top5": 0.5, "mean_class": 0.5, "loss": 1.0}
    tensors = {"confusion": torch.ones(1, 1, dtype=torch.int64), "logits": torch.zeros(1, 1)}
    return EvaluationResult(name, name, name, name, name, (name,), videos=(video,), **numbers, **tensors)


@pytest.mark.parametrize("text", HOSTILE)
def test_terminal_tables_escape_names(text: str) -> None:
    expected = printable(text)
    for renderable, count in (
        (prediction_table(prediction(text)), 5),
        (evaluation_table([result(text)]), 7),
        (Grid(text, (text, text), ((text, text),), 1, (text,)).to_terminal(), 6),
        (text, 1),
    ):
        written = shown(renderable)
        assert written.count(expected) >= count, written
        assert printable(written) == written


@pytest.mark.parametrize("text", HOSTILE)
def test_progress_bar_escapes_names(text: str) -> None:
    stream = io.StringIO()
    with progress_bar(Console(file=stream, width=200)) as bar:
        bar.add_task(text, total=1, completed=1)
    assert printable(text) in stream.getvalue()


@pytest.mark.parametrize("text", CONTROL)
def test_print_escapes_terminal_commands(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print("label", text, Path(text), sep="|", end="")
    written = capsys.readouterr().out
    assert written == f"label|{printable(text)}|{printable(text)}"
    assert written.isprintable()


def test_letters_tabs_and_line_feeds_are_unchanged() -> None:
    text = "".join(SCRIPTS) + "é\tß\n"
    assert printable(text) == text
    assert printable(printable("\x1b")) == printable("\x1b") == r"\x1b"


def test_every_command_prints_plain_text() -> None:
    for file in SOURCE.rglob("*.py"):
        names = {
            (node.module, alias.name)
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert ("rich.console", "Console") not in names, f"{file}: use quovadis.runtime.console.Console"
        uses_print = any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            for node in ast.walk(ast.parse(file.read_text()))
        )
        # templates/ contains scripts that run without this package
        if uses_print and file.name != "plain_text.py" and file.parent.name != "templates":
            assert ("quovadis.runtime.plain_text", "print") in names, f"{file}: import print from plain_text"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "shift_jis"])
def test_output_in_any_encoding(
    encoding: str, clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = tmp_path / "é 中 👍 \udcff.mp4"
    video.symlink_to(clip_path)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    main(["probe", str(video)])
    with pytest.raises(SystemExit):
        main(["probe", str(video.with_suffix(".none"))])
    for stream in streams:
        stream.seek(0)
        written = stream.read()
        assert r"\udcff." in written
        assert ("中" in written) == (encoding in ("utf-8", "shift_jis"))


def test_bars_use_ascii_without_block_characters() -> None:
    assert "###" in shown(prediction_table(prediction("a", "b")), "cp1252")
    assert "███" in shown(prediction_table(prediction("a", "b")), "utf-8")


@pytest.mark.parametrize("texts", [MARKUP, MATH, SCRIPTS, CONTROL])
def test_figures_keep_names(texts: list[str]) -> None:
    counts = torch.eye(len(texts), dtype=torch.int64)
    for svg in (
        confusion_svg(counts, texts),
        bars_svg(dict.fromkeys(texts, 3), texts[0]),
        histogram_svg([1.0, 2.0], texts[0], texts[0]),
    ):
        words = html.unescape(svg)
        assert all(printable(text) in words for text in (texts if svg.count("<text") > 12 else texts[:1])), words


@pytest.mark.parametrize("texts", [MARKUP, MATH, SCRIPTS, CONTROL])
def test_pictures_are_drawn_without_warnings(texts: list[str]) -> None:
    frames = [torch.zeros(3, 8, 8, dtype=torch.uint8)]
    curves = {text: [0.1, 0.2] for text in texts}
    bars = [Bar(float(i), i + 1.0, text, 0.9) for i, text in enumerate(texts)]
    bars += [Bar(len(texts) + i / 1000, len(texts) + (i + 1) / 1000, text, 0.2) for i, text in enumerate(texts)]
    png = draw_timeline(frames, [0.5], [0.5, 1.5], curves, bars, span=(0, len(texts) + 1), title=" ".join(texts))
    assert png.startswith(b"\x89PNG")
    assert draw_filters(torch.randn(4, 3, 2, 2, 2), "\n".join(texts)).startswith(b"\x89PNG")


def test_mathematics_is_drawn_like_plain_text() -> None:
    from matplotlib.text import Text

    for text in (*MATH, "plain"):
        drawn, is_math = Text(text=escape_mathtext(text))._preprocess_math(
            escape_mathtext(text)
        )  # what the renderer draws
        assert not is_math
        assert drawn == text


def test_letters_come_from_a_font_that_has_them_or_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import font_manager, rcParams

    from quovadis.report import figure_text as module

    default = module._code_points(str(font_manager.findfont(font_manager.FontProperties())))
    stix = next(
        f for f in font_manager.fontManager.ttflist if (f.name, f.style, f.weight) == ("STIXGeneral", "normal", 400)
    )
    letter = chr(min(module._code_points(stix.fname) - default))
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [stix])
    module._fonts.cache_clear()
    with lettering(letter, "中") as draw:
        assert rcParams["font.family"][-1] == "STIXGeneral"
        assert draw(f"{letter}中é") == rf"{letter}\u4e2dé"
    module._fonts.cache_clear()


def test_html_and_markdown_show_names_as_they_are() -> None:
    for text in HOSTILE:
        assert html.unescape(escape(text)) == printable(text)
        grid = Grid("t", ("a",), ((text,),))
        grid.to_html().encode()
        (cell,) = (line for line in grid.to_markdown().splitlines()[4:] if line.startswith("|"))
        assert "<script" not in cell.replace("\\<", "")
    assert "a | b".replace("|", r"\|") in Grid("t", ("a",), (("a | b",),)).to_markdown()


@pytest.mark.slow
def test_the_dataset_page_shows_names_as_they_are() -> None:
    for text in HOSTILE:
        statistics = DatasetStatistics(
            dataset=text,
            data_fingerprint=text,
            splits={text: 1},
            statuses={"ok": 1, "listed": 0, "missing": 0, "corrupt": 0},
            classes=(ClassCount(text, {text: 1}, 0, 0),),
            overlaps=(Overlap(text, text, 1, 0, 0),),
            problems=((text, "missing", text),),
            num_unknown=0,
            durations_seconds=(),
            fps={text: 1},
            sizes={text: 1},
            num_bytes=0,
            duplicates=(),
        )
        page = dataset_page(text, statistics, {})
        assert page.encode()
        assert "<script" not in page
        assert page.count(escape(text)) >= 6
        assert shown(statistics_table(statistics)).count(printable(text)) >= 5
