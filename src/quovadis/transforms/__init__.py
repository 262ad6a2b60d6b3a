"""Clip to Clip (resize, crop, flip) and Clip to tensor (``to_model``, the door to floats)."""

from quovadis.transforms.floats import resize_to_model
from quovadis.transforms.spatial import (
    center_crop,
    crop,
    crops_along,
    flip_left_right,
    random_crop,
    resize,
    resize_short_side,
    ten_crops,
)
from quovadis.transforms.tensor import to_model

__all__ = [
    "center_crop",
    "crop",
    "crops_along",
    "flip_left_right",
    "random_crop",
    "resize",
    "resize_short_side",
    "resize_to_model",
    "ten_crops",
    "to_model",
]
