"""Decoders and optional parts."""

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
    """An optional part, installed by :func:`quovadis.runtime.extras.install_command`."""

    purpose: str
    modules: tuple[tuple[str, str], ...]
    """Module and distribution."""


EXTRAS: dict[str, Extra] = {
    "opencv": Extra("OpenCV's optical flow, to compare with", (("cv2", "opencv-contrib-python-headless"),)),
    "tensorboard": Extra("curves of training in TensorBoard", (("tensorboard", "tensorboard"),)),
    "cluster": Extra("prepare, flow and extract on many machines", (("ray", "ray"), ("pandas", "pandas"))),
    "kinetics": Extra("clips from YouTube", (("yt_dlp", "yt-dlp"),)),
    "export": Extra(
        "networks for other runtimes",
        (("onnx", "onnx"), ("onnxscript", "onnxscript"), ("onnxruntime", "onnxruntime")),
    ),
    "openvino": Extra("faster networks on a CPU", (("openvino", "openvino"),)),
    "web": Extra("the page in the browser", (("gradio", "gradio"),)),
    "hub": Extra("weights on the Hugging Face Hub", (("huggingface_hub", "huggingface_hub"),)),
}


def ffmpeg() -> Finding:
    """The FFmpeg that PyAV brings."""
    libraries = ", ".join(f"{name[3:]} {'.'.join(map(str, v))}" for name, v in sorted(av.library_versions.items()))
    release = getattr(av, "ffmpeg_version_info", "")
    return Finding("decoders", "FFmpeg", "ok", f"{release} ({libraries})".strip())


def decoders() -> Iterator[Finding]:
    """Whether PyAV decodes what people have."""
    for name, whose in DECODERS.items():
        try:
            codec = av.codec.Codec(name, "r")
        except (av.codec.codec.UnknownCodecError, ValueError):
            remedy = "pip install --force-reinstall --only-binary av av"
            yield Finding("decoders", name, "broken" if name == "h264" else "missing", f"no decoder ({whose})", remedy)
        else:
            yield Finding("decoders", name, "ok", f"{codec.name} ({whose})")


def extras() -> Iterator[Finding]:
    """Every optional part, and the command that installs it."""
    for name, extra in EXTRAS.items():
        absent = [module for module, _ in extra.modules if find_spec(module) is None]
        if absent:
            found = f"not installed: {', '.join(absent)} ({extra.purpose})"
            yield Finding("parts", name, "missing", found, install_command(name))
        else:
            yield Finding("parts", name, "ok", f"{_versions(extra)} ({extra.purpose})")


def triton() -> Finding:
    """What compiles the kernels of TV-L1 on an NVIDIA GPU; torch brings it where it can be used."""
    import torch

    if find_spec("triton") is not None:
        return Finding("parts", "triton", "ok", f"{_version('triton')} (TV-L1 on a GPU)")
    if torch.cuda.is_available():
        return Finding("parts", "triton", "missing", "not installed: TV-L1 on the GPU is slow", "pip install triton")
    return Finding("parts", "triton", "ok", "not installed, and not needed without a GPU")


def _versions(extra: Extra) -> str:
    return ", ".join(f"{distribution} {_version(distribution)}" for _, distribution in extra.modules)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of another distribution"
