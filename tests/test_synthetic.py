from pathlib import Path

import pytest

from tests import synthetic


def test_missing_reference_data_skips_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(synthetic, "SHARED", tmp_path / "absent")
    with pytest.raises(pytest.skip.Exception, match=r"needs the reference data in .*absent"):
        synthetic.reference_data()
    monkeypatch.setattr(synthetic, "SHARED", tmp_path)
    assert synthetic.reference_data() == tmp_path
