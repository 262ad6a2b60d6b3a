"""``quovadis weights push``: upload weights and a model card to the Hugging Face Hub."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Push:
    """Upload the weights of a run, with a generated model card, to the Hugging Face Hub; needs quovadis[hub]."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder, of which the best weights are taken, or a safetensors file."""
    repo: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ORG/NAME")]
    """Repository; it is created where there is none."""
    license: str = "unknown"
    """License of the weights as the Hub names it: apache-2.0, mit, cc-by-4.0, other ..."""
    evaluation: Path | None = None
    """evaluation.json of ``quovadis evaluate --out``, for the metrics of the card; by default those of training."""
    private: bool = False
    """Create a private repository."""
    keep_card: bool = False
    """Leave the README.md of the repository unchanged."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Upload, and print the address that pins the commit."""
        from quovadis.weights.hub_push import push_weights

        pushed = push_weights(
            self.source,
            self.repo,
            license=self.license,
            evaluation=self.evaluation,
            private=self.private,
            keep_card=self.keep_card,
        )
        if self.json:
            print(json.dumps(asdict(pushed), indent=2))
        else:
            print(f"{pushed.url}\n{pushed.address}")
