"""Model card of a repository on the Hugging Face Hub: its README.md."""

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quovadis.errors import InvalidInputError
from quovadis.models.preprocessing import channel_names, preprocessing_steps
from quovadis.models.video_model import VideoModel
from quovadis.runtime.plain_text import printable
from quovadis.version import __version__

_NAMES = {
    "data": "training data",
    "data_fingerprint": "data fingerprint",
    "val_loss": "validation loss",
    "val_accuracy": "validation top-1",
}
_METRICS = ("val_accuracy", "val_loss")
_FIELDS = (
    "dataset",
    "data_fingerprint",
    "split",
    "protocol",
    "num_videos",
    "num_unreadable",
    "top1",
    "top5",
    "mean_class",
)


@dataclass(frozen=True)
class HubCard:
    """Contents of a model card.

    >>> from quovadis.models.zoo import build_model
    >>> model = build_model("i3d_tiny", num_classes=2)
    >>> model.labels = ("run", "jump")
    >>> print(HubCard("org/name", model, license="mit", sha256="0" * 64).body().splitlines()[2])
    # org/name
    """

    repo: str
    model: VideoModel
    license: str
    """Identifier of the Hub, such as ``apache-2.0``, or ``unknown``."""
    sha256: str
    """Checksum of the weights file."""
    evaluation: Mapping[str, Any] | None = None
    """Result of ``quovadis evaluate``, as returned by :func:`read_evaluation`."""

    def text(self) -> str:
        """Return the whole file: YAML front matter and Markdown."""
        from huggingface_hub import ModelCardData

        data = ModelCardData(
            library_name="quovadis",
            license=self.license,
            pipeline_tag="video-classification",
            tags=["video-classification", "action-recognition", self.model.spec.name],
        )
        return f"---\n{data.to_yaml()}\n---\n{self.body()}"

    def body(self) -> str:
        """Return the Markdown after the front matter."""
        streams = " and ".join(stream.kind for stream in self.model.spec.streams)
        labels = json.dumps(list(self.model.labels), indent=0, ensure_ascii=False)
        sections = (
            f"<!-- Written by quovadis {__version__}. -->\n\n# {self.repo}",
            f"Action recognition in videos: the network `{self.model.spec.name}` ({streams}) with "
            f"{self.model.num_classes} classes, in the format of quovadis.",
            self._how_to_load(),
            f"## Preprocessing\n\n{self._preprocessing()}",
            f"## Protocol and metrics\n\n{self._metrics()}",
            f"## Origin\n\n{_table(('', ''), self._origin())}",
            f"## License\n\n{self._license()}",
            f"## Labels\n\nIn the order of the logits:\n\n{_fenced('json', labels)}",
        )
        return "\n\n".join(sections) + "\n"

    def _how_to_load(self) -> str:
        python = (
            "from quovadis import Recognizer\n\n"
            f'recognizer = Recognizer.load("hf://{self.repo}")\n'
            'print(recognizer.predict("video.mp4").top(5))'
        )
        command = f"quovadis predict video.mp4 --weights hf://{self.repo}"
        return (
            "## How to load\n\nInstall quovadis with the extra `hub`.\n\n"
            f"{_fenced('python', python)}\n\n{_fenced('bash', command)}\n\n"
            f"`hf://{self.repo}@REVISION` selects a branch, a tag or a commit. Only `model.safetensors` is downloaded. "
            f"It contains tensors and JSON, no code. Its sha256 in this revision is `{self.sha256}`."
        )

    def _preprocessing(self) -> str:
        spec = self.model.spec
        steps = "\n".join(f"{number}. {step}" for number, step in enumerate(preprocessing_steps(self.model.spec), 1))
        rows = [
            (stream.kind, f"{stream.channels} ({channel_names(stream)})", stream.num_frames, f"{spec.size_px} px")
            for stream in spec.streams
        ]
        return f"{steps}\n\n{_table(('stream', 'channels', 'frames per training clip', 'size'), rows)}"

    def _metrics(self) -> str:
        text = f"Evaluation protocol of this network: `{self.model.spec.protocol}`."
        if self.evaluation is not None:
            rows = [(_name(key), _value(key, self.evaluation[key])) for key in _FIELDS]
            return f"{text}\n\n{_table(('', ''), rows)}"
        own = self.model.source
        rows = [(_name(key), _value(key, own[key])) for key in _METRICS if key in own]
        if not rows:
            return f"{text} The author reports no metrics."
        return (
            f"{text} The metrics below are validation metrics during training, with one clip per video, not metrics "
            f"of this protocol.\n\n{_table(('', ''), rows)}"
        )

    def _origin(self) -> list[tuple[str, str]]:
        source = {key: value for key, value in self.model.source.items() if key not in _METRICS and value is not None}
        return [(_name(key), _value(key, value)) for key, value in source.items()] or [("source", "not recorded")]

    def _license(self) -> str:
        if self.license == "unknown":
            return "The author states no license."
        return f"`{self.license}`"


def read_evaluation(path: Path, labels: tuple[str, ...]) -> dict[str, Any]:
    """Read the result of one network from the JSON that ``quovadis evaluate`` writes.

    Args:
        path: ``evaluation.json`` in the output folder, or the output of ``--json``.
        labels: Classes of the network. The evaluation must have the same classes.

    Raises:
        InvalidInputError: If the file cannot be read, contains several results, or belongs to another network.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read as an evaluation: {error}") from error
    results = content if isinstance(content, list) else [content]
    if len(results) != 1:
        raise InvalidInputError(f"{path} contains {len(results)} results; expected that of one network")
    result = results[0]
    missing = [key for key in (*_FIELDS, "labels") if not isinstance(result, dict) or key not in result]
    if missing:
        raise InvalidInputError(f"{path} was not written by `quovadis evaluate`: it has no {', '.join(missing)}")
    if result["labels"] != list(labels):
        raise InvalidInputError(f"{path} is the evaluation of a network with other classes")
    return result


def _name(key: str) -> str:
    return _NAMES.get(key, key.replace("_", " "))


def _value(key: str, value: Any) -> str:
    if key in ("val_accuracy", "top1", "top5", "mean_class") and isinstance(value, int | float):
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    cells = [[_escaped(str(cell)) for cell in row] for row in (header, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]])


def _escaped(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    text = html.escape(printable(" ".join(text.split())), quote=False)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text)


def _fenced(language: str, code: str) -> str:
    """Return a fenced code block whose fence is longer than any fence in the code."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"{fence}{language}\n{printable(code)}\n{fence}"
