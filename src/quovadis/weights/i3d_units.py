"""Names of the convolutions of I3D, for conversion between projects that name them differently."""

from quovadis.models.inception import BLOCKS

BLOCK_CONV_UNITS: tuple[str, ...] = (
    "Branch_0.Conv3d_0a_1x1",
    "Branch_1.Conv3d_0a_1x1",
    "Branch_1.Conv3d_0b_3x3",
    "Branch_2.Conv3d_0a_1x1",
    "Branch_2.Conv3d_0b_3x3",
    "Branch_3.Conv3d_0b_1x1",
)
"""The convolutions within an Inception block."""

CONV_UNITS: tuple[str, ...] = (
    "Conv3d_1a_7x7",
    "Conv3d_2b_1x1",
    "Conv3d_2c_3x3",
    *(f"{block}.{unit}" for block in BLOCKS for unit in BLOCK_CONV_UNITS),
)
"""The 57 convolutions with batch norm, by their names within ``trunk``. The classifier is not included."""
