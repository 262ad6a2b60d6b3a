"""Checks of decoders and optional dependencies."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import av

from quovadis.doctor.finding import Finding
from quovadis.runtime.extras import install_command

DECODERS = {
    "h264": "most files, and Kinetics",
    "hevc": "phones",
    "av1": "newer downloads from YouTube",
    "vp9": "downloads from YouTube, WebM",
    "mpeg4": "UCF-101 and HMDB-51",
}


@dataclass(frozen=True)
class Extra:
    """An optional dependency, installed by :func:`quovadis.runtime.extras.install_command`."""

    purpose: str
    modules: tuple[tuple[str, str], ...]
    """Pairs of module and distribution."""


EXTRAS: dict[str, Extra] = {
    "opencv": Extra("optical flow of OpenCV, for comparison", (("cv2", "opencv-contrib-python-headless"),)),
    "tensorboard": Extra("training curves in TensorBoard", (("tensorboard", "tensorboard"),)),
    "cluster": Extra("prepare, flow and extract on a cluster", (("ray", "ray"), ("pandas", "pandas"))),
    "kinetics": Extra("download clips from YouTube", (("yt_dlp", "yt-dlp"),)),
    "export": Extra(
        "ONNX export",
        (("onnx", "onnx"), ("onnxscript", "onnxscript"), ("onnxruntime", "onnxruntime")),
    ),
    "openvino": Extra("inference with OpenVINO", (("openvino", "openvino"),)),
    "web": Extra("quovadis serve", (("gradio", "gradio"),)),
    "hub": Extra("load and share weights on the Hugging Face Hub", (("huggingface_hub", "huggingface_hub"),)),
}


def ffmpeg() -> Finding:
    """Report the version of FFmpeg in PyAV."""
    libraries = ", ".join(f"{name[3:]} {'.'.join(map(str, v))}" for name, v in sorted(av.library_versions.items()))
    release = getattr(av, "ffmpeg_version_info", "")
    return Finding("decoders", "FFmpeg", "ok", f"{release} ({libraries})".strip())


def decoders() -> Iterator[Finding]:
    """Check the decoders of common video codecs."""
    for name, usage in DECODERS.items():
        try:
            codec = av.codec.Codec(name, "r")
        except (av.codec.codec.UnknownCodecError, ValueError):
            remedy = "pip install --force-reinstall --only-binary av av"
            yield Finding("decoders", name, "broken" if name == "h264" else "missing", f"no decoder ({usage})", remedy)
        else:
            yield Finding("decoders", name, "ok", f"{codec.name} ({usage})")


def extras() -> Iterator[Finding]:
    """Check the optional dependencies."""
    for name, extra in EXTRAS.items():
        missing = [module for module, _ in extra.modules if find_spec(module) is None]
        if missing:
            found = f"not installed: {', '.join(missing)} ({extra.purpose})"
            yield Finding("parts", name, "missing", found, install_command(name))
        else:
            yield Finding("parts", name, "ok", f"{_versions(extra)} ({extra.purpose})")


def triton() -> Finding:
    """Check Triton, which compiles TV-L1 for NVIDIA GPUs. CUDA builds of torch install it."""
    import torch

    if find_spec("triton") is not None:
        return Finding("parts", "triton", "ok", f"{_version('triton')} (TV-L1 on a GPU)")
    if torch.cuda.is_available():
        return Finding("parts", "triton", "missing", "not installed; TV-L1 on the GPU is slow", "pip install triton")
    return Finding("parts", "triton", "ok", "not installed; not needed without a GPU")


def _versions(extra: Extra) -> str:
    return ", ".join(f"{distribution} {_version(distribution)}" for _, distribution in extra.modules)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "from another distribution"
