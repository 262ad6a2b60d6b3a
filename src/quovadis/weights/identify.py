"""Identify the format of a file by its content, for error messages about files that contain no weights."""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

TORCH_ZIP = "a PyTorch file"
TORCH_LEGACY = "a PyTorch file of the format before 1.6"
_TORCH_LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_HEAD_BYTES = 2**16

_UNPACK = "unpack it and use the weights file inside"
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (
        0,
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the file itself; run 'git lfs pull' or download it from the project's page",
    ),
    (0, b"\x1f\x8b", f"a gzip archive; {_UNPACK}"),
    (0, b"BZh", f"a bzip2 archive; {_UNPACK}"),
    (0, b"\xfd7zXZ\0", f"an xz archive; {_UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"a Zstandard archive; {_UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_UNPACK}"),
    (0, b"Rar!\x1a\x07", f"a RAR archive; {_UNPACK}"),
    (257, b"ustar", f"a tar archive; {_UNPACK}"),
    (4, b"ftyp", "a video (MP4 or MOV)"),
    (4, b"moov", "a video (MOV)"),
    (4, b"mdat", "a video (MOV)"),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (8, b"AVI ", "a video (AVI)"),
    (8, b"WEBP", "an image (WebP)"),
    (8, b"WAVE", "an audio file (WAV)"),
    (0, b"FLV\x01", "a video (FLV)"),
    (0, b"OggS", "a video or audio file (Ogg)"),
    (0, b"\x00\x00\x01\xba", "a video (MPEG)"),
    (0, b"\x00\x00\x01\xb3", "a video (MPEG)"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "a video (WMV)"),
    (0, b"GIF8", "an image (GIF)"),
    (0, b"\x89PNG", "an image (PNG)"),
    (0, b"\xff\xd8\xff", "an image (JPEG)"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, MATLAB); convert it to a state dict first"),
    (0, b"\x93NUMPY", "a NumPy array (.npy)"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"SQLite format 3", "an SQLite database"),
)


def identify(path: Path) -> str:
    """Return the format of a file: :data:`TORCH_ZIP`, :data:`TORCH_LEGACY`, or a phrase for an error message.

    Nothing in the file is executed or unpacked.

    >>> path = getfixture("tmp_path") / "weights.pt"
    >>> _ = path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>")
    >>> identify(path)
    'a web page (HTML), probably a login or error page; download the file itself'
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return "an empty file"
    if head.startswith(b"PK"):
        return _identify_zip(path)
    if head[:1] == b"\x80" and head[2:].startswith(_TORCH_LEGACY_MAGIC):
        return TORCH_LEGACY
    for offset, signature, name in _SIGNATURES:
        if head.startswith(signature, offset):
            return name
    if len(head) > 188 and head[0] == head[188] == 0x47:
        return "a video (MPEG transport stream)"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return _identify_pickle(head)
    if _is_old_pickle(head):
        return _identify_pickle(head)
    return _identify_text(head)


def _identify_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged or incomplete zip archive (PyTorch files are zip archives); download it again"
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript or exported program, not a state dict; save the state dict of the original model"
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return TORCH_ZIP
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz)"
    shown = ", ".join(names[:3]) or "nothing"
    return f"a zip archive that contains {shown}{' ...' if len(names) > 3 else ''}; {_UNPACK}"


def _identify_pickle(head: bytes) -> str:
    named = ", ".join(dict.fromkeys(_globals_of(head)))
    return f"a Python pickle{f' of {named[:200]}' if named else ''}, not a PyTorch file; save weights with torch.save"


def _globals_of(head: bytes, max_num: int = 3) -> Iterator[str]:
    """Yield the first classes and functions in a pickle, without executing it."""
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(head)):
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".")
                max_num -= 1
            elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
                yield ".".join(texts[-2:])
                max_num -= 1
            elif isinstance(argument, str):
                texts.append(argument)
            if not max_num:
                return
    except Exception:  # the pickle is truncated, or it is not a pickle
        return


def _is_old_pickle(head: bytes) -> bool:
    """Return whether the bytes are a pickle of protocol 0 or 1, which have no signature."""
    if len(head) == _HEAD_BYTES or not head.endswith(b"."):
        return False
    try:
        return [position for _, _, position in pickletools.genops(head)][-1] == len(head) - 1
    except Exception:  # genops raises many types
        return False


def _identify_text(head: bytes) -> str:
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in start:
        return "a web page (HTML), probably a login or error page; download the file itself"
    if start.startswith(b"<?xml"):
        return "an XML document"
    if start.startswith((b"{", b"[")):
        return f"a JSON text that starts with {_quoted(head)}"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "a text file (UTF-16)"
    try:
        text = head.decode("utf-8") if len(head) < _HEAD_BYTES else head[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        text = "\0"
    if all(letter.isprintable() or letter in "\t\r\n\f" for letter in text[:512]):
        return f"a text file that starts with {_quoted(head)}"
    return f"of an unknown format (it starts with the bytes {head[:8].hex(' ')})"


def _quoted(head: bytes) -> str:
    line = head.lstrip(b"\xef\xbb\xbf \t\r\n").split(b"\n")[0].decode("utf-8", "replace").strip()
    return repr(line[:60])
