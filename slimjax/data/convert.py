"""TFDS data sets from TFRecord, which is read from its beginning, to ArrayRecord.

The records stay the same, byte for byte; only the files around them change.
"""

import json
import os
import pathlib
import shutil
import struct
from collections.abc import Callable, Iterator

from slimjax.data.records import replace_text


def convert(
    source: pathlib.Path,
    data_dir: pathlib.Path,
    *,
    say: Callable[[str], None] = print,
) -> pathlib.Path:
    """Writes a TFDS data set that is prepared as TFRecord once more, as ArrayRecord.

    Finished files are kept: after an interruption it goes on where it stopped.

    Args:
        source: the folder of the prepared set, such as `.../imagenet2012/5.1.0`.
        data_dir: another TFDS folder; the set goes to the same place in it.
        say: is told of progress.

    Returns:
        The folder of the converted set.

    Raises:
        FileNotFoundError: there is no prepared set.
        FileExistsError: it is converted already.
        ValueError: it is not TFRecord, is damaged, or would be overwritten.
    """
    info_file = source / 'dataset_info.json'
    if not info_file.is_file():
        raise FileNotFoundError(
            f'{source} is no prepared TFDS data set: it has no dataset_info.json'
        )
    info = json.loads(info_file.read_text())
    if info.get('fileFormat', 'tfrecord') != 'tfrecord':
        raise ValueError(f'{source} is prepared as {info["fileFormat"]}, not TFRecord')
    root = source.resolve()
    while root.name != info['name']:
        if root == root.parent:
            raise ValueError(f'{source} does not stand in a folder {info["name"]}')
        root = root.parent
    folder = pathlib.Path(data_dir) / source.resolve().relative_to(root.parent)
    if folder.resolve() == source.resolve():
        raise ValueError(f'--data_dir={data_dir} is where {source} stands: set another')
    if (folder / 'dataset_info.json').exists():
        raise FileExistsError(f'{folder} exists: remove it to convert it again')
    folder.mkdir(parents=True, exist_ok=True)
    for split in info.get('splits', ()):
        _convert_split(source, folder, info['name'], split, say)
    for file in sorted(source.iterdir()):
        if file.is_file() and '.tfrecord-' not in file.name and file != info_file:
            shutil.copy(file, folder)
    info['fileFormat'] = 'array_record'
    # Written last: a set without it is not there.
    replace_text(folder / 'dataset_info.json', json.dumps(info, indent=2))
    return folder


def _convert_split(source, folder, name: str, split: dict, say) -> None:
    lengths = [int(length) for length in split.get('shardLengths', ())]
    count = len(lengths)
    for index, length in enumerate(lengths):
        place = f'-{index:05d}-of-{count:05d}'
        old = source / f'{name}-{split["name"]}.tfrecord{place}'
        new = folder / f'{name}-{split["name"]}.array_record{place}'
        if not new.exists():
            written = _write(old, new.with_name(f'{new.name}.writing'))
            if written != length:
                raise ValueError(
                    f'{old} has {written} records, where dataset_info.json says '
                    f'{length}'
                )
            os.replace(new.with_name(f'{new.name}.writing'), new)
        say(f'{split["name"]}: {index + 1} of {count} files')


def _write(old: pathlib.Path, new: pathlib.Path) -> int:
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(
        str(new), 'group_size:1,uncompressed'
    )
    count = 0
    for record in read_tfrecord(old):
        writer.write(record)
        count += 1
    writer.close()
    return count


def read_tfrecord(path: pathlib.Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file.

    A record is its length in 8 bytes, a checksum of that in 4, the data, and a
    checksum of those in 4.

    Args:
        path: of the file.

    Raises:
        ValueError: the file ends within a record.
    """
    with open(path, 'rb', buffering=2**20) as file:
        while header := file.read(12):
            length = struct.unpack('<Q', header[:8])[0] if len(header) == 12 else 0
            record = file.read(length + 4)
            if len(header) < 12 or len(record) < length + 4:
                raise ValueError(f'{path} ends within a record: it is cut off')
            yield record[:length]
