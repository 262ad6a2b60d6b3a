import pytest
import torch

from quovadis.errors import InvalidInputError, QuovadisError
from quovadis.fvd import embed
from quovadis.fvd.embed import VideoEmbedder
from quovadis.fvd.protocols import FvdProtocol
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.video.clip import Clip
from tests.synthetic import with_numbered_flow


@pytest.fixture
def flow_model() -> VideoModel:
    return build_model("i3d_tiny", stream="flow", num_classes=2)


def test_flow_method_is_used(flow_model: VideoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = []

    def flow_for_clip(clip: Clip, *, method: str = "tvl1") -> Clip:
        methods.append(method)
        return with_numbered_flow(clip)

    monkeypatch.setattr(embed, "flow_for_clip", flow_for_clip)
    embedder = VideoEmbedder("own", weights=flow_model, device="cpu", flow_method="tvl1-fast")
    (flow,) = embedder.to_inputs(torch.zeros(16, 3, 72, 80, dtype=torch.uint8))
    assert methods == ["tvl1-fast"]
    assert (flow.shape, flow.dtype) == ((2, 16, 64, 64), torch.float32)


def test_named_protocols_need_an_rgb_network(flow_model: VideoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FvdProtocol, "require_network", lambda self, model: None)
    with pytest.raises(InvalidInputError, match="needs an RGB network; got i3d_tiny"):
        VideoEmbedder("reference", weights=flow_model).embed(torch.zeros(2, 9, 40, 40, 3, dtype=torch.uint8))


def test_network_is_loaded_with_the_first_set() -> None:
    embedder = VideoEmbedder(weights="missing.safetensors")
    with pytest.raises(QuovadisError, match="missing"):
        embedder.embed(torch.zeros(2, 9, 40, 40, 3, dtype=torch.uint8))
