"""Writes what torchvision's detectors compute on weights that anyone can draw.

    python scripts/golden_detection.py [--cases small_mask_rcnn_1.0 ...]

makes `tests/detection/golden/CASE.npz`, in float64: the maps, the proposals, the
detections, the losses and the gradients of the networks that `tests/detection/drawn.py`
names. The narrow ones are networks of physically narrow planes, whose weights are the
first channels of the wide one's. It takes torch and torchvision for the CPU, which
slimjax and its tests do without.
"""

import argparse
import pathlib
import sys
from collections import OrderedDict

import numpy as np
import torch
from torchvision.models.detection import (
    FasterRCNN,
    KeypointRCNN,
    MaskRCNN,
    faster_rcnn,
    keypoint_rcnn,
    mask_rcnn,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from slimjax.benchmark.torchvision_loop import narrow_backbone  # noqa: E402
from tests.detection import drawn  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cases', nargs='+', default=list(drawn.CASES))
    parser.add_argument('--output', default=ROOT / 'tests/detection/golden')
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    # Candidates are drawn in their order.
    torch.randperm = lambda count, **_: torch.arange(count)
    folder = pathlib.Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    for name in args.cases:
        case = drawn.CASES[name]
        results = compute(case, build(case))
        compact = {
            key: value.astype(np.float32) if value.dtype == np.float64 else value
            for key, value in results.items()
        }
        np.savez_compressed(folder / f'{name}.npz', **compact)
        print(f'{name}: {(folder / f"{name}.npz").stat().st_size // 1024} kB')


def build(case):
    """The network of a case with the drawn weights."""
    model = assembled(case, case.width)
    wide = {
        key: value.shape for key, value in assembled(case, 1.0).state_dict().items()
    }
    state = {}
    for key, own in model.state_dict().items():
        whole = torch.from_numpy(drawn.parameter(key, tuple(wide[key])))
        state[key] = whole[tuple(slice(side) for side in own.shape)]
    model.load_state_dict(state)
    for name, parameter in model.backbone.body.named_parameters():
        if not name.startswith(('layer2', 'layer3', 'layer4')):
            parameter.requires_grad_(False)
    return model


def assembled(case, width):
    options = case.options
    features = options.get('pyramid_features', 256)
    backbone = narrow_backbone(case.stages, width, features)
    sizes = options.get('anchor_sizes', (32, 64, 128, 256, 512))
    hidden = options.get('box_features', 1024)
    classes = drawn.classes(case.detector)
    fields = {
        'rpn_anchor_generator': AnchorGenerator(
            tuple((size,) for size in sizes), ((0.5, 1.0, 2.0),) * 5
        ),
        'rpn_pre_nms_top_n_train': options.get('train_level_proposals', 2000),
        'rpn_post_nms_top_n_train': options.get('train_proposals', 2000),
        'rpn_pre_nms_top_n_test': options.get('test_level_proposals', 1000),
        'rpn_post_nms_top_n_test': options.get('test_proposals', 1000),
        'box_head': faster_rcnn.TwoMLPHead(features * 49, hidden),
        'box_predictor': faster_rcnn.FastRCNNPredictor(hidden, classes),
        'box_batch_size_per_image': options.get('roi_samples', 512),
        'box_detections_per_img': options.get('detections', 100),
    }
    if case.detector == 'faster_rcnn':
        return FasterRCNN(backbone, **fields)
    if case.detector == 'mask_rcnn':
        layers = options.get('mask_features', (256,) * 4)
        return MaskRCNN(
            backbone,
            mask_head=mask_rcnn.MaskRCNNHeads(features, layers, 1),
            mask_predictor=mask_rcnn.MaskRCNNPredictor(layers[-1], layers[-1], classes),
            **fields,
        )
    layers = options.get('keypoint_features', (512,) * 8)
    return KeypointRCNN(
        backbone,
        keypoint_head=keypoint_rcnn.KeypointRCNNHeads(features, layers),
        keypoint_predictor=keypoint_rcnn.KeypointRCNNPredictor(
            layers[-1], drawn.KEYPOINTS
        ),
        **fields,
    )


def compute(case, model):
    """All numbers of a case."""
    pixels = torch.from_numpy(drawn.images().transpose(0, 3, 1, 2).copy())
    sizes = [tuple(map(int, size)) for size in drawn.IMAGE_SIZES]
    images, results = ImageList(pixels, sizes), {}
    truths = [
        {
            name: torch.from_numpy(value)
            for name, value in drawn.truth(image, case.detector).items()
        }
        for image in range(len(sizes))
    ]

    model.eval()
    with torch.no_grad():
        maps = OrderedDict(zip('01234', model.backbone(pixels).values(), strict=True))
        for level, each in zip(range(2, 7), maps.values(), strict=True):
            results[f'map/p{level}'] = drawn.probe(each.permute(0, 2, 3, 1))
        proposals, _ = model.rpn(images, maps)
        found, _ = model.roi_heads(maps, proposals, sizes)
    for image, (boxes, each) in enumerate(zip(proposals, found, strict=True)):
        results[f'proposals/{image}'] = boxes.numpy()
        for name in ('boxes', 'labels', 'scores'):
            results[f'detections/{image}/{name}'] = each[name].numpy()
        if 'masks' in each:
            # The middle rows of every mask.
            results[f'detections/{image}/masks'] = each['masks'][:, 0, 13:15].numpy()
        if 'keypoints' in each:
            points = torch.cat(
                [each['keypoints'][..., :2], each['keypoints_scores'][..., None]], -1
            )
            results[f'detections/{image}/keypoints'] = points.numpy()

    model.train()
    maps = model.backbone(pixels)
    proposals, first = model.rpn(images, maps, truths)
    _, second = model.roi_heads(maps, proposals, sizes, truths)
    losses = {**first, **second}
    for name, loss in losses.items():
        results[f'loss/{name}'] = loss.detach().numpy()
    for image, boxes in enumerate(proposals):
        results[f'train_proposals/{image}'] = boxes.detach().numpy()
    sum(losses.values()).backward()
    for name, each in model.named_parameters():
        if each.requires_grad:
            results[f'gradient/{name}'] = drawn.probe(each.grad)
    print({name: round(loss.item(), 4) for name, loss in losses.items()})
    return results


if __name__ == '__main__':
    main()
