"""Reads one item of a COCO file; what is wrong is said with its file and number."""

import sys
from typing import Any, NamedTuple

import numpy as np

from slimjax.data.coco_format.masks import decode_rle


class Located(NamedTuple):
    """An item of a COCO file, and where it stands.

    Attributes:
        path: of the file.
        kind: `'image'`, `'category'` or `'annotation'`.
        id: its number.
        item: its fields.

    Example:
        >>> item = Located('a.json', 'annotation', 5, {'bbox': [1, 2, 3]})
        >>> try:
        ...     item.numbers('bbox', 4)
        ... except ValueError as error:
        ...     print(error)
        a.json: annotation 5: bbox=[1, 2, 3], where 4 finite numbers are needed
    """

    path: Any
    kind: str
    id: int
    item: dict[str, Any]

    def error(self, field: str, needed: str) -> ValueError:
        """Returns the error that the value of a field is not what is needed."""
        value = repr(self.item[field]) if field in self.item else 'missing'
        if len(value) > 120:
            value = f'{value[:117]}...'
        return ValueError(
            f'{self.path}: {self.kind} {self.id}: {field}={value}, where {needed} '
            f'{"are" if needed[:1].isdigit() else "is"} needed'
        )

    def integer(self, field: str) -> int:
        """Returns a whole number."""
        value = self.item.get(field)
        if type(value) is not int:
            raise self.error(field, 'a whole number')
        return value

    def numbers(self, field: str, count: int) -> list[float]:
        """Returns a list of so many numbers."""
        values = self.item.get(field)
        if not _are_numbers(values) or len(values) != count:
            raise self.error(field, f'{count} finite numbers')
        return [float(value) for value in values]

    def flag(self, field: str) -> bool:
        """Returns 0 or 1, or its absence, as a truth value."""
        if self.item.get(field, 0) not in (0, 1):
            raise self.error(field, 'one of 0 and 1')
        return bool(self.item.get(field, 0))

    def segmentation(self, height: int, width: int) -> Any:
        """Returns polygons or a run-length encoding of an image's size, or None.

        Args:
            height: of the image.
            width: of the image.
        """
        value = self.item.get('segmentation')
        if not value:
            return None
        if isinstance(value, dict):
            if value.get('size') != [height, width] or not all(
                type(side) is int for side in value['size']
            ):
                raise self.error('segmentation', f'the size [{height}, {width}]')
            counts = value.get('counts')
            if not isinstance(counts, str) and not (
                isinstance(counts, list) and all(type(count) is int for count in counts)
            ):
                raise self.error('segmentation', 'counts: a text or whole numbers')
            try:
                decode_rle(value)
            except ValueError as error:
                raise self.error(
                    'segmentation', f'a whole encoding ({error})'
                ) from None
            return value
        # COCO's own library takes a polygon of four numbers for a box.
        if not isinstance(value, list) or not all(
            _are_numbers(polygon) and len(polygon) >= 6 and len(polygon) % 2 == 0
            for polygon in value
        ):
            raise self.error(
                'segmentation',
                'polygons of x, y, x, y, ... of three points or more, or an encoding,',
            )
        return value

    def keypoints(self, count: int) -> np.ndarray:
        """Returns float32 `[count, 3]`; zeros where the item has no keypoints."""
        if 'keypoints' not in self.item:
            return np.zeros((count, 3), np.float32)
        values = np.reshape(self.numbers('keypoints', 3 * count), (-1, 3))
        if not np.isin(values[:, 2], (0, 1, 2)).all():
            raise self.error('keypoints', 'a visibility of 0, 1 or 2 at each third')
        return values.astype(np.float32)


def _are_numbers(values: Any) -> bool:
    """Whether they are a list of numbers that a float can hold."""
    return isinstance(values, list) and all(
        type(value) in (int, float) and abs(value) <= sys.float_info.max
        for value in values
    )
