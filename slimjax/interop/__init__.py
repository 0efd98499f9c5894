"""Checkpoints of other frameworks."""

from slimjax.interop.pytorch import export_torch, load_torch, torch_state_dict

__all__ = ['export_torch', 'load_torch', 'torch_state_dict']
