from pathlib import Path

import pytest

from quovadis.datasets.video_inputs import list_videos, unique_stems
from quovadis.errors import DatasetError, InvalidInputError
from quovadis.inference.extract import plan_jobs
from quovadis.inference.feature_presets import find_feature_preset
from quovadis.inference.features import FeatureExtractor
from quovadis.models.zoo import build_model


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a.avi", "b.mp4"], ["a", "b"]),
        (["a.avi", "a.mp4", "b.mp4"], ["a.avi", "a.mp4", "b"]),
        (["x/a.avi", "y/a.mp4"], ["x/a", "y/a"]),
        (["a.avi", "a.mp4", "a.avi.mkv"], ["a.avi", "a.mp4", "a.avi.mkv"]),
        (["v.1.mp4", "v.2.mp4", "v.1.avi"], ["v.1.mp4", "v.2", "v.1.avi"]),
    ],
)
def test_ambiguous_names_keep_their_extension(names: list[str], stems: list[str]) -> None:
    assert list(unique_stems(names).values()) == stems


def test_features_of_two_containers_have_two_files(tmp_path: Path) -> None:
    for name in ("a/clip.avi", "a/clip.mp4", "a/other.mp4", "b/clip.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    extractor = FeatureExtractor([build_model("i3d_tiny", num_classes=2)], find_feature_preset("quovadis"))
    jobs, settled = plan_jobs(list_videos([tmp_path]), Path("out"), extractor, ("rgb",))
    assert settled == []
    assert [job.files[0].path.as_posix() for job in jobs] == [
        "out/a/clip.avi_rgb.npy",
        "out/a/clip.mp4_rgb.npy",
        "out/a/other_rgb.npy",
        "out/b/clip_rgb.npy",
    ]
    assert jobs[0].files[0].sidecar.name == "clip.avi_rgb.json"
    with pytest.raises(InvalidInputError, match=r"a/clip\.mp4 and .*b/clip\.mp4 would be written to one file"):
        list_videos([tmp_path / "a", tmp_path / "b"])


def test_a_list_with_labels_names_videos(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("run/a b.mp4 3\nhop/c.avi\tlong jump\nd.mp4\n")
    assert list(list_videos([tmp_path / "list.txt"])) == ["run/a b.mp4", "hop/c.avi", "d.mp4"]


def test_patterns_are_expanded(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", "c.avi", "sub/d.mp4", "[e].mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(list_videos([tmp_path / "[ab]*.mp4"])) == ["a.mp4", "b.mp4"]
    assert list(list_videos([tmp_path / "**" / "*.mp4"])) == ["[e].mp4", "a.mp4", "b.mp4", "d.mp4"]
    assert list(list_videos([tmp_path / "[e].mp4"])) == ["[e].mp4"], "existing files precede patterns"
    with pytest.raises(DatasetError, match=r"no file matches .*\*\.mkv"):
        list_videos([tmp_path / "*.mkv"])


def test_comments_in_lists(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# my videos\n#1.mp4\n#2.mp4\na.mp4\n")
    for name in ("a.mp4", "#1.mp4"):
        (tmp_path / name).touch()
    assert list(list_videos([tmp_path / "list.txt"])) == ["#1.mp4", "a.mp4"]
