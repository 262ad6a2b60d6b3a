"""The published tables, the transfer settings and the reproduction of the tables.

Example::

    print(paper_table("table2"))
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.paper.inputs import CellResult as CellResult
    from quovadis.paper.inputs import ReproduceRecipes as ReproduceRecipes
    from quovadis.paper.inputs import TrainingInputs as TrainingInputs
    from quovadis.paper.inputs import TransferRecipes as TransferRecipes
    from quovadis.paper.inputs import recipes_for as recipes_for
    from quovadis.paper.plan import table_1 as table_1
    from quovadis.paper.published import PaperTable as PaperTable
    from quovadis.paper.published import paper_table as paper_table
    from quovadis.paper.published import paper_value as paper_value
    from quovadis.paper.reproduction import reproduce as reproduce
    from quovadis.paper.transfer_settings import TransferRow as TransferRow
    from quovadis.paper.transfer_settings import transfer as transfer

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "inputs": ["CellResult", "ReproduceRecipes", "TrainingInputs", "TransferRecipes", "recipes_for"],
        "plan": ["table_1"],
        "published": ["PaperTable", "paper_table", "paper_value"],
        "reproduction": ["reproduce"],
        "transfer_settings": ["TransferRow", "transfer"],
    },
)
