import itertools
from dataclasses import replace

import pytest
import torch

from quovadis.errors import InvalidInputError
from quovadis.inference.time_axis import TIME_AXES, TimeLayer
from quovadis.models.i3d import I3D, i3d_tiny_spec
from quovadis.models.resnet import I3DResNet50
from quovadis.models.video_model import VideoModel


@pytest.fixture(scope="module")
def models() -> dict[str, VideoModel]:
    """Narrow networks of the real depth, in float64, whose weights let every input be seen."""
    torch.manual_seed(0)
    nets: dict[str, VideoModel] = {
        "i3d": I3D(num_classes=2, width=1 / 16, spec=replace(i3d_tiny_spec("rgb"), size_px=32)),
        "i3d_r50": I3DResNet50(num_classes=2, width=1 / 16),
    }
    return {name: net.double().eval() for name, net in nets.items()}


@pytest.mark.parametrize("name", ["i3d", "i3d_r50"])
@pytest.mark.parametrize("length", [9, 16, 31, 64, 79, 250])
def test_the_number_of_features(models: dict[str, VideoModel], name: str, length: int) -> None:
    with torch.inference_mode():
        features = models[name].features(torch.zeros(1, 3, length, 32, 32, dtype=torch.float64))
    assert features.shape[1] == TIME_AXES[name].num_rows(length)
    if name == "i3d":
        assert features.shape[1] == -(-length // 8) - 1


@pytest.mark.parametrize(("name", "length"), [*(("i3d", n) for n in (220, 221, 222, 223)), ("i3d_r50", 61)])
def test_a_feature_sees_these_frames_and_no_others(models: dict[str, VideoModel], name: str, length: int) -> None:
    """A change of one frame is seen from the first to the last frame that the arithmetic names, and nowhere else."""
    axis, model = TIME_AXES[name], models[name]
    row = axis.num_rows(length) // 2
    first, stop = axis.sees(row, length)
    assert first > 0
    assert stop < length
    x = torch.rand(1, 3, length, 32, 32, dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        plain = model.features(x)[0, row]
        seen = {}
        for frame in (first - 1, first, (first + stop) // 2, stop - 1, stop):
            changed = x.clone()
            changed[:, :, frame] = -3 * changed[:, :, frame] + 1
            seen[frame] = not torch.equal(model.features(changed)[0, row], plain)
    assert seen == {first - 1: False, first: True, (first + stop) // 2: True, stop - 1: True, stop: False}


@pytest.mark.parametrize("length", range(240, 256))
def test_pieces_cover_every_feature_once_and_have_the_frames_for_it(length: int) -> None:
    axis = TIME_AXES["i3d"]
    for rows in (1, 3, 8, 100):
        row, seen = 0, []
        while row < axis.num_rows(length):
            piece = axis.piece(row, rows, length)
            seen += range(piece.first_row, piece.stop_row)
            assert piece.start % 8 == 0
            assert piece.start // 8 + piece.offset == piece.first_row
            assert (piece.stop - piece.start - length) % 8 == 0
            for kept, end in itertools.product((piece.first_row, piece.stop_row - 1), (0, 1)):
                frame = axis.sees(kept, length)[end]
                assert max(frame, 0) >= piece.start
                assert min(frame, length) <= piece.stop
            assert piece.stop - piece.start <= 8 * rows + 120
            row = piece.stop_row
        assert seen == list(range(axis.num_rows(length)))


@pytest.mark.parametrize(("name", "length"), [*(("i3d", n) for n in (130, 131, 132, 133)), ("i3d_r50", 85)])
def test_features_of_the_pieces_are_those_of_the_whole(models: dict[str, VideoModel], name: str, length: int) -> None:
    axis, model = TIME_AXES[name], models[name]
    x = torch.rand(1, 3, length, 32, 32, dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        whole = model.features(x)[0]
        row, parts = 0, []
        while row < len(whole):
            piece = axis.piece(row, 3, length)
            rows = model.features(x[:, :, piece.start : piece.stop])[0]
            parts.append(rows[piece.offset : piece.offset + piece.stop_row - row])
            row = piece.stop_row
    assert len(parts) > 2
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-12, rtol=1e-10)


def test_too_few_frames_give_no_feature() -> None:
    assert [TimeLayer(4, 2, same=False).num_steps(n) for n in range(8)] == [0, 0, 0, 0, 1, 1, 2, 2]
    assert [TIME_AXES["i3d"].num_rows(n) for n in (1, 8, 9)] == [0, 0, 1]
    assert TIME_AXES["i3d"].num_rows(0) == 0


def test_an_empty_piece_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one feature"):
        TIME_AXES["i3d"].piece(0, 0, 100)
