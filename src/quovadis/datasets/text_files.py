"""Read text files and tables with automatic detection of encoding and line endings."""

import codecs
import csv
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from quovadis.datasets.video_files import is_video
from quovadis.errors import DatasetError

_HEAD_BYTES = 65536
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 4095
LIST_SUFFIXES = (".txt", ".lst", ".list")
_LINE_END = re.compile(r"\r\n|\r|\n")
_BYTE_ORDER_MARKS = (  # UTF-32 first, because its mark starts with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FILES = {
    b"PK\x03\x04": "an Excel workbook or a zip archive: save the table as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the table as CSV",
    b"PAR1": "a Parquet file: give it the ending .parquet",
    b"\x1f\x8b": "a gzip file: unpack it, or give it the ending .gz",
    b"%PDF": "a PDF document",
}
_PUNCTUATION = frozenset("‘’“”–—…€\xa0¡¿«»°·´×©®")


@dataclass(frozen=True)
class Text:
    """The content of a text file."""

    path: Path
    text: str
    note: str = ""
    """A remark on the encoding, or empty."""

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield ``file:line`` and the stripped text of each line that is not blank."""
        for number, line in enumerate(_LINE_END.split(self.text), start=1):
            if line.strip():
                yield f"{self.path}:{number}", line.strip()

    def rows(self, delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
        """Yield ``file:line`` and the cells of each row that is not blank, as the ``csv`` module reads them.

        Spaces before a quote are ignored.

        Raises:
            DatasetError: If the quotes of a row do not match, or a cell is too long.
        """
        reader = csv.reader(
            io.StringIO(self.text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=delimiter != "\t"
        )
        line = 1
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield f"{self.path}:{line}", cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise DatasetError(
                f"{self.path}:{line}: invalid table row: {error}. Check that every quote is closed and that quotes "
                "inside a quoted cell are doubled"
            ) from error


def read_text(path: Path) -> Text:
    """Read a text file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark, or in Windows-1252.

    A file whose name ends in ``.gz`` is decompressed.

    Raises:
        DatasetError: If the file does not exist, is not a regular file, is not text, or has an unknown encoding.
    """
    data = _read_bytes(path)
    encoding = _encoding(data[:_HEAD_BYTES])
    try:
        return Text(path, _without_nul(path, data.decode(encoding)))
    except UnicodeDecodeError as error:
        text = _western(data) if encoding == "utf-8" else None
        if text is not None:
            return Text(path, text, f"{path.name} is not UTF-8; read as Windows-1252 (cp1252)")
        name, line = encoding.removesuffix("-sig").upper(), error.object.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{path}:{line}: not {name} text (byte 0x{error.object[error.start]:02X}), and the encoding could not be "
            "detected: save the file as UTF-8 (in Excel: 'CSV UTF-8')"
        ) from error


def split_list_line(line: str, where: str, folder: Path) -> tuple[str, str]:
    """Split a line ``path label`` or ``path`` into path and label; the label may be empty.

    The path extends to the extension of a video, so both may contain spaces. A path without such an extension is one
    word.

    Args:
        line: The line.
        where: ``file:line``, for error messages.
        folder: Folder that the path is relative to, used to find out which of several readings names a file.

    Raises:
        DatasetError: If the line is ambiguous, and not exactly one reading names an existing file.

    Example:
        >>> split_list_line("air drumming/a b.mp4 air drumming", "list.txt:1", Path())
        ('air drumming/a b.mp4', 'air drumming')
        >>> split_list_line("v_YoYo_g01_c01.avi", "list.txt:1", Path())
        ('v_YoYo_g01_c01.avi', '')
    """
    quoted = re.fullmatch(r"(['\"])(.+?)\1(?:\s+(.*))?", line)
    if quoted:
        return quoted[2], quoted[3] or ""
    cuts = [match.start() for match in re.finditer(r"\s+|$", line) if is_video(line[: match.start()])]
    if not cuts:
        path, *rest = line.split(maxsplit=1)
        return path, "".join(rest)
    if len(cuts) > 1:
        existing = [cut for cut in cuts if (folder / line[:cut]).is_file()]
        if len(existing) != 1:
            raise DatasetError(
                f"{where}: {line!r} contains {len(cuts)} video file extensions, so the end of the path is ambiguous: "
                "put the path in quotes, or use a table with the columns path and label"
            )
        cuts = existing
    return line[: cuts[0]], line[cuts[0] :].strip()


def require_file(path: Path, what: str = "file") -> os.stat_result:
    """Return the ``stat`` result of a regular file.

    Raises:
        DatasetError: If the path does not exist, cannot be read, or is not a regular file.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"no {what} at {path}") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {_short(path)}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, a pipe or a socket"
        raise DatasetError(f"{path} is {kind}, not a {what}")
    return status


def path_within(root: Path, text: str, where: str) -> Path:
    """Resolve a listed path: absolute, or relative to the root and inside of it.

    Args:
        root: Folder of the dataset.
        text: The path as listed.
        where: ``file:line``, for error messages.

    Raises:
        DatasetError: If the path leaves the root, or is longer than file systems allow.

    Example:
        >>> path_within(Path("videos"), "run/a.mp4", "list.csv:2").as_posix()
        'videos/run/a.mp4'
    """
    if ".." in text and ".." in PurePosixPath(text.replace("\\", "/")).parts:
        raise DatasetError(
            f"{where}: the path {text!r} leaves the dataset's folder {root}. Relative paths must stay inside it: use "
            "an absolute path, or pass the folder that contains all videos as the root"
        )
    longest = max(text.replace("\\", "/").split("/"), key=len)
    if len(os.fsencode(longest)) > _MAX_NAME_BYTES or len(os.fsencode(text)) > _MAX_PATH_BYTES:
        raise DatasetError(
            f"{where}: the path {text[:60]!r}... is too long ({len(text)} characters): names have at most "
            f"{_MAX_NAME_BYTES} bytes and paths {_MAX_PATH_BYTES}. Is a quote not closed?"
        )
    return root / text


def sort_labels(labels: Sequence[str]) -> list[str]:
    """Sort labels by value if all are numbers, else as text.

    Example:
        >>> sort_labels(["10", "9"]), sort_labels(["10", "9", "run"])
        (['9', '10'], ['10', '9', 'run'])
    """
    if all(label.isascii() and label.isdigit() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _read_bytes(path: Path) -> bytes:
    require_file(path)
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if b"\0" in head and _encoding(head) == "utf-8":  # before reading gigabytes of a video
                kind = next((what for magic, what in _OTHER_FILES.items() if head.startswith(magic)), "")
                if kind:
                    raise DatasetError(f"{path} is not a text file but {kind}")
                _without_nul(path, head.decode("latin-1"))
            return head + file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _encoding(head: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    # In UTF-16 without a mark, every second byte of ASCII text is NUL.
    even, odd, half = head[0::2].count(0), head[1::2].count(0), len(head) // 2
    if odd > half * 0.6 and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > half * 0.6 and odd == 0 else "utf-8"


def _without_nul(path: Path, text: str) -> str:
    place = text.find("\0")
    if place >= 0:
        line = len(_LINE_END.findall(text[:place])) + 1
        raise DatasetError(f"{path}:{line}: NUL character: the file is damaged or not text")
    return text


def _western(data: bytes) -> str | None:
    """Decode Windows-1252, or return None if the result does not look like a Western European language.

    Other encodings give long runs of non-ASCII characters, symbols inside words, or capitals after lowercase letters.
    """
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    for match in re.finditer(r"[^\x00-\x7f]+", text):
        run, before = match[0], text[match.start() - 1 : match.start()]
        if not all(c in _PUNCTUATION or c.isalpha() for c in run):
            return None
        if len(run) > 2 or (len(run) == 2 and run.isalpha() and not run.islower()):
            return None
        if run[0].isupper() and before.islower():
            return None
    return text


def _short(path: Path) -> str:
    """Shorten a very long path for a message."""
    text = str(path)
    return text if len(text) < 300 else f"{text[:100]}...{text[-60:]} ({len(text)} characters)"
