"""What does the default network predict for real clips?

    python -m benchmarks.pretrained [--clips FOLDER]

Runs ``Recognizer.load().predict`` with default settings on reference clips whose action is a class of Kinetics-400, and
writes the five most probable classes of each clip to ``results/DATE-pretrained.md``. The clips are not part of the
repository.
"""

import argparse
import datetime
from pathlib import Path

from benchmarks.machine import describe_machine
from quovadis.inference.prediction import Prediction
from quovadis.inference.recognizer import Recognizer
from quovadis.version import __version__

CLIPS: dict[str, tuple[str, ...]] = {
    "mm_demo.mp4": ("arm wrestling",),
    "k400_R6llTwEh07w.mp4": ("using segway",),
    "k400_WUzgd7C1pWA.mp4": ("using segway",),
    "k_Kop0sDqOn-c.mp4": ("tai chi",),
    "k_tai_chi.mp4": ("tai chi",),
    "k_clean_and_jerk.mp4": ("clean and jerk",),
    "vf_GGSY1Qvo990.mp4": ("clean and jerk",),
    "k_flipping_pancake.mkv": ("flipping pancake",),
    "k_skateboarding.mp4": ("skateboarding",),
    "ucf_SoccerJuggling_g23_c01.avi": ("juggling soccer ball",),
    "ucf_CricketShot_g04_c01_rgb.gif": ("playing cricket",),
    "ucf_BaseballPitch_g01_c01.avi": ("catching or throwing baseball",),
    "mm_structuralize.mp4": ("playing basketball", "shooting basketball"),
    "tv_basketball.mp4": ("playing basketball", "dunking basketball", "dribbling basketball"),
}
"""Clips, and the Kinetics-400 classes that match their annotations."""


def row(name: str, actions: tuple[str, ...], prediction: Prediction) -> str:
    top5 = ", ".join(f"{label} {100 * probability:.1f}" for label, probability in prediction.top(5))
    right = "yes" if prediction.label in actions else "no"
    return f"| {name} | {' or '.join(actions)} | {right} | {top5} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).parent
    parser.add_argument("--clips", type=Path, default=here.parents[1] / "shared" / "data" / "clips")
    parser.add_argument("--out", type=Path, default=here / "results" / f"{datetime.date.today()}-pretrained.md")
    options = parser.parse_args()
    recognizer = Recognizer.load()
    rows, num_right = [], 0
    for name, actions in CLIPS.items():
        prediction = recognizer.predict(options.clips / name)
        num_right += prediction.label in actions
        rows.append(row(name, actions, prediction))
        print(rows[-1], flush=True)
    text = f"""# Predictions of the default network for real clips

`python -m benchmarks.pretrained`, quovadis {__version__}, {datetime.date.today()}. {describe_machine()}.

Weights `{recognizer.networks[0]["weights"]}` (tensors sha256 `{recognizer.networks[0]["sha256"]}`), default settings of
`quovadis predict`. Top-1 is correct for {num_right} of {len(CLIPS)} clips. Probabilities are in percent.

| clip | action | top-1 correct | top-5 |
| --- | --- | --- | --- |
"""
    options.out.write_text(text + "\n".join(rows) + "\n")
    print(options.out)


if __name__ == "__main__":
    main()
