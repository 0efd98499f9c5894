"""From COCO's own files to the folder that training and evaluation read."""

import contextlib
import io
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import NamedTuple

from slimjax.data.coco_format.annotations import (
    Annotations,
    read_annotations,
    write_annotations,
)
from slimjax.data.coco_format.layout import (
    ANNOTATIONS,
    SPLITS,
    VERSION,
    split_folder,
)
from slimjax.data.coco_format.masks import coco_masks
from slimjax.lock import locked
from slimjax.whole_file import whole_file


class Prepared(NamedTuple):
    """What was prepared.

    Attributes:
        folder: of the split, which TFDS reads too.
        images: how many.
        objects: how many, crowds among them.
        without_area: ids of annotations that were left out, as nothing of their boxes
            is inside the image.
    """

    folder: pathlib.Path
    images: int
    objects: int
    without_area: list[int]


def prepare_coco(
    images: str | pathlib.Path,
    instances: str | pathlib.Path,
    output: str | pathlib.Path,
    *,
    keypoints: str | pathlib.Path | None = None,
    split: str = '',
    say: Callable[[str], None] = print,
) -> Prepared:
    """Prepares a split of a data set in COCO's format.

    The annotations are written into the folder, in one file: what is read there is all
    that training and evaluation need. Other splits go into the same `output` by a call
    each.

    Args:
        images: folder of the images.
        instances: `instances_*.json`.
        output: where all splits stand.
        keypoints: `person_keypoints_*.json`; None for none.
        split: `'train'`, `'validation'` or `'test'`; `''` for what the name of the
            file of instances says.
        say: is told of progress.

    Raises:
        FileExistsError: the split is prepared already.
        ImportError: faster-coco-eval is not installed.
        ValueError: malformed annotations, or an image that is missing, broken or of
            another size; names it. Or another process prepares the split.
    """
    images, instances, output, keypoints = (
        path and pathlib.Path(path).expanduser()
        for path in (images, instances, output, keypoints)
    )
    split = split or split_of(instances)
    if split not in SPLITS:
        raise ValueError(f'split={split!r}; allowed are {", ".join(SPLITS)}')
    folder = split_folder(output, split)
    if folder.exists():
        raise FileExistsError(f'{folder} exists: remove it to prepare it again')
    coco_masks()
    say(f'reading {instances}')
    found = read_annotations(instances, keypoints)
    if not found.images:
        raise ValueError(f'{instances}: there are no images')
    _check_files(images, found)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent):
        for left in folder.parent.glob(f'incomplete.*_{VERSION}'):
            say(f'removing {left}, of a preparation that was stopped')
            shutil.rmtree(left)
        with whole_file(folder.parent / ANNOTATIONS) as temporary:
            write_annotations(instances, keypoints, temporary)
        _write_records(images, found, split, output, folder, say)
    return Prepared(
        folder,
        len(found.images),
        sum(len(image.objects) for image in found.images),
        found.without_area,
    )


def _write_records(images, found, split, output, folder, say) -> None:
    from slimjax.data.coco_format.coco_format_dataset_builder import Builder

    shown = sys.stdout

    def tell(line):
        with contextlib.redirect_stdout(shown):
            say(line)

    builder = Builder(
        images,
        found,
        split,
        tell,
        data_dir=output,
        file_format='array_record',
    )
    say(f'{len(found.images)} images into {folder}')
    # TFDS wants a folder for downloads, and speaks of them; there are none.
    with (
        tempfile.TemporaryDirectory() as downloads,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        builder.download_and_prepare(download_dir=downloads)


def split_of(instances: str | pathlib.Path) -> str:
    """Returns the split that the name of a file of annotations speaks of.

    Raises:
        ValueError: it speaks of none.

    Example:
        >>> split_of('annotations/instances_val2017.json')
        'validation'
    """
    name = pathlib.Path(instances).stem.lower()
    for split, word in (('train', 'train'), ('validation', 'val'), ('test', 'test')):
        if word in name:
            return split
    raise ValueError(
        f'{instances}: its name does not say which split it is; set split to one of '
        f'{", ".join(SPLITS)}'
    )


def _check_files(images: pathlib.Path, found: Annotations) -> None:
    if not images.is_dir():
        raise ValueError(f'images={images} is no folder')
    missing = [
        image for image in found.images if not (images / image.file_name).is_file()
    ]
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(found.images)} images are not in {images}, such '
            f'as {missing[0].file_name} (image {missing[0].id})'
        )
