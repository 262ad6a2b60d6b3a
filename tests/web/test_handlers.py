"""Event handlers, called without a page."""

import json
import os
import threading
from pathlib import Path

import pytest
import torch

from quovadis.cli import main
from quovadis.errors import StorageError
from quovadis.inference.recognizer import Recognizer
from quovadis.inference.timeline import make_timeline
from quovadis.video.clip import Clip
from quovadis.video.writer import write_video
from quovadis.web.handlers import KEEP_SECONDS, Handlers, error_message
from quovadis.web.limits import Limits
from quovadis.web.models import ModelRegistry
from tests.synthetic import moving_square
from tests.web.conftest import save_tiny


@pytest.fixture(scope="module")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> Handlers:
    folder = tmp_path_factory.mktemp("page")
    a, b = save_tiny(folder / "a.safetensors", 0), save_tiny(folder / "b.safetensors", 1)
    (folder / "copies").mkdir()
    return Handlers(ModelRegistry.load([a], [b], device="cpu"), Limits(max_seconds=60), folder / "copies")


def test_results_replace_the_progress(handlers: Handlers, clip: Path) -> None:
    steps = list(handlers.recognize(str(clip), "rgb"))
    assert all("qv-progress" in status and not line for status, _, line in steps[:-1])
    status, classes, line = steps[-1]
    assert status == ""
    assert "qv-bars" in classes
    assert "qv-timeline" in line
    status, frames = list(handlers.flow(str(clip), "rgb"))[-1]
    assert status == ""
    assert frames.count("data-seek") == 8
    status, both, lines = list(handlers.compare(str(clip), "rgb", "compare:rgb"))[-1]
    assert both.count("qv-bars") == lines.count("qv-timeline") == 2
    assert "<b>1.000</b>" in list(handlers.features(str(clip), str(clip), "rgb"))[-1][1]


def test_classes_are_shown_before_the_timeline(handlers: Handlers, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeline is computed after the page shows the classes."""
    shown = threading.Event()

    def wait(*args: object, **options: object) -> object:
        assert shown.wait(60)
        return make_timeline(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("quovadis.web.analysis.make_timeline", wait)
    stages = []
    for status, classes, line in handlers.recognize(str(clip), "rgb"):
        stages.append((bool(status), bool(classes), bool(line)))
        if classes:
            shown.set()
    assert (True, True, False) in stages
    assert stages[-1] == (False, True, True)


def test_the_timeline_does_not_replace_the_classes(handlers: Handlers, clip: Path) -> None:
    """Otherwise, the chosen activation map would be reset."""
    shown = {classes for _, classes, _ in handlers.recognize(str(clip), "rgb") if classes}
    assert len(shown) == 1


def test_flow_is_drawn_without_a_request_for_models_that_use_it(clip: Path, tmp_path: Path) -> None:
    rgb, flow = (save_tiny(tmp_path / f"{kind}.safetensors", 0, kind) for kind in ("rgb", "flow"))
    handlers = Handlers(ModelRegistry.load([rgb, flow], device="cpu"), Limits(), tmp_path)
    for model, is_drawn in (("rgb+flow", True), ("flow", True), ("rgb", False)):
        assert bool(list(handlers.flow_if_used(str(clip), model, "<p>"))[-1].frames) == is_drawn
        assert list(handlers.flow_if_used(str(clip), model, "")) == [("", "")]


def test_models_run_once_before_the_first_upload(
    handlers: Handlers, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    logits = Recognizer.logits

    def record(recognizer: Recognizer, video: Clip) -> torch.Tensor:
        order.append(video.source)
        return logits(recognizer, video)

    monkeypatch.setattr(Recognizer, "logits", record)
    handlers.warm_up()
    assert "qv-bars" in list(handlers.compare(str(clip), "rgb", "compare:rgb"))[-1][1]
    assert order[:3] == ["", "", str(clip)]


def test_warm_up_runs_networks_with_flow(tmp_path: Path) -> None:
    ModelRegistry.load([save_tiny(tmp_path / "flow.safetensors", 0, "flow")], device="cpu").warm_up()


def test_a_batch_continues_after_an_error(handlers: Handlers, clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no")
    status, table = list(handlers.batch([str(clip), str(bad), str(clip)], "rgb"))[-1]
    assert status == ""
    assert table.count("<tr>") == 4
    assert "bad.mp4 is not a video" in table
    assert "3 of 3 videos" in table
    assert str(tmp_path) not in table
    assert "videos are missing" in list(handlers.batch([], "rgb"))[-1].status
    assert "the limit is 200" in list(handlers.batch([str(clip)] * 201, "rgb"))[-1].status


def test_an_error_after_the_classes_keeps_them(handlers: Handlers, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> object:
        raise StorageError("disk full")

    monkeypatch.setattr("quovadis.web.analysis.make_timeline", fail)
    status, classes, line = list(handlers.recognize(str(clip), "rgb"))[-1]
    assert "disk full" in status
    assert "qv-bars" in classes
    assert line == ""


def test_api_and_command_line_predict_the_same(
    handlers: Handlers, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = save_tiny(tmp_path / "a.safetensors", 0)
    main(["predict", str(clip), "--weights", str(weights), "--json", "--device", "cpu"])
    row = json.loads(capsys.readouterr().out)
    expected = {c["label"]: pytest.approx(c["probability"], abs=1e-6) for c in row["top"]}
    for model in ("", "rgb"):
        answer = list(handlers.recognize_json(str(clip), model))[-1]
        assert {c["label"]: c["probability"] for c in answer["top"]} == expected
        assert (answer["window_seconds"], answer["stride_seconds"]) == (row["window_seconds"], row["stride_seconds"])
        # The timeline has other windows, so its mean would differ.
        assert len(answer["timeline"]["windows"]) > len(row["windows"])
    first = list(handlers.compare_json(str(clip), "rgb", "compare:rgb"))[-1]["first"]
    assert {c["label"]: c["probability"] for c in first["top"]} == expected


def test_errors_are_shown_in_the_status(handlers: Handlers, clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no")
    for steps, words in (
        (handlers.recognize(None, "rgb"), "a video is missing"),
        (handlers.recognize(str(bad), "rgb"), "bad.mp4 is not a video"),
        (handlers.recognize(str(clip), "gbr"), "unknown model"),
        (handlers.flow(str(bad), "rgb"), "bad.mp4 is not a video"),
        (handlers.compare(str(bad), "rgb", "rgb"), "bad.mp4 is not a video"),
        (handlers.features(str(clip), None, "rgb"), "the second clip is missing"),
    ):
        status, *rest = list(steps)[-1]
        assert "role='alert'" in status
        assert words in status
        assert str(tmp_path) not in status
        assert not any(rest)


def test_unexpected_errors_are_logged_without_details_for_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert "RuntimeError" in error_message(RuntimeError("at /secret/place"))
    assert "/secret" not in error_message(RuntimeError("at /secret/place"))
    assert "/secret/place" in capsys.readouterr().err


def test_previews_are_made_if_needed_and_deleted_later(handlers: Handlers, clip: Path, tmp_path: Path) -> None:
    old = handlers.folder / "old.mp4"
    old.write_bytes(b"x")
    os.utime(old, (0, old.stat().st_mtime - KEEP_SECONDS - 1))
    ((player, status),) = handlers.show(str(clip), "recognize")
    assert f"file={clip}" in player
    assert status == ""
    avi = write_video(tmp_path / "v.avi", moving_square(20), fps=25, codec="mpeg4")
    player, _ = list(handlers.show(str(avi), "recognize"))[-1]
    (copy,) = handlers.folder.glob("*.mp4")
    assert f"file={copy}" in player
    assert "v.avi" in player
    assert list(handlers.show(None, "recognize")) == [("", "")]
