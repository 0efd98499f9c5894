"""A run: a checked config with its data, model, optimiser and mapped functions."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slimjax.calibrate import calibrate, make_calibration_step
from slimjax.config import FREE_FIELDS, check
from slimjax.data.pipeline import EvalReader, TrainReader
from slimjax.data.sources import load_source
from slimjax.evaluate import Results, evaluate, make_eval_step
from slimjax.models import SlimmableClassifier, create_model
from slimjax.train import report
from slimjax.train.checkpoint import load_variables
from slimjax.train.optimizer import make_optimizer
from slimjax.train.parallel import (
    AXIS,
    pmapped,
    replicated,
    shared_between_devices,
    split_over_devices,
)
from slimjax.train.schedule import Clock, learning_rate
from slimjax.train.state import TrainState, create_state
from slimjax.train.step import make_train_step, metric_names
from slimjax.variables import split_variables
