"""Create small archives of clips for tests."""

import io
import tarfile

from quovadis.datasets.kinetics.annotations import KineticsClip


def tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def clip(letter: str, label: str = "zumba", split: str = "val") -> KineticsClip:
    return KineticsClip(f"-_________{letter}", 5, 15, split, label)


def name(letter: str) -> str:
    return f"./-_________{letter}_000005_000015.mp4"


def content(letter: str) -> bytes:
    return f"clip {letter} ".encode() * 500
