"""Read text files, tables and lists of videos in any encoding that can be recognized, with any line ends."""

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
from pathlib import Path

from quovadis.datasets.video_files import is_video
from quovadis.errors import DatasetError

_HEAD_BYTES = 65536
LIST_SUFFIXES = (".txt", ".lst", ".list")
_LINE_END = re.compile(r"\r\n|\r|\n")
_MARKS = (  # the longer mark first: that of UTF-32 begins with that of UTF-16
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
    """What a reader should know about the encoding."""

    def lines(self) -> Iterator[tuple[str, str]]:
        """Lines that are not blank, stripped, each with ``file:line``."""
        for number, line in enumerate(_LINE_END.split(self.text), start=1):
            if line.strip():
                yield f"{self.path}:{number}", line.strip()

    def rows(self, delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
        """Rows of a table as the ``csv`` module reads them, each with ``file:line``; blank rows are skipped.

        Blanks before a quote are ignored, as some programs write them.

        Raises:
            DatasetError: If the quotes of a row do not match, or a cell is too long to be one.
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
                f"{self.path}:{line}: not a row of a table: {error}. Check that every quote in it is closed, and that "
                "quotes inside a quoted cell are doubled"
            ) from error


def read_text(path: Path) -> Text:
    """Read a text file: UTF-8, UTF-16 or UTF-32, with or without a mark, or Windows-1252 where nothing else fits.

    A name that ends in ``.gz`` is unpacked.

    Raises:
        DatasetError: If there is no such file, it is not a regular file, not text, or its encoding is not clear.
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
            f"{path}:{line}: not {name} text (byte 0x{error.object[error.start]:02X}), and its encoding is not clear: "
            "save it as UTF-8 (in Excel: 'CSV UTF-8')"
        ) from error


def split_list_line(line: str, where: str, folder: Path) -> tuple[str, str]:
    """The path and the label of a line ``path label`` or ``path``; the label is empty where there is none.

    The path goes up to the ending of a video, so that both may contain blanks. A path that has no such ending is one
    word.

    Raises:
        DatasetError: If the line can be read in several ways, none or several of which name a file that exists.

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
                f"{where}: {line!r} has {len(cuts)} endings of videos, so it is not clear where the path stops: write "
                "the path in quotes, or use a table with the columns path and label"
            )
        cuts = existing
    return line[: cuts[0]], line[cuts[0] :].strip()


def require_file(path: Path, what: str = "file") -> os.stat_result:
    """The status of a regular file.

    Raises:
        DatasetError: If there is none, or something else has that name.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"no {what} at {path}") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{_short(path)} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, a pipe or a socket"
        raise DatasetError(f"{path} is {kind}, not a {what}")
    return status


def numbers_first(labels: Sequence[str]) -> list[str]:
    """Labels sorted: by value where all are numbers, else as text.

    >>> numbers_first(["10", "9"]), numbers_first(["10", "9", "run"])
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
            if b"\0" in head and _encoding(head) == "utf-8":  # before gigabytes of a video are read
                kind = next((what for magic, what in _OTHER_FILES.items() if head.startswith(magic)), "")
                if kind:
                    raise DatasetError(f"{path} is not a text file but {kind}")
                _without_nul(path, head.decode("latin-1"))
            return head + file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _encoding(head: bytes) -> str:
    """The encoding that the first bytes show."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    # Without a mark, mostly ASCII text in UTF-16 has a NUL in every second byte.
    even, odd, half = head[0::2].count(0), head[1::2].count(0), len(head) // 2
    if odd > half * 0.6 and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > half * 0.6 and odd == 0 else "utf-8"


def _without_nul(path: Path, text: str) -> str:
    place = text.find("\0")
    if place >= 0:
        line = len(_LINE_END.findall(text[:place])) + 1
        raise DatasetError(f"{path}:{line}: a NUL character: the file is damaged, or not text")
    return text


def _western(data: bytes) -> str | None:
    """Text in Windows-1252 where it looks like a Western European language; None where it may be something else.

    Multi-byte encodings and other alphabets give long runs of bytes above 0x7F, symbols inside words, or capitals after
    small letters.
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
    """A path that may be too long to show."""
    text = str(path)
    return text if len(text) < 300 else f"{text[:100]}...{text[-60:]} ({len(text)} characters)"
