"""I3D compared with the official graph; common mistakes must be detected."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from benchmarks.parity import GOLDEN, compare, reference_model
from quovadis.models import layers
from quovadis.models.inception import InceptionV1
from quovadis.models.layers import ShiftBatchNorm, same_padding
from quovadis.models.video_model import VideoModel

SINGLE, DOUBLE = torch.float32, torch.float64


@pytest.fixture(scope="module")
def kept_model() -> VideoModel:
    return reference_model(GOLDEN)


@pytest.fixture
def model(kept_model: VideoModel) -> Iterator[VideoModel]:
    """The model in float32, restored after each test. The weights have few bits, so conversions are exact."""
    yield kept_model.float()
    kept_model.float()


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "num_rows"),
    [
        ("17x112x96", 16),
        ("19x197x211", 19),
        pytest.param("24x224x224", 19, marks=[pytest.mark.shared, pytest.mark.slow]),
    ],
)
def test_endpoints_agree_with_official_graph(
    model: VideoModel, size: str, num_rows: int, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    in_checkout = (GOLDEN / "inputs" / f"rgb_{size}.npz").is_file()
    folder = GOLDEN if in_checkout else request.getfixturevalue("shared") / "oracles" / "i3d"
    rows = list(compare(model, folder, size, dtype))
    assert len(rows) == num_rows
    assert [(row.endpoint, row.difference, row.tolerance) for row in rows if not row.holds] == []
    assert all(row.rms > 0 for row in rows)


def symmetric_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Symmetric padding, as in PyTorch."""
    return (kernel // 2, kernel // 2) if kernel % 2 else same_padding(size, kernel, stride)


def change_input(model: VideoModel, change: Callable[[Tensor], Tensor]) -> None:
    trunk = model.get_submodule("trunk")
    assert isinstance(trunk, InceptionV1)
    stages = trunk.stages
    trunk.stages = lambda x, names=None: stages(change(x), names)  # type: ignore[method-assign]


def change_norms(model: VideoModel, eps: float) -> None:
    for module in model.modules():
        if isinstance(module, ShiftBatchNorm):
            module.eps = eps


def change_weights(model: VideoModel, change: Callable[[Tensor], Tensor]) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = change(module.weight.data)


MISTAKES: dict[str, Callable[[VideoModel, pytest.MonkeyPatch], None]] = {
    "padding alike at both ends": lambda _, patch: patch.setattr(layers, "same_padding", symmetric_padding),
    "batch norm with eps 1e-5": lambda model, _: change_norms(model, 1e-5),
    "channels in the order BGR": lambda model, _: change_input(model, lambda x: x.flip(1)),
    "time reversed": lambda model, _: change_input(model, lambda x: x.flip(2)),
    "mirrored": lambda model, _: change_input(model, lambda x: x.flip(4)),
    "v / 128 for v / 127.5": lambda model, _: change_input(model, lambda x: (x + 1) * (127.5 / 128) - 1),
    "height and width swapped in the weights": lambda model, _: change_weights(model, lambda w: w.transpose(3, 4)),
    "weights of half precision": lambda model, _: change_weights(model, lambda w: (w * 1.1).half().float() / 1.1),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_common_porting_mistakes_are_detected(mistake: str, model: VideoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake occurred in a port of I3D. The smaller input has even sides, where padding is asymmetric."""
    model = copy.deepcopy(model)
    MISTAKES[mistake](model, monkeypatch)
    try:
        rows = list(compare(model, GOLDEN, "17x112x96", SINGLE))
    except AssertionError as error:
        if "shape" not in str(error):
            raise
        return  # seen even sooner
    deep = {row.endpoint: row for row in rows}["Mixed_5c"]
    assert not deep.holds
    assert deep.difference > 10 * deep.tolerance
