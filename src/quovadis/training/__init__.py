"""Train models by recipes, and classifiers on frozen features.

Example::

    run = train(find_recipe("tiny"), load_dataset("clips/"), "runs/mine")
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.training.accuracy_curve import CurvePoint as CurvePoint
    from quovadis.training.accuracy_curve import learning_curve as learning_curve
    from quovadis.training.accuracy_curve import more_data_helps as more_data_helps
    from quovadis.training.classifier import ClassifierRecipe as ClassifierRecipe
    from quovadis.training.data_checks import LabelDoubt as LabelDoubt
    from quovadis.training.data_checks import LeakageEffect as LeakageEffect
    from quovadis.training.data_checks import LookAlike as LookAlike
    from quovadis.training.data_checks import accuracy_without as accuracy_without
    from quovadis.training.data_checks import find_label_errors as find_label_errors
    from quovadis.training.data_checks import find_near_duplicates as find_near_duplicates
    from quovadis.training.data_checks import leaking_videos as leaking_videos
    from quovadis.training.data_checks import nearest_neighbors as nearest_neighbors
    from quovadis.training.data_findings import DataFindings as DataFindings
    from quovadis.training.experiment import Experiment as Experiment
    from quovadis.training.experiment import Setting as Setting
    from quovadis.training.experiment import run_experiment as run_experiment
    from quovadis.training.feature_map import map_features as map_features
    from quovadis.training.frozen_classifier import FrozenRun as FrozenRun
    from quovadis.training.frozen_classifier import train_frozen as train_frozen
    from quovadis.training.logistic import fit_logistic as fit_logistic
    from quovadis.training.loop import train as train
    from quovadis.training.progress import NullProgress as NullProgress
    from quovadis.training.progress import Progress as Progress
    from quovadis.training.recipes import RECIPES as RECIPES
    from quovadis.training.recipes import DataConfig as DataConfig
    from quovadis.training.recipes import ModelConfig as ModelConfig
    from quovadis.training.recipes import OptimizerConfig as OptimizerConfig
    from quovadis.training.recipes import Recipe as Recipe
    from quovadis.training.recipes import ScheduleConfig as ScheduleConfig
    from quovadis.training.recipes import find_recipe as find_recipe
    from quovadis.training.run_folder import RunFolder as RunFolder
    from quovadis.training.run_folder import read_log as read_log
    from quovadis.training.schedule import LearningRateSchedule as LearningRateSchedule

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "classifier": ["ClassifierRecipe"],
        "data_checks": [
            "LabelDoubt",
            "LeakageEffect",
            "LookAlike",
            "accuracy_without",
            "find_label_errors",
            "find_near_duplicates",
            "leaking_videos",
            "nearest_neighbors",
        ],
        "data_findings": ["DataFindings"],
        "experiment": ["Experiment", "Setting", "run_experiment"],
        "feature_map": ["map_features"],
        "frozen_classifier": ["FrozenRun", "train_frozen"],
        "accuracy_curve": ["CurvePoint", "learning_curve", "more_data_helps"],
        "logistic": ["fit_logistic"],
        "loop": ["train"],
        "progress": ["NullProgress", "Progress"],
        "recipes": [
            "DataConfig",
            "ModelConfig",
            "OptimizerConfig",
            "RECIPES",
            "Recipe",
            "ScheduleConfig",
            "find_recipe",
        ],
        "run_folder": ["RunFolder", "read_log"],
        "schedule": ["LearningRateSchedule"],
    },
)
