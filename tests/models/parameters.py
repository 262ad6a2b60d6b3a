"""Numbers of parameters computed from the tables of the papers, independently of the code."""

# GoogLeNet, Szegedy et al. 2015, table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
_BLOCKS = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def googlenet(in_channels: int = 3) -> int:
    """The convolutions of GoogLeNet up to its last block, with a shift for each channel in place of the bias.

    Its 5x5 convolutions are 3x3, as in the official I3D and in torchvision.
    """
    units = [(in_channels, 7, 64), (64, 1, 64), (64, 3, 192)]
    channels = 192
    for one, reduce_3, three, reduce_5, five, pool in _BLOCKS:
        units += [(channels, 1, one), (channels, 1, pool)]
        units += [(channels, 1, reduce_3), (reduce_3, 3, three), (channels, 1, reduce_5), (reduce_5, 3, five)]
        channels = one + three + five + pool
    return sum(inputs * side**2 * outputs + outputs for inputs, side, outputs in units)


def linear(inputs: int, outputs: int) -> int:
    """A fully connected layer with a bias."""
    return inputs * outputs + outputs
