"""Checkpoints of torchvision's Faster, Mask and Keypoint R-CNN."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from slimjax.detection.create import init_variables
from slimjax.detection.model import SlimmableRCNN
from slimjax.interop.names import Entry, torchvision_entries
from slimjax.interop.pytorch import filled, read_tensors, tensor_of
from slimjax.models.resnet import ResNet

_EPSILON = 1e-5
# What the checkpoints of torchvision's first detectors call things.
_OLD_NAMES = (
    (r'^(backbone\.fpn\.\w+_blocks\.\d)\.(weight|bias)$', r'\1.0.\2'),
    (r'^rpn\.head\.conv\.(weight|bias)$', r'rpn.head.conv.0.0.\1'),
    (
        r'^roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)$',
        lambda found: f'roi_heads.mask_head.{int(found[1]) - 1}.0.{found[2]}',
    ),
)


def load_torchvision_detection(
    source: str | os.PathLike | Mapping[str, Any],
    model: SlimmableRCNN,
    *,
    epsilon: float = _EPSILON,
) -> dict[str, Any]:
    """Returns a detector's variables from one of torchvision's, with ResNet and FPN.

    They become width 1.0; the norms of the other widths start as its slices.

    Args:
        source: a `.pth` file, or a state dict of tensors or arrays.
        model: such as `slimjax.detection.create_model('mask_rcnn', 'torchvision',
            num_classes=91)`.
        epsilon: of the norms there, which torchvision sets to 0 for its weights of the
            name `COCO_V1`; the difference goes into the variances.

    Returns:
        Variables for `model.apply`, of the model's types.

    Raises:
        ValueError: tensors that the model lacks or has no use for, or of other shapes;
            all of them are named. A model without a width 1.0.

    Example:
        >>> import slimjax.detection
        >>> model = slimjax.detection.create_model(
        ...     'faster_rcnn', 'tiny', num_classes=3, widths=(1.0,),
        ...     stage_sizes=(1, 1, 1, 1), base_features=8)
        >>> shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
        >>> variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)
        >>> state = torchvision_detection_state_dict(variables, model)
        >>> state['roi_heads.box_predictor.cls_score.weight'].shape
        (3, 64)
        >>> loaded = load_torchvision_detection(state, model)
        >>> jax.tree.structure(loaded) == jax.tree.structure(variables)
        True
    """
    tensors = {
        _new_name(key): tensor + (epsilon - _EPSILON)
        if key.endswith('running_var')
        else tensor
        for key, tensor in read_tensors(source).items()
    }
    template = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    return filled(_entries(model, template), tensors, template, model.detector)


def torchvision_detection_state_dict(
    variables: Mapping[str, Any], model: SlimmableRCNN
) -> dict[str, np.ndarray]:
    """Returns width 1.0 of a detector as torchvision names and lays it out.

    Args:
        variables: of the model.
        model: a detector.

    Raises:
        ValueError: a model without a width 1.0.
    """
    entries = _entries(model, variables)
    return {entry.key: tensor_of(entry, variables) for entry in entries}


def _new_name(key: str) -> str:
    for pattern, replacement in _OLD_NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _entries(model: SlimmableRCNN, variables) -> list[Entry]:
    if model.settings.norm == 'group':
        raise ValueError(
            "norm='group': torchvision's detectors have BatchNorms; allowed are "
            "'frozen' and 'batch'"
        )
    backbone = {
        name: tree['backbone'] for name, tree in variables.items() if 'backbone' in tree
    }
    entries = [
        entry._replace(
            key=f'backbone.body.{entry.key}',
            path=(entry.path[0], 'backbone', *entry.path[1:]),
        )
        for entry in torchvision_entries(ResNet(widths=model.widths), backbone)
    ]
    for name, path, layout in _layers(model):
        where = ('params', *path)
        entries.append(Entry(f'{name}.weight', (*where, 'kernel'), layout=layout))
        entries.append(Entry(f'{name}.bias', (*where, 'bias')))
    return entries


def _layers(model: SlimmableRCNN) -> Iterator[tuple[str, tuple[str, str], str]]:
    """torchvision's name, our path and the layout of each layer with a bias."""
    for level in range(4):
        blocks = 'backbone.fpn.{}_blocks.{}.0'
        yield blocks.format('inner', level), ('pyramid', f'lateral{level + 2}'), 'plain'
        yield blocks.format('layer', level), ('pyramid', f'output{level + 2}'), 'plain'
    for name, own in {
        'conv.0.0': 'conv',
        'cls_logits': 'objectness',
        'bbox_pred': 'boxes',
    }.items():
        yield f'rpn.head.{name}', ('proposal_head', own), 'plain'
    heads = 'roi_heads.'
    yield heads + 'box_head.fc6', ('box_head', 'hidden1'), 'flattened'
    yield heads + 'box_head.fc7', ('box_head', 'hidden2'), 'plain'
    yield heads + 'box_predictor.cls_score', ('box_head', 'classes'), 'plain'
    yield heads + 'box_predictor.bbox_pred', ('box_head', 'boxes'), 'plain'
    if model.detector == 'mask_rcnn':
        for number in range(len(model.settings.mask_features)):
            own = ('mask_head', f'conv{number + 1}')
            yield f'{heads}mask_head.{number}.0', own, 'plain'
        name = heads + 'mask_predictor.'
        yield name + 'conv5_mask', ('mask_head', 'upsample'), 'doubling'
        yield name + 'mask_fcn_logits', ('mask_head', 'masks'), 'plain'
    if model.detector == 'keypoint_rcnn':
        for number in range(len(model.settings.keypoint_features)):
            own = ('keypoint_head', f'conv{number + 1}')
            # Every second one there is a ReLU.
            yield f'{heads}keypoint_head.{2 * number}', own, 'plain'
        name = heads + 'keypoint_predictor.kps_score_lowres'
        yield name, ('keypoint_head', 'upsample'), 'transposed'
