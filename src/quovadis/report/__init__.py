"""Self-contained HTML pages, images and terminal tables.

Example::

    write_timeline(timeline, "timelines/")
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.report.activation_maps import draw_filmstrip as draw_filmstrip
    from quovadis.report.activation_maps import overlay_maps as overlay_maps
    from quovadis.report.classifier import write_classifier_page as write_classifier_page
    from quovadis.report.dataset_page import write_dataset_page as write_dataset_page
    from quovadis.report.evaluation import write_evaluation_page as write_evaluation_page
    from quovadis.report.evaluation import write_results as write_results
    from quovadis.report.explain import write_explanation as write_explanation
    from quovadis.report.filters import draw_filters as draw_filters
    from quovadis.report.fvd_page import MetricRow as MetricRow
    from quovadis.report.fvd_page import write_fvd_page as write_fvd_page
    from quovadis.report.timeline import Bar as Bar
    from quovadis.report.timeline import draw_timeline as draw_timeline
    from quovadis.report.timeline import write_timeline as write_timeline

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "activation_maps": ["draw_filmstrip", "overlay_maps"],
        "classifier": ["write_classifier_page"],
        "dataset_page": ["write_dataset_page"],
        "evaluation": ["write_evaluation_page", "write_results"],
        "explain": ["write_explanation"],
        "filters": ["draw_filters"],
        "fvd_page": ["MetricRow", "write_fvd_page"],
        "timeline": ["Bar", "draw_timeline", "write_timeline"],
    },
)
