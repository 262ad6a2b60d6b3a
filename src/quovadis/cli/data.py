"""``quovadis data``: index, verify, describe and download datasets."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from quovadis.cli._arguments import reorder_arguments
from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.datasets.manifest import Manifest

KINETICS = ("kinetics400", "kinetics600", "kinetics700")
NAMES = ("ucf101", "hmdb51", *KINETICS)
_MAX_LISTED = 20


@dataclass(frozen=True)
class _Action(ABC):
    """Options that choose the videos, common to index, verify and stats."""

    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TARGET")]
    """A folder, table, list or manifest, or the name of a dataset; see quovadis data --help."""
    root: Path | None = None
    """The folder of the videos. Required for named datasets; for a table or manifest, if the videos were moved."""
    annotations: tuple[Path, ...] = ()
    """For named datasets: the folder of the official split files, or the annotation CSV files of Kinetics."""
    split: int | None = None
    """Official split of UCF-101 or HMDB-51: 1 (the default), 2 or 3."""
    classes: Path | None = None
    """A text file with one class per line: keep only these classes, as in Mini-Kinetics."""
    youtube_ids: Path | None = None
    """For Kinetics: a text file with one YouTube ID per line: keep only clips of these videos."""
    split_seed: int = 0
    """Seed of splits that are made because the dataset has none, or no validation split."""
    group_by: str | None = None
    """Regular expression for the group of a video in its path, such as '([^/]+)_[0-9]+': groups are not divided by
    splits and folds. For folders and tables without groups."""
    num_workers: int | None = None
    """Number of worker processes; by default one per core. 0 works in the main process."""
    json: bool = False
    """Print JSON."""

    @property
    def workers(self) -> int:
        """The number of worker processes to use."""
        from quovadis.runtime.threads import num_cores

        return num_cores() if self.num_workers is None else self.num_workers

    @property
    def is_manifest(self) -> bool:
        """True if the target is a manifest, by its extension."""
        return self.target not in NAMES and self.target.lower().endswith(".parquet")

    @abstractmethod
    def run(self) -> None:
        """Run the action."""


@dataclass(frozen=True)
class Index(_Action):
    """Read the properties of every file (size, hash, frames, rate, length) and write a manifest.

    Pass the manifest as --data to train and evaluate. Results are cached, so an interrupted run continues.
    """

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The manifest to write; by default the given manifest, or NAME.parquet."""

    def run(self) -> None:
        """Index, write the manifest, and print a summary."""
        data = open_dataset(self)
        target = _output_path(self, self.out, data)
        data = _index(data, self.workers)
        _report(data, data.save(target), self.json)


@dataclass(frozen=True)
class Verify(_Action):
    """Decode every file to its end, and compare its content with the manifest; exit code 1 if there are problems.

    Unchanged files that were verified before are not decoded again.
    """

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The manifest to write; by default the given manifest, or NAME.parquet."""
    again: bool = False
    """Also decode files that were verified before."""

    def run(self) -> None:
        """Verify, write the manifest, and print the problems."""
        from quovadis.datasets.inspection import verify_videos
        from quovadis.datasets.probe_cache import ProbeCache

        data = open_dataset(self)
        target = _output_path(self, self.out, data)
        with ProbeCache() as cache, _progress("verifying", len(data.records)) as progress:
            data = verify_videos(data, num_workers=self.workers, cache=cache, again=self.again, progress=progress)
        _report(data, data.save(target), self.json)
        if any(r.status != "ok" for r in data.records):
            raise SystemExit(1)


@dataclass(frozen=True)
class Stats(_Action):
    """Print statistics: classes, splits, missing and corrupt files, sizes, rates, duplicates and overlaps."""

    against: Path | None = None
    """Another manifest: also report videos that are in both, for example in two versions of Kinetics."""
    page: Path | None = None
    """Write an HTML page with a frame of each class."""

    def run(self) -> None:
        """Compute and print the statistics."""
        from quovadis.datasets.manifest import Manifest
        from quovadis.datasets.statistics import dataset_statistics
        from quovadis.report.dataset import statistics_table
        from quovadis.report.dataset_page import write_dataset_page
        from quovadis.runtime.console import Console

        against = None if self.against is None else Manifest.load(self.against)
        data = open_dataset(self)
        if not self.is_manifest:
            data = _index(data, self.workers)
        statistics = dataset_statistics(data, against)
        if self.json:
            print(json.dumps(statistics.to_dict(), indent=2))
        else:
            Console(soft_wrap=True).print(statistics_table(statistics))
        if self.page is not None:
            with _progress("frames", len(data.labels)) as on_class:
                page = write_dataset_page(self.page, data, statistics, on_class=on_class)
            print(f"wrote {page}", file=sys.stderr)


ACTIONS: dict[str, type[_Action]] = {"index": Index, "verify": Verify, "stats": Stats}

_USAGE = f"""usage: quovadis data index|verify|stats|download TARGET [--OPTION VALUE ...]

  index     read the properties of every file and write a manifest (Parquet), which train and evaluate take as --data
  verify    decode every file to its end; exit code 1 if files are missing or corrupt
  stats     print classes, missing files, duplicates, overlaps of splits and datasets; write a page with frames
  download  fetch a version of Kinetics

TARGET is a folder with one subfolder per class, a .csv or .tsv table, a .txt list with lines "path label", a .parquet
manifest, or one of {", ".join(NAMES)}. Write ./NAME for a folder of such a name.

  quovadis data index ucf101 --root UCF-101 --annotations ucfTrainTestlist --split 1 --out ucf101-1.parquet
  quovadis data verify ucf101-1.parquet
  quovadis data stats ucf101-1.parquet --page ucf101.html

quovadis data ACTION --help lists every option."""


def main(args: list[str]) -> None:
    """Run the command: ``quovadis data ACTION TARGET [--option value ...]``."""
    if args and args[0] in ("-h", "--help"):
        print(_USAGE)
        return
    known = (*ACTIONS, "download")
    if not args or args[0] not in known:
        if args:
            print(f"error: {UnknownNameError.among('action', args[0], known)}", file=sys.stderr)
        print(_USAGE, file=sys.stderr)
        sys.exit(2)
    action, rest = args[0], args[1:]
    if action == "download":
        from quovadis.cli.data_download import main as download

        download(rest)
        return
    options = ACTIONS[action]
    prog = f"quovadis data {action}"
    tyro.cli(options, args=reorder_arguments(options, rest), prog=prog, config=(tyro.conf.FlagCreatePairsOff,)).run()


def open_dataset(options: _Action) -> "Manifest":
    """Open the dataset that the options describe, and print its notes.

    Raises:
        DatasetError: If the dataset is invalid.
        UnknownNameError: If the target is neither a name nor an existing path.
        InvalidInputError: If the options do not fit the target.
    """
    _check_options(options)
    data = _open_target(options)
    from quovadis.runtime.console import Console

    errors = Console(stderr=True, soft_wrap=True)
    for note in data.notes:
        errors.print(f"note: {note}", style="dim")
    return data


def _check_options(options: _Action) -> None:
    target = options.target
    if target in NAMES:
        if options.root is None or not options.annotations:
            raise InvalidInputError(f"{target} needs --root (the folder of the videos) and --annotations")
    elif options.annotations:
        raise InvalidInputError(f"--annotations is for named datasets only ({', '.join(NAMES)}); got {target!r}")
    if options.split is not None and target not in ("ucf101", "hmdb51"):
        raise InvalidInputError(f"--split is for the official splits of ucf101 and hmdb51 only; got {target!r}")
    if options.youtube_ids is not None and target not in KINETICS:
        raise InvalidInputError(f"--youtube-ids is for Kinetics only; got {target!r}")
    if target in ("ucf101", "hmdb51") and len(options.annotations) > 1:
        raise InvalidInputError(f"{target} takes one folder of annotations; got {len(options.annotations)}")


def _open_target(options: _Action) -> "Manifest":
    from quovadis.datasets.hmdb51 import load_hmdb51
    from quovadis.datasets.kinetics.annotations import read_names
    from quovadis.datasets.kinetics.load import load_kinetics
    from quovadis.datasets.load import load_dataset
    from quovadis.datasets.manifest import Manifest
    from quovadis.datasets.ucf101 import load_ucf101

    target, root, seed = options.target, options.root, options.split_seed
    classes = None if options.classes is None else read_names(options.classes)
    if target in KINETICS:
        assert root is not None
        ids = () if options.youtube_ids is None else read_names(options.youtube_ids)
        return load_kinetics(target, root, options.annotations, classes=classes or (), youtube_ids=ids)
    if target in NAMES:
        assert root is not None
        load = load_ucf101 if target == "ucf101" else load_hmdb51
        data = load(root, options.annotations[0], split=options.split or 1, split_seed=seed)
    elif options.is_manifest:
        data = Manifest.load(target, root=root)
    else:
        data = load_dataset(target, split_seed=seed, root=root, group_by=options.group_by)
    return data if classes is None else data.keep_classes(classes)


def _index(data: "Manifest", num_workers: int) -> "Manifest":
    from quovadis.datasets.inspection import index_videos
    from quovadis.datasets.probe_cache import ProbeCache

    with ProbeCache() as cache, _progress("indexing", len(data.records)) as progress:
        return index_videos(data, num_workers=num_workers, cache=cache, progress=progress)


def _output_path(options: _Action, out: Path | None, data: "Manifest") -> Path:
    """Return the path of the manifest to write; fail now, not after hours of work, if it cannot be replaced."""
    from quovadis.datasets.manifest_file import refuse_to_replace

    path = out or Path(options.target if options.is_manifest else f"{data.name}.parquet")
    refuse_to_replace(path)
    return path


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
            print(f"... {count} {status} in all: see the column reason of {path}")
    print(data.describe())
    good = len(data.records) - len(wrong)
    print(f"{path}: {good} good, {statuses['missing']} missing, {statuses['corrupt']} corrupt")


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar

    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda num_done: bar.update(task, completed=num_done)
