"""Tests of the input range of torchvision's ResNet-50, with the documented mean and standard deviation."""

import torch

from quovadis.models.resnet import I3DResNet50
from quovadis.weights.from_torchvision import inflate_resnet50
from tests.synthetic import random_state

# https://docs.pytorch.org/vision/stable/models.html: "normalized using mean=... and std=...", for R, G, B.
MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)


def test_mean_and_std_of_each_channel_are_folded_into_the_first_convolution() -> None:
    model = I3DResNet50(num_classes=2, width=1 / 8)
    state_3d = {name.removeprefix("trunk."): tensor for name, tensor in random_state(model).items()}
    state_2d = {
        name.replace("head.", "fc."): tensor.sum(2) if tensor.ndim == 5 else tensor for name, tensor in state_3d.items()
    }
    state_2d["fc.weight"] = state_2d["fc.weight"].flatten(1)
    inflated = inflate_resnet50(state_2d, model)
    kernel_2d = state_2d["conv1.weight"].double().sum((2, 3))  # response to a constant image
    kernel_3d = inflated["trunk.conv1.weight"].double().sum((2, 3, 4))
    for color in torch.eye(3, dtype=torch.float64):
        theirs = kernel_2d @ ((color - MEAN) / STD) - state_2d["bn1.running_mean"]
        ours = kernel_3d @ (2 * color - 1) - inflated["trunk.bn1.running_mean"]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
