"""Measurements; see ``README.md``."""

import quovadis as quovadis  # before torch, so that waiting threads sleep as in the command line
