"""``python -m quovadis``: the same as the command ``quovadis``."""

from quovadis.cli import main

main()
