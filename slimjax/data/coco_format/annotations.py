"""COCO's JSON files: what they say of each image, checked before anything is built."""

import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from slimjax.data.coco_format.checks import Located

# Of a box, in pixels: what is less is lost in float32, and shows nothing.
_LEAST_SIDE = 0.01


class Category(NamedTuple):
    """A class of objects.

    Attributes:
        id: its number in the JSON; there may be gaps.
        name: for people.
        keypoints: names of its keypoints; () for none.
        skeleton: pairs of keypoints, from 0, that a drawing joins.
        sigmas: how far off each keypoint may be, in the metric; () for COCO's own.

    Example:
        >>> Category(1, 'person').keypoints
        ()
    """

    id: int
    name: str
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()


class Object(NamedTuple):
    """An annotated object, or a crowd of them.

    Attributes:
        id: of the annotation.
        label: place of its category among those of the file, from 0.
        box: x1, y1, x2, y2 in pixels, inside the image, of sides of 0.01 or more.
        crowd: whether it stands for many.
        segmentation: polygons or a run-length encoding; None for none.
        keypoints: float32 `[keypoints, 3]`: x, y and visibility (0 not labelled, 1
            hidden, 2 visible); None for none.
    """

    id: int
    label: int
    box: tuple[float, float, float, float]
    crowd: bool
    segmentation: Any
    keypoints: np.ndarray | None


class AnnotatedImage(NamedTuple):
    """An image and its objects, in the order of the file.

    Attributes:
        id: its number in the JSON.
        file_name: below the folder of images.
        height: in pixels.
        width: in pixels.
        objects: those with an area.
    """

    id: int
    file_name: str
    height: int
    width: int
    objects: list[Object]


class Annotations(NamedTuple):
    """A data set in COCO's format.

    Attributes:
        images: in order of their numbers.
        categories: in order of their numbers; their places are the labels.
        has_masks: whether the objects have segmentations.
        without_area: ids of annotations that were left out, as next to nothing of their
            boxes is inside the image.
    """

    images: list[AnnotatedImage]
    categories: list[Category]
    has_masks: bool
    without_area: list[int]

    @property
    def num_keypoints(self) -> int:
        """How many keypoints an object has at most; 0 for none."""
        return max((len(each.keypoints) for each in self.categories), default=0)


def read_annotations(
    instances: str | pathlib.Path, keypoints: str | pathlib.Path | None = None
) -> Annotations:
    """Reads the annotations of a split.

    Args:
        instances: `instances_*.json`, or any file in COCO's format.
        keypoints: `person_keypoints_*.json`, whose annotations have the numbers of
            those in `instances`.

    Raises:
        ValueError: a malformed file; names the annotation, what it has and what is
            needed.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'instances.json')
        >>> _ = path.write_text(json.dumps({
        ...     'images': [{'id': 7, 'file_name': 'a.jpg', 'height': 4, 'width': 6}],
        ...     'categories': [{'id': 90, 'name': 'cat'}],
        ...     'annotations': [{'id': 1, 'image_id': 7, 'category_id': 90,
        ...                      'bbox': [1, 1, 2, 3], 'iscrowd': 0}]}))
        >>> read_annotations(path).images[0].objects[0].box
        (1.0, 1.0, 3.0, 4.0)
    """
    content = _load(instances)
    categories = _categories(instances, content)
    points = {}
    if keypoints is not None:
        described = _load(keypoints)
        categories = _with_keypoints(
            categories, _categories(keypoints, described), keypoints
        )
        points = _unique(keypoints, described, 'annotations')
    counts = sorted({len(each.keypoints) for each in categories if each.keypoints})
    if len(counts) > 1:
        raise ValueError(
            f'{keypoints or instances}: categories of {counts[0]} and of {counts[-1]} '
            'keypoints; all that have any need the same number'
        )
    labels = {each.id: place for place, each in enumerate(categories)}
    images = {
        id: _image(Located(instances, 'image', id, item))
        for id, item in _unique(instances, content, 'images').items()
    }
    without_area, first = [], {}  # The first with a segmentation, and without.
    for id, item in _unique(instances, content, 'annotations').items():
        found = Located(instances, 'annotation', id, item)
        image = images.get(found.integer('image_id'))
        if image is None:
            raise found.error('image_id', 'the number of an image of the file')
        if found.integer('category_id') not in labels:
            raise found.error('category_id', 'the number of a category of the file')
        label = labels[item['category_id']]
        box = _clip(found.numbers('bbox', 4), image, found)
        crowd = found.flag('iscrowd')
        segmentation = found.segmentation(image.height, image.width)
        if id in points:
            found = Located(keypoints, 'annotation', id, points.pop(id))
            _check_same(found, item)
        names = categories[label].keypoints
        parts = found.keypoints(len(names)) if names else None
        if box is None:
            without_area.append(id)
            continue
        first.setdefault(segmentation is not None, id)
        image.objects.append(Object(id, label, box, crowd, segmentation, parts))
    if points:
        raise ValueError(
            f'{keypoints}: annotation {min(points)} is not in {instances} '
            f'({len(points)} such annotations)'
        )
    if len(first) > 1:
        raise ValueError(
            f'{instances}: annotation {first[False]} has no segmentation, and '
            f'annotation {first[True]} has one: all need one, or none'
        )
    ordered = [images[id] for id in sorted(images)]
    return Annotations(ordered, categories, True in first, without_area)


def write_annotations(
    instances: str | pathlib.Path,
    keypoints: str | pathlib.Path | None,
    target: pathlib.Path,
) -> None:
    """Writes the instances and their keypoints into one file.

    Args:
        instances: that `read_annotations` has read.
        keypoints: likewise.
        target: the file.

    Example:
        >>> import tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / 'instances.json').write_text('{}')
        >>> write_annotations(folder / 'instances.json', None, folder / 'all.json')
        >>> (folder / 'all.json').read_text()
        '{}'
    """
    if keypoints is None:
        shutil.copyfile(instances, target)
        return
    content, described = _load(instances), _load(keypoints)
    fields = {
        'annotations': ('keypoints', 'num_keypoints'),
        'categories': ('keypoints', 'skeleton', 'sigmas'),
    }
    for kind, names in fields.items():
        known = _unique(keypoints, described, kind)
        for item in content[kind]:
            more = known.get(item['id'], {})
            item |= {name: more[name] for name in names if name in more}
    target.write_text(json.dumps(content))


def _load(path) -> dict[str, Any]:
    try:
        content = json.loads(pathlib.Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: no JSON: {error}') from None
    for name in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise ValueError(f'{path}: there is no list {name!r}, as COCO files have')
    return content


def _unique(path, content, kind: str) -> dict[int, dict[str, Any]]:
    found = {}
    for place, item in enumerate(content[kind]):
        if not isinstance(item, dict) or type(item.get('id')) is not int:
            raise ValueError(
                f'{path}: number {place} of {kind} has no whole number as id: '
                f'{str(item)[:80]}'
            )
        if item['id'] in found:
            raise ValueError(f'{path}: two of {kind} have the id {item["id"]}')
        found[item['id']] = item
    return found


def _categories(path, content) -> list[Category]:
    items = _unique(path, content, 'categories')
    if not items:
        raise ValueError(f'{path}: there are no categories')
    found = [Located(path, 'category', id, item) for id, item in sorted(items.items())]
    categories, names = [_category(each) for each in found], set()
    for each, category in zip(found, categories, strict=True):
        if category.name in names:
            raise each.error('name', 'a name that no other category has')
        names.add(category.name)
    return categories


def _category(found: Located) -> Category:
    item = found.item
    if not isinstance(item.get('name'), str):
        raise found.error('name', 'a text')
    names = item.get('keypoints', [])
    if not isinstance(names, list) or len(set(map(str, names))) != len(names):
        raise found.error('keypoints', 'a list of names, each once,')
    skeleton = item.get('skeleton', [])
    allowed = range(1, len(names) + 1)
    if not isinstance(skeleton, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(i in allowed for i in pair)
        for pair in skeleton
    ):
        raise found.error('skeleton', f'a list of pairs of 1 to {len(names)}')
    sigmas = found.numbers('sigmas', len(names)) if 'sigmas' in item else ()
    if not all(sigma > 0 for sigma in sigmas):
        raise found.error('sigmas', 'a list of numbers above 0')
    return Category(
        found.id,
        item['name'],
        tuple(map(str, names)),
        tuple((first - 1, second - 1) for first, second in skeleton),
        tuple(sigmas),
    )


def _with_keypoints(
    categories: Sequence[Category], described: Sequence[Category], path
) -> list[Category]:
    by_id = {each.id: each for each in described}
    unknown = set(by_id) - {each.id for each in categories}
    if unknown:
        raise ValueError(
            f'{path}: category {min(unknown)} is not among those of the instances'
        )
    return [
        each._replace(**by_id[each.id]._asdict() | {'name': each.name})
        if each.id in by_id
        else each
        for each in categories
    ]


def _image(found: Located) -> AnnotatedImage:
    if not isinstance(found.item.get('file_name'), str):
        raise found.error('file_name', 'a text')
    height, width = found.integer('height'), found.integer('width')
    for name, side in (('height', height), ('width', width)):
        if side < 1:
            raise found.error(name, 'above 0')
    return AnnotatedImage(found.id, found.item['file_name'], height, width, [])


def _clip(
    numbers: Sequence[float], image: AnnotatedImage, found: Located
) -> tuple[float, float, float, float] | None:
    """The corners of a box inside the image; None where nothing is left of it."""
    if min(numbers[2:]) < 0:
        raise found.error('bbox', 'x, y, width and height, of which no side is below 0')
    return box_inside(numbers, image.width, image.height)


def box_inside(
    box: Sequence[float], image_width: int, image_height: int
) -> tuple[float, float, float, float] | None:
    """Returns the corners of what is inside an image; None where next to nothing is.

    Args:
        box: x, y, width and height in pixels, as in COCO's files.
        image_width: in pixels.
        image_height: in pixels.

    Example:
        >>> box_inside((-1, 2, 3, 4), 10, 5), box_inside((9.999, 2, 3, 4), 10, 5)
        ((0.0, 2.0, 2.0, 5.0), None)
    """
    x, y, width, height = map(float, box)
    left, right = max(x, 0.0), min(x + width, float(image_width))
    top, bottom = max(y, 0.0), min(y + height, float(image_height))
    least = min(right - left, bottom - top)
    return (left, top, right, bottom) if least >= _LEAST_SIDE else None


def _check_same(found: Located, item: dict[str, Any]) -> None:
    for name in ('image_id', 'category_id'):
        if found.item.get(name) != item[name]:
            raise found.error(name, f'{item[name]}, as among the instances')
