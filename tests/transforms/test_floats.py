import numpy as np
import pytest
import torch

from quovadis.errors import InvalidInputError, InvalidTypeError, UnknownNameError
from quovadis.transforms import resize_to_model, to_model


def bilinear(image: np.ndarray, size: int, offset: float) -> np.ndarray:
    """Bilinear interpolation of (H, W), pixel by pixel; offset 0.5 for half-pixel centers, 0 for TensorFlow 1."""
    height, width = image.shape
    result = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            y = max((i + offset) * height / size - offset, 0)
            x = max((j + offset) * width / size - offset, 0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            fy, fx = y - top, x - left
            upper = image[top, left] * (1 - fx) + image[top, right] * fx
            lower = image[bottom, left] * (1 - fx) + image[bottom, right] * fx
            result[i, j] = upper * (1 - fy) + lower * fy
    return result


@pytest.mark.parametrize(("centers", "offset"), [("half", 0.5), ("legacy", 0.0)])
@pytest.mark.parametrize("shape", [(5, 9), (64, 64), (31, 7), (1, 3)])
def test_both_conventions_match_the_reference(centers: str, offset: float, shape: tuple[int, int]) -> None:
    """Upscaling and downscaling, also of odd sizes."""
    frames = torch.randint(0, 256, (2, 3, 3, *shape), dtype=torch.uint8)
    result = resize_to_model(frames, 13, pixel_centers=centers)  # type: ignore[arg-type]
    assert result.shape == (2, 3, 3, 13, 13)
    assert result.dtype == torch.float32
    expected = bilinear(frames[1, 2, 0].numpy().astype(float), 13, offset) * 2 / 255 - 1
    np.testing.assert_allclose(result[1, 0, 2].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("centers", ["half", "legacy"])
def test_frames_of_the_right_size_are_not_changed(centers: str) -> None:
    frames = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    result = resize_to_model(frames, 16, pixel_centers=centers)  # type: ignore[arg-type]
    torch.testing.assert_close(result, to_model(frames), atol=2e-7, rtol=0)
    assert result.abs().max() <= 1


def test_the_conventions_differ() -> None:
    frames = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    half, legacy = (resize_to_model(frames, 224, pixel_centers=c) for c in ("half", "legacy"))  # type: ignore[arg-type]
    assert (half - legacy).abs().mean() > 0.05


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InvalidTypeError, match=r"expects a uint8 tensor in \[0, 255\]; got torch.float32"):
        resize_to_model(torch.zeros(1, 3, 8, 8), 4, pixel_centers="half")
    with pytest.raises(InvalidInputError, match=r"\(\.\.\., T, C, H, W\)"):
        resize_to_model(torch.zeros(3, 8, 8, dtype=torch.uint8), 4, pixel_centers="half")
    with pytest.raises(InvalidInputError, match="size_px"):
        resize_to_model(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0, pixel_centers="half")
    with pytest.raises(UnknownNameError, match="legacy"):
        resize_to_model(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 4, pixel_centers="corner")  # type: ignore[arg-type]
