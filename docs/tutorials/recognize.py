"""Recognize actions and read the timeline of a video: python recognize.py [VIDEO]."""

# %% [markdown]
# # Recognize actions in a video
#
# You have a video and want to know what people do in it, and when. This page uses the official Kinetics-400 network,
# which knows 400 actions ([list of networks](../pretrained.md)). It takes half a minute on two CPU cores.
#
# ## A video
#
# Name your own video as the argument of the script. Without one, the script draws three actions in turn. The drawings
# are simple, but the network recognizes them. That alone teaches something: the network knows the surroundings of an
# action, such as a court or a green, at least as well as the motion.

# %%
import sys
from pathlib import Path

import torch

from quovadis.datasets import SCENE_LABELS, draw_scene
from quovadis.video import write_video

if len(sys.argv) > 1:
    video = Path(sys.argv[1])
else:
    scenes = [draw_scene(label, seconds=3) for label in SCENE_LABELS]
    video = write_video("three_actions.mp4", torch.cat([scene.frames for scene in scenes]), fps=25)
print(video)

# %% [markdown]
# ## What is in the video?
#
# `Recognizer.load()` downloads the network once and verifies every tensor. `predict` cuts the video into windows of
# ten seconds, because the paper evaluates on clips of ten seconds, and averages the logits of the windows.

# %%
import quovadis

recognizer = quovadis.Recognizer.load()
prediction = recognizer.predict(video)
for label, probability in prediction.top(4):
    print(f"{probability:6.1%}  {label}")

# %% [markdown]
# The network gives one distribution over 400 classes for each window. Three actions in one window share the
# probability, so all three may seem doubtful. **A video with several actions needs a timeline**, not one answer.
#
# ## When does it happen?
#
# `make_timeline` uses windows of 2.56 s, the 64 frames that the network was trained with, every 1.28 s. Neighboring
# windows of the same class become a segment.

# %%
from quovadis.inference import make_timeline
from quovadis.report import write_timeline

timeline = make_timeline(recognizer, video)
for segment in timeline.segments():
    print(
        f"{segment.start_seconds:5.2f} s to {segment.stop_seconds:5.2f} s  {segment.probability:6.1%}  {segment.label}"
    )
write_timeline(timeline, ".")

# %% [markdown]
# How to read the picture:
#
# - **Filmstrip**: frames of the video, with lines to their time.
# - **Segments**: the best class of each stretch. Segments below 50 % are faded.
# - **Curves**: each point is a window, drawn at its middle. Where one action gives way to another, a window sees both,
#   so a border between segments is exact to about half a window. Smaller windows (`window_seconds=1`) find borders
#   better and classes worse.
#
# ## Where does the network look?
#
# The classifier of I3D is linear over averaged features, so its evidence can be shown for each place and time,
# exactly. The maps have 7 x 7 cells for each 8 frames.

# %%
from quovadis.report import write_explanation

evidence = recognizer.explain(video)
print(evidence.labels, tuple(evidence.maps.shape), "(labels, time, height, width)")
for path in write_explanation(evidence, "."):
    print(path)

# %% [markdown]
# ## The same on the command line
#
# ```bash
# quovadis predict video.mp4
# quovadis timeline video.mp4 --out tl/
# quovadis explain video.mp4 --out maps/
# ```
#
# ## What commonly goes wrong
#
# - **The action is not among the 400.** The network always answers with one of its classes, often with a high
#   probability. Look at the list, and train a classifier for [your own classes](own_classes.md) if it lacks yours.
# - **The person is small.** The network sees 224 x 224 pixels of the middle of the video. Crop the video to the person
#   first.
# - **The frame rate is wrong.** Frames are taken at 25 fps by their timestamps. A file with wrong timestamps, such as
#   slow motion that plays at normal speed, shows the network another motion; `quovadis probe VIDEO` prints what the
#   file says.
#
# More: [Recognize actions](../guides/recognize.md).
