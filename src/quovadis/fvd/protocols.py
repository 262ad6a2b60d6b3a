"""FVD protocols as data: which network, frames, resizing and covariance a Frechet Video Distance is computed with.

Implementations agree on the distance and differ in its inputs, so distances of different protocols are not comparable.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

from quovadis.errors import InvalidInputError, UnknownNameError, WeightsError
from quovadis.fvd.sampling import FrameSampling
from quovadis.models.layers import ShiftBatchNorm
from quovadis.models.video_model import VideoModel
from quovadis.transforms.floats import PixelCenters
from quovadis.weights.verify import verify_state


@dataclass(frozen=True)
class FvdProtocol:
    """Settings that determine a Frechet Video Distance.

    Example:
        >>> FVD_PROTOCOLS["reference"].describe_resize(224)
        'stretched to 224x224, bilinear, legacy pixel centers'
    """

    name: str
    source: str
    """Reference implementation, and what it does not specify."""
    network: str
    """Catalog name of the required network; empty if any network is allowed."""
    ddof: int
    """Covariances are divided by N - ddof."""
    pixel_centers: PixelCenters | None
    """How frames are resized to the network's input size in float32. None: in uint8, short side and center crop."""
    num_frames: int | None
    """Default number of frames of each video; None uses all."""
    max_videos: int | None = None
    """Maximum number of videos of a set; the first ones are used."""
    center_crop: bool = False
    """With ``pixel_centers``: whether the short side is resized and the center square taken, instead of stretching."""
    batch_norm_eps: float | None = None
    """Value that batch norm adds to variances, if not that of the network. I3D has 1e-3; some ports have 1e-5."""
    square: bool = False
    """Whether frames must be square."""
    resampling: Literal["lanczos", "bilinear"] | None = None
    """Filter for the option ``resolution_px``; None if the protocol does not have this option."""
    random_start: bool = False
    """Whether real videos start at a random frame. All other videos start at their first frame."""

    def describe_resize(self, size_px: int) -> str:
        """Describe how frames are resized to the input size of the network."""
        if self.pixel_centers is None:
            return "short side of the network, center crop"
        fit = f"short side {size_px}, center crop" if self.center_crop else f"stretched to {size_px}x{size_px}"
        return f"{fit}, bilinear, {self.pixel_centers} pixel centers"

    def adapt_network(self, model: VideoModel) -> VideoModel:
        """Return the network with the batch norm of the protocol: the model itself, or a copy.

        Example:
            >>> from quovadis.models.zoo import build_model
            >>> model = build_model("i3d_tiny")
            >>> FVD_PROTOCOLS["videogpt"].adapt_network(model).trunk.Conv3d_1a_7x7.batch_norm.eps
            1e-05
        """
        if self.batch_norm_eps is None:
            return model
        adapted = copy.deepcopy(model)
        for module in adapted.modules():
            if isinstance(module, ShiftBatchNorm):
                module.eps = self.batch_norm_eps
        return adapted

    def require_network(self, model: VideoModel) -> None:
        """Check that every tensor of the model equals that of the required network.

        Raises:
            WeightsError: If the protocol requires another network.
        """
        if not self.network:
            return
        report = verify_state(model.state_dict())
        if report.official and report.nearest == self.network:
            return
        total = len(report.equal) + len(report.different)
        what = f"these weights are {report.nearest!r}"
        if not report.official:
            what = f"only {len(report.equal)} of the {total} tensors of these weights are official"
        raise WeightsError(
            f"protocol {self.name!r} needs the network {self.network!r}, trained on Kinetics-400 only, but {what}: "
            f"use weights {self.network!r}, or protocol 'own', whose distances compare only with each other"
        )

    def sample_frames(
        self,
        num_frames: int | None = None,
        *,
        frame_stride: int = 1,
        fps: float | None = None,
        resolution_px: int | None = None,
        seed: int = 0,
    ) -> FrameSampling:
        """Apply options to the frame sampling of this protocol.

        Raises:
            InvalidInputError: If this protocol does not have an option, or a value is out of range.
        """
        refused = {
            "frame_stride": frame_stride != 1 and self.name == "reference",
            "fps": fps is not None and bool(self.network),
            "resolution_px": resolution_px is not None and self.resampling is None,
        }
        for name, is_refused in refused.items():
            if is_refused:
                raise InvalidInputError(f"protocol {self.name!r} has no {name}; leave it out or use another protocol")
        if frame_stride < 1 or (resolution_px is not None and resolution_px < 1) or (fps is not None and not fps > 0):
            raise InvalidInputError(
                f"frame_stride, fps and resolution_px must be above 0; got {frame_stride}, {fps} and {resolution_px}"
            )
        num_frames = self.num_frames if num_frames is None else num_frames
        return FrameSampling(
            num_frames,
            frame_stride,
            fps,
            seed=seed,
            resolution_px=resolution_px,
            resampling=self.resampling or "lanczos",
        )


FVD_PROTOCOLS: dict[str, FvdProtocol] = {
    p.name: p
    for p in (
        FvdProtocol(
            "reference",
            "google-research/frechet_video_distance (TensorFlow 1): every frame is stretched to 224x224 by "
            "tf.image.resize_bilinear, which by default uses neither aligned corners nor half-pixel centers; "
            "2 * x / 255 - 1; time-averaged logits of tfhub.dev/deepmind/i3d-kinetics-400/1, whose weights are "
            "rgb_scratch; the distance of TF-GAN has unbiased covariances. Not specified: which frames of a video are "
            "used. Here: all, or the first num_frames, from videos of equal length.",
            network="i3d-rgb-kinetics400",
            ddof=1,
            pixel_centers="legacy",
            num_frames=None,
        ),
        FvdProtocol(
            "stylegan-v",
            "universome/stylegan-v (metric fvd2048_16f; num_frames=128 or frame_stride=8 give its other metrics): the "
            "first 2048 videos by name; 16 consecutive frames, from a random start for real videos and from the first "
            "frame for generated ones; shorter videos are skipped; square frames (resized by Lanczos, cropped and "
            "stored as JPEG beforehand); stretched to 224x224 with PyTorch's half-pixel centers inside the scripted "
            "network; covariances divided by N. Not specified: the seed of the random start.",
            network="i3d-rgb-kinetics400",
            ddof=0,
            pixel_centers="half",
            num_frames=16,
            max_videos=2048,
            square=True,
            resampling="lanczos",
            random_start=True,
        ),
        FvdProtocol(
            "common-metrics",
            "JunyaoHu/common_metrics_on_video_quality, method 'styleganv' (the default): short side to 224, center "
            "crop, with PyTorch's half-pixel centers; all frames of all videos; the network of StyleGAN-V; covariances "
            "divided by N - 1. Not specified: which frames of a video are used.",
            network="i3d-rgb-kinetics400",
            ddof=1,
            pixel_centers="half",
            center_crop=True,
            num_frames=None,
        ),
        FvdProtocol(
            "videogpt",
            "wilson1yan/VideoGPT (256 videos of 16 frames) and JunyaoHu/common_metrics_on_video_quality, method "
            "'videogpt' (all frames of all videos, as here): short side to 224, center crop, with PyTorch's half-pixel "
            "centers; the reference network in a port whose batch norm has epsilon 1e-5 instead of 1e-3, which changes "
            "its logits; covariances divided by N - 1.",
            network="i3d-rgb-kinetics400",
            ddof=1,
            pixel_centers="half",
            center_crop=True,
            batch_norm_eps=1e-5,
            num_frames=None,
        ),
        FvdProtocol(
            "cd-fvd",
            "songweige/content-debiased-fvd, package cd-fvd 0.1.1, model 'i3d': stretched to 224x224 with PyTorch's "
            "half-pixel centers; the network of VideoGPT with epsilon 1e-5; covariances divided by N; 16 frames, the "
            "default of its reader, from a random start for real videos. resolution_px=256 repeats its reader of video "
            "files, which first resizes the short side and takes the center square. Differences: cd-fvd uses all "
            "frames of arrays, and starts generated videos at random as well if they are longer.",
            network="i3d-rgb-kinetics400",
            ddof=0,
            pixel_centers="half",
            batch_norm_eps=1e-5,
            num_frames=16,
            resampling="bilinear",
            random_start=True,
        ),
        FvdProtocol(
            "own",
            "any network and features; frames at the network's short side, center crop",
            network="",
            ddof=1,
            pixel_centers=None,
            num_frames=None,
        ),
    )
}
"""The FVD protocols by name.

``reference`` follows https://github.com/google-research/google-research/tree/master/frechet_video_distance, the code of
Unterthiner et al. (https://arxiv.org/abs/1812.01717). ``stylegan-v`` follows https://github.com/universome/stylegan-v
(Skorokhodov et al., https://arxiv.org/abs/2112.14683). ``common-metrics`` follows the default of
https://github.com/JunyaoHu/common_metrics_on_video_quality, ``videogpt`` its other method and
https://github.com/wilson1yan/VideoGPT (Yan et al., https://arxiv.org/abs/2104.10157), and ``cd-fvd`` the I3D of
https://github.com/songweige/content-debiased-fvd (Ge et al., https://arxiv.org/abs/2404.12391). ``own`` uses any
network.
"""


def find_fvd_protocol(name: str) -> FvdProtocol:
    """Look up an FVD protocol by name.

    Raises:
        UnknownNameError: If there is no such protocol.

    Example:
        >>> find_fvd_protocol("stylegan-v").num_frames
        16
    """
    if name not in FVD_PROTOCOLS:
        raise UnknownNameError.among("FVD protocol", name, FVD_PROTOCOLS)
    return FVD_PROTOCOLS[name]
