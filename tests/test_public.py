"""The public face cannot change by accident."""

import subprocess
import sys

import quovadis


def test_public_names_are_frozen() -> None:
    assert quovadis.__all__ == sorted(quovadis.__all__)
    assert set(quovadis.__all__) - {"__version__"} == set(quovadis._HOMES)
    assert quovadis.__all__ == [
        "Clip",
        "EvaluationResult",
        "Prediction",
        "QuovadisError",
        "Recognizer",
        "VideoInfo",
        "__version__",
        "create_model",
        "estimate_flow",
        "evaluate",
        "frechet_distance",
        "frechet_video_distance",
        "inflate",
        "list_models",
        "load_dataset",
        "load_model",
        "optimize",
        "probe",
        "read_clip",
        "train",
    ]


def test_every_public_name_exists() -> None:
    for name in quovadis.__all__:
        assert getattr(quovadis, name) is not None
    assert dir(quovadis) == quovadis.__all__


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, quovadis; print(sorted({'torch', 'numpy', 'av'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_models_need_only_torch_and_numpy() -> None:
    """The GPU parts must run where nothing else is installed."""
    code = (
        "import sys, importlib.abc\n"
        "class Block(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.split('.')[0] in {'av','cv2','numba','accelerate','torchmetrics','tyro','rich','matplotlib',"
        "'PIL','pyarrow','tensorboard','safetensors'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import quovadis.flow.estimate, quovadis.models.zoo, quovadis.transforms, quovadis.weights.load\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
