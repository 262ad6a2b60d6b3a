"""Clip to Clip (resize, crop, flip) and Clip to tensor (``to_model``, the only door to floats)."""

from quovadis.transforms.spatial import (
    center_crop,
    crop,
    crops_along,
    flip_left_right,
    random_crop,
    resize_short_side,
)
from quovadis.transforms.tensor import to_model

__all__ = ["center_crop", "crop", "crops_along", "flip_left_right", "random_crop", "resize_short_side", "to_model"]
