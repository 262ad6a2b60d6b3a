"""Windows of a video with optical flow."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from quovadis.flow.source import FlowSource
from quovadis.inference.video_windows import read_windows
from quovadis.models.zoo import build_model
from quovadis.video.writer import write_video
from tests.synthetic import moving_square


@pytest.mark.parametrize(("stride", "num_pairs"), [(5, 29), (12, 29), (16, 29), (14, 29)])
def test_flow_of_shared_frames_is_estimated_once(
    stride: int, num_pairs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "v.mp4", moving_square(30, 32, 40), fps=25)
    spec = build_model("i3d_tiny", stream="flow", num_classes=2).spec
    source = FlowSource("tvl1-fast")
    apart = [
        source.add_to(item.clip, fps=25, short_side_px=spec.short_side_px, first_frame_index=0).flow
        for item in read_windows(video, spec, None, 16, stride, [])
    ]
    estimated: list[int] = []

    def count(frames: Tensor, *args: object, **options: object) -> Tensor:
        estimated.append(len(frames) - 1)
        return estimate(frames, *args, **options)

    from quovadis.flow.estimate import estimate_flow as estimate

    monkeypatch.setattr("quovadis.flow.estimate.estimate_flow", count)
    together = [item.clip.flow for item in read_windows(video, spec, source, 16, stride, [])]
    assert len(together) == len(apart) == -(-(30 - 16) // stride) + 1
    for one, other in zip(together, apart, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
    assert sum(estimated) == num_pairs
