"""Optical flow and two streams: python two_streams.py."""

# %% [markdown]
# # Optical flow and two streams
#
# The best results of the paper come from two networks: one sees the frames, the other one the optical flow, the motion
# of every pixel. This page estimates flow, checks it against a known motion, and combines two networks.
#
# ## Flow of a known motion
#
# A texture moves by 3 px to the right and 2 px up from frame to frame. TV-L1, the method of the paper, finds that:

# %%
import torch

import quovadis

torch.manual_seed(0)
texture = torch.rand(1, 1, 40, 52)
texture = torch.nn.functional.interpolate(texture, scale_factor=4, mode="bicubic", align_corners=False)[0].clamp(0, 1)
texture = (255 * texture).byte().expand(3, -1, -1)
frames = torch.stack([texture[:, 20 + 2 * i : 148 + 2 * i, 30 - 3 * i : 158 - 3 * i] for i in range(4)])

flow = quovadis.estimate_flow(frames)  # of each frame to the next: (3, 2, H, W) in px, right and down
inner = flow[:, :, 16:-16, 16:-16]
print(flow.shape, flow.dtype)
print("median", inner.flatten(2).median(2).values.median(0).values.tolist(), "px; expected [3, -2]")
print(f"mean error {(inner - torch.tensor([3.0, -2.0]).view(2, 1, 1)).norm(dim=1).mean():.3f} px")

# %% [markdown]
# At the border, what enters the frame has no counterpart, so the flow there is a guess. The same holds for large
# motion between frames, for plain surfaces, and for a moving shadow.
#
# ## Flow of a scene
#
# The hue shows the direction, the saturation the speed; white is no motion. The camera stands still, so only the
# players and the ball move.

# %%
import matplotlib.pyplot as plt

from quovadis.datasets import draw_scene
from quovadis.flow import draw_flow

clip = draw_scene("playing tennis", seconds=0.4)
flow = quovadis.estimate_flow(clip.frames)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.imshow(clip.frames[5].movedim(0, -1))
right.imshow(draw_flow(flow[5:6])[0].movedim(0, -1))
for axes, title in ((left, "frame"), (right, "flow to the next frame")):
    axes.set(title=title)
    axes.axis("off")
figure.savefig("flow.png", dpi=120)

# %% [markdown]
# ## Store the flow
#
# Estimating flow takes longer than the network on a CPU, so compute it once. It is stored as a video of 8-bit
# displacements, as in the paper: clipped to 20 px, in steps of 0.16 px. Commands read it from `--flow-folder`.

# %%
from quovadis.flow import decode_flow, encode_flow

stored = encode_flow(flow)
print(stored.dtype, f"largest error {(decode_flow(stored) - flow.clamp(-20, 20)).abs().max():.3f} px")

# %% [markdown]
# ```bash
# quovadis flow videos/ --out flows/
# quovadis predict videos/ --weights runs/rgb runs/flow --flow-folder flows/
# ```
#
# ## Two networks
#
# Each stream is a network of its own, with its own training. Their **logits are added**; that is all. Adding logits
# multiplies the probabilities, so a class must be plausible to both. Averaging probabilities instead is another model,
# as these invented logits show:

# %%
labels = ("playing tennis", "playing badminton", "ice skating")
rgb = torch.tensor([4.0, 3.5, 0.0])  # the frames show a court, of tennis or badminton
motion = torch.tensor([2.0, 0.0, 2.5])  # the motion is that of tennis or ice skating
for name, probabilities in {
    "RGB": rgb.softmax(0),
    "flow": motion.softmax(0),
    "sum of logits": (rgb + motion).softmax(0),
    "mean of probabilities": (rgb.softmax(0) + motion.softmax(0)) / 2,
}.items():
    print(f"{name:22}", ", ".join(f"{label} {p:.0%}" for label, p in zip(labels, probabilities.tolist(), strict=True)))

# %% [markdown]
# What the second stream is worth, as published (top-1 in percent, trained and tested on the same dataset):

# %%
from quovadis.paper import paper_value

print("dataset   RGB   flow  both")
for dataset in ("ucf101", "hmdb51", "kinetics"):
    values = [paper_value("table2", "i3d", f"{dataset} {stream}") for stream in ("rgb", "flow", "rgb+flow")]
    print(f"{dataset:9}", *(f"{value:.1f} " for value in values))

# %% [markdown]
# On UCF-101, where the camera often stands still, flow alone is better than the frames; on Kinetics, it is worse. Both
# together are always best.
#
# ```bash
# quovadis predict video.mp4 --weights i3d-rgb-imagenet-kinetics400 i3d-flow-imagenet-kinetics400
# ```
#
# ## What commonly goes wrong
#
# - **Flow of another method.** A network that was trained with TV-L1 flow loses accuracy with other flow. Use the
#   method of the training: `--flow-method`.
# - **Flow of resized videos.** Displacements are in pixels, so flow must be estimated at the size of the training
#   (short side 256), not estimated at full size and shrunk. `quovadis flow` does that.
# - **Mirror images.** A mirrored clip needs its horizontal flow negated. The transforms of quovadis do it.
#
# More: [Optical flow](../concepts/flow.md), [Recognize actions](../guides/recognize.md).
