"""A dataset on the terminal and as one self-contained HTML page: what is there, what is wrong, what it looks like."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quovadis.datasets.statistics import ClassCount, DatasetStatistics, Overlap
from quovadis.report.page import frame_html
from quovadis.report.pictures import bars_svg, histogram_svg
from quovadis.runtime.console import plain
from quovadis.runtime.plain_text import escape

_MAX_CLASSES = 20
_MAX_LISTED = 20
_MAX_BARS = 12
_WORDS = {"ok": "decoded to the end", "listed": "not verified", "missing": "missing", "corrupt": "corrupt"}


def statistics_table(statistics: DatasetStatistics) -> RenderableType:
    """The figures, the classes that lack most, the overlaps, and the first of what is missing or corrupt."""
    facts = Table(box=None, pad_edge=False, show_header=False)
    for name, value in describe(statistics).items():
        facts.add_row(plain(name, style="dim"), plain(value))
    parts: list[RenderableType] = [facts, Text(), _class_table(statistics)]
    if len(statistics.classes) > _MAX_CLASSES:
        parts.append(plain(f"{_MAX_CLASSES} of {len(statistics.classes)} classes, the worst first", style="dim"))
    if statistics.overlaps:
        parts += [Text(), _overlap_table(statistics.overlaps)]
    parts += [plain(f"{status}: {path}: {reason}", style="red") for path, status, reason in statistics.problems[:10]]
    if len(statistics.problems) > 10:
        parts.append(plain(f"... {len(statistics.problems)} missing or corrupt in all", style="red"))
    return Group(*parts)


def describe(statistics: DatasetStatistics) -> dict[str, str]:
    """The figures in words, by name."""
    s = statistics
    splits = ", ".join(f"{count} {split}" for split, count in s.splits.items())
    facts = {
        "videos": f"{sum(s.splits.values())} of {sum(bool(c.label) for c in s.classes)} classes ({splits})",
        "data": f"{s.dataset} {s.data_fingerprint}",
        "status": ", ".join(f"{s.statuses[status]} {word}" for status, word in _WORDS.items() if s.statuses[status])
        + (f"; {s.num_unknown} never looked at: quovadis data ... index" if s.num_unknown else ""),
    }
    if s.durations_seconds:
        seconds = s.durations_seconds
        facts["length"] = (
            f"{seconds[0]:.1f} to {seconds[-1]:.1f} s, median {seconds[len(seconds) // 2]:.1f} s, "
            f"{_long_time(sum(seconds))} in all"
        )
    if s.num_bytes:
        facts["frame rates"] = _most(s.fps, " fps")
        facts["sizes"] = _most(s.sizes, "")
        facts["bytes"] = f"{s.num_bytes / 1e9:.2f} GB" if s.num_bytes >= 1e9 else f"{s.num_bytes / 1e6:.1f} MB"
        facts["duplicates"] = _duplicates_in_words(s)
    return facts


def dataset_page(title: str, statistics: DatasetStatistics, pictures: Mapping[str, str]) -> str:
    """The page as one string; it needs no other file and no network.

    Args:
        title: of the page.
        statistics: what it tells.
        pictures: for each class the ``data:`` address of a picture; a class without one gets an empty frame.
    """
    facts = describe(statistics)
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    sections = [
        f"<style>{_STYLE}</style><section><h2>What is there</h2><table class='facts'>{rows}</table></section>",
        _problems(statistics),
        _overlaps(statistics.overlaps),
        _duplicates(statistics),
        _charts(statistics),
        _grid(statistics, pictures),
    ]
    return frame_html(title, f"Videos: {facts['videos']}; {facts['status']}.", sections)


def _class_table(statistics: DatasetStatistics) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class", no_wrap=True)
    for column in (*statistics.splits, "missing", "corrupt"):
        table.add_column(plain(column), justify="right")
    classes: Sequence[ClassCount] = statistics.classes
    if len(classes) > _MAX_CLASSES:
        classes = sorted(classes, key=lambda c: (-c.missing - c.corrupt, c.num_videos))[:_MAX_CLASSES]
    for c in classes:
        table.add_row(plain(_name(c)), *(str(n) for n in c.splits.values()), str(c.missing), str(c.corrupt))
    return table


def _overlap_table(overlaps: Sequence[Overlap]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("in both", no_wrap=True)
    for column in ("same content", "same group", "same YouTube id"):
        table.add_column(column, justify="right")
    for o in overlaps:
        table.add_row(
            plain(f"{o.first} and {o.second}"), str(o.same_content), str(o.same_group), str(o.same_youtube_id)
        )
    return table


def _problems(statistics: DatasetStatistics) -> str:
    if not statistics.problems:
        return ""
    items = "".join(
        f"<li><b>{escape(status)}</b> <code>{escape(path)}</code> {escape(reason)}</li>"
        for path, status, reason in statistics.problems[:_MAX_LISTED]
    )
    count = len(statistics.problems)
    return f"<section><h2>Missing or corrupt: {count}</h2><ul>{items}</ul>{_rest(count)}</section>"


def _overlaps(overlaps: Sequence[Overlap]) -> str:
    if not overlaps:
        return ""
    rows = "".join(
        f"<tr><td>{escape(o.first)} and {escape(o.second)}</td><td class='number'>{o.same_content}</td>"
        f"<td class='number'>{o.same_group}</td><td class='number'>{o.same_youtube_id}</td></tr>"
        for o in overlaps
    )
    return (
        "<section><h2>In both</h2><div class='scroll'><table><tr><th></th><th>same content</th><th>same group</th>"
        f"<th>same YouTube id</th></tr>{rows}</table></div></section>"
    )


def _duplicates(statistics: DatasetStatistics) -> str:
    if not statistics.duplicates:
        return ""
    # First those that spoil a figure: in two splits, then with two labels.
    ordered = sorted(statistics.duplicates, key=lambda d: (-len(d.splits), -len(d.labels)))
    items = "".join(
        f"<li>{', '.join(f'<code>{escape(path)}</code>' for path in d.paths)} <small>{escape(', '.join(d.splits))}; "
        f"{escape(', '.join(d.labels))}</small></li>"
        for d in ordered[:_MAX_LISTED]
    )
    return f"<section><h2>Files with the same bytes</h2><ul>{items}</ul>{_rest(len(ordered))}</section>"


def _charts(statistics: DatasetStatistics) -> str:
    charts = []
    if statistics.durations_seconds:
        charts.append(histogram_svg(statistics.durations_seconds, "length in seconds"))
    classes = statistics.classes
    if len(classes) <= _MAX_BARS:
        charts.append(bars_svg({_name(c): c.num_videos for c in classes}, "class"))
    else:
        charts.append(histogram_svg([c.num_videos for c in classes], "videos of a class", "classes"))
    if statistics.fps:
        charts.append(bars_svg(statistics.fps, "frames a second"))
    if statistics.sizes:
        charts.append(bars_svg(statistics.sizes, "width x height"))
    return f"<section><h2>What the videos are like</h2><div class='charts'>{''.join(charts)}</div></section>"


def _grid(statistics: DatasetStatistics, pictures: Mapping[str, str]) -> str:
    cells = []
    for c in statistics.classes:
        counts = escape(", ".join(f"{count} {split}" for split, count in c.splits.items()))
        wrong = "".join(f" <b>{n} {name}</b>" for n, name in ((c.missing, "missing"), (c.corrupt, "corrupt")) if n)
        picture = (
            f"<img loading='lazy' alt='a video of {escape(_name(c))}' src='{pictures[c.label]}'>"
            if c.label in pictures
            else "<div class='none'>no video that can be read</div>"
        )
        cells.append(f"<div>{picture}<strong>{escape(_name(c))}</strong><small>{counts}{wrong}</small></div>")
    return f"<section><h2>The classes</h2><div class='grid'>{''.join(cells)}</div></section>"


def _name(c: ClassCount) -> str:
    return c.label or "(no label)"


def _duplicates_in_words(statistics: DatasetStatistics) -> str:
    twice = statistics.duplicates
    if not twice:
        return "none"
    return (
        f"{sum(len(d.paths) for d in twice)} files with only {len(twice)} different contents; "
        f"{sum(len(d.splits) > 1 for d in twice)} in more than one split, "
        f"{sum(len(d.labels) > 1 for d in twice)} with more than one label"
    )


def _most(counts: Mapping[str, int], unit: str) -> str:
    first = list(counts.items())[:5]
    rest = f", {len(counts) - len(first)} more" if len(counts) > len(first) else ""
    return ", ".join(f"{value}{unit} ({count})" for value, count in first) + rest


def _rest(count: int) -> str:
    return f"<p class='note'>The first {_MAX_LISTED} of {count}.</p>" if count > _MAX_LISTED else ""


def _long_time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


_STYLE = """
.charts { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
.grid img, .none { display: block; width: 100%; aspect-ratio: 4 / 3; object-fit: cover; background: #f5f7fa; }
.none { display: grid; place-items: center; text-align: center; font-size: .8rem; color: var(--soft); }
.grid strong, .grid small { display: block; line-height: 1.35; } .grid strong { margin-top: .3rem; font-size: .9rem; }
.grid b { color: var(--wrong); } li { overflow-wrap: anywhere; }
"""
