"""Errors that users can cause are QuovadisErrors and matching builtin exceptions."""

import pickle
import re

import pytest

from quovadis import errors
from quovadis.errors import QuovadisError, UnknownNameError
from quovadis.runtime.extras import install_command, missing_extra

BUILTINS = {
    "VideoError": OSError,
    "VideoNotFoundError": FileNotFoundError,
    "VideoDamagedError": OSError,
    "TooFewFramesError": ValueError,
    "InvalidInputError": ValueError,
    "InvalidTypeError": TypeError,
    "UnknownNameError": LookupError,
    "DatasetError": ValueError,
    "WeightsError": ValueError,
    "DownloadError": OSError,
    "TrainingError": RuntimeError,
    "LossNotFiniteError": ArithmeticError,
    "StorageError": OSError,
    "JobError": RuntimeError,
    "OtherProcessError": RuntimeError,
    "MissingExtraError": ImportError,
}
CLASSES = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)
}


def test_every_error_is_in_the_table() -> None:
    assert set(CLASSES) - {"QuovadisError"} == set(BUILTINS)


@pytest.mark.parametrize("name", BUILTINS)
def test_each_error_is_a_quovadis_error_and_a_builtin(name: str) -> None:
    error = CLASSES[name]("what happened")
    assert isinstance(error, QuovadisError)
    assert isinstance(error, BUILTINS[name])
    assert str(error) == "what happened"


@pytest.mark.parametrize("name", BUILTINS)
def test_each_error_can_be_pickled(name: str) -> None:
    copy = pickle.loads(pickle.dumps(CLASSES[name]("clip.mp4 is gone")))
    assert type(copy) is CLASSES[name]
    assert str(copy) == "clip.mp4 is gone"


@pytest.mark.parametrize("name", BUILTINS)
def test_the_module_docstring_lists_each_error(name: str) -> None:
    assert re.search(rf"── {name}\b", str(errors.__doc__))


def test_unknown_names_get_suggestions_and_the_known_names() -> None:
    message = str(UnknownNameError.among("recipe", "i3d_motion", ["i3d_motions", "charades"]))
    assert message == "unknown recipe 'i3d_motion'; did you mean 'i3d_motions'? Known: charades, i3d_motions"


def test_unknown_names_without_similar_names_get_no_suggestion() -> None:
    assert str(UnknownNameError.among("model", "zzz", ["i3d"])) == "unknown model 'zzz'; Known: i3d"
    many = str(UnknownNameError.among("class", "zzz", map(str, range(400))))
    assert many.startswith("unknown class 'zzz'; Known: 0, 1, 10, ")
    assert many.endswith(", 123, 124 and 370 more")
    assert str(UnknownNameError.among("model", "zzz", [])) == "unknown model 'zzz'; Known: none"


def test_missing_extras_name_the_install_command() -> None:
    assert str(missing_extra("The page", "web")).endswith(install_command("web"))
