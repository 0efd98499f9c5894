"""ImageNet from folders or tars to the ArrayRecord files that training reads.

The work is done shard by shard, in several processes. What is finished stays: after
an interruption the same command goes on where it stopped.
"""

import concurrent.futures
import hashlib
import math
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from slimjax.data.inventory import Item, list_train, list_val
from slimjax.data.orphans import end_with_parent
from slimjax.data.records import (
    NAME,
    VERSION,
    Report,
    Shard,
    finished,
    replace_text,
    write_info,
    write_shard,
)
from slimjax.lock import locked

# Images in ILSVRC2012's splits.
NUM_TRAIN, NUM_VAL = 1_281_167, 50_000
# About 140 MB: small enough to be lost at an interruption.
_SHARD_IMAGES = 1250
_SHOWN = 20


class Summary(NamedTuple):
    """What was prepared.

    Attributes:
        folder: that `load_source` and TFDS read.
        counts: images of each split.
        repaired: names of images that were encoded anew.
        broken: names of images that were left out, and why.
    """

    folder: pathlib.Path
    counts: dict[str, int]
    repaired: list[str]
    broken: list[str]


def prepare_imagenet(
    train: pathlib.Path,
    val: pathlib.Path,
    data_dir: pathlib.Path,
    *,
    val_labels: pathlib.Path | None = None,
    short_side: int = 0,
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
    num_workers: int = 1,
    shard_images: int = _SHARD_IMAGES,
    say: Callable[[str], None] = print,
) -> Summary:
    """Prepares ImageNet so that TFDS reads it, without TensorFlow.

    Images keep their bytes; see `records.sound_jpeg` for the few that do not. They are
    stored in an order that is random, so that any part of a split is a fair sample.

    Args:
        train: the folder `train/<class>/*.JPEG`, or `ILSVRC2012_img_train.tar`.
        val: the folder `val/<class>/*.JPEG` or `val/*.JPEG`, or
            `ILSVRC2012_img_val.tar`.
        data_dir: of TFDS; `imagenet2012/5.1.0` is made in it.
        val_labels: see `inventory.read_labels`.
        short_side: pixels to which the shorter side of larger images is shrunk; 0
            keeps them as they are.
        num_train: images that there must be.
        num_val: likewise, of the validation split.
        num_workers: processes; 1 works in this one.
        shard_images: images in a file.
        say: is told of progress.

    Raises:
        FileExistsError: it is prepared already.
        ValueError: images or labels are missing, or images are broken; says which. Or
            another process prepares it.
    """
    folder = pathlib.Path(data_dir, NAME, VERSION)
    if folder.exists():
        raise FileExistsError(f'{folder} exists: remove it to prepare it again')
    say(f'listing {train} and {val}')
    splits = {'train': list_train(train), 'validation': list_val(val, val_labels)}
    class_names = sorted({item.class_name for item in splits['train']})
    unknown = {item.class_name for item in splits['validation']} - set(class_names)
    if unknown:
        raise ValueError(
            f'{val} has the class {min(unknown)}, which {train} lacks '
            f'({len(unknown)} such classes)'
        )
    found = ', '.join(f'{len(items)} {split}' for split, items in splits.items())
    say(f'{found} images of {len(class_names)} classes')

    unfinished = folder.with_name(f'{VERSION}.unfinished')
    unfinished.mkdir(parents=True, exist_ok=True)
    with locked(unfinished):
        _start(unfinished, splits, short_side, shard_images)
        shards = {
            split: _shards(unfinished, split, items, short_side, shard_images)
            for split, items in splits.items()
        }
        reports = _write(shards, class_names, num_workers, say)
        summary = Summary(
            folder,
            {split: sum(r.written for r in reports[split]) for split in reports},
            [name for r in _all(reports) for name in r.repaired],
            [name for r in _all(reports) for name in r.broken],
        )
        _check(summary, {'train': num_train, 'validation': num_val}, unfinished)
        write_info(unfinished, class_names, reports, _description(short_side))
        for shard in _all(shards):
            shard.report.unlink()
        for name in ('plan', 'lock'):
            (unfinished / name).unlink()
        os.replace(unfinished, folder)
    return summary


def _start(
    folder: pathlib.Path,
    splits: dict[str, list[Item]],
    short_side: int,
    shard_images: int,
) -> None:
    """Checks that what stands in the folder belongs to this command."""
    digest = hashlib.sha256(f'{short_side} {shard_images}'.encode())
    for split, items in splits.items():
        for item in items:
            digest.update(f'{split}/{item.class_name}/{item.name}\n'.encode())
    plan = folder / 'plan'
    if plan.is_file() and plan.read_text() != digest.hexdigest():
        raise ValueError(
            f'{folder} was begun from other images or with other flags: remove it'
        )
    replace_text(plan, digest.hexdigest())


def _shards(
    folder: pathlib.Path,
    split: str,
    items: list[Item],
    short_side: int,
    shard_images: int,
) -> list[Shard]:
    def by_hash(item):
        return hashlib.sha256(f'{item.class_name}/{item.name}'.encode()).digest()

    items = sorted(items, key=by_hash)
    count = math.ceil(len(items) / shard_images)
    return [
        Shard(str(folder), split, index, count, items[index::count], short_side)
        for index in range(count)
    ]


def _write(
    shards: dict[str, list[Shard]],
    class_names: Sequence[str],
    num_workers: int,
    say: Callable[[str], None],
) -> dict[str, list[Report]]:
    reports = {shard.file: finished(shard) for shard in _all(shards)}
    missing = [shard for shard in _all(shards) if not reports[shard.file]]
    kept = len(reports) - len(missing)
    if kept:
        say(f'{kept} of {len(reports)} shards are finished already')
    total, done = sum(len(shard.items) for shard in missing), 0
    start = time.monotonic()
    for shard, report in _each(missing, class_names, num_workers):
        reports[shard.file] = report
        done += len(shard.items)
        rate = done / max(time.monotonic() - start, 1e-9)
        say(
            f'{done} of {total} images, {rate:.0f} images/s, '
            f'{_duration((total - done) / rate)} to go'
        )
    return {split: [reports[s.file] for s in shards[split]] for split in shards}


def _each(
    shards: list[Shard], class_names: Sequence[str], num_workers: int
) -> Iterator[tuple[Shard, Report]]:
    if num_workers <= 1:
        for shard in shards:
            yield shard, write_shard(shard, class_names)
        return
    with concurrent.futures.ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context('spawn'),
        initializer=end_with_parent,
    ) as pool:
        futures = {
            pool.submit(write_shard, shard, class_names): shard for shard in shards
        }
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check(
    summary: Summary, expected: dict[str, int], unfinished: pathlib.Path
) -> None:
    wrong = [
        f'{summary.counts[split]} {split} images where {expected[split]} are expected'
        for split in expected
        if summary.counts[split] != expected[split]
    ]
    if not wrong:
        return
    message = '; '.join(wrong)
    if summary.broken:
        shown = '\n'.join(summary.broken[:_SHOWN])
        message += f'; {len(summary.broken)} cannot be decoded:\n{shown}'
        if len(summary.broken) > _SHOWN:
            message += '\n...'
    raise ValueError(
        f'{message}\nReplace what is broken and run the same command again (finished '
        f'shards stay in {unfinished}), or state the counts that you want by '
        '--num_train and --num_val'
    )


def _description(short_side: int) -> str:
    text = 'ImageNet, ILSVRC2012 classification, prepared by slimjax.'
    if short_side:
        text += f' Images are shrunk to a shorter side of {short_side} px.'
    return text


def _all(parts: dict[str, list]) -> list:
    return [each for several in parts.values() for each in several]


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}'
