"""``quovadis weights push``: upload weights and a model card to the Hugging Face Hub."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Push:
    """Upload weights and a generated model card to the Hugging Face Hub. Requires the extra hub."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder, of which the best weights are uploaded, or a safetensors file."""
    repo: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ORG/NAME")]
    """Repository. It is created if it does not exist."""
    license: str = "unknown"
    """License of the weights, as an identifier of the Hub: apache-2.0, mit, cc-by-4.0, other ..."""
    evaluation: Path | None = None
    """evaluation.json of quovadis evaluate, whose metrics the card shows instead of the validation metrics."""
    private: bool = False
    """Create a private repository."""
    keep_card: bool = False
    """Do not replace the README.md of the repository."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Upload, and print the URL and the address of the commit."""
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
