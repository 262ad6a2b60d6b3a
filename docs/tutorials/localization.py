"""Features for temporal localization, from a video to arrays for a detector: python localization.py [VIDEO]."""

# %% [markdown]
# # Features for temporal localization
#
# A temporal detector (ActionFormer, TriDet, MS-TCN ...) does not read videos. It reads one row of features for each
# moment. This page goes from a file to that array, and checks it before a detector is trained for hours on it.
#
# ## A video
#
# Name your own video as the argument of the script. Without one, it draws three actions in turn.

# %%
import sys
from pathlib import Path

import torch

from quovadis.datasets import SCENE_LABELS, draw_scene
from quovadis.video import write_video

if len(sys.argv) > 1:
    video = Path(sys.argv[1])
else:
    scenes = [draw_scene(label, seconds=4) for label in SCENE_LABELS]
    video = write_video("three_actions.mp4", torch.cat([scene.frames for scene in scenes]), fps=25)

# %% [markdown]
# ## One row for every eight frames
#
# I3D divides time by eight. `whole()` runs it once over the whole video, which is the cheapest way to get a row for
# each 0.32 s.

# %%
import quovadis
from quovadis.inference import FEATURE_PRESETS, FeatureExtractor

network = quovadis.optimize(quovadis.load_model())
extractor = FeatureExtractor([network], FEATURE_PRESETS["quovadis"].whole())
rows = extractor.extract(video)
features = rows.features["rgb"][:, 0]  # (T', crops, 1024), of the only crop
print(features.shape, features.dtype)
print([round(seconds, 2) for seconds in rows.center_seconds[:4]], "seconds")

# %% [markdown]
# `center_seconds` is the middle of each row on the clock of the file. **Use it for the labels of a detector**, and not
# the row number times a constant: an off-by-half-a-window error costs points at strict overlaps.
#
# ## Look before you train
#
# The similarity of all pairs of rows shows whether the features can tell the actions apart at all. Actions are bright
# blocks on the diagonal; a border is where one block ends.

# %%
import matplotlib.pyplot as plt

directions = torch.nn.functional.normalize(features - features.mean(0), dim=1)
similarity = directions @ directions.T
figure, axes = plt.subplots(figsize=(4.6, 4), layout="constrained")
span = (float(rows.center_seconds[0]), float(rows.center_seconds[-1]))
image = axes.imshow(similarity, cmap="viridis", extent=(*span, span[1], span[0]))
axes.set(xlabel="seconds", ylabel="seconds", title="cosine similarity of rows")
figure.colorbar(image)
figure.savefig("similarity.png", dpi=120)

# %% [markdown]
# A border is a row whose past and future differ. Here, the means of the two seconds before and after each row are
# compared; the true borders are at 8 and 4 s:

# %%
reach = min(6, (len(directions) - 1) // 3)  # less for short videos
change = torch.tensor(
    [
        1 - torch.cosine_similarity(directions[t - reach : t].mean(0), directions[t : t + reach].mean(0), dim=0)
        for t in range(reach, len(directions) - reach)
    ]
)
for _ in range(2):
    strongest = int(change.argmax())
    print(f"border at {rows.center_seconds[strongest + reach] - 0.16:.2f} s")
    change[max(strongest - reach, 0) : strongest + reach] = 0

# %% [markdown]
# ## The convention of a detector
#
# Published detectors were trained with certain windows, strides and crops, and their configuration files name the
# stride and the number of frames. A preset reproduces a convention, so that rows are where the detector expects them:

# %%
for name, preset in FEATURE_PRESETS.items():
    windows = "whole video" if preset.window == 0 else f"{preset.window or 64} frames every {preset.stride or 64}"
    print(f"{name:15} {windows:23} {' and '.join(preset.streams):13} {preset.shape}")

# %% [markdown]
# For a folder of videos, with the flow network and one file for each video:
#
# ```bash
# quovadis extract videos/ --preset actionformer --out feats/ \
#     --weights i3d-rgb-imagenet-kinetics400 i3d-flow-imagenet-kinetics400
# ```
#
# ActionFormer reads the array as (D, T), so transpose it: `np.load(path).T`. Its configuration for such features has
# `feat_stride: 4` and `num_frames: 16`.
#
# ## What commonly goes wrong
#
# - **Wrong frame rate.** A detector that was trained on features at 30 fps sees other speeds at 25 fps. Presets state
#   their rate.
# - **Half the columns.** A detector for RGB and flow expects 2048 columns. `extract` refuses a joined preset with one
#   network; ask for `--streams rgb` if that is what you want.
# - **Missing rows at the end.** A window must fit into the video. `quovadis extract ... --dry-run` prints the rows of
#   each video before hours of work.
#
# More: [Extract features](../guides/extract.md).
