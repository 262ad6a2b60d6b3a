"""``quovadis data``: datasets indexed, verified, described and downloaded."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.datasets.manifest import Manifest

KINETICS = ("kinetics400", "kinetics600", "kinetics700")
_MAX_LISTED = 20
NAMES = ("ucf101", "hmdb51", *KINETICS)


@dataclass(frozen=True)
class _Source(ABC):
    """Where the videos are, and which of them."""

    root: Path | None = None
    """The folder of the videos; where a table or a manifest is given, only if it is another than the file says."""
    annotations: tuple[Path, ...] = ()
    """Of a named dataset: the folder of its official split files, or the annotation CSVs of Kinetics."""
    split: int | None = None
    """Which official split of UCF-101 or HMDB-51: 1 (the default), 2 or 3."""
    classes: Path | None = None
    """A text file with one class a line: keep only these, as Mini-Kinetics does."""
    ids: Path | None = None
    """Of Kinetics: a text file with one YouTube id a line; keep only clips of these."""
    split_seed: int = 0
    """Of the splits, or the validation split, where the data come without."""
    num_workers: int | None = None
    """Processes; by default one a core, 0 works in this one."""
    json: bool = False
    """Print JSON."""

    @property
    def workers(self) -> int:
        """The number of processes."""
        from quovadis.runtime.jobs import num_cores

        return num_cores() if self.num_workers is None else self.num_workers

    @abstractmethod
    def run(self, source: str) -> None:
        """Do it."""


@dataclass(frozen=True)
class Index(_Source):
    """Look at every file (size, hash, frames, rate, length) and write a manifest, which train and evaluate take.

    What is found is kept in a cache, so a run that was stopped goes on where it was.
    """

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The Parquet file to write; by default the manifest that was given, else NAME.parquet."""

    def run(self, source: str) -> None:
        """Index, write, and print what was found."""
        from quovadis.datasets.inspection import index_videos
        from quovadis.datasets.probe_cache import ProbeCache

        data = open_source(source, self)
        _print_notes(data)
        target = _target(source, self.out, data)
        with ProbeCache() as cache, _progress("indexing", len(data.records)) as on_video:
            data = index_videos(data, num_workers=self.workers, cache=cache, on_video=on_video)
        _report(data, data.save(target), self.json)


@dataclass(frozen=True)
class Verify(_Source):
    """Decode every file to its end, and compare its bytes with the index; exit code 1 when something is wrong.

    Files that were found good before and have not changed since are not decoded anew.
    """

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The Parquet file for the results; by default the manifest that was given, else NAME.parquet."""
    again: bool = False
    """Decode also what was found good before."""

    def run(self, source: str) -> None:
        """Verify, write the results, and print what is wrong."""
        from quovadis.datasets.inspection import verify_videos
        from quovadis.datasets.probe_cache import ProbeCache

        data = open_source(source, self)
        _print_notes(data)
        target = _target(source, self.out, data)
        with ProbeCache() as cache, _progress("verifying", len(data.records)) as on_video:
            data = verify_videos(data, num_workers=self.workers, cache=cache, again=self.again, on_video=on_video)
        _report(data, data.save(target), self.json)
        if any(r.status != "ok" for r in data.records):
            raise SystemExit(1)


@dataclass(frozen=True)
class Stats(_Source):
    """Tell what is there, what is missing or corrupt, what the videos are like, and what occurs twice."""

    against: Path | None = None
    """Another manifest: also tell what is in both, for example in two versions of Kinetics."""
    page: Path | None = None
    """Write an HTML page with a picture of each class."""

    def run(self, source: str) -> None:
        """Count, and print."""
        from quovadis.datasets.inspection import index_videos
        from quovadis.datasets.manifest import Manifest
        from quovadis.datasets.probe_cache import ProbeCache
        from quovadis.datasets.statistics import dataset_statistics
        from quovadis.report.dataset import statistics_table
        from quovadis.report.dataset_page import write_dataset_page
        from quovadis.runtime.console import Console

        against = None if self.against is None else Manifest.load(self.against)
        data = open_source(source, self)
        _print_notes(data)
        if not is_manifest(source):
            with ProbeCache() as cache, _progress("indexing", len(data.records)) as on_video:
                data = index_videos(data, num_workers=self.workers, cache=cache, on_video=on_video)
        statistics = dataset_statistics(data, against)
        if self.json:
            print(json.dumps(statistics.to_dict(), indent=2))
        else:
            Console(soft_wrap=True).print(statistics_table(statistics))
        if self.page is not None:
            with _progress("pictures", len(data.labels)) as on_class:
                page = write_dataset_page(self.page, data, statistics, on_class=on_class)
            print(f"wrote {page}", file=sys.stderr)


ACTIONS: dict[str, type[_Source]] = {"index": Index, "verify": Verify, "stats": Stats}

_USAGE = f"""usage: quovadis data NAME_OR_PATH index|verify|stats|download [--OPTION VALUE ...]

NAME_OR_PATH is a folder with one sub-folder a class, a .csv or .tsv table, a .txt list with lines "path label", a
.parquet manifest, or one of
{", ".join(NAMES)}; a folder of such a name is written ./NAME.

  index     look at every file and write a manifest (Parquet), which train and evaluate take as --data
  verify    decode every file to its end; exit code 1 when something is missing or corrupt
  stats     what is there, what is missing, duplicates, overlap of splits and of datasets; a page with pictures
  download  fetch a version of Kinetics

  quovadis data ucf101 index --root UCF-101 --annotations ucfTrainTestlist --split 1 --out ucf101-1.parquet
  quovadis data ucf101-1.parquet verify
  quovadis data ucf101-1.parquet stats --page ucf101.html

quovadis data NAME_OR_PATH ACTION --help lists every option."""


def main(args: list[str]) -> None:
    """Run the verb: ``quovadis data NAME_OR_PATH ACTION [--option value ...]``."""
    if args and args[0] in ("-h", "--help"):
        print(_USAGE)
        return
    known = (*ACTIONS, "download")
    if len(args) < 2 or args[1] not in known:
        if len(args) > 1:
            print(f"error: {UnknownNameError.among('action', args[1], known)}", file=sys.stderr)
        print(_USAGE, file=sys.stderr)
        sys.exit(2)
    source, action, rest = args[0], args[1], args[2:]
    if action == "download":
        if source not in KINETICS:
            raise UnknownNameError.among("dataset to download", source, KINETICS)
        from quovadis.cli.data_download import main as download

        download(source, rest)
        return
    prog = f"quovadis data {source} {action}"
    tyro.cli(ACTIONS[action], args=rest, prog=prog, config=(tyro.conf.FlagCreatePairsOff,)).run(source)


def open_source(source: str, options: _Source) -> "Manifest":
    """The manifest of a named dataset, of a Parquet file, of a folder or of a table.

    Raises:
        DatasetError, UnknownNameError, InvalidInputError: it cannot be used, or the options do not fit it.
    """
    from quovadis.datasets.kinetics.annotations import read_names
    from quovadis.datasets.kinetics.folder import kinetics_manifest
    from quovadis.datasets.load import load_dataset
    from quovadis.datasets.manifest import Manifest

    classes = None if options.classes is None else read_names(options.classes)
    if source in NAMES:
        if options.root is None or not options.annotations:
            raise InvalidInputError(f"{source} needs --root (the folder of the videos) and --annotations")
    elif options.annotations:
        raise InvalidInputError(f"--annotations are of a named dataset ({', '.join(NAMES)}); {source!r} is none")
    if options.split is not None and source not in ("ucf101", "hmdb51"):
        raise InvalidInputError(f"--split is the official split of ucf101 or hmdb51; {source!r} is neither")
    if options.ids is not None and source not in KINETICS:
        raise InvalidInputError(f"--ids choose videos of Kinetics; {source!r} is something else")
    if source in KINETICS:
        assert options.root is not None
        ids = () if options.ids is None else read_names(options.ids)
        return kinetics_manifest(source, options.annotations, options.root, classes=classes or (), youtube_ids=ids)
    if source in NAMES:
        data = _open_official(source, options)
    elif is_manifest(source):
        data = Manifest.load(source, root=options.root)
    else:
        data = load_dataset(source, split_seed=options.split_seed, root=options.root)
    return data if classes is None else data.keep_classes(classes)


def is_manifest(source: str) -> bool:
    """Whether a manifest was given, as its ending says."""
    return source not in NAMES and source.lower().endswith(".parquet")


def _open_official(source: str, options: _Source) -> "Manifest":
    from quovadis.datasets.hmdb51 import load_hmdb51
    from quovadis.datasets.ucf101 import load_ucf101

    if len(options.annotations) > 1:
        raise InvalidInputError(f"{source} takes one folder of annotations; got {len(options.annotations)}")
    load = load_ucf101 if source == "ucf101" else load_hmdb51
    assert options.root is not None
    return load(options.root, options.annotations[0], split=options.split or 1, split_seed=options.split_seed)


def _target(source: str, out: Path | None, data: "Manifest") -> Path:
    """Where the manifest will be written; refused now rather than after hours of work."""
    from quovadis.datasets.manifest_file import refuse_to_replace

    target = out or Path(source if is_manifest(source) else f"{data.name}.parquet")
    refuse_to_replace(target)
    return target


def _report(data: "Manifest", path: Path, as_json: bool) -> None:
    wrong = [r for r in data.records if r.status in ("missing", "corrupt")]
    statuses = {name: sum(r.status == name for r in wrong) for name in ("missing", "corrupt")}
    if as_json:
        problems = [{"path": data.relative(r), "status": r.status, "reason": r.reason} for r in wrong]
        counts = {"name": data.name, "fingerprint": data.fingerprint, "num_videos": len(data.records), **statuses}
        print(json.dumps({"manifest": str(path), **counts, "problems": problems}, indent=2))
        return
    for status, count in statuses.items():
        for record in [r for r in wrong if r.status == status][:_MAX_LISTED]:
            print(f"{status}: {data.relative(record)}: {record.reason}")
        if count > _MAX_LISTED:
            print(f"... {count} {status} in all: the column reason of {path}")
    print(data.describe())
    good = len(data.records) - len(wrong)
    print(f"{path}: {good} good, {statuses['missing']} missing, {statuses['corrupt']} corrupt")


def _print_notes(data: "Manifest") -> None:
    from quovadis.runtime.console import Console

    errors = Console(stderr=True, soft_wrap=True)
    for note in data.notes:
        errors.print(f"note: {note}", style="dim")


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar

    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
