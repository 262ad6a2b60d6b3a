"""Train a classifier for your own classes from 60 clips, and read its report: python own_classes.py [FOLDER]."""

# %% [markdown]
# # Your own classes from 60 clips
#
# The actions that you need are rarely among the 400 of Kinetics. Training a network of your own takes thousands of
# clips and GPUs. A classifier on the features of the pretrained network takes twenty clips per class and a minute on a
# CPU.
#
# ## Clips
#
# One folder per class, `clips/CLASS/VIDEO.mp4`. Name your own folder as the argument of the script. Without one, it
# draws 60 clips of a disc that bounces, pulses or spins, with random colors, textures and speeds. The classes differ
# in motion alone, which is harder than classes that also look different.

# %%
import sys
from pathlib import Path

from quovadis.datasets import MotionsConfig, motions_clip
from quovadis.video import write_video

if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
else:
    folder, config = Path("clips"), MotionsConfig(seconds=0.8)
    for name in ("disc bounces", "disc pulses", "disc spins"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(20):
            clip = motions_clip(config, "train", config.labels.index(name), number)
            write_video(folder / name / f"{number:02}.mp4", clip.frames, fps=25)

# %% [markdown]
# Check the data before training. Unreadable files, duplicates and rare classes are cheaper to find now.

# %%
import quovadis
from quovadis.datasets import dataset_statistics

data = quovadis.load_dataset(folder)
for count in dataset_statistics(data).classes:
    print(count.label, count.splits)

# %% [markdown]
# ## Train
#
# `train_frozen` computes the features of each clip once and trains a logistic regression on them. With `num_folds=5`
# it leaves out a fifth of the clips in turn, so that every clip is predicted by a classifier that has not seen it. The
# saved classifier is trained on all clips. `protocol="center-16"` takes the middle 16 frames, because these clips are
# short; leave it out for clips of two seconds and more.

# %%
from quovadis.training import train_frozen

run = train_frozen("i3d-rgb-kinetics400", data, "runs/disc", num_folds=5, protocol="center-16", curve=True)
print(run.cross_validation.describe())

# %% [markdown]
# ## Read the result
#
# **Look at the interval, not at the first number.** With 60 clips, the accuracy is known to about ten percentage
# points. Two settings whose intervals overlap this much are not different.
#
# The confusion matrix tells which classes the network mixes up:

# %%
import matplotlib.pyplot as plt
import torch

validation = run.cross_validation
confusion = torch.zeros(len(data.labels), len(data.labels), dtype=torch.int64)
for true, predicted in zip(validation.targets, validation.logits.argmax(1), strict=True):
    confusion[true, predicted] += 1

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.imshow(confusion, cmap="Blues")
for i, row in enumerate(confusion.tolist()):
    for j, count in enumerate(row):
        left.text(j, i, count, ha="center", va="center", color="white" if count > 10 else "black")
left.set(xlabel="predicted", ylabel="true", title="clips")
left.set_xticks(range(len(data.labels)), data.labels, rotation=20)
left.set_yticks(range(len(data.labels)), data.labels)

counts = [point.num_per_class for point in run.curve]
right.plot(counts, [point.accuracy for point in run.curve], "o-")
right.fill_between(counts, [point.low for point in run.curve], [point.high for point in run.curve], alpha=0.2)
right.set(xlabel="training clips per class", ylabel="top-1 accuracy", title="would more clips help?", ylim=(0, 1))
figure.savefig("result.png", dpi=120)

# %% [markdown]
# The curve on the right is measured by training on fewer clips. While it rises, more clips help; when it is flat,
# better clips or other features do.
#
# The clips with the most confident mistakes come first when you look for wrong labels. Each of them is either
# mislabeled or teaches you what the network cannot see:

# %%
probabilities = validation.logits.softmax(1)
doubt = probabilities.max(1).values * ~validation.correct
for index in doubt.argsort(descending=True)[:3].tolist():
    if doubt[index] > 0:
        true, predicted = data.labels[validation.targets[index]], data.labels[int(probabilities[index].argmax())]
        print(f"{data.records[index].path.name} of {true}: {predicted}, {doubt[index]:.0%}")

# %% [markdown]
# ## Use the classifier
#
# The run folder contains the complete network with your classes. It is accepted wherever weights are. (The saved
# classifier was trained on this clip, so its probability says nothing about new ones.)

# %%
recognizer = quovadis.Recognizer.load(run.folder)
video = data.records[0].path
print(video, recognizer.predict(video).top(3))

# %% [markdown]
# ## The same on the command line
#
# The command also writes `report.html`, with a map of all clips, doubtful labels, look-alikes in different folds,
# recall and precision of each class, and how well the probabilities are calibrated.
#
# ```bash
# quovadis train frozen --data clips/ --folds 5 --protocol center-16 --learning-curve --out runs/disc
# quovadis predict video.mp4 --weights runs/disc
# ```
#
# ## What commonly goes wrong
#
# - **Clips of one recording in two folds.** The classifier recognizes the recording, and the accuracy is far too high.
#   Tell which clips belong together: a column `group` in a table, or `--group-by` for file names. The report lists
#   look-alikes in different folds.
# - **One class was filmed elsewhere.** If all clips of a class share a room or a camera, the network learns the room.
#   Film every class in every place.
# - **A class "other" of five clips.** It must contain whatever else the camera will see; give it the most clips.
#
# If the accuracy is not enough: more clips if the curve rises, then `--then finetune`, which trains the last blocks of
# the network as well, and flow as a second stream. More: [Fine-tune on your own clips](../guides/finetune.md).
