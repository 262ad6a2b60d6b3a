"""Load, download, convert and verify weights.

Example::

    model = load_model("i3d-rgb-imagenet-kinetics400")
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.weights.catalog import CATALOG as CATALOG
    from quovadis.weights.catalog import DEFAULT_WEIGHTS as DEFAULT_WEIGHTS
    from quovadis.weights.catalog import CatalogEntry as CatalogEntry
    from quovadis.weights.catalog import CatalogFile as CatalogFile
    from quovadis.weights.catalog import PackageSource as PackageSource
    from quovadis.weights.catalog import find_entry as find_entry
    from quovadis.weights.catalog import list_weights as list_weights
    from quovadis.weights.conversion import convert as convert
    from quovadis.weights.download import get_weights as get_weights
    from quovadis.weights.download import get_weights_from_file as get_weights_from_file
    from quovadis.weights.files import load_weights as load_weights
    from quovadis.weights.files import save_weights as save_weights
    from quovadis.weights.hub import HubAddress as HubAddress
    from quovadis.weights.hub_push import PushedWeights as PushedWeights
    from quovadis.weights.hub_push import push_weights as push_weights
    from quovadis.weights.info import WeightsInfo as WeightsInfo
    from quovadis.weights.load import create_model as create_model
    from quovadis.weights.load import load_model as load_model
    from quovadis.weights.verify import MatchReport as MatchReport
    from quovadis.weights.verify import state_sha256 as state_sha256
    from quovadis.weights.verify import verify_state as verify_state

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "catalog": [
            "CATALOG",
            "CatalogEntry",
            "CatalogFile",
            "DEFAULT_WEIGHTS",
            "PackageSource",
            "find_entry",
            "list_weights",
        ],
        "conversion": ["convert"],
        "download": ["get_weights", "get_weights_from_file"],
        "files": ["load_weights", "save_weights"],
        "hub": ["HubAddress"],
        "hub_push": ["PushedWeights", "push_weights"],
        "info": ["WeightsInfo"],
        "load": ["create_model", "load_model"],
        "verify": ["MatchReport", "state_sha256", "verify_state"],
    },
)
