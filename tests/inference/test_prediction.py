"""Predictions: ranking, JSON, description."""

import dataclasses
import json

import pytest
import torch

from quovadis.inference.prediction import Prediction, Window
from quovadis.report.terminal import prediction_table, to_text


def prediction() -> Prediction:
    windows = (Window(0.0, 2.56, torch.tensor([0.0, 1.0, 2.0])), Window(2.56, 5.12, torch.tensor([0.0, 5.0, 0.0])))
    logits = torch.stack([w.logits for w in windows]).mean(0)
    return Prediction("v.mp4", ("run", "jump", "swim"), logits, windows, ("it ends early",))


def test_classes_are_ranked_by_softmax() -> None:
    p = prediction()
    assert p.label == "jump"
    assert [name for name, _ in p.top(9)] == ["jump", "swim", "run"]
    assert sum(probability for _, probability in p.top(3)) == pytest.approx(1)
    assert p.top(1)[0][1] == pytest.approx(torch.exp(p.logits[1]).item() / torch.exp(p.logits).sum().item())
    assert p.top(1, p.windows[0])[0][0] == "swim"


def test_prediction_as_json() -> None:
    plain = json.loads(json.dumps(prediction().to_dict(2)))
    assert [t["label"] for t in plain["top"]] == ["jump", "swim"]
    assert [w["top"][0]["label"] for w in plain["windows"]] == ["swim", "jump"]
    assert plain["windows"][1]["start_seconds"] == 2.56
    assert plain["notes"] == ["it ends early"]
    assert "jump" in repr(prediction())
    assert repr(prediction()).endswith("; 2 windows)")
    assert repr(dataclasses.replace(prediction(), windows=prediction().windows[:1])).endswith("; 1 window)")


def test_description_of_windows() -> None:
    p = prediction()
    assert p.describe_windows() == ""
    assert dataclasses.replace(p, window_seconds=10.0, stride_seconds=10.0).describe_windows() == "windows of 10 s"
    overlapping = dataclasses.replace(p, window_seconds=2.56, stride_seconds=1.28)
    assert overlapping.describe_windows() == "windows of 2.56 s every 1.28 s"
    assert (overlapping.to_dict()["window_seconds"], overlapping.to_dict()["stride_seconds"]) == (2.56, 1.28)
    assert "whole video in windows of 2.56 s every 1.28 s" in to_text(prediction_table(overlapping))
    assert "windows of" not in to_text(prediction_table(p))
