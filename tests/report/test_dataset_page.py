import base64
import errno
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quovadis.datasets.inspection import verify_videos
from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import VideoRecord
from quovadis.datasets.statistics import dataset_statistics
from quovadis.errors import StorageError
from quovadis.report.dataset_page import middle_frame, write_dataset_page
from quovadis.video.read import read_clip
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import moving_square


def test_page_has_an_image_of_each_class_and_is_self_contained(two_classes: Path, tmp_path: Path) -> None:
    data = load_dataset(two_classes)
    broken = tmp_path / "broken.mp4"
    broken.write_text("no")
    data = replace(
        data,
        labels=(*data.labels, "<gone> & 'lost'"),
        records=(*data.records, VideoRecord(broken, 0, "test"), VideoRecord(tmp_path / "none.mp4", 2, "test")),
    )
    data = verify_videos(data)
    seen: list[int] = []
    page = write_dataset_page(tmp_path / "out" / "p.html", data, dataset_statistics(data), on_class=seen.append)
    html = page.read_text()
    assert seen == [1, 2, 3]
    assert html.count("data:image/jpeg;base64,") == 2
    assert "src='http" not in html
    assert "<gone>" not in html
    assert "&lt;gone&gt; &amp;" in html
    assert "no readable video" in html
    assert "broken.mp4 is not a video that FFmpeg can open" in html
    assert data.fingerprint in html
    first = html.split("data:image/jpeg;base64,")[1].split("'")[0]
    assert Image.open(io.BytesIO(base64.b64decode(first))).size == (154, 128)


def test_the_image_is_the_middle_frame(tmp_path: Path) -> None:
    frames = moving_square(31, 128, 130)
    path = write_video(tmp_path / "a.mkv", frames, fps=25, **LOSSLESS)
    frame = middle_frame(path)
    assert frame is not None
    assert np.array_equal(frame.numpy(), frames[15].numpy())  # on screen from 0.60 to 0.64 s
    assert middle_frame(tmp_path / "none.mp4") is None


def test_a_truncated_file_shows_its_first_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", moving_square(200, 128, 130), fps=25, codec="mpeg4", options={"g": "200"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    frame = middle_frame(path)
    assert frame is not None
    assert np.array_equal(frame.numpy(), read_clip(path, fps=None, num_frames=1, damaged="keep").frames[0].numpy())


def test_an_unwritable_path_raises_storage_error(two_classes: Path, tmp_path: Path) -> None:
    data = load_dataset(two_classes)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        write_dataset_page(tmp_path / "file" / "p.html", data, dataset_statistics(data))


def test_a_full_disk_keeps_the_old_page(two_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data = load_dataset(two_classes)
    page = tmp_path / "p.html"
    page.write_text("old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_dataset_page(page, data, dataset_statistics(data))
    assert page.read_text() == "old"
    assert list(tmp_path.iterdir()) == [page]
