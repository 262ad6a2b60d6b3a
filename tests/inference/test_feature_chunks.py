import itertools
from dataclasses import replace

import pytest
import torch

from quovadis.errors import InvalidInputError
from quovadis.inference.feature_chunks import plan_chunk
from quovadis.models.i3d import I3D, i3d_tiny_spec
from quovadis.models.receptive_field import ReceptiveField
from quovadis.models.resnet import I3DResNet50
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model


@pytest.fixture(scope="module")
def models() -> dict[str, VideoModel]:
    """Narrow networks of full depth, in float64, whose features depend on every input."""
    torch.manual_seed(0)
    nets: dict[str, VideoModel] = {
        "i3d": I3D(num_classes=2, width=1 / 16, spec=replace(i3d_tiny_spec("rgb"), size_px=32)),
        "i3d_r50": I3DResNet50(num_classes=2, width=1 / 16),
    }
    return {name: net.double().eval() for name, net in nets.items()}


def field_of(model: VideoModel) -> ReceptiveField:
    assert model.receptive_field is not None
    return model.receptive_field


@pytest.mark.parametrize("length", range(240, 256))
def test_chunks_cover_every_feature_once_and_contain_its_frames(length: int) -> None:
    field = field_of(build_model("i3d_tiny"))
    for num_rows in (1, 3, 8, 100):
        row, covered = 0, []
        while row < field.num_features(length):
            chunk = plan_chunk(field, row, num_rows, phase=length % 8, num_frames=length)
            covered += range(chunk.first_row, chunk.stop_row)
            assert chunk.start % 8 == 0
            assert chunk.start // 8 + chunk.offset == chunk.first_row
            assert (chunk.stop - chunk.start - length) % 8 == 0
            for kept, end in itertools.product((chunk.first_row, chunk.stop_row - 1), (0, 1)):
                frame = field.frame_range(kept, length)[end]
                assert max(frame, 0) >= chunk.start
                assert min(frame, length) <= chunk.stop
            assert chunk.stop - chunk.start <= 8 * num_rows + 120
            row = chunk.stop_row
        assert covered == list(range(field.num_features(length)))


@pytest.mark.parametrize("name", ["i3d_tiny", "i3d_r50"])
def test_chunks_before_the_end_depend_only_on_the_phase(name: str) -> None:
    field = field_of(build_model(name))
    for length in range(1000, 1000 + field.stride):
        chunks = [plan_chunk(field, 20, 5, phase=length % field.stride, num_frames=n) for n in (None, length)]
        assert chunks[0] == chunks[1]
        assert field.center(20, length % field.stride) == field.center(20, length)


@pytest.mark.parametrize(("name", "length"), [*(("i3d", n) for n in (130, 131, 132, 133)), ("i3d_r50", 85)])
def test_chunk_features_equal_those_of_the_whole_video(models: dict[str, VideoModel], name: str, length: int) -> None:
    model = models[name]
    field = field_of(model)
    x = torch.rand(1, 3, length, 32, 32, dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        whole = model.features(x)[0]
        row, parts = 0, []
        while row < len(whole):
            chunk = plan_chunk(field, row, 3, phase=length % field.stride, num_frames=length)
            rows = model.features(x[:, :, chunk.start : chunk.stop])[0]
            parts.append(rows[chunk.offset : chunk.offset + chunk.stop_row - row])
            row = chunk.stop_row
    assert len(parts) > 2
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-12, rtol=1e-10)


def test_empty_chunk_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one feature"):
        plan_chunk(field_of(build_model("i3d_tiny")), 0, 0, phase=0)
