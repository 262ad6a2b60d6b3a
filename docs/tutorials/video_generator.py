"""Evaluate a video generator with the Frechet Video Distance: python video_generator.py [REAL GENERATED]."""

# %% [markdown]
# # Evaluate a video generator
#
# The Fréchet Video Distance (FVD) compares a set of generated videos with a set of real ones: it is the distance
# between the distributions of their I3D features, 0 for equal distributions. One number of one run says little, so
# this page also shows how to tell a difference from noise.
#
# ## Videos
#
# Name two folders of videos as the arguments of the script. Without them, it draws real videos and imitates three
# generators: one whose videos are coarse, one whose videos stand still, and a perfect one, which draws from the same
# distribution as the real videos.

# %%
import sys

import torch

from quovadis.datasets import MotionsConfig, motions_clip

NUM_VIDEOS = 18


def draw(split: str) -> torch.Tensor:
    """Draw videos of 25 motions: uint8 (N, T, H, W, 3)."""
    config, videos = MotionsConfig(), []
    for number in range(NUM_VIDEOS):
        frames = motions_clip(config, split, number % len(config.labels), number).frames[:16]
        videos.append(torch.nn.functional.interpolate(frames.float(), (64, 64)).round().byte())
    return torch.stack(videos).movedim(2, -1)


if len(sys.argv) > 2:
    real, generators = sys.argv[1], {"generated": sys.argv[2]}
else:
    real = draw("train")
    small = real[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)
    generators = {"perfect": draw("test"), "coarse": small, "still": real[:, :1].expand_as(real).contiguous()}

# %% [markdown]
# ## The distance
#
# Published values often differ because of the resizing, the frames or the weights, not because of the videos. So
# choose a **protocol** by name. `reference` repeats the TensorFlow code of the FVD paper. The real videos are embedded
# once.

# %%
from quovadis.fvd import VideoEmbedder, frechet_video_distance

embedder = VideoEmbedder("reference")
features_of_real = embedder.embed(real, role="real")
results = {}
for name, videos in generators.items():
    features = embedder.embed(videos, role="generated")
    results[name] = frechet_video_distance(features_of_real, features, metrics=("kvd", "precision", "recall"))
    print(f"{name:10} {results[name].value:6.0f}")

# %% [markdown]
# **The perfect generator does not get 0.** The distance is biased: it falls with the number of videos, and here there
# are only 18 of each. So never compare distances that were measured with different numbers of videos; papers use 2,048
# and more.
#
# ## Is it a difference?
#
# Two numbers help. The `interval` shows how much the distance varies with the choice of videos. `halves` is the
# distance between random halves of the real set, which are as good as videos can be. A generator whose distance is not
# above it cannot be told from the real videos with this number of videos. Each half has only 9 videos, so this
# yardstick is much too large here: it does not even tell the videos that stand still from real ones.

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
for name, result in results.items():
    axes.bar(name, result.value, color="steelblue")
    axes.plot([name, name], [result.interval.low, result.interval.high], color="black")
    print(f"{name:10} {result.value:6.0f}, 95 % interval {result.interval.low:.0f} to {result.interval.high:.0f}")
halves = next(iter(results.values())).halves
axes.axhline(halves.mean, color="firebrick", linestyle="--", label="halves of the real videos")
axes.set(ylabel="FVD")
axes.legend()
figure.savefig("distances.png", dpi=120)
print(f"halves of the real videos: {halves.mean:.0f}")

# %% [markdown]
# ## What is wrong with the generator?
#
# FVD mixes quality and diversity. Precision is the share of generated videos that look like real ones; recall is the
# share of real videos that the generator covers. The kernel distance (KVD) is not biased by the number of videos.

# %%
for name, result in results.items():
    print(f"{name:10}", ", ".join(f"{metric.name} {metric.value:.2f}" for metric in result.metrics))

# %% [markdown]
# ## The same on the command line
#
# ```bash
# quovadis fvd real/ generated/ --out fvd/ --report fvd.html --metrics all
# ```
#
# With every value it writes a card with the protocol, the frames, the number of videos and the hash of the weights.
# Publish it with the value: it is what others need to repeat your number.
#
# ## What commonly goes wrong
#
# - **Videos were written with a lossy codec on one side only.** FVD sees the artifacts. Compare both sets in the same
#   format, best as arrays or PNG frames.
# - **Frame rates differ.** 16 frames at 8 fps and at 30 fps are different motions.
# - **The number of another paper was copied.** Protocols differ by tens of points on the same videos; see [FVD
#   protocols](../concepts/fvd-protocols.md).
#
# More: [Fréchet Video Distance](../guides/fvd.md).
