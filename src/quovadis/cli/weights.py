"""``quovadis weights``: list, show, get, convert, verify and push weights, and draw filters."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from quovadis.cli.weights_push import Push
from quovadis.errors import WeightsError
from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class List:
    """List the published weights that quovadis can download."""

    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Print the catalog."""
        from quovadis.weights.catalog import CATALOG
        from quovadis.weights.download import cache_folder, is_cached

        if self.json:
            _print_json([asdict(CATALOG[name]) | {"cached": is_cached(CATALOG[name])} for name in sorted(CATALOG)])
            return
        print(f"{'name':<40} {'cached':<6} {'stream':<6} {'classes':>7}  {'top-1':>5} {'top-5':>5}  license")
        for name in sorted(CATALOG):
            entry = CATALOG[name]
            top1, top5 = (f"{a:.1f}" if a is not None else "-" for a in (entry.top1, entry.top5))
            license = entry.license.partition(" (")[0]
            cached = "yes" if is_cached(entry) else "-"
            print(f"{name:<40} {cached:<6} {entry.stream:<6} {entry.num_classes:>7}  {top1:>5} {top5:>5}  {license}")
        print(f"\nCache folder: {cache_folder()}")
        print("Accuracies in percent, as published; for their protocols: quovadis weights show NAME")


@dataclass(frozen=True)
class Show:
    """Show the catalog entry of published weights, or the metadata of a weights file."""

    weights: tyro.conf.Positional[str]
    """Name of published weights, weights file or run folder."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Print the catalog entry or the metadata."""
        from quovadis.weights.catalog import CATALOG
        from quovadis.weights.download import cache_folder, is_cached
        from quovadis.weights.formats import read_video_weights
        from quovadis.weights.load import resolve_weights

        if self.weights in CATALOG and not Path(self.weights).exists():
            entry = CATALOG[self.weights]
            fields = asdict(entry) | {"folder": str(cache_folder() / entry.name)}
            fields |= {"cached": is_cached(entry), "sources": list(entry.sources)}
        else:
            state, info = read_video_weights(resolve_weights(self.weights)[0])
            fields = asdict(info) | {"num_parameters": sum(t.numel() for n, t in state.items() if "running" not in n)}
        if self.json:
            _print_json(fields)
            return
        if "labels" in fields:
            labels = fields["labels"]
            fields["labels"] = f"{len(labels)}: {', '.join(labels[:3])} ..." if labels else "none"
        for key, value in fields.items():
            for name, text in _describe_field(key, value):
                print(f"{name:<14} {text}")


@dataclass(frozen=True)
class Get:
    """Download published weights, verify their checksums, and print their path. Interrupted downloads are resumed."""

    name: tyro.conf.Positional[str]
    """Name of published weights."""
    folder: Path | None = None
    """Folder in which to store the weights; by default the cache folder ($QUOVADIS_CACHE)."""
    mirror: str | None = None
    """URL of a server with the same files under MIRROR/NAME/FILE."""
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """File downloaded by hand: a file of the publisher, or the package's archive (.tar.gz) or checkpoint (.ckpt)."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Download, and print the file that load_model opens."""
        from quovadis.runtime.progress import download_bar
        from quovadis.weights.download import get_weights, get_weights_from_file

        if self.from_ is not None:
            path = get_weights_from_file(self.name, self.from_, folder=self.folder)
        else:
            sources: list[str] = []
            with download_bar(self.name) as progress:
                path = get_weights(
                    self.name, folder=self.folder, mirror=self.mirror, progress=progress, report_source=sources.append
                )
            if sources:
                print(f"downloaded from {sources[0]}; checksums verified", file=sys.stderr)
        _print_json({"name": self.name, "path": str(path)}) if self.json else print(path)


@dataclass(frozen=True)
class Convert:
    """Convert weights to another file format without changing any value."""

    source: tyro.conf.Positional[str]
    """Name of published weights, weights file (safetensors, TensorFlow checkpoint, .pt of a port) or run folder."""
    target: tyro.conf.Positional[Path]
    """File to write."""
    to: str = "quovadis"
    """Format: quovadis (safetensors with metadata), pytorch-i3d or hassony2 (.pt with the names of these ports)."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Convert, and print the metadata of the new file."""
        from quovadis.runtime.progress import working

        with working(f"converting {self.source}"):
            from quovadis.weights.conversion import convert

            info = convert(self.source, self.target, to=self.to)
        if self.json:
            _print_json({"path": str(self.target), **asdict(info)})
        else:
            print(f"{self.target}: {info.model}, {info.options}, {len(info.labels)} labels, {info.source}")


@dataclass(frozen=True)
class Verify:
    """Compare every tensor of an I3D file with the official checkpoints. The exit code is 1 if they differ."""

    weights: tyro.conf.Positional[str]
    """Name of published weights, weights file (also that of a port) or run folder."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Compare the file with the catalog, and its tensors with all official checkpoints."""
        from quovadis.runtime.progress import working
        from quovadis.weights.catalog import CATALOG
        from quovadis.weights.download import identify_published
        from quovadis.weights.formats import read_video_weights
        from quovadis.weights.load import resolve_weights
        from quovadis.weights.verify import verify_state

        path, _ = resolve_weights(self.weights)
        name = identify_published(path) if path.is_file() else ""
        if name:
            print(f"published: the file is identical to {name}", file=sys.stderr if self.json else sys.stdout)
            if not CATALOG[name].checkpoint:  # there is no official checkpoint to compare with
                if self.json:
                    _print_json({"weights": str(path), "official": False, "published": name})
                return
        with working(f"comparing {path.name}"):
            report = verify_state(read_video_weights(path)[0])
        total = len(report.equal) + len(report.different)
        if self.json:
            _print_json({"weights": str(path), "official": report.official, **asdict(report)})
        elif report.official:
            print(f"official: all {total} tensors are equal to those of {report.nearest}")
        elif report.equal:
            for name in report.different:
                print(f"different  {name}")
            print(f"not official: {len(report.equal)} of {total} tensors are equal to those of {report.nearest}")
        else:
            print("not official: no tensor is equal to that of an official checkpoint")
        if not report.official:
            raise SystemExit(1)


@dataclass(frozen=True)
class Filters:
    """Draw the filters of the first convolution in all time slices (figure 4 of the paper)."""

    weights: tyro.conf.Positional[str]
    """Name of published weights, weights file or run folder."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("filters.png")
    """PNG file to write."""

    def run(self) -> None:
        """Draw the filters, and print the path of the image."""
        from quovadis.report.filters import draw_filters
        from quovadis.runtime.atomic import write_atomically
        from quovadis.weights.formats import ImageModel, read_weights
        from quovadis.weights.load import resolve_weights

        path, name = resolve_weights(self.weights)
        state, info = read_weights(path)
        if isinstance(info, ImageModel):
            title = name or f"2D network: {path.name}"
        else:
            title = str(
                info.source.get("published") or name or f"{info.model}, {info.options.get('stream')}: {path.name}"
            )
        # Only the first convolution has a width of 7. Its position in the file varies.
        candidates = {key: weight for key, weight in state.items() if weight.ndim > 3 and weight.shape[-1] == 7}
        if not candidates:
            raise WeightsError(f"{path} has no convolution of width 7, which is the first one of supported networks")
        key, weight = next(iter(candidates.items()))
        if len(candidates) > 1:  # one trunk per stream
            title += f"\n{key}"
        print(write_atomically(self.out, draw_filters(weight, title)))


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Get, tyro.conf.subcommand("get")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Filters, tyro.conf.subcommand("filters")]
    | Annotated[Push, tyro.conf.subcommand("push")]
)


def main(args: list[str]) -> None:
    """Run a subcommand.

    Raises:
        QuovadisError: For errors that the user can fix.
    """
    command: Any = tyro.cli(
        Command,
        args=args,
        prog="quovadis weights",
        config=(tyro.conf.FlagCreatePairsOff,),
        description="Download, convert, verify and push pretrained weights.",
    )
    command.run()


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _describe_field(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the lines of ``weights show`` for a field: name and text."""
    if key == "sources":
        yield key, ", then ".join(value)
    elif key == "package" and value:
        yield key, f"{value['name']} {value['version']}, {value['license']}"
        yield "checksum", f"sha256 {value['sha256']}"
    elif key == "files":
        for file in value:
            yield "file", file["url"]
            blob_id, prefix = file["git_blob_id"], file["sha256_prefix"]
            yield "checksum", f"git blob id {blob_id}" if blob_id else f"sha256 starts with {prefix}"
    elif value not in ("", None):
        yield key, str(value)
