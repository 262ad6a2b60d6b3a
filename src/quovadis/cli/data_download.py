"""``quovadis data NAME download``: the clips of Kinetics, from YouTube or from CVDF's archives."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.datasets.kinetics.annotations import KineticsClip
    from quovadis.datasets.kinetics.clip_status import DownloadReport


@dataclass(frozen=True)
class Download:
    """Fetch the clips of a split, each cut to its ten seconds, into one folder a class.

    What is there is not fetched again, so a download that was stopped goes on where it was. What cannot be had is
    listed with its reason in DIR/download.jsonl. Dead links are no error: about one in ten clips is gone.
    """

    split: Literal["train", "val", "test"]
    """Which clips."""
    out: Path
    """The folder to write to."""
    annotations: Path | None = None
    """The annotation file, CSV, also .gz; by default CVDF's is fetched, where there is a whole one."""
    source: Literal["youtube", "cvdf"] = "youtube"
    """youtube needs the optional part kinetics (``pip install '.[kinetics]'`` in the checkout); cvdf is a mirror of
    archives, which have to be fetched whole."""
    classes: tuple[str, ...] = ()
    """Only these classes: their names, or a file with one a line."""
    ids: Path | None = None
    """Only these videos: a file with one YouTube id a line."""
    limit: int | None = None
    """Only so many clips, the first ones of the file."""
    workers: int = 4
    """Videos, or archives, at a time."""
    retry: bool = False
    """youtube: ask again for videos that were private, removed, blocked ..."""
    cookies: Path | None = None
    """youtube: cookies in Netscape format, for videos that are shown only to who is signed in."""
    mirror: str | None = None
    """cvdf: an address that serves the same files under the same paths as s3.amazonaws.com/kinetics."""
    keep_archives: bool = False
    """cvdf: do not remove the archives when their clips are out."""
    json: bool = False
    """Print JSON."""


def main(name: str, args: list[str]) -> None:
    """Run the verb.

    Raises:
        QuovadisError: what the user can put right.
    """
    options = tyro.cli(
        Download, args=args, prog=f"quovadis data {name} download", config=(tyro.conf.FlagCreatePairsOff,)
    )
    from quovadis.datasets.kinetics.annotations import KINETICS
    from quovadis.errors import InvalidInputError, UnknownNameError

    if name not in KINETICS:
        raise UnknownNameError.among("dataset that can be downloaded", name, KINETICS)
    for flag, number in (("--workers", options.workers), ("--limit", options.limit)):
        if number is not None and number < 1:
            raise InvalidInputError(f"{flag} must be at least 1; got {number}")
    report = _run(name, options, _clips(name, options))
    _show(name, options, report)
    if report.problems:
        sys.exit(1)


def _clips(name: str, options: Download) -> "tuple[KineticsClip, ...]":
    """The clips that are asked for."""
    from quovadis.datasets.kinetics.annotations import read_annotations, read_names, select_clips
    from quovadis.datasets.kinetics.class_names import class_labels
    from quovadis.datasets.kinetics.cvdf import CVDF_URL, fetch_annotations

    file = options.annotations or fetch_annotations(name, options.split, options.out, mirror=options.mirror or CVDF_URL)
    classes = options.classes
    if len(classes) == 1 and Path(classes[0]).is_file():
        classes = read_names(classes[0])
    return select_clips(
        read_annotations(file, labels=class_labels(name), split=options.split),
        split=options.split,
        classes=classes,
        youtube_ids=read_names(options.ids) if options.ids else (),
        limit=options.limit,
    )


def _run(name: str, options: Download, clips: "tuple[KineticsClip, ...]") -> "DownloadReport":
    from quovadis.datasets.kinetics.cvdf import CVDF_URL, download_from_cvdf
    from quovadis.datasets.kinetics.youtube import download_from_youtube
    from quovadis.datasets.kinetics.yt_dlp import YtDlpExtractor

    if options.source == "cvdf":
        with _bar("archives") as progress:
            return download_from_cvdf(
                name,
                clips,
                options.out,
                num_workers=options.workers,
                keep_archives=options.keep_archives,
                mirror=options.mirror or CVDF_URL,
                progress=progress,
            )
    extractor = YtDlpExtractor(cookies=options.cookies)
    with _bar("clips") as progress:
        return download_from_youtube(
            clips, options.out, extractor, num_workers=options.workers, retry=options.retry, progress=progress
        )


def _show(name: str, options: Download, report: "DownloadReport") -> None:
    from quovadis.datasets.kinetics.clip_status import DONE, FINAL, PASSING

    if options.json:
        facts = asdict(report) | {"num_clips": report.num_clips, "num_there": report.num_there}
        print(json.dumps(facts | {"table": str(report.table)}, indent=2))
    else:
        print(f"{name} {options.split}: {report.num_there} of {report.num_clips} clips are in {options.out}")
        words = {**DONE, **FINAL, **PASSING, "not tried": "run it again"}
        for status, count in report.counts.items():
            print(f"{count:>8}  {status:<15} {words.get(status, '')}")
        if report.missing_by_class:
            worst = ", ".join(f"{label} {count}" for label, count in list(report.missing_by_class.items())[:5])
            print(f"{len(report.missing_by_class)} classes lack clips, the most: {worst}")
        print(f"every clip and its reason: {report.table}")
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar

    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
