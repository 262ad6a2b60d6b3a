"""The public API: the ``__all__`` of the package and of every subpackage."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest

import quovadis

SOURCE = Path(quovadis.__file__).parent

PUBLIC = {
    "quovadis": [
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
    ],
    "quovadis.video": [
        "Clip",
        "FrameTransform",
        "LOSSLESS",
        "LiveFrame",
        "LiveStream",
        "ShortPolicy",
        "VideoFrame",
        "VideoInfo",
        "VideoReader",
        "clip_indices",
        "even_starts",
        "fit_length",
        "frame_index_at",
        "probe",
        "random_start",
        "read_clip",
        "resample_indices",
        "trim_video",
        "windows",
        "write_video",
    ],
    "quovadis.transforms": [
        "PixelCenters",
        "center_crop",
        "crop",
        "crops_along",
        "flip_left_right",
        "random_crop",
        "resize",
        "resize_short_side",
        "resize_to_model",
        "ten_crops",
        "to_model",
    ],
    "quovadis.flow": [
        "FAST",
        "FlowFileWriter",
        "FlowFolderWriter",
        "FlowHeader",
        "FlowMethod",
        "FlowPreset",
        "FlowSource",
        "FlowWriter",
        "PAPER",
        "TVL1Parameters",
        "VideoFingerprint",
        "decode_flow",
        "draw_flow",
        "draw_legend",
        "encode_flow",
        "estimate_flow",
        "flow_for_clip",
        "preset_for",
        "read_flow",
        "read_header",
        "repeat_last",
        "store_flow",
    ],
    "quovadis.models": [
        "Backend",
        "BatchStatistics",
        "Conv3D",
        "ConvNetLSTM",
        "FusedTwoStream",
        "I3D",
        "I3DResNet50",
        "InferenceModel",
        "ModelSpec",
        "Precision",
        "ReceptiveField",
        "StreamChoice",
        "StreamKind",
        "StreamSpec",
        "TemporalLayer",
        "TwoStream",
        "VideoModel",
        "build_model",
        "clip_to_streams",
        "cut_clip",
        "fold_input_range",
        "inflate",
        "list_models",
        "optimize",
        "preprocessing_steps",
        "recompute_activations",
        "recompute_running_statistics",
    ],
    "quovadis.metrics": [
        "DensityCoverage",
        "ExtrapolatedDistance",
        "FeatureMoments",
        "FrechetInterval",
        "MetricInterval",
        "NearestSamples",
        "PrecisionRecall",
        "ReliabilityBin",
        "RepeatedDistance",
        "density_coverage",
        "density_coverage_intervals",
        "expected_calibration_error",
        "fit_temperature",
        "frechet_at_infinity",
        "frechet_distance",
        "frechet_interval",
        "half_split_distance",
        "kernel_interval",
        "kernel_video_distance",
        "nearest_samples",
        "precision_recall",
        "precision_recall_intervals",
        "reliability_bins",
        "sample_curve",
        "uncovered_samples",
    ],
    "quovadis.datasets": [
        "ClassCount",
        "ClipDataset",
        "DatasetStatistics",
        "Duplicate",
        "EpochBatchSampler",
        "FoundVideos",
        "Manifest",
        "MotionsConfig",
        "Overlap",
        "PrepareSettings",
        "ProbeCache",
        "SCENE_LABELS",
        "Sample",
        "VideoDataLoader",
        "VideoRecord",
        "check_no_leakage",
        "clip_extent",
        "collate",
        "dataset_statistics",
        "draw_scene",
        "find_videos",
        "index_videos",
        "list_videos",
        "load_dataset",
        "load_hmdb51",
        "load_motions",
        "load_ucf101",
        "motions_clip",
        "prepare",
        "verify_videos",
    ],
    "quovadis.datasets.kinetics": [
        "DownloadReport",
        "FetchFailure",
        "KineticsClip",
        "VideoFetcher",
        "YtDlpFetcher",
        "class_labels",
        "download_annotations",
        "download_from_cvdf",
        "download_from_youtube",
        "load_kinetics",
        "read_annotations",
        "select_clips",
    ],
    "quovadis.weights": [
        "CATALOG",
        "CatalogEntry",
        "CatalogFile",
        "DEFAULT_WEIGHTS",
        "HubAddress",
        "MatchReport",
        "PackageSource",
        "PushedWeights",
        "WeightsInfo",
        "convert",
        "create_model",
        "find_entry",
        "get_weights",
        "get_weights_from_file",
        "list_weights",
        "load_model",
        "load_weights",
        "push_weights",
        "save_weights",
        "state_sha256",
        "verify_state",
    ],
    "quovadis.export": [
        "CheckCard",
        "DynamicAxis",
        "ExportCard",
        "ExportFormat",
        "TensorCard",
        "export_model",
    ],
    "quovadis.inference": [
        "ActivationMaps",
        "ExtractJob",
        "ExtractResult",
        "ExtractorSettings",
        "FEATURE_PRESETS",
        "FeatureExtractor",
        "FeatureFile",
        "FeaturePreset",
        "FeatureRows",
        "FrameCountError",
        "Prediction",
        "Recognizer",
        "Segment",
        "Timeline",
        "WHOLE",
        "WatchRow",
        "Watcher",
        "Window",
        "extract_all",
        "extract_video",
        "find_feature_preset",
        "make_timeline",
        "mean_probabilities",
        "plan_jobs",
        "sum_logits",
        "watch",
    ],
    "quovadis.evaluation": [
        "EvaluationResult",
        "FusionRule",
        "LogitDump",
        "PROTOCOLS",
        "Protocol",
        "VideoResult",
        "evaluate",
        "evaluate_streams",
        "find_protocol",
        "join_dumps",
        "read_dump",
        "score_dump",
        "write_dump",
    ],
    "quovadis.fvd": [
        "FVD_PROTOCOLS",
        "FrameSampling",
        "FrechetVideoDistance",
        "FvdCard",
        "FvdProtocol",
        "FvdResult",
        "KernelVideoDistance",
        "SET_METRICS",
        "SetMetric",
        "VideoEmbedder",
        "VideoEmbeddings",
        "VideoPrecisionRecall",
        "find_fvd_protocol",
        "frechet_video_distance",
        "set_metrics",
    ],
    "quovadis.training": [
        "ClassifierRecipe",
        "CurvePoint",
        "DataConfig",
        "DataFindings",
        "Experiment",
        "FrozenRun",
        "LabelDoubt",
        "LeakageEffect",
        "LearningRateSchedule",
        "LookAlike",
        "ModelConfig",
        "NullProgress",
        "OptimizerConfig",
        "Progress",
        "RECIPES",
        "Recipe",
        "RunFolder",
        "ScheduleConfig",
        "Setting",
        "accuracy_without",
        "find_label_errors",
        "find_near_duplicates",
        "find_recipe",
        "fit_logistic",
        "leaking_videos",
        "learning_curve",
        "map_features",
        "more_data_helps",
        "nearest_neighbors",
        "read_log",
        "run_experiment",
        "train",
        "train_frozen",
    ],
    "quovadis.report": [
        "Bar",
        "MetricRow",
        "draw_filmstrip",
        "draw_filters",
        "draw_timeline",
        "overlay_maps",
        "write_classifier_page",
        "write_dataset_page",
        "write_evaluation_page",
        "write_explanation",
        "write_fvd_page",
        "write_results",
        "write_timeline",
    ],
    "quovadis.paper": [
        "CellResult",
        "PaperTable",
        "ReproduceRecipes",
        "TrainingInputs",
        "TransferRecipes",
        "TransferRow",
        "paper_table",
        "paper_value",
        "recipes_for",
        "reproduce",
        "table_1",
        "transfer",
    ],
    "quovadis.doctor": [
        "Finding",
        "examine",
    ],
    "quovadis.web": [
        "Example",
        "Handlers",
        "Limits",
        "ModelRegistry",
        "build_page",
        "serve_page",
    ],
}
PRIVATE = {"quovadis.runtime", "quovadis.cli"}
"""Packages without public names."""


def names_for_type_checkers(package: str) -> list[str]:
    """The names that the ``__init__.py`` of a package imports ``if TYPE_CHECKING``."""
    (block,) = (
        node
        for node in ast.parse(Path(str(import_module(package).__file__)).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return sorted(alias.asname or "" for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names)


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_are_frozen(package: str) -> None:
    module = import_module(package)
    assert module.__all__ == PUBLIC[package]
    assert dir(module) == PUBLIC[package]
    assert names_for_type_checkers(package) == sorted(set(PUBLIC[package]) - {"__version__"})
    assert module.__doc__ is not None
    assert "Example::" in module.__doc__


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_exists(package: str) -> None:
    for name in PUBLIC[package]:
        assert getattr(import_module(package), name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        import_module(package).nothing  # noqa: B018


def test_every_public_function_has_an_example() -> None:
    functions = {
        f"{package}.{name}": value
        for package, names in PUBLIC.items()
        for name in names
        if isinstance(value := getattr(import_module(package), name), FunctionType)
    }
    assert len(functions) > 50
    assert [name for name, function in functions.items() if ">>>" not in (function.__doc__ or "")] == []


def test_every_package_is_public_or_private() -> None:
    packages = {".".join(("quovadis", *f.parent.relative_to(SOURCE).parts)) for f in SOURCE.rglob("__init__.py")}
    assert packages == PUBLIC.keys() | PRIVATE


def test_import_loads_nothing_heavy() -> None:
    imports = "\n".join(f"import {package}" for package in PUBLIC)
    code = f"import sys\n{imports}\nprint(sorted({{'torch', 'numpy', 'av', 'rich', 'tyro'}} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_models_need_only_torch_and_numpy() -> None:
    """The GPU parts must run where nothing else is installed."""
    code = (
        "import sys, importlib.abc\n"
        "class Block(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.split('.')[0] in {'av','cv2','numba','torchmetrics','tyro','rich','matplotlib',"
        "'PIL','pyarrow','tensorboard','safetensors'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import quovadis.flow.estimate, quovadis.models.zoo, quovadis.transforms, quovadis.weights.load\n"
        "quovadis.transforms.to_model, quovadis.models.build_model\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
