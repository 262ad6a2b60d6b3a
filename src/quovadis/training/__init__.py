"""Train models by recipes, and classifiers on frozen features.

Example::

    run = train(find_recipe("tiny"), load_dataset("clips/"), "runs/mine")
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.training.classifier import ClassifierRecipe as ClassifierRecipe
    from quovadis.training.cross_validation import CrossValidation as CrossValidation
    from quovadis.training.cross_validation import cross_validate as cross_validate
    from quovadis.training.experiment import Experiment as Experiment
    from quovadis.training.experiment import Setting as Setting
    from quovadis.training.experiment import run_experiment as run_experiment
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
        "cross_validation": ["CrossValidation", "cross_validate"],
        "experiment": ["Experiment", "Setting", "run_experiment"],
        "frozen_classifier": ["FrozenRun", "train_frozen"],
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
