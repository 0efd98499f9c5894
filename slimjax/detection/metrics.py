"""COCO's metrics, computed by faster-coco-eval, which equals COCO's own code."""

import copy
import json
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from slimjax.data.coco_format.annotations import box_inside
from slimjax.data.coco_format.masks import coco_masks

KINDS = ('bbox', 'segm', 'keypoints')
# What COCO's summary holds, in its order.
_SIZES = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
_RECALLS = ('AR1', 'AR10', 'AR100', 'ARs', 'ARm', 'ARl')
_KEYPOINTS = ('AP', 'AP50', 'AP75', 'APm', 'APl', 'AR', 'AR50', 'AR75', 'ARm', 'ARl')
NAMES = {
    'bbox': _SIZES + _RECALLS,
    'segm': _SIZES + _RECALLS,
    'keypoints': _KEYPOINTS,
}
_COCO_KEYPOINTS = 17


class CocoMetrics:
    """Compares results with the annotations of a split.

    Args:
        annotations: a JSON file in COCO's format, or its content.
        category_ids: numbers of the categories to compare; None for all. Of keypoints
            it is always those that have any.

    Raises:
        ImportError: faster-coco-eval is not installed.

    Example:
        >>> metrics = CocoMetrics({
        ...     'images': [{'id': 1, 'height': 9, 'width': 9}],
        ...     'categories': [{'id': 5, 'name': 'cat'}],
        ...     'annotations': [{'id': 1, 'image_id': 1, 'category_id': 5,
        ...                      'bbox': [1, 1, 4, 4], 'area': 16, 'iscrowd': 0}]})
        >>> found = metrics('bbox', [{'image_id': 1, 'category_id': 5, 'score': 0.9,
        ...                           'bbox': [1, 1, 4, 4]}])
        >>> round(found['bbox/AP'], 6), found['bbox/APl']
        (1.0, -1.0)
    """

    def __init__(
        self,
        annotations: str | pathlib.Path | Mapping[str, Any],
        category_ids: Collection[int] | None = None,
    ):
        coco_masks()  # Says how to get what is missing.
        if isinstance(annotations, Mapping):
            self._name, content = 'annotations', copy.deepcopy(dict(annotations))
        else:
            self._name = str(annotations)
            content = json.loads(pathlib.Path(annotations).read_bytes())
        numbers = {
            each['id']: 3 * len(each.get('keypoints', ()))
            for each in content['categories']
        }
        self._ids = [each.get('id') for each in content['annotations']]
        for place, each in enumerate(content['annotations']):
            # The library marks what is not matched by the number 0.
            each['id'] = place + 1
            each.setdefault('iscrowd', 0)
            each.setdefault('area', each['bbox'][2] * each['bbox'][3])
            if count := numbers.get(each['category_id']):
                each.setdefault('keypoints', [0] * count)
                visible = np.count_nonzero(each['keypoints'][2::3])
                each.setdefault('num_keypoints', visible)
        self._content, self._known = content, {}
        self._categories = [
            each
            for each in content['categories']
            if category_ids is None or each['id'] in category_ids
        ]

    def __call__(
        self,
        kind: str,
        results: Sequence[Mapping[str, Any]],
        image_ids: Collection[int] | None = None,
    ) -> dict[str, float]:
        """Returns the metrics of one kind.

        Args:
            kind: `'bbox'`, `'segm'` or `'keypoints'`.
            results: as `coco_results` gives them.
            image_ids: of the images to compare; None for all.

        Returns:
            `{'bbox/AP': ..., 'bbox/AP50': ..., ...}` in 0..1; -1 where no object
            is of the size, as COCO has it.

        Raises:
            ValueError: no such kind, results of an image or category that the
                annotations lack, or annotations that lack what the kind needs.
        """
        from faster_coco_eval import COCO, COCOeval_faster

        if kind not in self._known:
            sigmas, categories = self.prepared(kind)
            # Comparing changes the annotations: each kind has its own.
            content = copy.deepcopy(self._content)
            if kind == 'segm':
                # Of no area, and so of no pixel.
                content['annotations'] = [
                    each for each in content['annotations'] if each.get('segmentation')
                ]
            self._known[kind] = COCO(content), sigmas, categories
        truth, sigmas, categories = self._known[kind]
        for field, known in (('image_id', truth.imgs), ('category_id', truth.cats)):
            unknown = {each[field] for each in results} - set(known)
            if unknown:
                raise ValueError(f'{field}={min(unknown)} is not in {self._name}')
        if results:
            found = truth.loadRes([dict(each) for each in results])
        else:
            found = COCO({**self._content, 'annotations': []})
        evaluation = COCOeval_faster(
            truth, found, kind, kpt_oks_sigmas=sigmas, print_function=_silent
        )
        evaluation.params.catIds = categories
        if image_ids is not None:
            evaluation.params.imgIds = sorted(int(id) for id in image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        numbers = evaluation.stats[: len(NAMES[kind])]
        return {
            f'{kind}/{name}': float(number)
            for name, number in zip(NAMES[kind], numbers, strict=True)
        }

    def prepared(self, kind: str) -> tuple[list[float] | None, list[int]]:
        """Returns tolerances of the keypoints, and the categories that are compared.

        Raises:
            ValueError: no such kind, or annotations that lack what it needs.
        """
        if kind not in KINDS:
            raise ValueError(f'kind={kind!r}; allowed are {", ".join(KINDS)}')
        categories = self._categories
        if kind == 'segm':
            sizes = {
                each['id']: (each['width'], each['height'])
                for each in self._content['images']
            }
            for id, each in zip(self._ids, self._content['annotations'], strict=True):
                inside = box_inside(each['bbox'], *sizes[each['image_id']])
                if inside and not each.get('segmentation'):
                    raise ValueError(
                        f'{self._name}: there are no masks to compare with (annotation '
                        f'{id})'
                    )
        if kind != 'keypoints':
            return None, sorted(each['id'] for each in categories)
        categories = [each for each in categories if each.get('keypoints')]
        if not categories:
            raise ValueError(f'{self._name}: no category has keypoints')
        first = categories[0]
        sigmas = first.get('sigmas')
        for each in categories:
            if each.get('sigmas') != sigmas:
                raise ValueError(
                    f'{self._name}: categories {first["id"]} and {each["id"]} have '
                    'other sigmas; keypoints are compared by those of all together'
                )
        if sigmas is None and len(first['keypoints']) != _COCO_KEYPOINTS:
            raise ValueError(
                f'{self._name}: category {first["id"]} has {len(first["keypoints"])} '
                'keypoints and no sigmas, a number for each: how far off it may be, '
                'as a part of the size of the object'
            )
        return sigmas, sorted(each['id'] for each in categories)


def _silent(*_: Any) -> None:
    """Says nothing: what the library would print is in its numbers."""
