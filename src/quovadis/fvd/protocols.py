"""The protocols of the Frechet Video Distance, as data; numbers of two protocols do not compare.

What differs between the implementations in use is never the distance and always what is put into it: which network,
which frames, how they are resized, and whether covariances are divided by N or N - 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quovadis import transforms
from quovadis.errors import InvalidInputError, TooFewFramesError, UnknownNameError, WeightsError
from quovadis.flow.estimate import flow_for_clip
from quovadis.models.inputs import clip_to_streams
from quovadis.models.optimize import for_inference
from quovadis.models.precision import full_float32
from quovadis.models.video_model import VideoModel
from quovadis.transforms.floats import PixelCenters
from quovadis.video.clip import Clip
from quovadis.video.resize import resize_frames
from quovadis.weights.verify import state_sha256, verify_state

FEATURES = ("logits", "features")
"""What is taken of the network, besides endpoints by name: the scores before the softmax, averaged over time; or what
the classifier sees, averaged over time."""


@dataclass(frozen=True)
class FvdProtocol:
    """What is put into the distance.

    >>> FVD_PROTOCOLS["reference"].describe_resize(224)
    'stretched to 224x224, bilinear, legacy pixel centers'
    """

    name: str
    source: str
    """Where it is written down, and what it leaves open."""
    network: str
    """Name in the catalog of the only network that it allows; empty for any."""
    ddof: int
    """Covariances are divided by N - ddof."""
    pixel_centers: PixelCenters | None
    """How frames are stretched to the network's size; None shows the network its own short side and center crop."""
    num_frames: int | None
    """Frames of a video, unless asked otherwise; None takes all."""
    max_videos: int | None = None
    """More videos than this are not looked at."""
    square: bool = False
    """Frames must be square, or are made so beforehand."""
    random_start: bool = False
    """Real videos begin at a random frame, generated ones at the first; else all begin at the first."""

    def describe_resize(self, size_px: int) -> str:
        """How frames come to the size of the network, in words."""
        if self.pixel_centers is None:
            return "short side of the network, center crop"
        return f"stretched to {size_px}x{size_px}, bilinear, {self.pixel_centers} pixel centers"

    def require_network(self, model: VideoModel) -> None:
        """Raise :class:`WeightsError` unless the model is the network of this protocol, tensor by tensor."""
        if not self.network:
            return
        verdict = verify_state(model.state_dict())
        if verdict.official and verdict.nearest == self.network:
            return
        total = len(verdict.equal) + len(verdict.different)
        what = f"these are {verdict.nearest!r}"
        if not verdict.official:
            what = f"{len(verdict.equal)} of the {total} tensors of these weights are official ones"
        raise WeightsError(
            f"protocol {self.name!r} needs the network {self.network!r}, trained on Kinetics-400 alone, and {what}: "
            f"use weights {self.network!r}, or protocol 'own', whose numbers are its own"
        )


FVD_PROTOCOLS: dict[str, FvdProtocol] = {
    p.name: p
    for p in (
        FvdProtocol(
            "reference",
            "google-research/frechet_video_distance (TensorFlow 1): every frame is stretched to 224x224 by "
            "tf.image.resize_bilinear, whose default there is neither aligned corners nor half-pixel centers; "
            "2 * x / 255 - 1; time-averaged scores before the softmax of tfhub.dev/deepmind/i3d-kinetics-400/1, whose "
            "weights are rgb_scratch; TF-GAN's distance has unbiased covariances. Which frames of a video are taken "
            "is left open there: all here, or the first N, and videos of one length.",
            network="i3d-rgb-kinetics400",
            ddof=1,
            pixel_centers="legacy",
            num_frames=None,
        ),
        FvdProtocol(
            "stylegan-v",
            "universome/stylegan-v (metric fvd2048_16f; --frames 128, and --frame-stride 8 make its others): the first "
            "2048 videos in order of name; 16 consecutive frames, of real videos from a random start, of generated "
            "ones from the first; shorter videos are left out; frames are square (there: resized by Lanczos, cropped "
            "and stored as JPEG beforehand); stretched to 224x224 by PyTorch's half-pixel centers inside the scripted "
            "network; covariances divided by N. Left open there: the random start has no seed.",
            network="i3d-rgb-kinetics400",
            ddof=0,
            pixel_centers="half",
            num_frames=16,
            max_videos=2048,
            square=True,
            random_start=True,
        ),
        FvdProtocol(
            "own",
            "any network and features; frames at that network's short side, center crop",
            network="",
            ddof=1,
            pixel_centers=None,
            num_frames=None,
        ),
    )
}


def find_fvd_protocol(name: str) -> FvdProtocol:
    """A protocol by name.

    Raises:
        UnknownNameError: no such protocol.
    """
    if name not in FVD_PROTOCOLS:
        raise UnknownNameError.among("FVD protocol", name, FVD_PROTOCOLS)
    return FVD_PROTOCOLS[name]


class Embedder:
    """From the frames of a video to one feature, by a protocol.

    Args:
        model: the network.
        protocol: says how frames are shown to it.
        features: ``logits``, ``features``, or an endpoint of the network, averaged over time and space.
        device: where it runs; by default a GPU if there is one.
        flow_method: how optical flow is estimated, where the network wants it.

    Raises:
        InvalidInputError: the protocol fixes the features, and these are others.
    """

    def __init__(
        self,
        model: VideoModel,
        protocol: FvdProtocol,
        *,
        features: str = "logits",
        device: str | torch.device | None = None,
        flow_method: str = "tvl1",
    ):
        if protocol.network and features != "logits":
            raise InvalidInputError(
                f"protocol {protocol.name!r} takes the scores before the softmax; for {features!r} use protocol 'own'"
            )
        if protocol.pixel_centers is not None and [s.kind for s in model.spec.streams] != ["rgb"]:
            raise InvalidInputError(f"protocol {protocol.name!r} needs a network on RGB; {model.spec.name} is another")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = for_inference(model, self.device)
        self.weights_sha256 = state_sha256(model.state_dict())
        self.protocol = protocol
        self.features = features
        self.flow_method = flow_method

    def require_frames(self, num_frames: int, what: str) -> None:
        """Raise :class:`TooFewFramesError` where the network has no output for so few."""
        least = self.model.spec.min_frames
        if num_frames < least:
            raise TooFewFramesError(
                f"{what} has {num_frames} frames; {self.model.spec.name} needs at least {least}, so there is no "
                "Frechet Video Distance of anything shorter"
            )

    def resize(self, pixels: Tensor) -> Tensor:
        """One frame, uint8 (3, H, W), at the size at which it is kept: floats in [-1, 1] where it is stretched."""
        spec, centers = self.model.spec, self.protocol.pixel_centers
        if centers is not None:
            return transforms.stretch_to_model(pixels[None], spec.size_px, pixel_centers=centers)[:, 0]
        return resize_frames(pixels[None], spec.short_side_px)[0]

    def inputs(self, frames: Tensor) -> list[Tensor]:
        """The inputs of the network from the resized frames (T, 3, h, w) of one video: float32 (C, T, H, W) each."""
        if self.protocol.pixel_centers is not None:
            return [frames.transpose(0, 1)]
        spec = self.model.spec
        clip = Clip(frames, torch.arange(len(frames)) / spec.fps)
        if spec.needs_flow:
            clip = flow_for_clip(clip, method=self.flow_method)
        return [transforms.to_model(s) for s in clip_to_streams(transforms.center_crop(clip, spec.size_px), spec)]

    @torch.inference_mode()
    def embed(self, batch: list[list[Tensor]]) -> Tensor:
        """One feature for each video of a batch of equal lengths: float32 (B, D), on the CPU."""
        inputs = [torch.stack(parts).to(self.device) for parts in zip(*batch, strict=True)]
        with full_float32():
            return self._features(inputs).float().flatten(1).cpu()

    def _features(self, inputs: list[Tensor]) -> Tensor:
        if self.features == "logits":
            return self.model(*inputs)
        if self.features == "features":
            return self.model.features(*inputs).mean(1)
        output = self.model.endpoints(*inputs, names=[self.features])[self.features]
        return output if output.ndim == 2 else output.mean((2, 3, 4))
