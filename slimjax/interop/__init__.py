"""Checkpoints of other frameworks."""

from slimjax.interop.pytorch import export_torch, load_torch, torch_state_dict
from slimjax.interop.torchvision_detection import (
    load_torchvision_detection,
    torchvision_detection_state_dict,
)

__all__ = [
    'export_torch',
    'load_torch',
    'load_torchvision_detection',
    'torch_state_dict',
    'torchvision_detection_state_dict',
]
