import pytest
import torch

from quovadis.fvd import protocols as fvd_protocols
from quovadis.fvd.protocols import FVD_PROTOCOLS, Embedder
from quovadis.models.zoo import build_model
from quovadis.video.clip import Clip
from tests.synthetic import with_numbered_flow


def test_flow_is_estimated_by_the_method_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def flow_for_clip(clip: Clip, *, method: str = "tvl1") -> Clip:
        asked.append(method)
        return with_numbered_flow(clip)

    monkeypatch.setattr(fvd_protocols, "flow_for_clip", flow_for_clip)
    model = build_model("i3d_tiny", stream="flow", num_classes=2)
    embedder = Embedder(model, FVD_PROTOCOLS["own"], device="cpu", flow_method="tvl1-fast")
    (flow,) = embedder.inputs(torch.zeros(16, 3, 72, 80, dtype=torch.uint8))
    assert asked == ["tvl1-fast"]
    assert (flow.shape, flow.dtype) == ((2, 16, 64, 64), torch.float32)
