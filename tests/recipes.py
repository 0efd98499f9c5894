"""The published recipes of ImageNet, by hand from the settings of each application."""

import pathlib
from typing import NamedTuple

from slimjax.config_file import load_config

CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'imagenet.py'
EXAMPLES = 1_281_167


class Recipe(NamedTuple):
    """What a row of the published settings states."""

    schedule: str
    epochs: int
    batch: int
    rate: float
    crop: str  # 'mobile' or 'basic': how small a crop may be
    smoothing: float = 0.0


_MOBILENET = Recipe('exponential', 480, 160, 0.045, 'mobile')
_RESNET = Recipe('multistep', 100, 256, 0.1, 'basic')
_UNIVERSAL = Recipe('linear', 250, 1024, 0.5, 'mobile')
_AUTOSLIM = Recipe('linear', 300, 2048, 0.5, 'mobile', smoothing=0.1)

RECIPES = {
    's_mobilenet_v1': _MOBILENET,
    's_mobilenet_v1_8': _MOBILENET,
    's_mobilenet_v2': _MOBILENET,
    's_shufflenet': Recipe('linear', 250, 1024, 0.5, 'mobile'),
    's_shufflenet_paper': Recipe('linear', 250, 512, 0.25, 'mobile'),
    's_resnet50': _RESNET,
    's_resnet101': _RESNET,
    's_resnet152': _RESNET,
    'us_mobilenet_v1': _UNIVERSAL,
    'us_mobilenet_v2': _UNIVERSAL,
    'us_shufflenet': _UNIVERSAL,
    'us_resnet50': _RESNET,
    'autoslim_mobilenet_v1': _AUTOSLIM,
    'autoslim_mobilenet_v2': _AUTOSLIM,
    'autoslim_mnasnet': _AUTOSLIM,
    'autoslim_resnet': _RESNET._replace(crop='mobile', smoothing=0.1),
}


def load(name: str):
    """Returns the complete config of a recipe."""
    return load_config(f'{CONFIG}:{name}')
