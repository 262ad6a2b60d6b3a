"""``quovadis data download``: download clips of Kinetics from YouTube or from the archives of CVDF."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from quovadis.cli._arguments import reorder_arguments
from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.datasets.kinetics.annotations import KineticsClip
    from quovadis.datasets.kinetics.clip_status import DownloadReport


@dataclass(frozen=True)
class Download:
    """Download the clips of a split of Kinetics, each trimmed to its ten seconds, into one folder per class.

    Clips that exist are not downloaded again, so an interrupted run continues. Clips that are not available are listed
    with the reason in OUT/download.jsonl. They are not an error: about one in ten videos is gone from YouTube.
    """

    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TARGET")]
    """kinetics400, kinetics600 or kinetics700."""
    split: Literal["train", "val", "test"]
    """Which split."""
    out: Path
    """The output folder."""
    annotations: Path | None = None
    """The annotation CSV file, also .gz; by default downloaded from CVDF, if it has a complete one."""
    source: Literal["youtube", "cvdf"] = "youtube"
    """youtube needs the extra kinetics (pip install '.[kinetics]' in the checkout); cvdf downloads archives."""
    classes: tuple[str, ...] = ()
    """Only these classes: names, or a text file with one per line."""
    youtube_ids: Path | None = None
    """Only these videos: a text file with one YouTube ID per line."""
    limit: int | None = None
    """At most this many clips, the first ones of the file."""
    num_workers: int = 4
    """Number of videos, or archives, downloaded at once."""
    retry: bool = False
    """youtube: try videos again that were private, removed, blocked ..."""
    cookies: Path | None = None
    """youtube: cookie file in Netscape format, for videos that require signing in."""
    mirror: str | None = None
    """cvdf: a URL that serves the same paths as s3.amazonaws.com/kinetics."""
    keep_archives: bool = False
    """cvdf: keep the archives after extracting their clips."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the command; the exit code is 1 if an archive could not be used."""
    from quovadis.datasets.kinetics.annotations import KINETICS
    from quovadis.errors import InvalidInputError, UnknownNameError

    args = reorder_arguments(Download, args)
    if args and not args[0].startswith("-") and args[0] not in KINETICS:  # more useful than "--split is required"
        raise UnknownNameError.among("dataset to download", args[0], KINETICS)
    options = tyro.cli(Download, args=args, prog="quovadis data download", config=(tyro.conf.FlagCreatePairsOff,))
    for flag, number in (("--num-workers", options.num_workers), ("--limit", options.limit)):
        if number is not None and number < 1:
            raise InvalidInputError(f"{flag} must be at least 1; got {number}")
    report = _download(options, _select_clips(options))
    _print_report(options, report)
    if report.problems:
        sys.exit(1)


def _select_clips(options: Download) -> "tuple[KineticsClip, ...]":
    from quovadis.datasets.kinetics.annotations import read_annotations, read_names, select_clips
    from quovadis.datasets.kinetics.class_names import class_labels
    from quovadis.datasets.kinetics.cvdf_releases import CVDF_URL, download_annotations

    name, split = options.target, options.split
    file = options.annotations or download_annotations(name, split, options.out, mirror=options.mirror or CVDF_URL)
    classes = options.classes
    if len(classes) == 1 and Path(classes[0]).is_file():
        classes = read_names(classes[0])
    return select_clips(
        read_annotations(file, labels=class_labels(name), split=split),
        split=split,
        classes=classes,
        youtube_ids=read_names(options.youtube_ids) if options.youtube_ids else (),
        limit=options.limit,
    )


def _download(options: Download, clips: "tuple[KineticsClip, ...]") -> "DownloadReport":
    from quovadis.datasets.kinetics.cvdf import download_from_cvdf
    from quovadis.datasets.kinetics.cvdf_releases import CVDF_URL
    from quovadis.datasets.kinetics.youtube import download_from_youtube
    from quovadis.datasets.kinetics.yt_dlp import YtDlpFetcher

    if options.source == "cvdf":
        with _progress("archives") as progress:
            return download_from_cvdf(
                options.target,
                clips,
                options.out,
                num_workers=options.num_workers,
                keep_archives=options.keep_archives,
                mirror=options.mirror or CVDF_URL,
                progress=progress,
            )
    fetcher = YtDlpFetcher(cookies=options.cookies)
    with _progress("clips") as progress:
        return download_from_youtube(
            clips, options.out, fetcher, num_workers=options.num_workers, retry=options.retry, progress=progress
        )


def _print_report(options: Download, report: "DownloadReport") -> None:
    from quovadis.datasets.kinetics.clip_status import DESCRIPTIONS

    if options.json:
        values = asdict(report) | {"num_clips": report.num_clips, "num_available": report.num_available}
        print(json.dumps(values | {"table": str(report.table)}, indent=2))
    else:
        available = f"{report.num_available} of {report.num_clips} clips are in {options.out}"
        print(f"{options.target} {options.split}: {available}")
        for status, count in report.counts.items():
            print(f"{count:>8}  {status:<15} {DESCRIPTIONS.get(status, '')}")
        if report.missing_by_class:
            most = ", ".join(f"{label} {count}" for label, count in list(report.missing_by_class.items())[:5])
            print(f"{len(report.missing_by_class)} classes have missing clips, most of them: {most}")
        print(f"status of every clip: {report.table}")
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar

    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda num_done, total: bar.update(task, completed=num_done, total=total)
