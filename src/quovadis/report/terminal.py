"""Terminal tables of predictions, evaluations and environment checks."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from quovadis.evaluation.results import EvaluationResult
from quovadis.inference.prediction import Prediction
from quovadis.runtime.console import Console, plain


def evaluation_table(results: Sequence[EvaluationResult]) -> RenderableType:
    """Build a table of one or more evaluations, followed by their data, protocols and unreadable videos."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    has_top5 = any(len(r.labels) > 5 for r in results)  # of at most five classes it is 100 %
    columns = ("model", "split", "videos", "top-1", *(("top-5",) if has_top5 else ()), "class mean", "unreadable")
    for column in columns:
        table.add_column(column, justify="left" if column in ("model", "split") else "right", no_wrap=column != "model")
    for r in results:
        table.add_row(
            plain(r.model),
            plain(r.split),
            str(r.num_videos),
            f"{r.top1:.1%}",
            *((f"{r.top5:.1%}",) if has_top5 else ()),
            f"{r.mean_class:.1%}",
            str(len(r.unreadable)),
        )
    lines: list[RenderableType] = [table]
    lines += [plain(d, style="dim") for d in dict.fromkeys(f"data {r.dataset} {r.data_fingerprint}" for r in results)]
    lines += [plain(f"protocol {p}", style="dim") for p in dict.fromkeys(r.protocol for r in results)]
    for r in results:
        lines += [plain(f"unreadable, counted as wrong: {v.path}: {v.error}", style="red") for v in r.unreadable[:10]]
    return Group(*lines)


def prediction_table(prediction: Prediction, k: int = 5) -> RenderableType:
    """Build a bar chart of the top classes of a video, and a table of its windows if there are several."""
    title = plain(prediction.source, style="bold")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    for label, probability in prediction.top(k):
        table.add_row(plain(label), f"{probability:6.1%}", plain("█" * round(30 * probability), style="cyan"))
    lines: list[RenderableType] = [table]
    if len(prediction.windows) > 1:
        windows_table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("from", "to", "class", ""):
            windows_table.add_column(column, justify="left" if column == "class" else "right")
        for window in prediction.windows:
            label, probability = prediction.top(1, window)[0]
            times = (f"{window.start_seconds:.1f} s", f"{window.stop_seconds:.1f} s")
            windows_table.add_row(*times, plain(label), f"{probability:.1%}")
        lines.append(windows_table)
    windows = prediction.describe_windows()
    notes = [f"whole video in {windows}"] if windows else []
    lines += [plain(note, style="dim") for note in (*notes, *prediction.notes)]
    return Group(*lines)


def findings_table(rows: Sequence[tuple[str, str, str, str, str]]) -> RenderableType:
    """Build a table of environment checks.

    Args:
        rows: Area, name, status (ok, missing or broken), finding and fix of each check; the fix may be empty.
    """
    colors = {"ok": "green", "missing": "yellow", "broken": "bold red"}
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(4):
        table.add_column(overflow="fold")
    previous_area = ""
    for area, name, status, finding, fix in rows:
        first = plain(area if area != previous_area else "", style="bold")
        table.add_row(first, plain(name), plain(status, style=colors[status]), plain(finding))
        if fix:
            table.add_row("", "", "", plain(fix, style="cyan"))
        previous_area = area
    return table


def to_text(renderable: RenderableType, width: int = 120) -> str:
    """Render a table as plain text."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()
