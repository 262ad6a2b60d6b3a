import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from quovadis.fvd.card import VideoEmbeddings
from quovadis.fvd.distance import FvdResult, frechet_video_distance
from quovadis.fvd.embed import VideoEmbedder
from quovadis.metrics.moments import FeatureMoments
from quovadis.models.zoo import build_model
from quovadis.report.charts import sample_curve_svg
from quovadis.report.fvd_page import MetricRow, metric_rows, write_fvd_page
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import moving_square

Videos = NDArray[np.uint8]


@pytest.fixture(scope="module")
def videos() -> Videos:
    return np.random.default_rng(0).integers(0, 256, (14, 9, 40, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def embedder() -> VideoEmbedder:
    return VideoEmbedder("own", weights=build_model("i3d_tiny", num_classes=5), device="cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, videos: Videos) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("fvd")
    for name in ("real", "made"):
        np.save(folder / f"{name}.npy", videos)
    return folder / "real.npy", folder / "made.npy"


def with_features(embeddings: VideoEmbeddings, positions: list[float]) -> VideoEmbeddings:
    """The same set with features on a line."""
    features = np.zeros((len(positions), 5), np.float32)
    features[:, 0] = positions
    moments = FeatureMoments()
    moments.update(features)
    return replace(embeddings, features=features, moments=moments)


@pytest.fixture(scope="module")
def sets(embedder: VideoEmbedder, files: tuple[Path, Path]) -> tuple[FvdResult, VideoEmbeddings, VideoEmbeddings]:
    """Generated video 3 is far from all real ones, and no generated video is near to the real videos 12 and 13."""
    embedded = [embedder.embed(file) for file in files]
    real = with_features(embedded[0], [*range(7), 20, 21, 22, 23, 24, 80, 90])
    generated = with_features(embedded[1], [0.5, 1.5, 2.5, 200, *range(4, 14)])
    return frechet_video_distance(real, generated, num_resamples=20), real, generated


def headings(html: str) -> list[str]:
    return re.findall(r"<figcaption><span><b>(.*?)</b>", html)


def test_videos_to_look_at_are_shown_with_their_nearest(
    sets: tuple[FvdResult, VideoEmbeddings, VideoEmbeddings], files: tuple[Path, Path], tmp_path: Path
) -> None:
    real, made = files
    path = write_fvd_page(tmp_path / "fvd.html", *sets, real_videos=real, generated_videos=made, num_videos=3)
    html = path.read_text()
    names = headings(html)
    assert names[0] == "made.npy[3]"
    assert "110.0 from real.npy[13], the nearest real video" in html
    assert names[3:] == ["real.npy[13]", "real.npy[12]"]
    assert "2 of 14 real videos have no generated video" in html
    assert html.count("src='data:image/jpeg;base64,") == 10
    assert "http" not in re.sub(r"http://www.w3.org/\S+|http://purl.org/\S+", "", html)
    for name in ("FVD", "KVD", "precision", "recall", "density", "coverage"):
        assert f"<b>{name}</b>" in html
    assert "95% interval" in html
    assert "own, 9 frames" in html
    assert "infinitely many videos: cannot be estimated below 20 videos in each set" in html


def test_sets_without_their_videos_list_names(
    sets: tuple[FvdResult, VideoEmbeddings, VideoEmbeddings], tmp_path: Path
) -> None:
    rows = [MetricRow("mine", 0.25, explanation="by <me>")]
    html = write_fvd_page(tmp_path / "fvd.html", *sets, metrics=rows, num_videos=2).read_text()
    assert headings(html)[::2] == ["made.npy[3]", "real.npy[13]"]
    assert len(headings(html)) == 4
    assert "<img" not in html
    assert "by &lt;me&gt;" in html
    assert "<b>precision</b>" not in html


def test_extrapolated_distance_is_shown(embedder: VideoEmbedder, videos: Videos, tmp_path: Path) -> None:
    few = embedder.embed(videos[:4])
    rng = np.random.default_rng(0)
    real, made = (replace(few, features=f, moments=FeatureMoments.of(f)) for f in rng.normal(size=(2, 24, 5)))
    real, made = (replace(s, card=replace(s.card, num_videos=24), names=()) for s in (real, made))
    result = frechet_video_distance(real, made, num_resamples=0)
    assert result.at_infinity is not None
    html = write_fvd_page(tmp_path / "fvd.html", result, real, made).read_text()
    assert f"infinitely many videos: {result.at_infinity.value:.2f} ± " in html


def test_filmstrips_of_a_folder_with_a_skipped_video(embedder: VideoEmbedder, tmp_path: Path) -> None:
    """Row 1 of the features is the third file, because the second one is too short."""
    for index, count in enumerate((12, 5, 12, 12)):
        write_video(tmp_path / "real" / f"{index}.mp4", moving_square(count, 40, 48, index), **LOSSLESS)
    embedder = VideoEmbedder("own", weights=build_model("i3d_tiny", num_classes=5), num_frames=9, device="cpu")
    found = embedder.embed(tmp_path / "real")
    assert found.names == ("0.mp4", "2.mp4", "3.mp4")
    result = frechet_video_distance(found, found, num_resamples=0)
    folder = tmp_path / "real"
    html = write_fvd_page(tmp_path / "p.html", result, found, found, real_videos=folder, generated_videos=folder)
    assert sorted(headings(html.read_text())) == ["0.mp4", "2.mp4", "3.mp4"]
    assert html.read_text().count("src='data:image/jpeg;base64,") == 6
    assert "interval</th>" not in html.read_text()


def test_metric_rows_need_enough_videos() -> None:
    features = np.random.default_rng(0).normal(size=(30, 4))
    names = [[row.name for row in metric_rows(features[:count], features[15:])] for count in (3, 4, 8, 12)]
    assert names == [
        [],
        ["KVD"],
        ["KVD", "precision", "recall"],
        ["KVD", "precision", "recall", "density", "coverage"],
    ]
    rows = {row.name: row for row in metric_rows(features, features)}
    assert (rows["precision"].value, rows["coverage"].value) == (1, 1)
    assert all(row.low <= row.value <= row.high for row in rows.values())  # type: ignore[operator]


def test_sample_curve_has_its_counts_and_baseline() -> None:
    from quovadis.metrics.sample_size import RepeatedDistance

    curve = [RepeatedDistance(16, 16, (5.0, 7.0)), RepeatedDistance(64, 64, (2.0, 2.0))]
    svg = sample_curve_svg(curve, RepeatedDistance(32, 32, (1.0,)))
    for text in (">16<", ">64<", ">2<", "halves of the real set, 32 videos each"):
        assert text in svg
    assert "halves" not in sample_curve_svg(curve)
