"""Weights, images and truths that anyone can draw, for comparisons with torchvision.

NumPy alone is needed: `scripts/golden_detection.py` draws the same for torchvision.
"""

import zlib

import numpy as np

# Height and width of the padded images, and of the two images without padding.
SHAPE = (192, 224)
IMAGE_SIZES = np.array([[192, 224], [150, 200]], np.int32)
MASK_SIDE = 112
KEYPOINTS = 5
# So that neither every box nor none is an object.
_FACTORS = {
    'fpn.inner_blocks': 0.3,
    'rpn.head.bbox_pred': 0.1,
    'box_predictor.bbox_pred': 0.5,
}


class Case:
    """A network that torchvision and slimjax both have.

    Attributes:
        detector: as slimjax names it.
        width: of the backbone.
        options: those of slimjax's settings that are not torchvision's.
        stages: blocks of the backbone's stages.
    """

    def __init__(self, detector, width, *, stages=(1, 1, 1, 1), **options):
        self.detector, self.width = detector, width
        self.stages, self.options = stages, options

    @property
    def name(self):
        size = 'small' if self.stages == (1, 1, 1, 1) else 'resnet50'
        return f'{size}_{self.detector}_{self.width}'


_SMALL = {
    'anchor_sizes': (16, 32, 64, 128, 256),
    'train_level_proposals': 150,
    'train_proposals': 200,
    'test_level_proposals': 60,
    'test_proposals': 100,
    'roi_samples': 64,
    'detections': 30,
    'pyramid_features': 16,
    'box_features': 32,
    'mask_features': (16, 16),
    'keypoint_features': (16, 16),
}
_RESNET50 = {'stages': (3, 4, 6, 3)}
CASES = {
    case.name: case
    for case in (
        *(
            Case(detector, width, **_SMALL)
            for detector in ('faster_rcnn', 'mask_rcnn', 'keypoint_rcnn')
            for width in (0.25, 0.5, 0.75, 1.0)
        ),
        Case('faster_rcnn', 1.0, **_RESNET50),
        Case('mask_rcnn', 0.25, **_RESNET50),
        Case('mask_rcnn', 1.0, **_RESNET50),
    )
}


def parameter(key, shape):
    """The array called `key` in torchvision's state dict."""
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    values = rng.standard_normal(int(np.prod(shape))).reshape(shape)
    if len(shape) > 1:
        factor = next((f for part, f in _FACTORS.items() if part in key), 1.0)
        return factor * values * np.sqrt(2 / np.prod(shape[1:]))
    if key.endswith('running_var'):
        return np.exp(0.2 * values)
    if key.endswith('weight'):
        # Residual branches are small, so that deep and wide networks do not explode.
        return (0.2 if 'bn3' in key else 1.0) * (1 + 0.1 * values)
    return 0.1 * values


def images():
    """`[2, height, width, 3]`, zero where there is padding."""
    drawn = np.random.RandomState(1).standard_normal((2, *SHAPE, 3))
    for image, (height, width) in zip(drawn, IMAGE_SIZES, strict=True):
        image[height:] = 0
        image[:, width:] = 0
    return drawn


def classes(detector):
    """The number of classes, background included."""
    return 2 if detector == 'keypoint_rcnn' else 6


def truth(image, detector):
    """Boxes, labels, and masks or keypoints of an image.

    Boxes with masks are as large as their crops, so that nothing is lost in cutting.
    """
    rng = np.random.RandomState(10 + image)
    height, width = IMAGE_SIZES[image]
    corners = [[5, 7], [60, 30]] if image == 0 else [[40, 20]]
    boxes = np.array([[x, y, x + MASK_SIDE, y + MASK_SIDE] for x, y in corners], float)
    if detector != 'mask_rcnn':
        corner = rng.uniform(0, 100, (3, 2))
        more = np.concatenate([corner, corner + rng.uniform(10, 50, (3, 2))], -1)
        boxes = np.concatenate([boxes, more])
    found = {'boxes': boxes, 'labels': rng.randint(1, classes(detector), len(boxes))}
    if detector == 'mask_rcnn':
        rows, columns = np.mgrid[:height, :width]
        discs = []
        for x1, y1, x2, y2 in boxes:
            distance = np.hypot(rows - (y1 + y2) / 2, columns - (x1 + x2) / 2)
            inside = (rows >= y1) & (rows < y2) & (columns >= x1) & (columns < x2)
            discs.append((distance < rng.uniform(30, 70)) & inside)
        found['masks'] = np.stack(discs).astype(np.uint8)
    if detector == 'keypoint_rcnn':
        sides = np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], -1)
        # Some lie outside.
        shares = rng.uniform(-0.1, 1.1, (len(boxes), KEYPOINTS, 2))
        seen = rng.randint(0, 3, (len(boxes), KEYPOINTS, 1))
        places = boxes[:, None, :2] + shares * sides[:, None]
        # torchvision takes no others.
        found['keypoints'] = np.concatenate([places, seen], -1).astype(np.float32)
    return found


def probe(values, count=48):
    """So many values of an array, evenly spread, and the root of its mean square."""
    values = np.asarray(values, np.float64)
    places = np.linspace(0, values.size - 1, count).round().astype(int)
    size = np.sqrt(np.square(values).mean())
    return np.append(values.ravel()[places], size)
