import pytest
import torch
from matplotlib.figure import Figure

from quovadis.report import charts


def test_confusion_matrix_rows_are_fractions_of_the_true_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of four videos of ``run`` are classified as ``jump``; ``swim`` has no videos."""
    figures: list[Figure] = []
    monkeypatch.setattr(charts, "_svg", figures.append)
    confusion = torch.tensor([[1, 3, 0], [0, 5, 0], [0, 0, 0]])
    charts.confusion_svg(confusion, ("run", "jump", "swim"))
    axis = figures[0].axes[0]
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("true", "predicted")
    assert axis.images[0].get_array().tolist() == [[0.25, 0.75, 0], [0, 1, 0], [0, 0, 0]]
    counts = {text.get_position(): text.get_text() for text in axis.texts}
    assert (counts[(1, 0)], counts[(0, 1)], counts[(1, 1)]) == ("3", "0", "5")  # position: predicted, true
    assert [label.get_text() for label in axis.get_yticklabels()] == ["run", "jump", "swim"]
