"""Export networks to ONNX and torch.export.

Example::

    card = export_model(model, "i3d.onnx")
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.export.card import CheckCard as CheckCard
    from quovadis.export.card import ExportCard as ExportCard
    from quovadis.export.card import TensorCard as TensorCard
    from quovadis.export.export import export_model as export_model
    from quovadis.export.formats import ExportFormat as ExportFormat
    from quovadis.export.plan import DynamicAxis as DynamicAxis

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "card": ["CheckCard", "ExportCard", "TensorCard"],
        "export": ["export_model"],
        "formats": ["ExportFormat"],
        "plan": ["DynamicAxis"],
    },
)
