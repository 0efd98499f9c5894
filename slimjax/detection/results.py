"""From detections in resized images to COCO's results in the original ones."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from slimjax.data.coco_format.masks import encode_part
from slimjax.detection.paste import paste_mask

Results = dict[str, list[dict[str, Any]]]


class ResultsFormat(NamedTuple):
    """How detections are to be read; as they were trained.

    Attributes:
        category_ids: COCO's number of the labels 1, 2, ...
        paste: style of `paste_mask`.
        keypoint_offset: that was added to keypoints on reading.

    Example:
        >>> ResultsFormat((1, 90)).paste
        'detectron2'
    """

    category_ids: tuple[int, ...]
    paste: str = 'detectron2'
    keypoint_offset: float = 0.0


def coco_results(
    detections: Mapping[str, np.ndarray],
    batch: Mapping[str, np.ndarray],
    format: ResultsFormat,
) -> Results:
    """Returns what COCO's evaluation takes, of the images of a batch.

    Boxes are clipped to the image, and those of which nothing is left are dropped, as
    Detectron2 does.

    Args:
        detections: arrays of B images and D rows: `boxes` float `[B, D, 4]` in pixels
            of the resized image, `scores` `[B, D]`, `labels` `[B, D]` from 1, `valid`
            bool `[B, D]`; and where there are any `masks` `[B, D, size, size]`,
            probabilities in the box, and `keypoints` `[B, D, K, 3]`, x, y and score.
        batch: `image_id`, `image_size`, `original_size` and `mask`, as
            `detection_eval_batches` gives them; where `mask` is 0 there is no image.
        format: how to read them.

    Returns:
        `{'bbox': [...], 'segm': [...], 'keypoints': [...]}`, those that there are;
        each entry has `image_id`, `category_id`, `score` and its own field: `bbox` (x,
        y, width, height), `segmentation` (a run-length encoding), or `keypoints`. They
        stand apart, as COCO measures an object by the first of these that it finds.

    Example:
        >>> found = coco_results(
        ...     {'boxes': np.array([[[2.0, 2, 6, 8]]]), 'scores': np.array([[0.5]]),
        ...      'labels': np.array([[1]]), 'valid': np.array([[True]])},
        ...     {'image_id': [9], 'image_size': [(10, 10)], 'mask': [1],
        ...      'original_size': [(5, 5)]}, ResultsFormat((90,)))
        >>> found['bbox']
        [{'image_id': 9, 'category_id': 90, 'score': 0.5, 'bbox': [1.0, 1.0, 2.0, 3.0]}]
    """
    fields = {'bbox': 'boxes', 'segm': 'masks', 'keypoints': 'keypoints'}
    results = {kind: [] for kind, field in fields.items() if field in detections}
    for image in np.flatnonzero(np.asarray(batch['mask']) > 0):
        one = {name: np.asarray(values[image]) for name, values in detections.items()}
        sizes = batch['image_size'][image], batch['original_size'][image]
        _add_image(results, one, int(batch['image_id'][image]), sizes, format)
    return results


def _add_image(results, one, image_id, sizes, format) -> None:
    (height, width), (original_height, original_width) = sizes
    scale = np.array([original_width / width, original_height / height], np.float64)
    boxes = one['boxes'].astype(np.float64) * np.tile(scale, 2)
    limits = np.tile([float(original_width), float(original_height)], 2)
    boxes = np.clip(boxes, 0, limits)
    sides = boxes[:, 2:] - boxes[:, :2]
    # The published style asks for the last pixels.
    pasted_at = boxes - np.array([0, 0, 1, 1]) * (format.paste == 'published')
    for row in np.flatnonzero(one['valid'] & (sides > 0).all(1)):
        about = {
            'image_id': image_id,
            'category_id': int(format.category_ids[one['labels'][row] - 1]),
            'score': float(one['scores'][row]),
        }
        corners = [*boxes[row, :2].tolist(), *sides[row].tolist()]
        results['bbox'].append(about | {'bbox': corners})
        if 'segm' in results:
            pasted = paste_mask(
                one['masks'][row],
                pasted_at[row],
                int(original_height),
                int(original_width),
                format.paste,
            )
            results['segm'].append(about | {'segmentation': encode_part(*pasted)})
        if 'keypoints' in results:
            points = one['keypoints'][row].astype(np.float64)
            points[:, :2] = points[:, :2] * scale - format.keypoint_offset
            results['keypoints'].append(about | {'keypoints': points.ravel().tolist()})


def joined(parts: Sequence[Results]) -> Results:
    """Returns the results of several batches as one.

    Example:
        >>> joined([{'bbox': [{'score': 1.0}]}, {'bbox': []}])
        {'bbox': [{'score': 1.0}]}
    """
    return {
        kind: [entry for part in parts for entry in part[kind]]
        for kind in (parts[0] if parts else ())
    }


def gathered(results: Results) -> Results:
    """Returns the results of all processes, the same in each.

    Args:
        results: of this process's images.

    Example:
        >>> gathered({'bbox': []})
        {'bbox': []}
    """
    if jax.process_count() == 1:
        return results
    text = np.frombuffer(json.dumps(results).encode(), np.uint8)
    gather = multihost_utils.process_allgather
    lengths = gather(np.array([len(text)], np.int32)).ravel().tolist()
    # Arrays are gathered in one size.
    rows = gather(np.pad(text, (0, max(lengths) - len(text))))
    return joined(
        [
            json.loads(row[:length].tobytes())
            for row, length in zip(rows, lengths, strict=True)
        ]
    )
