"""Slimmable neural networks in JAX: one set of weights, runnable at several widths.

Importing this touches no flags and no device, and never imports TensorFlow.
"""

from slimjax import interop
from slimjax.calibrate import calibrate
from slimjax.deploy.extract import extract
from slimjax.deploy.pretrained import from_pretrained, save_pretrained
from slimjax.gap import statistics_gap
from slimjax.layer_norm import SlimLayerNorm
from slimjax.layers import SlimConv, SlimDense
from slimjax.models import MODELS, SlimmableClassifier, create_model
from slimjax.norm import SwitchableBatchNorm, stats_collection
from slimjax.parameter import slim_param
from slimjax.sorting import sort_channels
from slimjax.train.losses import correct_in_top, cross_entropy
from slimjax.train.objective import Aux, WidthResult, sum_over_widths
from slimjax.variables import (
    apply_train,
    own_variables,
    split_variables,
    stats_collections,
)
from slimjax.version import __version__
from slimjax.width import ChannelTable, make_divisible, truncate, width_name

__all__ = [
    'MODELS',
    'Aux',
    'ChannelTable',
    'SlimConv',
    'SlimDense',
    'SlimLayerNorm',
    'SlimmableClassifier',
    'SwitchableBatchNorm',
    'WidthResult',
    '__version__',
    'apply_train',
    'calibrate',
    'correct_in_top',
    'create_model',
    'cross_entropy',
    'extract',
    'from_pretrained',
    'interop',
    'make_divisible',
    'own_variables',
    'save_pretrained',
    'slim_param',
    'sort_channels',
    'split_variables',
    'statistics_gap',
    'stats_collection',
    'stats_collections',
    'sum_over_widths',
    'truncate',
    'width_name',
]
