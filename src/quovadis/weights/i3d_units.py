"""The convolution units of I3D. Every I3D in the field is this list under other names."""

from quovadis.models.inception import BLOCKS

IN_BLOCK: tuple[str, ...] = (
    "Branch_0.Conv3d_0a_1x1",
    "Branch_1.Conv3d_0a_1x1",
    "Branch_1.Conv3d_0b_3x3",
    "Branch_2.Conv3d_0a_1x1",
    "Branch_2.Conv3d_0b_3x3",
    "Branch_3.Conv3d_0b_1x1",
)

"""The convolutions of an inception block."""

UNITS: tuple[str, ...] = (
    "Conv3d_1a_7x7",
    "Conv3d_2b_1x1",
    "Conv3d_2c_3x3",
    *(f"{block}.{unit}" for block in BLOCKS for unit in IN_BLOCK),
)
"""The 57 convolutions with batch norm, under our names within ``trunk``."""
