"""torchvision's Mask R-CNN, trained at several widths: the rival of the detectors.

torchvision's own network, losses and operators; narrow networks are made of fewer
planes, as `slimjax` slims the backbone. Needs torch and torchvision.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torchvision.models import resnet
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.misc import FrozenBatchNorm2d

_CLASSES = 81  # COCO's, and the background.


class NarrowResNet(resnet.ResNet):
    """torchvision's ResNet with fewer planes and frozen norms.

    Args:
        stages: blocks of each stage.
        width: multiplier of the planes.
    """

    def __init__(self, stages: Sequence[int], width: float):
        self.narrowed = width
        super().__init__(resnet.Bottleneck, list(stages), norm_layer=FrozenBatchNorm2d)
        stem = int(64 * width)
        self.conv1 = torch.nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = FrozenBatchNorm2d(stem)

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        if planes == 64:
            self.inplanes = int(64 * self.narrowed)
        return super()._make_layer(
            block, int(planes * self.narrowed), blocks, stride, dilate
        )


def narrow_backbone(
    stages: Sequence[int], width: float, features: int = 256
) -> BackboneWithFPN:
    """Returns a feature pyramid on a narrow ResNet.

    Args:
        stages: blocks of each stage.
        width: multiplier of the backbone's planes; the pyramid keeps its own.
        features: channels of the pyramid.
    """
    return BackboneWithFPN(
        NarrowResNet(stages, width),
        {f'layer{stage + 1}': str(stage) for stage in range(4)},
        [int(256 * 2**stage * width) for stage in range(4)],
        features,
        extra_blocks=LastLevelMaxPool(),
    )


class NarrowMaskRCNN(MaskRCNN):
    """torchvision's Mask R-CNN on a narrow ResNet-50, stem and first stage frozen.

    Args:
        width: multiplier of the backbone's planes.
        sides: height and width of the images in pixels, which are not resized.
    """

    def __init__(self, width: float, sides: Sequence[int]):
        backbone = narrow_backbone((3, 4, 6, 3), width)
        super().__init__(backbone, _CLASSES, min_size=min(sides), max_size=max(sides))
        for name, parameter in self.backbone.body.named_parameters():
            if not name.startswith(('layer2', 'layer3', 'layer4')):
                parameter.requires_grad_(False)


def training_steps(
    batch: Mapping[str, np.ndarray],
    widths: Sequence[float],
    *,
    bfloat16: bool,
    rate: float,
) -> dict[str, Callable[[], float]]:
    """Returns steps of each width as a Mask R-CNN of its own, `{width: step}`.

    SGD with momentum; a step returns its loss. It runs on the GPU where PyTorch sees
    one.

    Args:
        batch: as `slimjax.benchmark.detection.drawn_batch` draws it.
        widths: multipliers of the backbone.
        bfloat16: whether the passes run under autocast.
        rate: the learning rate.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    images, targets = _inputs(batch, device)
    return {
        str(float(width)): _step(images, targets, width, device, bfloat16, rate)
        for width in sorted(widths, reverse=True)
    }


def _inputs(batch, device):
    pixels = torch.from_numpy(batch['image'].transpose(0, 3, 1, 2).copy())
    targets = []
    for boxes, labels, valid in zip(
        batch['boxes'], batch['labels'], batch['valid'], strict=True
    ):
        # In full, as torchvision takes them.
        masks = np.zeros((valid.sum(), *batch['image'].shape[1:3]), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes[valid].astype(int), strict=True):
            mask[y1:y2, x1:x2] = 1
        target = {
            'boxes': boxes[valid],
            'labels': labels[valid].astype(np.int64),
            'masks': masks,
        }
        targets.append(
            {name: torch.from_numpy(each).to(device) for name, each in target.items()}
        )
    return list(pixels.to(device)), targets


def _step(images, targets, width, device, bfloat16, rate):
    torch.manual_seed(0)
    model = NarrowMaskRCNN(width, images[0].shape[1:]).to(device)
    optimizer = torch.optim.SGD(
        [each for each in model.parameters() if each.requires_grad],
        lr=rate,
        momentum=0.9,
        weight_decay=1e-4,
    )

    def step():
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            loss = sum(model(images, targets).values())
        loss.backward()
        optimizer.step()
        if device == 'cuda':
            torch.cuda.synchronize()  # The update as well.
        return loss.item()

    return step
