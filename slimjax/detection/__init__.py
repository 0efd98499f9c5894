"""Faster, Mask and Keypoint R-CNN on a slimmable backbone (paper, Table 5)."""

from slimjax.detection.backbone import PyramidBackbone, backbone_of
from slimjax.detection.create import create_model, init_variables, with_backbone
from slimjax.detection.model import SlimmableRCNN
from slimjax.detection.settings import DETECTORS, PRESETS, Settings, settings

__all__ = [
    'DETECTORS',
    'PRESETS',
    'PyramidBackbone',
    'Settings',
    'SlimmableRCNN',
    'backbone_of',
    'create_model',
    'init_variables',
    'settings',
    'with_backbone',
]
