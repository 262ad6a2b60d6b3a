import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quovadis.datasets.video_inputs import list_videos
from quovadis.errors import DatasetError, InvalidInputError, StorageError, TooFewFramesError
from quovadis.inference import feature_files
from quovadis.inference.extract import ExtractJob, ExtractResult, extract_all, extract_video, plan_jobs
from quovadis.inference.feature_files import FeatureFile, FeatureWriter, files_for, settings_of
from quovadis.inference.feature_presets import FEATURE_PRESETS, FeaturePreset
from quovadis.inference.features import FeatureExtractor
from quovadis.models.spec import StreamKind
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import awake, moving_square

OURS = FEATURE_PRESETS["quovadis"]
BOTH: tuple[StreamKind, ...] = ("rgb", "flow")


@pytest.fixture(scope="module")
def models() -> list[VideoModel]:
    torch.manual_seed(0)
    return [awake(build_model("i3d_tiny", stream=s, num_classes=2)) for s in ("rgb", "flow")]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a/v.mp4, b/v.mp4 and w.mp4 of 40, 33 and 20 frames."""
    root = tmp_path_factory.mktemp("clips")
    for name, num_frames in (("a/v", 40), ("b/v", 33), ("w", 20)):
        write_video(root / f"{name}.mp4", moving_square(num_frames, 72, 90, num_frames), **LOSSLESS)
    return root


def make(
    folder: Path, out: Path, extractor: FeatureExtractor, streams: tuple[StreamKind, ...], **options: Any
) -> list[ExtractResult]:
    jobs, settled = plan_jobs(list_videos([folder]), out, extractor, streams, **options)
    return settled + list(extract_all(jobs, [extractor]))


def test_files_and_their_sidecars(models: list[VideoModel], clips: Path, tmp_path: Path) -> None:
    extractor = FeatureExtractor(models, OURS.with_options(window=16, stride=8))
    results = make(clips, tmp_path, extractor, BOTH)
    assert [r.error for r in results] == ["", "", ""]
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == [
        f"{v}_{s}.{end}" for v in ("a/v", "b/v", "w") for s in ("flow", "rgb") for end in ("json", "npy")
    ]
    rows = extractor.extract(clips / "a" / "v.mp4")
    for kind in BOTH:
        array = np.load(tmp_path / "a" / f"v_{kind}.npy")
        assert (array.shape, array.dtype, array.flags.c_contiguous) == ((4, 256), np.float32, True)
        np.testing.assert_allclose(array, rows.features[kind][:, 0].numpy(), atol=1e-4)
    sidecar = json.loads((tmp_path / "a" / "v_flow.json").read_text())
    assert sidecar["shape"] == [4, 256]
    assert sidecar["start_seconds"] == [0, 0.32, 0.64, 0.96]
    assert sidecar["center_seconds"] == pytest.approx([s + 0.32 for s in sidecar["start_seconds"]])
    settings = sidecar["settings"]
    assert (settings["fps"], settings["window"], settings["stride"], settings["padding"]) == (25, 16, 8, "none")
    assert settings["weights_sha256"] == {"flow": extractor.weights_sha256["flow"]}
    assert settings["flow"]["method"] == "tvl1"
    assert (sidecar["preset"], sidecar["changed"]) == ("quovadis", ["window", "stride"])
    assert "flow" not in json.loads((tmp_path / "a" / "v_rgb.json").read_text())["settings"]
    assert len(list((tmp_path / "a").iterdir())) == 4  # no partial files


@pytest.mark.parametrize(
    ("name", "streams", "files", "shape"),
    [
        ("video-features", BOTH, ["v_rgb", "v_flow", "v_fps", "v_timestamps_ms"], (2, 256)),
        ("pytorch-i3d", ("rgb",), ["v"], (4, 1, 1, 256)),
        pytest.param("ms-tcn", BOTH, ["v"], (512, 40), marks=pytest.mark.slow),
        ("actionformer", BOTH, ["v"], (7, 512)),
        ("ten-crop", ("rgb",), ["v_i3d"], (2, 10, 256)),
    ],
)
def test_layouts_of_presets(
    models: list[VideoModel],
    clips: Path,
    tmp_path: Path,
    name: str,
    streams: tuple[StreamKind, ...],
    files: list[str],
    shape: tuple[int, ...],
) -> None:
    preset = FEATURE_PRESETS[name]
    if name == "video-features":
        preset = preset.with_options(window=16, stride=16)
    extractor = FeatureExtractor(models, preset)
    (job,) = plan_jobs({"v.mp4": clips / "a" / "v.mp4"}, tmp_path, extractor, streams)[0]
    assert extract_video(job, extractor).error == ""
    assert {p.stem for p in tmp_path.glob("*.npy")} == set(files)
    array = np.load(tmp_path / f"{files[0]}.npy")
    assert (array.shape, array.dtype) == (shape, np.float32)
    rows = extractor.extract(job.video)
    together = torch.cat([rows.features[s] for s in (streams if preset.joined else streams[:1])], 2).numpy()
    flat = array.T if preset.shape == "DT" else array
    np.testing.assert_allclose(flat.reshape(together.shape), together, atol=1e-4)
    if name == "video-features":
        assert np.load(tmp_path / "v_fps.npy") == 25
        np.testing.assert_allclose(np.load(tmp_path / "v_timestamps_ms.npy"), [640, 1280])


@pytest.mark.parametrize(("shape", "columns_first"), [((3, 4), False), ((4, 3), True), ((1, 1, 1, 12), False)])
def test_npy_header_is_valid(tmp_path: Path, shape: tuple[int, ...], columns_first: bool) -> None:
    values = np.arange(12, dtype="<f4")
    path = tmp_path / "a.npy"
    path.write_bytes(feature_files._npy_header(shape, columns_first=columns_first) + values.tobytes())
    expected = values.reshape(shape, order="F" if columns_first else "C")
    np.testing.assert_array_equal(np.load(path), expected)
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), expected)
    assert len(feature_files._npy_header((10**9, 10, 2048), columns_first=False)) == 128


def test_existing_files_are_skipped(models: list[VideoModel], clips: Path, tmp_path: Path) -> None:
    extractor = FeatureExtractor(models, OURS)
    make(clips, tmp_path, extractor, ("rgb",))
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npy")}
    (tmp_path / "w_rgb.npy").unlink()
    (tmp_path / "a" / "v_rgb.json").rename(tmp_path / "kept.json")
    again = {r.video.name + str(r.video.parent.name): r for r in make(clips, tmp_path, extractor, BOTH)}
    refused = again["v.mp4a"]
    assert "v_rgb.npy exists without a valid v_rgb.json" in refused.error
    assert not (tmp_path / "a" / "v_flow.npy").exists()
    (tmp_path / "kept.json").rename(tmp_path / "a" / "v_rgb.json")
    done = make(clips, tmp_path, extractor, ("rgb",))
    assert all(r.done_before for r in done)
    assert {r.shapes[str(tmp_path / "b" / "v_rgb.npy")] for r in done if r.video.parent.name == "b"} == {(2, 256)}
    assert len(list(tmp_path.rglob("*_flow.npy"))) == 2
    unchanged = [p for p in times if p.stat().st_mtime_ns == times[p]]
    assert len(unchanged) == 2
    make(clips, tmp_path, extractor, ("rgb",), overwrite=True)
    assert [p for p in times if p.stat().st_mtime_ns == times[p]] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stride": 8}, "stride is 16, now 8"),
        ({"crop": "ten"}, "crop is 'center', now 'ten'"),
        ({"fps": 12.5}, "fps is 25.0, now 12.5"),
        ({"short": "error"}, "short is 'loop', now 'error'"),
    ],
)
def test_existing_features_with_other_settings_are_refused(
    models: list[VideoModel], clips: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    make(clips, tmp_path, FeatureExtractor(models, OURS), ("rgb",))
    before = (tmp_path / "w_rgb.npy").read_bytes()
    for result in make(clips, tmp_path, FeatureExtractor(models, OURS.with_options(**change)), ("rgb",)):
        assert words in result.error
        assert "--overwrite" in result.error
    assert (tmp_path / "w_rgb.npy").read_bytes() == before


def test_existing_features_of_other_weights_are_refused(models: list[VideoModel], clips: Path, tmp_path: Path) -> None:
    make(clips, tmp_path, FeatureExtractor(models, OURS), ("rgb",))
    torch.manual_seed(7)
    other = FeatureExtractor([build_model("i3d_tiny", num_classes=2)], OURS)
    assert all("weights_sha256 is" in r.error for r in make(clips, tmp_path, other, ("rgb",)))
    same_names = tmp_path / "others"
    for name in ("a/v", "b/v", "w"):
        write_video(same_names / f"{name}.mp4", moving_square(20, 72, 90, 99), **LOSSLESS)
    results = make(same_names, tmp_path, FeatureExtractor(models, OURS), ("rgb",))
    assert all("features of another video" in r.error for r in results)


def test_unreadable_file_is_listed_and_the_others_are_processed(
    models: list[VideoModel], clips: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(12):
        os.symlink(clips / "w.mp4", folder / f"{i:02d}.mp4")
    (folder / "05.mp4").unlink()
    (folder / "05.mp4").write_bytes(b"no video")
    os.symlink(tmp_path / "gone.mp4", folder / "13.mp4")
    extractors = [FeatureExtractor([build_model("i3d_tiny", num_classes=2)], OURS, device="cpu") for _ in range(3)]
    for extractor in extractors[1:]:
        extractor.models["rgb"].load_state_dict(extractors[0].models["rgb"].state_dict())
    jobs, settled = plan_jobs(list_videos([folder]), tmp_path / "out", extractors[0], ("rgb",))
    started = []
    results = {r.video.name: r for r in extract_all(jobs, extractors, on_start=lambda job: started.append(job.video))}
    assert settled == []
    assert len(started) == len(results) == 13
    assert {name for name, r in results.items() if r.error} == {"05.mp4", "13.mp4"}
    assert "05.mp4 is not a video" in results["05.mp4"].error
    arrays = [np.load(tmp_path / "out" / f"{i:02d}_rgb.npy") for i in range(12) if i != 5]
    for array in arrays[1:]:
        np.testing.assert_allclose(array, arrays[0], atol=1e-3)
    assert not (tmp_path / "out" / "05_rgb.npy").exists()


def test_failed_video_leaves_no_files(models: list[VideoModel], clips: Path, tmp_path: Path) -> None:
    broken = build_model("i3d_tiny", num_classes=2).eval()
    torch.nn.init.constant_(next(broken.parameters()), float("nan"))
    extractor = FeatureExtractor([broken, models[1]], OURS)
    for result in make(clips, tmp_path, extractor, BOTH):
        assert "NaN" in result.error
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_storage_error_stops_all_jobs(
    models: list[VideoModel], clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot write"):
        make(clips, tmp_path / "out", FeatureExtractor(models, OURS), ("rgb",))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        make(clips, tmp_path / "more", FeatureExtractor(models, OURS), ("rgb",))
    assert list((tmp_path / "more").rglob("*.npy")) == []


def test_sidecar_without_array_is_ignored(models: list[VideoModel], clips: Path, tmp_path: Path) -> None:
    """The sidecar is written first, so an array without one was written by another program."""
    extractor = FeatureExtractor(models, OURS)
    make(clips, tmp_path, extractor, ("rgb",))
    (tmp_path / "w_rgb.npy").unlink()
    results = make(clips, tmp_path, extractor, ("rgb",))
    assert [r.done_before for r in results].count(False) == 1
    assert (tmp_path / "w_rgb.npy").is_file()


def test_relative_paths_of_features(tmp_path: Path) -> None:
    for name in ("x/a.mp4", "x/y/a.mp4", "x/b.avi", "x/b.flow.mp4", "x/note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(list_videos([tmp_path])) == ["x/a.mp4", "x/b.avi", "x/y/a.mp4"]
    assert list(list_videos([tmp_path / "x", tmp_path / "x" / "a.mp4"])) == ["a.mp4", "b.avi", "y/a.mp4"]
    (tmp_path / "list.txt").write_text(f"x/a.mp4\n\n{tmp_path}/x/y/a.mp4\n/elsewhere/c.mp4\n")
    assert list(list_videos([tmp_path / "list.txt"])) == ["x/a.mp4", "x/y/a.mp4", "c.mp4"]
    assert list_videos([tmp_path / "list.txt"])["x/a.mp4"] == tmp_path / "x/a.mp4"
    with pytest.raises(InvalidInputError, match=r"x/a.mp4 and .*x/y/a.mp4 would be written to one file"):
        list_videos([tmp_path / "x" / "a.mp4", tmp_path / "x" / "y" / "a.mp4"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.pdf").touch()
    with pytest.raises(DatasetError, match=r"empty has no video files, but 1 file .* \(\.pdf 1\)"):
        list_videos([tmp_path / "empty"])
    with pytest.raises(DatasetError, match=r"no file at .*none\.txt"):
        list_videos([tmp_path / "none.txt"])


def test_names_with_dots_and_one_stream_presets(tmp_path: Path) -> None:
    (file,) = files_for(tmp_path, "a/v.1", OURS, ("rgb",))
    assert (file.path, file.sidecar) == (tmp_path / "a" / "v.1_rgb.npy", tmp_path / "a" / "v.1_rgb.json")
    with pytest.raises(InvalidInputError, match="one stream per folder"):
        files_for(tmp_path, "v", FEATURE_PRESETS["pytorch-i3d"], BOTH)
    assert ExtractJob(Path("v"), tuple(files_for(tmp_path, "v", OURS, BOTH))).streams == BOTH


def test_writer_without_rows_leaves_no_file(models: list[VideoModel], tmp_path: Path) -> None:
    extractor = FeatureExtractor(models, OURS)
    file = FeatureFile(tmp_path / "v_rgb.npy", ("rgb",))
    with (
        FeatureWriter(file, OURS, settings_of(extractor, ("rgb",)), Path("v.mp4")) as writer,
        pytest.raises(TooFewFramesError, match=r"v.mp4 is too short for features"),
    ):
        writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_settings_include_all_preset_fields(models: list[VideoModel]) -> None:
    extractor = FeatureExtractor(models, OURS.whole())
    settings = settings_of(extractor, BOTH)
    assert (settings["window"], settings["stride"], settings["size_px"]) == ("whole", 8, 64)
    fields = set(FeaturePreset.__dataclass_fields__) - {"name", "source", "differs", "streams"}
    assert fields <= set(settings)


def test_whole_video_with_a_wrong_length_in_the_header(
    models: list[VideoModel], clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "v.mp4", moving_square(150, 72, 90), **LOSSLESS)
    extractor = FeatureExtractor(models[:1], OURS.whole(), batch_frames=64)
    expected = extractor.extract(path).features["rgb"][:, 0].numpy()
    monkeypatch.setattr(FeatureExtractor, "count_frames", lambda self, reader: 151)
    (job,) = plan_jobs({"v.mp4": path}, tmp_path / "out", extractor, ("rgb",))[0]
    assert extract_video(job, extractor).shapes == {str(tmp_path / "out" / "v_rgb.npy"): (18, 256)}
    np.testing.assert_allclose(np.load(tmp_path / "out" / "v_rgb.npy"), expected, atol=1e-3)
