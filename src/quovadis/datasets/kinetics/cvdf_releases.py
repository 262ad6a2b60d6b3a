"""Where CVDF hosts the clips and annotations of Kinetics: releases, lists of archives, URLs.

The Common Visual Data Foundation hosts Kinetics-400, -600 and -700-2020. The paths are those of the README and scripts
of https://github.com/cvdfoundation/kinetics-dataset (commit e6bea42). The names of the archives are in one list per
split. Kinetics-400 has numbered archives of flat folders, and one archive that replaces about 1,400 corrupt clips. The
train and val archives of Kinetics-600 contain one class each and are named after it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote

from quovadis.datasets.kinetics.archives import is_archive
from quovadis.errors import DatasetError, UnknownNameError
from quovadis.runtime.download import RetryPolicy, download

CVDF_URL = "https://s3.amazonaws.com/kinetics"
_ARCHIVE_PATH = re.compile(r"\w+/\w+/[^./\\\0][^/\\\0]*\.(tar\.gz|tgz|tar)")


@dataclass(frozen=True)
class CvdfRelease:
    """Paths of one version of Kinetics below ``CVDF_URL``."""

    folder: str
    prefix: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Complete annotation files by split. According to CVDF, those of Kinetics-600 train and val are incomplete."""
    replacement: str = ""
    """Archive that replaces corrupt clips."""

    def archive_list(self, split: str) -> str:
        """Return the path of the list of archives of a split."""
        return f"{self.folder}/{split}/{self.prefix}_{split}_path.txt"


RELEASES: Mapping[str, CvdfRelease] = MappingProxyType(
    {
        "kinetics400": CvdfRelease(
            "400",
            "k400",
            {split: f"400/annotations/{split}.csv" for split in ("train", "val", "test")},
            "400/replacement_for_corrupted_k400.tgz",
        ),
        "kinetics600": CvdfRelease("600", "k600", {"test": "600/annotations/test.csv"}),
        "kinetics700": CvdfRelease(
            "700_2020",
            "k700_2020",
            {split: f"700_2020/annotations/{split}.csv" for split in ("train", "val", "test")},
        ),
    }
)


@dataclass(frozen=True)
class CvdfArchive:
    """An archive of clips."""

    path: str
    """Path below ``CVDF_URL``."""
    split: str
    """Split of its clips, or ``replacement``."""

    @property
    def name(self) -> str:
        """File name."""
        return self.path.rpartition("/")[2]

    @property
    def is_replacement(self) -> bool:
        """True for the archive that replaces corrupt clips."""
        return self.split == "replacement"


def find_release(name: str) -> CvdfRelease:
    """Return a release by name.

    Raises:
        UnknownNameError: If CVDF does not host this dataset.
    """
    if name not in RELEASES:
        raise UnknownNameError.among("dataset of CVDF", name, RELEASES)
    return RELEASES[name]


def download_annotations(
    name: str, split: str, folder: Path, *, mirror: str = CVDF_URL, retry_policy: RetryPolicy | None = None
) -> Path:
    """Download the annotation file of a split to ``folder/annotations``, unless it exists.

    Args:
        name: ``kinetics400``, ``kinetics600`` or ``kinetics700``.
        split: ``train``, ``val`` or ``test``.
        folder: Folder of the dataset.
        mirror: URL that serves the same paths as ``CVDF_URL``.
        retry_policy: Number of attempts and wait times.

    Returns:
        The path of the CSV file.

    Raises:
        UnknownNameError: If CVDF does not host this dataset.
        DatasetError: If CVDF has no complete annotation file for the split.
        DownloadError: If the download fails.

    Example:
        >>> download_annotations("kinetics400", "val", Path("k400"))  # doctest: +SKIP
    """
    release = find_release(name)
    if split not in release.annotations:
        raise DatasetError(
            f"CVDF's annotations of {name} {split} are incomplete: pass the file of the original release with "
            "--annotations (https://github.com/activitynet/ActivityNet, Crawler/Kinetics/data)"
        )
    target = folder / "annotations" / f"{split}.csv"
    return download(
        url_of(release.annotations[split], mirror), target, _problem_with_annotations, retry_policy=retry_policy
    )


def list_archives(
    release: CvdfRelease, split: str, folder: Path, *, mirror: str, retry_policy: RetryPolicy
) -> list[CvdfArchive]:
    """Download the list of archives of a split, unless it exists, and parse it.

    Raises:
        DownloadError: If the download fails.
        DatasetError: If the list contains a URL outside of ``CVDF_URL``, or of a file that is not an archive.
    """
    path = release.archive_list(split)
    file = folder / path.rpartition("/")[2]
    download(url_of(path, mirror), file, _problem_with_list, retry_policy=retry_policy)
    archives = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        url = unquote(line.strip())
        if not url:
            continue
        archive_path = url.removeprefix(f"{CVDF_URL}/")
        if not _ARCHIVE_PATH.fullmatch(archive_path):
            raise DatasetError(f"{file} lists {url!r}; expected archives under {CVDF_URL}: delete the file")
        archives.append(CvdfArchive(archive_path, split))
    return archives


def url_of(path: str, mirror: str) -> str:
    """Return the URL of a path; names of Kinetics-600 contain spaces."""
    return f"{mirror.rstrip('/')}/{quote(path)}"


def problem_with_archive(file: Path) -> str:
    """Return why a downloaded file is not a valid archive, or an empty string."""
    return "" if is_archive(file) else "it is not a tar archive"


def _problem_with_list(file: Path) -> str:
    start = file.read_text(encoding="utf-8", errors="replace").lstrip()[: len(CVDF_URL)]
    return "" if start == CVDF_URL else f"a list of archives starts with {CVDF_URL}; got {start[:40]!r}"


def _problem_with_annotations(file: Path) -> str:
    with file.open("rb") as opened:
        first = opened.readline(1000)
    return "" if b"youtube_id" in first else f"its first line has no column youtube_id: {first[:80]!r}"
