"""``quovadis weights``: list, show, get, convert, verify, draw and push weights."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from quovadis.cli.weights_push import Push
from quovadis.errors import WeightsError
from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class List:
    """List the published weights that quovadis can fetch and prove."""

    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Print the catalog."""
        from quovadis.weights.catalog import CATALOG
        from quovadis.weights.download import cache_folder, is_here

        if self.json:
            _print_json([asdict(CATALOG[name]) | {"here": is_here(CATALOG[name])} for name in sorted(CATALOG)])
            return
        print(f"{'name':<40} {'here':<5} {'stream':<7} {'classes':>7}  {'top-1':>5} {'top-5':>5}  license")
        for name in sorted(CATALOG):
            entry = CATALOG[name]
            top1, top5 = (f"{a:.1f}" if a is not None else "-" for a in (entry.top1, entry.top5))
            license = entry.license.partition(" (")[0]
            here = "yes" if is_here(entry) else "-"
            print(f"{name:<40} {here:<5} {entry.stream:<7} {entry.num_classes:>7}  {top1:>5} {top5:>5}  {license}")
        print(f"\n'here': on this machine, in {cache_folder()}")
        print("Accuracies are the publishers' own, each by its protocol: quovadis weights show NAME")


@dataclass(frozen=True)
class Show:
    """Show what is known of published weights, or what a weights file says about itself."""

    weights: tyro.conf.Positional[str]
    """A name of the catalog, or a file."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Print the entry of the catalog, or the file's description."""
        from quovadis.weights.catalog import CATALOG
        from quovadis.weights.download import cache_folder, is_here
        from quovadis.weights.formats import open_weights
        from quovadis.weights.load import locate

        if self.weights in CATALOG and not Path(self.weights).exists():
            entry = CATALOG[self.weights]
            facts = asdict(entry) | {"folder": str(cache_folder() / entry.name)}
            facts["here"] = is_here(entry)
            facts["sources"] = list(entry.sources)
        else:
            state, info = open_weights(locate(self.weights)[0])
            facts = asdict(info) | {"num_parameters": sum(t.numel() for n, t in state.items() if "running" not in n)}
        if self.json:
            _print_json(facts)
            return
        if "labels" in facts:
            labels = facts["labels"]
            facts["labels"] = f"{len(labels)}: {', '.join(labels[:3])} ..." if labels else "none"
        for key, value in facts.items():
            if key == "sources":
                print(f"{key:<14} {', then '.join(value)}")
            elif key == "package" and value:
                print(f"{key:<14} {value['name']} {value['version']}, {value['license']}")
                print(f"{'proof':<14} sha256 {value['sha256']}")
            elif key == "files":
                for file in value:
                    print(f"{'file':<14} {file['url']}")
                    print(f"{'proof':<14} {_proof(file)}")
            elif value not in ("", None):
                print(f"{key:<14} {value}")


@dataclass(frozen=True)
class Get:
    """Fetch published weights, go on where it was cut, and prove every byte; prints where they are."""

    name: tyro.conf.Positional[str]
    """A name of the catalog."""
    folder: Path | None = None
    """Where to keep them; else $QUOVADIS_CACHE, or quovadis in your cache folder."""
    mirror: str | None = None
    """Address that serves the same files as MIRROR/NAME/FILE."""
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """File that you downloaded yourself: the publisher's, the package's archive (.tar.gz) or its checkpoint (.ckpt)."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Fetch, and print the path that load_model opens."""
        from quovadis.weights.download import get_from_file, get_weights

        if self.from_ is not None:
            path = get_from_file(self.name, self.from_, folder=self.folder)
        else:
            served: list[str] = []
            with _progress() as progress:
                path = get_weights(
                    self.name, folder=self.folder, mirror=self.mirror, progress=progress, served=served.append
                )
            if served:
                print(f"fetched from {served[0]}, every tensor or byte verified", file=sys.stderr)
        _print_json({"name": self.name, "path": str(path)}) if self.json else print(path)


@dataclass(frozen=True)
class Convert:
    """Convert any weights file that quovadis knows; no bit of any tensor changes."""

    source: tyro.conf.Positional[str]
    """A name of the catalog, or a file: TensorFlow checkpoint, a port's .pt, ours."""
    target: tyro.conf.Positional[Path]
    """File to write."""
    to: str = "quovadis"
    """quovadis (safetensors that say what they are), pytorch-i3d or hassony2 (.pt under their names)."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Convert, and print what the new file says about itself."""
        from quovadis.weights.convert import convert

        info = convert(self.source, self.target, to=self.to)
        if self.json:
            _print_json({"path": str(self.target), **asdict(info)})
        else:
            print(f"{self.target}: {info.model}, {info.options}, {len(info.labels)} labels, {info.source}")


@dataclass(frozen=True)
class Verify:
    """Say of any I3D file, a port's too, whether its tensors are the official ones; exit code 1 if they are not."""

    weights: tyro.conf.Positional[str]
    """A file or a name of the catalog."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Compare the file's bytes with the catalog, and its tensors with all official checkpoints."""
        from quovadis.weights.catalog import CATALOG
        from quovadis.weights.download import published_as
        from quovadis.weights.formats import open_weights
        from quovadis.weights.load import locate
        from quovadis.weights.verify import verify_state

        path, _ = locate(self.weights)
        name = published_as(path) if path.is_file() else ""
        if name:
            print(f"published: the file is {name}, byte by byte", file=sys.stderr if self.json else sys.stdout)
            if not CATALOG[name].checkpoint:  # not DeepMind's tensors, so nothing more to compare with
                if self.json:
                    _print_json({"weights": str(path), "official": False, "published": name})
                return
        state, _ = open_weights(path)
        verdict = verify_state(state)
        total = len(verdict.equal) + len(verdict.different)
        if self.json:
            _print_json({"weights": str(path), "official": verdict.official, **asdict(verdict)})
        elif verdict.official:
            print(f"official: all {total} tensors are those of {verdict.nearest}")
        elif verdict.equal:
            for name in verdict.different:
                print(f"different  {name}")
            print(f"not official: {len(verdict.equal)} of {total} tensors are those of {verdict.nearest}")
        else:
            print("not official: not one tensor is that of any official checkpoint")
        if not verdict.official:
            raise SystemExit(1)


@dataclass(frozen=True)
class Filters:
    """Draw the filters of the first convolution over their time slices (figure 4 of the paper)."""

    weights: tyro.conf.Positional[str]
    """A file or a name of the catalog."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("filters.png")
    """PNG file to write."""

    def run(self) -> None:
        """Draw, and print where."""
        from quovadis.report.filters import draw_filters
        from quovadis.weights.files import write_atomically
        from quovadis.weights.formats import open_weights, read_image_model
        from quovadis.weights.load import locate

        path, name = locate(self.weights)
        state = read_image_model(path)
        title = name or f"2D network: {path.name}"
        if state is None:
            state, info = open_weights(path)
            title = (
                str(info.source.get("published") or "")
                or name
                or f"{info.model}, {info.options.get('stream')}: {path.name}"
            )
        # By shape, because files keep tensors in any order: only the first convolution is 7 wide.
        first = {name: weight for name, weight in state.items() if weight.ndim > 3 and weight.shape[-1] == 7}
        if not first:
            raise WeightsError(f"{path} has no convolution 7 wide, as the first of these networks is")
        chosen, weight = next(iter(first.items()))
        if len(first) > 1:  # a network with a trunk for each stream
            title += f"\n{chosen}"
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
    """Run one sub-command.

    Raises:
        QuovadisError: what the user can put right.
    """
    command: Any = tyro.cli(
        Command,
        args=args,
        prog="quovadis weights",
        config=(tyro.conf.FlagCreatePairsOff,),
        description="Published weights: list, show, get, convert, verify, filters, push.",
    )
    command.run()


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _proof(file: dict[str, Any]) -> str:
    if file["git_blob_id"]:
        return f"git blob id {file['git_blob_id']}"
    if file["sha256_prefix"]:
        return f"sha256 starts with {file['sha256_prefix']}"
    raise WeightsError(f"{file['name']} has no proof")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int | None], None] | None]:
    """A line on stderr that grows, where somebody looks at it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from quovadis.runtime.console import Console

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
