"""What a worker of test_jobs does, in a module that another process can import."""

import os
import time
from pathlib import Path


def tell_and_sleep(path: str) -> None:
    part = Path(path).with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(path)
    time.sleep(600)
