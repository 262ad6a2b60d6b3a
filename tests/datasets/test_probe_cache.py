import os
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from quovadis.datasets.probe_cache import ProbeCache
from quovadis.errors import StorageError


def touched(path: Path, content: bytes = b"1234") -> Path:
    path.write_bytes(content)
    return path


def test_a_changed_file_is_not_in_the_cache(tmp_path: Path) -> None:
    file = touched(tmp_path / "a.mp4")
    with ProbeCache(tmp_path / "c" / "probes.sqlite") as cache:
        before = file.stat()
        cache.put(file, before, {"fps": 25.0, "reason": "ü"})
        assert cache.get(file, before) == {"fps": 25.0, "reason": "ü"}
        assert cache.get(tmp_path / "b.mp4", before) is None
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert cache.get(file, file.stat()) is None
        os.utime(touched(file, b"12345"), ns=(before.st_atime_ns, before.st_mtime_ns))
        assert cache.get(file, file.stat()) is None


def test_entries_persist_and_the_newest_counts(tmp_path: Path) -> None:
    files = [touched(tmp_path / f"{i}\udce9.mp4") for i in range(5)]
    for run in range(2):
        with ProbeCache(tmp_path / "probes.sqlite") as cache:
            for i, file in enumerate(files):
                cache.put(file, file.stat(), {"num_frames": i + run})
    with ProbeCache(tmp_path / "probes.sqlite") as cache:
        assert [cache.get(file, file.stat()) for file in files] == [{"num_frames": i + 1} for i in range(5)]


def test_a_killed_process_keeps_its_entries(tmp_path: Path) -> None:
    file = touched(tmp_path / "a.mp4")
    code = (
        "import os, sys; from pathlib import Path; from quovadis.datasets.probe_cache import ProbeCache;"
        "c = ProbeCache(sys.argv[1]); f = Path(sys.argv[2]); c.put(f, f.stat(), {'fps': 1}); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "probes.sqlite", file], check=False)
    with ProbeCache(tmp_path / "probes.sqlite") as cache, ProbeCache(tmp_path / "probes.sqlite") as second:
        assert cache.get(file, file.stat()) == {"fps": 1}
        second.put(file, file.stat(), {"fps": 2})  # at the same time
        assert cache.get(file, file.stat()) == {"fps": 2}


def test_a_cache_of_another_version_is_recreated(tmp_path: Path) -> None:
    path = tmp_path / "probes.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE probes (other TEXT)")
    other.close()
    file = touched(tmp_path / "a.mp4")
    with ProbeCache(path) as cache:
        assert cache.get(file, file.stat()) is None


def test_a_file_that_is_not_a_cache_is_refused(tmp_path: Path) -> None:
    path = touched(tmp_path / "probes.sqlite", b"no database" * 100)
    with pytest.raises(StorageError, match=r"cannot use the probe cache .*probes\.sqlite: .*Delete the file"):
        ProbeCache(path)
    with pytest.raises(StorageError, match=r"Not a directory.*set QUOVADIS_CACHE"):
        ProbeCache(path / "sub" / "probes.sqlite")


@pytest.mark.parametrize("trouble", ["no folder", "damaged", "read-only", "full"])
def test_without_a_usable_cache_work_continues_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path / "cache"))
    file, other = touched(tmp_path / "a.mp4"), touched(tmp_path / "b.mp4")
    if trouble == "no folder":
        touched(tmp_path / "cache")
    elif trouble == "damaged":
        (tmp_path / "cache").mkdir()
        touched(tmp_path / "cache" / "probes.sqlite", b"no database" * 100)
    else:
        with ProbeCache():
            pass
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        with ProbeCache() as cache:
            if cache._database is not None:
                limit = {"read-only": "PRAGMA query_only = 1", "full": "PRAGMA max_page_count = 1"}[trouble]
                cache._database.execute(limit)
            for number, path in enumerate((file, other)):
                cache.put(path, path.stat(), {"number": number, "long": "x" * 10_000})
            found = [cache.get(path, path.stat()) for path in (file, other)]
    assert [facts["number"] for facts in found if facts] == [0, 1]
    assert ["cannot use the cache" in str(note.message) for note in notes] == [True]


def test_default_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path / "mine"))
    with ProbeCache() as cache:
        assert cache.path == tmp_path / "mine" / "probes.sqlite"
