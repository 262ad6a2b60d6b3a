"""Opening and closing video files."""

import subprocess
import sys
from pathlib import Path

from quovadis.video.writer import write_video
from tests.synthetic import moving_square

LOGGING = """
import sys, av, quovadis
from quovadis.video.reader import VideoReader
av.logging.set_level(av.logging.DEBUG)
for _ in range(15):
    quovadis.probe(sys.argv[1])
    reader = VideoReader(sys.argv[1], num_threads=4)
    next(reader.frames())
    del reader
print("done")
"""


def test_decoder_threads_that_log_do_not_stop_the_program(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", moving_square(40, 96, 128), fps=25, options={"preset": "ultrafast"})
    run = subprocess.run([sys.executable, "-c", LOGGING, str(path)], capture_output=True, text=True, timeout=120)
    assert run.stdout == "done\n", run.stderr
