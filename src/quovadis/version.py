"""The version, in one place: the build reads it from here, and run folders record it."""

__version__ = "0.1.0"
