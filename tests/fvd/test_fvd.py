import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import quovadis
from quovadis import transforms
from quovadis.errors import (
    DatasetError,
    InvalidInputError,
    InvalidTypeError,
    TooFewFramesError,
    UnknownNameError,
    WeightsError,
)
from quovadis.fvd.card import COMPARED_FIELDS, VideoEmbeddings
from quovadis.fvd.distance import FvdResult, frechet_video_distance
from quovadis.fvd.embed import VideoEmbedder
from quovadis.fvd.inputs import open_videos
from quovadis.fvd.metric_values import SET_METRICS
from quovadis.fvd.sampling import FrameSampling
from quovadis.metrics.frechet import frechet_distance
from quovadis.metrics.moments import FeatureMoments
from quovadis.metrics.neighbors import density_coverage, precision_recall
from quovadis.metrics.sample_size import frechet_at_infinity
from quovadis.models.optimization import optimize
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.video.resize import resize_frames
from quovadis.video.writer import LOSSLESS, write_video
from quovadis.weights import verify
from quovadis.weights.from_tensorflow import to_official
from tests.synthetic import awake, moving_square, numbers_of

Videos = NDArray[np.uint8]


def noise(count: int, num_frames: int = 9, side: int = 40, seed: int = 0, width: int | None = None) -> Videos:
    shape = (count, num_frames, side, width or side, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny() -> VideoModel:
    torch.manual_seed(0)
    return awake(build_model("i3d_tiny", num_classes=6))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Lossless videos of 12, 14, 16 ... frames, squares that move over noise; one is in a subfolder."""
    root = tmp_path_factory.mktemp("fvd")
    for name, seed in (("real", 10), ("made", 20)):
        for i in range(4):
            path = root / name / ("sub" if i == 3 else "") / f"{i}.mp4"
            write_video(path, moving_square(12 + 2 * i, 48, 64, seed + i), **LOSSLESS)
    return root / "real", root / "made"


def fvd(
    real: Any,
    generated: Any,
    protocol: str = "reference",
    *,
    max_videos: int | None = None,
    batch_size: int = 8,
    num_resamples: int = 0,
    **options: Any,
) -> FvdResult:
    """Embed two sets of videos with the same settings and compare them."""
    embedder = VideoEmbedder(protocol, **options)
    sets = [
        embedder.embed(videos, role=role, max_videos=max_videos, batch_size=batch_size)  # type: ignore[arg-type]
        for role, videos in (("real", real), ("generated", generated))
    ]
    return frechet_video_distance(*sets, num_resamples=num_resamples)


def by_hand(model: VideoModel, videos: Videos, *, features: str = "logits") -> torch.Tensor:
    """Features by protocol ``own``: frames resized to the network's short side, center crop."""
    rows = []
    for video in videos:
        frames = resize_frames(torch.from_numpy(video).permute(0, 3, 1, 2), 72)
        top, left = (frames.shape[2] - 64) // 2, (frames.shape[3] - 64) // 2
        x = transforms.to_model(frames[:, :, top : top + 64, left : left + 64])[None]
        with torch.inference_mode():
            rows.append(model(x) if features == "logits" else model.features(x).mean(1))
    return torch.cat(rows)


@pytest.mark.parametrize("features", ["logits", "features"])
def test_own_protocol_matches_manual_features(tiny: VideoModel, features: str) -> None:
    real, made = noise(5, seed=1, width=50), noise(4, seed=2, width=50) // 2
    result = fvd(real, made, "own", weights=tiny, features=features, batch_size=2, num_resamples=10)
    expected = frechet_distance(by_hand(tiny, real, features=features), by_hand(tiny, made, features=features))
    assert result.value == pytest.approx(expected, rel=1e-5)
    assert float(result) == result.value
    assert result.interval is not None
    assert result.interval.low <= result.value <= result.interval.high
    card = result.real
    assert (card.num_videos, card.num_frames, card.frame_sizes, card.ddof) == (5, 9, {"40x50": 5}, 1)
    assert card.feature_dim == (6 if features == "logits" else 256)


def test_endpoint_features(tiny: VideoModel) -> None:
    real = noise(3, seed=1)
    result = fvd(real, real // 3, "own", weights=tiny, features="Mixed_4b", num_resamples=0)
    assert result.value > 0
    assert (result.interval, result.real.feature_dim, result.real.features) == (None, 128, "Mixed_4b")


def test_files_and_arrays_of_the_same_pixels_have_the_same_features(
    tiny: VideoModel, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    arrays = [np.stack([moving_square(18, 48, 64, s + i)[:12].permute(0, 2, 3, 1) for i in range(4)]) for s in (10, 20)]
    np.save(tmp_path / "real.npy", arrays[0])
    np.savez(tmp_path / "made.npz", videos=arrays[1])
    options = {"protocol": "own", "weights": tiny, "num_frames": 12, "num_resamples": 0}
    from_folders = fvd(*folders, **options)
    from_files = fvd(str(tmp_path / "real.npy"), tmp_path / "made.npz", **options)
    from_memory = fvd(arrays[0], torch.from_numpy(arrays[1]), **options)
    assert from_folders.value == pytest.approx(from_memory.value, rel=1e-5)
    assert from_files.value == from_memory.value
    assert from_files.real.data_sha256 == from_memory.real.data_sha256 != from_folders.real.data_sha256
    assert from_folders.real.num_videos == 4


def test_batch_size_does_not_matter_and_max_videos_takes_the_first(tiny: VideoModel) -> None:
    real, made = noise(7, seed=1), noise(5, seed=2)
    values = [fvd(real, made, "own", weights=tiny, batch_size=b, num_resamples=0).value for b in (1, 3, 8)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)
    first = fvd(real, made, "own", weights=tiny, max_videos=3, num_resamples=0)
    assert (first.real.num_videos, first.generated.num_videos) == (3, 3)
    assert first.value == pytest.approx(frechet_distance(by_hand(tiny, real[:3]), by_hand(tiny, made[:3])), rel=1e-4)


def test_own_protocol_resamples_and_accepts_different_lengths(tiny: VideoModel, folders: tuple[Path, Path]) -> None:
    result = fvd(*folders, protocol="own", weights=tiny, fps=50, num_resamples=0)
    assert (result.real.num_frames, result.real.fps) == (None, 50)
    with pytest.raises(InvalidInputError, match=r"array has no frame rate .* 50"):
        fvd(noise(2), noise(2), "own", weights=tiny, fps=50)


@pytest.fixture
def official(tiny: VideoModel, monkeypatch: pytest.MonkeyPatch) -> VideoModel:
    """The tiny network, with checksums that make it the network of the named protocols."""
    sums = {name: verify.masked_crc32c(to_official(name, t)) for name, t in tiny.state_dict().items()}
    monkeypatch.setattr(verify, "official_checksums", lambda: {"rgb_scratch": sums})
    return tiny


def test_reference_protocol_matches_manual_features(official: VideoModel) -> None:
    """Legacy pixel centers, logits, ddof 1."""
    real, made = noise(4, 10, 30, 1, width=44), noise(3, 10, 30, 2, width=44)
    result = fvd(real, made, weights=official, num_frames=9, num_resamples=0)
    rows = []
    for videos in (real, made):
        x = torch.from_numpy(videos[:, :9]).permute(0, 1, 4, 2, 3)
        with torch.inference_mode():
            rows.append(optimize(official)(transforms.resize_to_model(x, 64, pixel_centers="legacy")))
    assert result.value == pytest.approx(frechet_distance(*rows), rel=1e-5)
    assert result.real.describe() == (
        "protocol reference, 9 frames, stretched to 64x64, bilinear, legacy pixel centers, ddof 1"
    )


def test_sets_given_as_videos_are_embedded(official: VideoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quovadis.fvd.embed.load_model", {"i3d-rgb-kinetics400": official}.__getitem__)
    real, made = noise(3, 16, 32, 1), noise(3, 20, 32, 2)
    for protocol, videos in (("reference", made[:, :16]), ("stylegan-v", made)):
        result = frechet_video_distance(real, videos, protocol=protocol, seed=1, num_resamples=10)
        assert result.value == fvd(real, videos, protocol, weights=official, seed=1).value
        assert result.interval is not None
        assert result.interval.seed == 1


def test_black_against_white_is_the_distance_of_two_points(official: VideoModel) -> None:
    """The example of the reference code: sets without variance."""
    black = np.zeros((3, 15, 16, 16, 3), np.uint8)
    result = fvd(black, black + 255, weights=official, num_resamples=10)
    with torch.inference_mode():
        points = [official(torch.full((1, 3, 15, 64, 64), v)).double() for v in (-1.0, 1.0)]
    assert result.value == pytest.approx(float((points[0] - points[1]).square().sum()), rel=1e-4)
    assert result.interval is not None
    assert result.interval.high - result.interval.low < 1e-9


def numbered(count: int, num_frames: int, side: int = 4) -> Videos:
    """Videos whose pixels equal the frame index."""
    numbers = np.arange(num_frames, dtype=np.uint8)[None, :, None, None, None]
    return np.broadcast_to(numbers, (count, num_frames, side, side, 3))


def frames_taken(count: int, length: int, **choice: Any) -> list[list[int]]:
    """The indices of the frames taken from each numbered video."""
    videos = open_videos(numbered(count, length))
    clips = [videos.read(i, FrameSampling(**choice), lambda frame: frame) for i in range(count)]
    return [numbers_of(clip.frames) if clip else [] for clip in clips]


def test_random_starts_are_uniform_and_repeatable() -> None:
    """16 frames in steps of 2 fit into 40 frames at 10 starts: 0 to 9, the last of which ends with frame 39."""
    taken = frames_taken(300, 40, num_frames=16, frame_stride=2, random_start=True)
    assert all(numbers == list(range(numbers[0], numbers[0] + 32, 2)) for numbers in taken)
    starts = Counter(numbers[0] for numbers in taken)
    assert set(starts) == set(range(10))
    assert max(starts.values()) < 60  # 30 expected, standard deviation 5
    assert taken[:50] == frames_taken(50, 40, num_frames=16, frame_stride=2, random_start=True)
    assert taken[:50] != frames_taken(50, 40, num_frames=16, frame_stride=2, random_start=True, seed=1)
    assert frames_taken(2, 31, num_frames=16, frame_stride=2, random_start=True) == [[], []]


def test_stylegan_v_random_windows_and_biased_covariance(official: VideoModel) -> None:
    real, made = noise(6, 40, 32, 1), noise(5, 20, 32, 2)
    options = {"protocol": "stylegan-v", "weights": official, "num_resamples": 0}
    result = fvd(real, made, **options)
    assert (result.real.num_frames, result.real.ddof) == (16, 0)
    assert (result.real.starts, result.generated.starts) == ("random start, seed 0", "from the first frame")
    windows = [real[i, numbers] for i, numbers in enumerate(frames_taken(6, 40, num_frames=16, random_start=True))]
    assert result.value == pytest.approx(stylegan_v_by_hand(official, np.stack(windows), made[:, :16]), rel=1e-5)
    assert fvd(real, made, seed=1, **options).value != result.value


def test_stylegan_v_frame_stride(official: VideoModel) -> None:
    """Both sets from the first frame, as generated videos are."""
    real, made = noise(4, 18, 32, 1), noise(4, 18, 32, 2)
    embedder = VideoEmbedder("stylegan-v", weights=official, num_frames=9, frame_stride=2)
    sets = [embedder.embed(videos, role="generated") for videos in (real, made)]
    expected = stylegan_v_by_hand(official, real[:, 0:18:2], made[:, 0:18:2])
    assert frechet_video_distance(*sets, num_resamples=0).value == pytest.approx(expected, rel=1e-5)


def stylegan_v_by_hand(model: VideoModel, *sets: Videos) -> float:
    """The distance of these frames: stretched with half-pixel centers, covariances divided by N."""
    rows = []
    for videos in sets:
        x = transforms.resize_to_model(torch.from_numpy(videos).permute(0, 1, 4, 2, 3), 64, pixel_centers="half")
        with torch.inference_mode():
            rows.append(optimize(model)(x))
    return frechet_distance(*rows, ddof=0)


def test_stylegan_v_skips_short_videos_and_needs_square_frames(
    official: VideoModel, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    options = {"protocol": "stylegan-v", "weights": official, "num_resamples": 0}
    with pytest.raises(InvalidInputError, match=r"frames of 48x64; protocol 'stylegan-v' needs square .* 256"):
        fvd(*folders, **options)
    result = fvd(*folders, resolution_px=32, **options)
    assert (result.real.num_videos, result.real.num_short, result.real.frame_sizes) == (2, 2, {"32x32": 2})
    assert any("2 real videos have fewer than 16 frames" in note for note in result.notes)
    assert any("the protocol uses 2048" in note for note in result.notes)
    one = open_videos(folders[0]).read(0, FrameSampling(num_frames=3, resolution_px=32), lambda frame: frame)
    assert one is not None
    from PIL import Image

    image = Image.fromarray(moving_square(12, 48, 64, 10)[2].permute(1, 2, 0).numpy())
    lanczos = np.asarray(image.resize((42, 32), Image.Resampling.LANCZOS).crop((5, 0, 37, 32)))
    assert np.array_equal(one.frames[2].permute(1, 2, 0).numpy(), lanczos)


def test_named_protocols_accept_only_their_network(tiny: VideoModel) -> None:
    with pytest.raises(WeightsError, match=r"needs the network 'i3d-rgb-kinetics400', .* 0 of the 230 tensors"):
        fvd(noise(2), noise(2), weights=tiny)
    with pytest.raises(WeightsError, match="protocol 'stylegan-v' needs"):
        fvd(noise(2), noise(2), weights=tiny, protocol="stylegan-v")


def test_other_official_weights_are_refused_too(tiny: VideoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = {name: verify.masked_crc32c(to_official(name, t)) for name, t in tiny.state_dict().items()}
    monkeypatch.setattr(verify, "official_checksums", lambda: {"rgb_imagenet": sums})
    with pytest.raises(WeightsError, match="these weights are 'i3d-rgb-imagenet-kinetics400'"):
        fvd(noise(2), noise(2), weights=tiny)


def test_options_of_other_protocols_are_refused(official: VideoModel) -> None:
    for options, words in (
        ({"frame_stride": 2}, "no frame_stride"),
        ({"fps": 25.0}, "no fps"),
        ({"resolution_px": 64}, "no resolution_px"),
        ({"features": "features"}, "needs logits"),
        ({"protocol": "stylegan-v", "fps": 25.0}, "no fps"),
        ({"protocol": "own", "resolution_px": 64}, "no resolution_px"),
        ({"protocol": "own", "frame_stride": 0}, "above 0"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            fvd(noise(2), noise(2), weights=official, **options)  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="did you mean 'reference'"):
        fvd(noise(2), noise(2), protocol="referense")
    flow = build_model("i3d_tiny", stream="flow", num_classes=2)
    with pytest.raises(WeightsError, match="needs the network"):
        fvd(noise(2), noise(2), weights=flow)


def test_fewer_than_nine_frames_are_an_error(official: VideoModel, folders: tuple[Path, Path]) -> None:
    with pytest.raises(TooFewFramesError, match=r"array\[0\] has 8 frames; i3d_tiny needs at least 9"):
        fvd(noise(2, 8), noise(2, 9), weights=official)
    with pytest.raises(TooFewFramesError, match=r"has 8 frames; .* at least 9"):
        fvd(*folders, weights=official, num_frames=8)


def test_reference_protocol_needs_videos_of_equal_length(official: VideoModel, folders: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidInputError, match=r"0.mp4 has 12 frames and 1.mp4 has 14; .*--num-frames 12"):
        fvd(*folders, weights=official)
    result = fvd(*folders, weights=official, num_frames=14, num_resamples=0)
    assert (result.real.num_videos, result.real.num_short) == (3, 1)
    with pytest.raises(InvalidInputError, match="num_frames is 9 and 12"):
        fvd(noise(2, 9), noise(2, 12), weights=official)


def test_flow_network(folders: tuple[Path, Path]) -> None:
    flow = build_model("i3d_tiny", stream="flow", num_classes=2)
    result = fvd(*folders, protocol="own", weights=flow, num_frames=9, num_resamples=0, max_videos=2)
    assert result.value > 0


def test_unreadable_videos_are_listed_and_skipped(tiny: VideoModel, folders: tuple[Path, Path], tmp_path: Path) -> None:
    made = tmp_path / "made"
    for i in (0, 2):
        write_video(made / f"{i}.mp4", moving_square(12, 48, 64, i), **LOSSLESS)
    (made / "1.mp4").write_bytes(b"no video")
    (made / "note.txt").write_text("not looked at")
    (made / "0.flow.mp4").write_bytes(b"flow is no video of the set")
    calls = []
    embedder = VideoEmbedder("own", weights=tiny, num_frames=12)
    generated = embedder.embed(made, progress=lambda *call: calls.append(call))
    result = frechet_video_distance(embedder.embed(folders[0], role="real"), generated, num_resamples=0)
    assert (result.generated.num_videos, len(result.generated.unreadable)) == (2, 1)
    assert result.generated.unreadable[0].startswith("1.mp4: ")
    assert calls[-1] == ("made", 3, 3)
    assert any("1 generated videos could not be read" in note for note in result.notes)
    for file in made.glob("*.mp4"):
        file.write_bytes(b"no")
    with pytest.raises(DatasetError, match="no video of made can be used: 0 are too short, 3 cannot be read"):
        fvd(folders[0], made, "own", weights=tiny, num_frames=12)


def test_invalid_sets_of_videos_are_refused(tiny: VideoModel, tmp_path: Path) -> None:
    def compute(source: object) -> None:
        fvd(source, noise(2), "own", weights=tiny)

    with pytest.raises(InvalidTypeError, match=r"must be uint8 .* got float32: its first video has values"):
        compute(noise(2).astype(np.float32))
    with pytest.raises(InvalidInputError, match="--layout NTCHW"):
        compute(noise(2).transpose(0, 1, 4, 2, 3))
    with pytest.raises(InvalidInputError, match="--layout NCTHW"):
        compute(noise(2).transpose(0, 4, 1, 2, 3))
    with pytest.raises(InvalidInputError, match=r"got \(9, 40, 40, 3\)"):
        compute(noise(2)[0])
    with pytest.raises(DatasetError, match="neither a folder"):
        compute(tmp_path / "nothing")
    with pytest.raises(DatasetError, match="no file at"):
        compute(tmp_path / "nothing.npy")
    with pytest.raises(DatasetError, match="has no video files"):
        compute(tmp_path)
    for name in ("bad.npy", "bad.npz"):
        (tmp_path / name).write_bytes(b"PK no array")
        with pytest.raises(DatasetError, match="cannot be read as an array"):
            compute(tmp_path / name)
    np.savez(tmp_path / "two.npz", a=noise(2), b=noise(2))
    with pytest.raises(DatasetError, match=r"\['a', 'b'\]; the videos must be under 'videos'"):
        compute(tmp_path / "two.npz")
    with pytest.raises(InvalidInputError, match="one usable video"):
        compute(noise(1))


def refused(tiny: VideoModel, real: object, generated: object, **options: Any) -> Callable[[], None]:
    embedder = VideoEmbedder("own", weights=tiny, **options)
    embedder.run_network = None  # type: ignore[method-assign, assignment]  # nothing is embedded
    return lambda: embedder.require_usable((real, "real"), (generated, "generated"))


def test_both_sets_are_checked_before_the_first_is_embedded(tiny: VideoModel, tmp_path: Path) -> None:
    saved = VideoEmbedder("own", weights=tiny).embed(noise(4))
    file = saved.save(tmp_path / "real.npz")
    refused(tiny, noise(4), noise(4))()
    refused(tiny, file, noise(4))()
    for generated, options, error, message in (
        (noise(4)[:, :3], {}, TooFewFramesError, r"array\[0\] has 3 frames; i3d_tiny needs at least 9"),
        (noise(1), {}, DatasetError, "array has 1 video; a distance between sets needs at least 2"),
        (noise(4).astype(np.float32), {}, InvalidTypeError, "--value-range 0 255"),
        (tmp_path / "absent", {}, DatasetError, "there is no such file"),
    ):
        with pytest.raises(error, match=message):
            refused(tiny, noise(4), generated, **options)()
    with pytest.raises(InvalidInputError, match=r"saved features of array have other .*num_frames is 9 and 10"):
        refused(tiny, file, noise(4), num_frames=10)()
    with pytest.raises(InvalidInputError, match=r"features is 'logits' and 'features'"):
        refused(tiny, noise(4), saved, features="features")()


def test_lengths_of_all_videos_are_checked_first(
    tiny: VideoModel, official: VideoModel, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """The last video is too short, or differs in length where the protocol does not allow it."""
    shutil.copytree(folders[0], tmp_path / "real")
    write_video(tmp_path / "real" / "zz.mp4", moving_square(8, 48, 64, 1), **LOSSLESS)
    with pytest.raises(TooFewFramesError, match=r"zz\.mp4 has 8 frames"):
        refused(tiny, folders[1], tmp_path / "real")()
    refused(tiny, folders[1], tmp_path / "real", num_frames=12)()  # short videos are skipped
    with pytest.raises(InvalidInputError, match=r"0\.mp4 has 12 frames and 1\.mp4 has 14; protocol 'reference' needs"):
        VideoEmbedder("reference", weights=official).require_usable((noise(2), "real"), (folders[0], "generated"))
    frames = tmp_path / "frames"
    for video, count in (("a", 9), ("b", 9), ("c", 7)):
        for i in range(count):
            (frames / video).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 48)).save(frames / video / f"{i}.png")
    with pytest.raises(TooFewFramesError, match="c has 7 frames"):
        refused(tiny, frames, noise(2))()


def test_a_damaged_video_is_left_to_the_embedding(tiny: VideoModel, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Its packets may promise fewer frames than the network needs; embedding lists it as unreadable."""
    shutil.copytree(folders[0], tmp_path / "real")
    (tmp_path / "real" / "0.mp4").write_bytes(b"no video")
    refused(tiny, tmp_path / "real", noise(2))()


def test_metrics_curve_and_what_is_due_to_the_number_of_videos(tiny: VideoModel) -> None:
    embedder = VideoEmbedder("own", weights=tiny)
    real, generated = embedder.embed(noise(28, seed=1)), embedder.embed(noise(28, seed=2))
    result = frechet_video_distance(real, generated, metrics=SET_METRICS, curve=True, num_resamples=20)
    assert [m.name for m in result.metrics] == ["kvd", "precision", "recall", "density", "coverage"]
    values = {m.name: m.value for m in result.metrics}
    assert values["precision"] == precision_recall(real.features, generated.features).precision
    assert values["coverage"] == density_coverage(real.features, generated.features).coverage
    assert result.halves is not None
    assert result.halves.count == 14
    assert [point.count for point in result.curve][-1] == 28
    assert result.curve[-1].mean == pytest.approx(result.value)
    assert result.at_infinity is not None  # more videos than four times the 6 features
    assert result.at_infinity.value == frechet_at_infinity(real.features, generated.features).value
    few = frechet_video_distance(*(replace_features(s, 23) for s in (real, generated)), num_resamples=0)
    assert few.at_infinity is None
    fewer = [replace_features(s, 9) for s in (real, generated)]
    left = frechet_video_distance(*fewer, metrics=["recall", "coverage"], num_resamples=20)
    assert [m.name for m in left.metrics] == ["recall"]
    assert "left out, because they need up to 12 videos in each set: coverage" in left.notes
    found = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert found["metrics"]["kvd"]["low"] <= found["metrics"]["kvd"]["value"] <= found["metrics"]["kvd"]["high"]
    assert found["real_halves"]["num_videos"] == 14
    with pytest.raises(UnknownNameError, match="metric"):
        frechet_video_distance(real, generated, metrics=["fid"])


def replace_features(videos: VideoEmbeddings, count: int) -> VideoEmbeddings:
    features = videos.features[:count]
    return VideoEmbeddings(replace(videos.card, num_videos=count), FeatureMoments.of(features), features)


def test_embeddings_can_be_saved_and_loaded(tiny: VideoModel, tmp_path: Path) -> None:
    real, made = noise(4, seed=1), noise(4, seed=2)
    options: dict[str, Any] = {"protocol": "own", "weights": tiny}
    first = fvd(real, made, num_resamples=10, **options)
    embedder = VideoEmbedder(**options)
    files = [embedder.embed(v).save(tmp_path / f"{name}.npz") for name, v in (("real", real), ("generated", made))]
    assert frechet_video_distance(*files, num_resamples=10) == first
    assert frechet_video_distance(files[0], embedder.embed(made), num_resamples=10).value == first.value
    kept = VideoEmbeddings.load(tmp_path / "real.npz")
    assert kept.card == first.real
    np.testing.assert_allclose(kept.features, by_hand(tiny, real).numpy(), atol=1e-4)
    np.savez(tmp_path / "other.npz", card=np.array("{}"), factor=np.zeros(1))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "real.npz").read_bytes()[:100])
    for name in ("other.npz", "cut.npz"):
        with pytest.raises(DatasetError):
            VideoEmbeddings.load(tmp_path / name)


@pytest.mark.parametrize("field", COMPARED_FIELDS)
def test_cards_that_differ_are_not_compared(field: str, tiny: VideoModel) -> None:
    embedded = VideoEmbedder("own", weights=tiny).embed(noise(3))
    other = replace(embedded, card=replace(embedded.card, **{field: "another"}))
    assert frechet_video_distance(embedded, embedded, num_resamples=0).value < 1e-9
    with pytest.raises(InvalidInputError, match=f"different settings: {field} is .* and 'another'"):
        frechet_video_distance(embedded, other)


def test_notes_on_few_videos_and_different_sizes(tiny: VideoModel) -> None:
    result = fvd(noise(12), noise(3, side=52), "own", weights=tiny, num_resamples=0)
    assert [n for n in result.notes if "real videos are few" in n] == []  # 12 are enough for 6 scores
    assert result.halves is not None
    few = "3 generated videos are few (fewer than 12, twice the number of features, do not determine their covariance; "
    halves = f"random halves of the real set, 6 videos each, already differ by {result.halves.mean:.0f})"
    assert any(n.startswith(few + halves) for n in result.notes)
    assert any("the frame sizes of the two sets differ" in n for n in result.notes)
    assert any("different numbers of videos: 12 and 3" in n for n in result.notes)


def test_public_name() -> None:
    assert quovadis.frechet_video_distance is frechet_video_distance


def test_names_and_sampling_are_kept(tiny: VideoModel, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Features of videos in a folder, of which two are too short, keep the names of their videos."""
    embedder = VideoEmbedder("own", weights=tiny, num_frames=16, device="cpu")
    found = VideoEmbeddings.load(embedder.embed(folders[0], batch_size=2).save(tmp_path / "real.npz"))
    assert (found.names, found.card.num_short) == (("2.mp4", "sub/3.mp4"), 2)
    assert found.card.sampling == FrameSampling(16)
    drawn = replace(found.card, starts=FrameSampling(random_start=True, seed=7).describe(), frame_stride=2)
    assert drawn.sampling == FrameSampling(16, 2, random_start=True, seed=7)
