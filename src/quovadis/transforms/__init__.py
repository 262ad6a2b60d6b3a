"""Clip to Clip (resize, crop, flip) and Clip to tensor (``to_model``, the door to floats)."""

from quovadis.transforms.spatial import center_crop, crop, flip_left_right, random_crop, resize_short_side
from quovadis.transforms.stretch import stretch_to_model
from quovadis.transforms.tensor import to_model

__all__ = ["center_crop", "crop", "flip_left_right", "random_crop", "resize_short_side", "stretch_to_model", "to_model"]
