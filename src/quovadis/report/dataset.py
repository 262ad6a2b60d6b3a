"""Statistics of a dataset as a terminal table and as an HTML page."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quovadis.datasets.statistics import ClassCount, DatasetStatistics, Duplicate, Overlap
from quovadis.report.charts import bars_svg, histogram_svg
from quovadis.report.html import render
from quovadis.runtime.console import plain

_MAX_CLASSES = 20
_MAX_LISTED = 20
_MAX_BARS = 12
_STATUS_TEXT = {"ok": "decoded to the end", "listed": "not verified", "missing": "missing", "corrupt": "corrupt"}


def statistics_table(statistics: DatasetStatistics) -> RenderableType:
    """Build a terminal table of the statistics, the classes with most problems, the overlaps and the first problems."""
    facts = Table(box=None, pad_edge=False, show_header=False)
    for name, value in describe_statistics(statistics).items():
        facts.add_row(plain(name, style="dim"), plain(value))
    parts: list[RenderableType] = [facts, Text(), _class_table(statistics)]
    if len(statistics.classes) > _MAX_CLASSES:
        parts.append(
            plain(f"{_MAX_CLASSES} of {len(statistics.classes)} classes, those with most problems first", style="dim")
        )
    if statistics.overlaps:
        parts += [Text(), _overlap_table(statistics.overlaps)]
    parts += [plain(f"{status}: {path}: {reason}", style="red") for path, status, reason in statistics.problems[:10]]
    if len(statistics.problems) > 10:
        parts.append(plain(f"... {len(statistics.problems)} missing or corrupt in total", style="red"))
    return Group(*parts)


def describe_statistics(statistics: DatasetStatistics) -> dict[str, str]:
    """Summarize the statistics in words, by name."""
    s = statistics
    splits = ", ".join(f"{count} {split}" for split, count in s.splits.items())
    status = ", ".join(f"{s.statuses[name]} {text}" for name, text in _STATUS_TEXT.items() if s.statuses[name])
    facts = {
        "videos": f"{sum(s.splits.values())} of {sum(bool(c.label) for c in s.classes)} classes ({splits})",
        "data": f"{s.dataset} {s.data_fingerprint}",
        "status": status + (f"; {s.num_unknown} not checked: run quovadis data ... index" if s.num_unknown else ""),
    }
    if s.durations_seconds:
        seconds = s.durations_seconds
        facts["length"] = (
            f"{seconds[0]:.1f} to {seconds[-1]:.1f} s, median {seconds[len(seconds) // 2]:.1f} s, "
            f"{_format_duration(sum(seconds))} in total"
        )
    if s.num_bytes:
        facts["frame rates"] = _most_frequent(s.fps, " fps")
        facts["sizes"] = _most_frequent(s.sizes, "")
        facts["bytes"] = f"{s.num_bytes / 1e9:.2f} GB" if s.num_bytes >= 1e9 else f"{s.num_bytes / 1e6:.1f} MB"
        facts["duplicates"] = _describe_duplicates(s.duplicates)
    return facts


def dataset_page(title: str, statistics: DatasetStatistics, images: Mapping[str, str]) -> str:
    """Render a self-contained HTML page about a dataset.

    Args:
        title: Title of the page.
        statistics: Statistics of the dataset.
        images: ``data:`` URL of an example image for each class; classes without one get a placeholder.
    """
    facts = describe_statistics(statistics)
    return render(
        "quovadis.report",
        "dataset.html",
        title=title,
        summary=f"Videos: {facts['videos']}; {facts['status']}.",
        facts=facts,
        statistics=statistics,
        # Those that invalidate metrics come first: in several splits, then with several labels.
        duplicates=sorted(statistics.duplicates, key=lambda d: (-len(d.splits), -len(d.labels))),
        charts=_charts(statistics),
        images=images,
        class_name=_class_name,
        max_listed=_MAX_LISTED,
    )


def _class_table(statistics: DatasetStatistics) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class", no_wrap=True)
    for column in (*statistics.splits, "missing", "corrupt"):
        table.add_column(plain(column), justify="right")
    classes: Sequence[ClassCount] = statistics.classes
    if len(classes) > _MAX_CLASSES:
        classes = sorted(classes, key=lambda c: (-c.missing - c.corrupt, c.num_videos))[:_MAX_CLASSES]
    for c in classes:
        table.add_row(plain(_class_name(c)), *(str(n) for n in c.splits.values()), str(c.missing), str(c.corrupt))
    return table


def _overlap_table(overlaps: Sequence[Overlap]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("overlap of", no_wrap=True)
    for column in ("same content", "same group", "same YouTube ID"):
        table.add_column(column, justify="right")
    for o in overlaps:
        table.add_row(
            plain(f"{o.first} and {o.second}"), str(o.same_content), str(o.same_group), str(o.same_youtube_id)
        )
    return table


def _charts(statistics: DatasetStatistics) -> list[str]:
    charts = []
    if statistics.durations_seconds:
        charts.append(histogram_svg(statistics.durations_seconds, "length in seconds"))
    classes = statistics.classes
    if len(classes) <= _MAX_BARS:
        charts.append(bars_svg({_class_name(c): c.num_videos for c in classes}, "class"))
    else:
        charts.append(histogram_svg([c.num_videos for c in classes], "videos per class", "classes"))
    if statistics.fps:
        charts.append(bars_svg(statistics.fps, "frames per second"))
    if statistics.sizes:
        charts.append(bars_svg(statistics.sizes, "width x height"))
    return charts


def _class_name(c: ClassCount) -> str:
    return c.label or "(no label)"


def _describe_duplicates(duplicates: Sequence[Duplicate]) -> str:
    if not duplicates:
        return "none"
    return (
        f"{sum(len(d.paths) for d in duplicates)} files with only {len(duplicates)} different contents; "
        f"{sum(len(d.splits) > 1 for d in duplicates)} in more than one split, "
        f"{sum(len(d.labels) > 1 for d in duplicates)} with more than one label"
    )


def _most_frequent(counts: Mapping[str, int], unit: str) -> str:
    first = list(counts.items())[:5]
    rest = f", {len(counts) - len(first)} more" if len(counts) > len(first) else ""
    return ", ".join(f"{value}{unit} ({count})" for value, count in first) + rest


def _format_duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
