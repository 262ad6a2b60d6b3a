"""Model specifications."""

from quovadis.models.spec import StreamSpec


def test_span_includes_the_stride() -> None:
    assert StreamSpec("rgb", 3, num_frames=64).extent_frames == 64
    assert StreamSpec("rgb", 3, num_frames=5, frame_stride=10).extent_frames == 41
