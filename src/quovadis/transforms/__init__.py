"""Resize, crop and flip clips, and convert frames to network input.

Example::

    clip = center_crop(resize_short_side(clip, 256), 224)
    x = to_model(clip.frames)  # the only place that creates floats
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.transforms.floats import PixelCenters as PixelCenters
    from quovadis.transforms.floats import resize_to_model as resize_to_model
    from quovadis.transforms.spatial import center_crop as center_crop
    from quovadis.transforms.spatial import crop as crop
    from quovadis.transforms.spatial import crops_along as crops_along
    from quovadis.transforms.spatial import flip_left_right as flip_left_right
    from quovadis.transforms.spatial import random_crop as random_crop
    from quovadis.transforms.spatial import resize as resize
    from quovadis.transforms.spatial import resize_short_side as resize_short_side
    from quovadis.transforms.spatial import ten_crops as ten_crops
    from quovadis.transforms.tensor import to_model as to_model

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "floats": ["PixelCenters", "resize_to_model"],
        "spatial": [
            "center_crop",
            "crop",
            "crops_along",
            "flip_left_right",
            "random_crop",
            "resize",
            "resize_short_side",
            "ten_crops",
        ],
        "tensor": ["to_model"],
    },
)
