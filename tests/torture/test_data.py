"""Data as they come: broken, hostile, too few, and not what they were."""

import pathlib
import random
import shutil

import numpy as np
import pytest

from slimjax.data.base import Example
from slimjax.data.decode import DecodeError, decode
from slimjax.data.pipeline import (
    BadImagesError,
    Format,
    Reading,
    eval_batches,
    train_batches,
)
from slimjax.data.sources import load_source
from slimjax.train.resume import check_resumable
from slimjax.train.run import Run
from tests.data.files import Files, class_folders, jpeg
from tests.torture.hostile_images import BOMBS, mutated, one_of_every_kind
from tests.torture.trainings import Training, contents
from tests.train.runs import tiny_config

FORMAT = Format(8)
GOOD = [jpeg(seed, 16, 16) for seed in range(200)]


def epoch(files, limit, **options):
    """Reads each image once; returns the batches' reader, and how many it showed."""
    batches = train_batches(
        Files(files), FORMAT, batch_size=20, bad_image_limit=limit, **options
    )
    try:
        shown = sum(len(next(batches)['label']) for _ in range(len(files) // 20))
    finally:
        batches.close()
    return batches.bad_images, shown


def with_corrupt(share: float, seed: int = 0) -> tuple[list[bytes], set[int]]:
    rng = random.Random(seed)
    chosen = set(rng.sample(range(len(GOOD)), round(share * len(GOOD))))
    cuts = [0, 1, 20, 200, -1, -30]
    return [
        file[: rng.choice(cuts)] if index in chosen else file
        for index, file in enumerate(GOOD)
    ], chosen


@pytest.mark.parametrize('share', [0.01, 0.05])
def test_a_few_corrupt_images_are_replaced_and_each_is_named(share, caplog):
    files, chosen = with_corrupt(share)
    found, shown = epoch(files, limit=50)
    assert set(found) == chosen
    assert shown == 200
    assert len(caplog.records) == len(chosen)


def test_half_of_the_images_corrupt_stop_the_run_unless_that_many_are_allowed():
    files, chosen = with_corrupt(0.5)
    with pytest.raises(BadImagesError, match=r'51 images cannot be read, bad_image_l'):
        epoch(files, limit=50)
    found, shown = epoch(files, limit=100)
    assert set(found) == chosen
    assert shown == 200


def address_space() -> int:
    """The most that this process has ever asked the kernel for, in KiB."""
    status = pathlib.Path('/proc/self/status').read_text()
    return int(status.split('VmPeak:')[1].split()[0])


@pytest.mark.parametrize('bomb', BOMBS)
def test_a_decompression_bomb_is_refused_before_anything_is_allocated(bomb):
    before = address_space()
    with pytest.raises(DecodeError, match=r'pixels|px'):
        decode(BOMBS[bomb], bomb)
    assert address_space() - before < 100_000


class Mislabelled(Files):
    def __getitem__(self, index):
        label = 3 if index == 7 else -1 if index == 8 else 0
        return Example(self._files[index], label, f'file {index}')


@pytest.mark.parametrize('workers', [0, 1])
def test_a_label_beyond_the_classes_stops_the_run_and_is_named(workers):
    batches = train_batches(
        Mislabelled(GOOD[:9]),
        FORMAT,
        batch_size=9,
        reading=Reading(num_workers=workers),
    )
    message = r'file [78] has label (3|-1); the 3 classes are 0 to 2'
    try:
        with pytest.raises(ValueError, match=message):
            next(batches)
    finally:
        batches.close()


def test_fewer_examples_than_a_batch_are_repeated_and_evaluated_once():
    found, shown = epoch(GOOD[:20], 0)
    assert (found, shown) == ({}, 20)
    batches = train_batches(Files(GOOD[:3]), FORMAT, batch_size=8)
    assert next(batches)['image'].shape[0] == 8
    batches.close()
    masks = [
        batch['mask']
        for batch in eval_batches(Files(GOOD[:3]), FORMAT, batch_size=8, resize=8)
    ]
    assert np.sum(masks) == 3


@pytest.fixture
def folder(tmp_path):
    class_folders(tmp_path / 'train', {'ant': 6, 'bee': 6})
    class_folders(tmp_path / 'val', {'ant': 2, 'bee': 2}, seed=50)
    return tmp_path


def run_of(folder) -> Run:
    return Run(
        tiny_config(
            dataset='folder',
            data_dir=str(folder),
            num_classes=len(list((folder / 'train').iterdir())),
            image_channels=3,
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            batch_size=8,
            eval_batch_size=8,
        )
    )


def test_data_that_changed_since_the_checkpoint_are_named(folder):
    meta = run_of(folder).meta
    check_resumable(run_of(folder), meta)
    (folder / 'train/ant/0.jpg').write_bytes(jpeg(99))
    with pytest.raises(ValueError, match=r'data of folder .*order or images: '):
        check_resumable(run_of(folder), meta)
    (folder / 'train/ant/9.jpg').write_bytes(jpeg(98))
    with pytest.raises(ValueError, match='12 examples there, 13 now'):
        check_resumable(run_of(folder), meta)
    for split in ('train', 'val'):
        (folder / split / 'bee').rename(folder / split / 'wasp')
    with pytest.raises(ValueError, match=r"gone: \['bee'\], new: \['wasp'\]"):
        check_resumable(run_of(folder), meta)


def test_links_that_lead_nowhere_or_to_themselves_are_broken_images(folder):
    (folder / 'train/loop').symlink_to('loop')
    (folder / 'train/ant/loop.jpg').symlink_to('loop.jpg')
    (folder / 'train/ant/gone.jpg').symlink_to(folder / 'gone')
    source = load_source('folder', 'train', str(folder))
    (folder / 'train/bee/0.jpg').unlink()
    (folder / 'train/bee/0.jpg').mkdir()  # since the folder was listed
    assert source.class_names == ('ant', 'bee')
    batches = train_batches(source, FORMAT, batch_size=14, bad_image_limit=3)
    next(batches)
    batches.close()
    assert len(batches.bad_images) == 3
    assert 'symbolic links' in ' '.join(batches.bad_images.values())


def test_names_with_newlines_are_one_line_and_no_two_classes_are_one(folder):
    (folder / 'train/ant').rename(folder / 'train/a\nnt')
    (folder / 'train/a\nnt/0.jpg').write_bytes(b'')
    source = load_source('folder', 'train', str(folder))
    assert source.class_names == (r'a\nnt', 'bee')
    batches = train_batches(source, FORMAT, batch_size=12, bad_image_limit=1)
    next(batches)
    batches.close()
    assert '\n' not in batches.bad_images[0]
    (folder / r'train/a\nnt').mkdir()
    with pytest.raises(ValueError, match='two classes that read'):
        load_source('folder', 'train', str(folder))


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp('prepared')
    load_source('digits', 'train', str(root))
    return root


DAMAGE = {
    'cut to nothing': lambda data: b'',
    'cut in half': lambda data: data[: len(data) // 2],
    'cut by a byte': lambda data: data[:-1],
    'missing': None,
    'a bit flipped': lambda data: (
        data[:100_000] + bytes([data[100_000] ^ 1]) + data[100_001:]
    ),
}


def damaged(prepared, root, how):
    shutil.copytree(prepared, root)
    (shard,) = root.rglob('*train*array_record*')
    data = shard.read_bytes()
    shard.unlink()
    if DAMAGE[how] is not None:
        shard.write_bytes(DAMAGE[how](data))
    return load_source('digits', 'train', str(root))


@pytest.mark.parametrize('how', DAMAGE)
def test_a_damaged_shard_is_so_many_broken_images(prepared, tmp_path, how):
    source = damaged(prepared, tmp_path / 'copy', how)
    batches = train_batches(source, Format(8, 1), batch_size=1197, bad_image_limit=50)
    try:
        if how == 'a bit flipped':
            next(batches)
            assert len(batches.bad_images) <= 1
        else:
            with pytest.raises(
                BadImagesError, match=r'none of 100 .*digits/1.0.0 train\[\d+\] cannot'
            ):
                next(batches)
    finally:
        batches.close()


def survives(data: bytes) -> str:
    """What went wrong that is neither pixels nor a `DecodeError`."""
    try:
        pixels = decode(data, 'mutant')
        right = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        return '' if right else f'{pixels.dtype} {pixels.shape}'
    except DecodeError:
        return ''
    except Exception as error:
        return repr(error)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', one_of_every_kind())
def test_a_mutated_file_is_pixels_or_a_decode_error(kind):
    rng, data = random.Random(0), one_of_every_kind()[kind]
    assert not [why for _ in range(20) if (why := survives(mutated(data, rng)))]


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.filterwarnings('ignore')
def test_thousands_of_mutated_files_are_pixels_or_decode_errors(ledger, seed, has_time):
    rng, lost = random.Random(seed), []
    for kind, data in one_of_every_kind().items():
        for _ in range(2000):
            if not has_time():
                break
            why = survives(mutated(data, rng))
            lost += [why] if why else []
            ledger.record('data', f'mutated {kind}', not why, why)
    assert not lost


@pytest.mark.slow
@pytest.mark.torture
def test_damaged_data_are_counted_or_refused_in_one_line(
    prepared, tmp_path, ledger, seed
):
    root = tmp_path / 'images'
    class_folders(root / 'train', {'ant': 100, 'bee': 100})
    class_folders(root / 'val', {'ant': 10, 'bee': 10}, seed=900)
    files = sorted((root / 'train').rglob('*.jpg'))
    config = {
        'dataset': 'folder',
        'data_dir': root,
        'num_classes': 2,
        'image_channels': 3,
        'mean': '(0.5,0.5,0.5)',
        'std': '(0.25,0.25,0.25)',
        'batch_size': 20,
        'eval_batch_size': 20,
    }
    rng = random.Random(seed)
    for share, bad in ((0.01, 2), (0.05, 10), (0.5, 100)):
        for file in rng.sample(files, bad):
            file.write_bytes(file.read_bytes()[: rng.randrange(300)])
        ends = []
        for workers in (0, 2):
            workdir = tmp_path / f'{share} {workers}'
            training = Training(workdir, num_workers=workers, **config)
            status = training.finish()
            if share < 0.5:
                right = status == 0 and 'unreadable image' in training.output
                ends.append(contents(workdir) if right else {})
                right = right and ends[0]['arrays'] == ends[-1]['arrays']
            else:
                message = 'slimjax: 51 images cannot be read, bad_image_limit=50'
                right = status == 1 and message in training.output
                right = right and 'Traceback' not in training.output
            fault = f'{share:.0%} of the images corrupt, {workers} reader processes'
            ledger.record('data', fault, right, '' if right else training.output)
            assert right, training.output
    for how in ('cut in half', 'missing'):
        damaged(prepared, tmp_path / how, how)
        training = Training(tmp_path / f'run {how}', data_dir=tmp_path / how)
        right = training.finish() == 1 and 'Traceback' not in training.output
        right = right and 'cannot be read' in training.output
        ledger.record('data', f'ArrayRecord {how}', right, training.output)
        assert right, training.output
