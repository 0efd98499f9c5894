"""ImageNet, small: from folders and tars to what TFDS reads, interrupted or not."""

import io
import pathlib
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from slimjax.data import prepare as module
from slimjax.data.decode import decode
from slimjax.data.prepare import prepare_imagenet
from slimjax.data.sources import load_source
from tests.data.files import encoded, jpeg, picture

SCRIPT = pathlib.Path(__file__).parents[2] / 'scripts' / 'prepare_imagenet.py'
CLASSES = ('n01440764', 'n01443537', 'n02102040')
CMYK = encoded(Image.fromarray(picture()).convert('CMYK'), 'JPEG', quality=95)
PNG = encoded(picture(seed=90))
TRAIN = {
    (name, f'{name}_{index}.JPEG'): jpeg(10 * place + index)
    for place, name in enumerate(CLASSES)
    for index in range(5)
} | {
    ('n01440764', 'n01440764_cmyk.JPEG'): CMYK,
    ('n02102040', 'n02102040_png.JPEG'): PNG,
}
VAL = {
    (CLASSES[index % 3], f'ILSVRC2012_val_{index + 1:08}.JPEG'): jpeg(60 + index)
    for index in range(4)
}
COUNTS = {'num_train': 17, 'num_val': 4}


def folders(root, files, flat=False):
    for (name, file), data in files.items():
        path = root / file if flat else root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        for name, data in files.items():
            add(tar, name, data)
    return buffer.getvalue()


def train_tar(path):
    tars = {
        f'{name}.tar': tar_of({f: data for (c, f), data in TRAIN.items() if c == name})
        for name in reversed(CLASSES)
    }
    path.write_bytes(tar_of(tars))
    return path


def devkit(path):
    # Its numbers of the classes are not in the order of their names.
    order = [CLASSES[2], CLASSES[0], CLASSES[1]]
    synsets = np.array(
        [(number + 1, name, f'{name} in words') for number, name in enumerate(order)],
        dtype=[('ILSVRC2012_ID', object), ('WNID', object), ('words', object)],
    )
    meta = io.BytesIO()
    scipy.io.savemat(meta, {'synsets': synsets.reshape(-1, 1)})
    truth = ''.join(
        f'{order.index(name) + 1}\n' for name, _ in sorted(VAL, key=by_file)
    )
    with tarfile.open(path, 'w:gz') as tar:
        add(tar, 'devkit/data/meta.mat', meta.getvalue())
        add(
            tar,
            'devkit/data/ILSVRC2012_validation_ground_truth.txt',
            truth.encode(),
        )
    return path


def by_file(key):
    return key[1]


@pytest.fixture
def inputs(tmp_path):
    return folders(tmp_path / 'train', TRAIN), folders(tmp_path / 'val', VAL)


def silent(_):
    pass


def run(train, val, data_dir, **options):
    options = {'say': silent, 'shard_images': 4, **COUNTS, **options}
    return prepare_imagenet(train, val, data_dir, **options)


def stored(data_dir, split):
    source = load_source('imagenet2012', split, str(data_dir))
    examples = [source[i] for i in range(len(source))]
    return {
        (source.class_names[e.label], e.name.split()[-1]): e.image for e in examples
    }


def test_folders_become_a_tfds_data_set(inputs, tmp_path):
    summary = run(*inputs, tmp_path / 'out')
    assert summary.folder == tmp_path / 'out/imagenet2012/5.1.0'
    assert summary.counts == {'train': 17, 'validation': 4}
    assert sorted(summary.repaired) == [
        'n01440764/n01440764_cmyk.JPEG',
        'n02102040/n02102040_png.JPEG',
    ]
    source = load_source('imagenet2012', 'train', str(tmp_path / 'out'))
    assert source.class_names == CLASSES
    found = stored(tmp_path / 'out', 'train')
    assert found.keys() == TRAIN.keys()
    for key, data in TRAIN.items():
        if data in (CMYK, PNG):
            assert Image.open(io.BytesIO(found[key])).format == 'JPEG'
            assert Image.open(io.BytesIO(found[key])).mode == 'RGB'
            difference = decode(found[key], 'x').astype(int) - decode(data, 'x')
            assert np.abs(difference).mean() < 2
        else:
            assert found[key] == data
    assert stored(tmp_path / 'out', 'validation') == VAL
    # As the literature: the test split is the validation split.
    assert stored(tmp_path / 'out', 'test') == VAL
    assert {path.suffix for path in summary.folder.iterdir()} == {
        *{f'.array_record-{i:05}-of-00005' for i in range(5)},
        '.array_record-00000-of-00001',
        '.json',
        '.txt',
    }


def test_the_stored_order_is_mixed(inputs, tmp_path):
    run(*inputs, tmp_path / 'out')
    source = load_source('imagenet2012', 'train', str(tmp_path / 'out'))
    labels = [source[i].label for i in range(17)]
    assert labels != sorted(labels)


@pytest.mark.parametrize('kind', ['devkit', 'one a line', 'with names'])
def test_tars_and_folders_make_the_same_files(inputs, tmp_path, kind):
    val = tmp_path / 'ILSVRC2012_img_val.tar'
    val.write_bytes(tar_of({f: VAL[c, f] for c, f in sorted(VAL, reverse=True)}))
    ordered = sorted(VAL, key=by_file)
    labels = tmp_path / 'labels.txt'
    if kind == 'devkit':
        labels = devkit(tmp_path / 'ILSVRC2012_devkit_t12.tar.gz')
    elif kind == 'one a line':
        labels.write_text(''.join(f'{name}\n' for name, _ in ordered))
    else:
        labels.write_text(''.join(f'{f} {name}\n' for name, f in reversed(ordered)))
    one = run(*inputs, tmp_path / 'one').folder
    train = train_tar(tmp_path / 'ILSVRC2012_img_train.tar')
    other = run(train, val, tmp_path / 'other', val_labels=labels).folder
    assert contents(one) == contents(other)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_flat_folder_of_validation_images_needs_labels(inputs, tmp_path):
    flat = folders(tmp_path / 'flat', VAL, flat=True)
    with pytest.raises(ValueError, match=r'classes of its 4 images: set --val_labels'):
        run(inputs[0], flat, tmp_path / 'out')
    labels = devkit(tmp_path / 'devkit.tar.gz')
    run(inputs[0], flat, tmp_path / 'out', val_labels=labels)
    assert stored(tmp_path / 'out', 'validation') == VAL


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('n01440764\n' * 3, 'has 3 labels for 4 images'),
        ('490\n' * 4, "has the line '490', where a WordNet id"),
        ('ILSVRC2012_val_00000001.JPEG n01440764\n' * 4, 'has no label of .*02.JPEG'),
        ('n99999999\n' * 4, 'has the class n99999999, which .* lacks'),
    ],
)
def test_labels_that_do_not_fit_are_refused(inputs, tmp_path, text, message):
    flat = folders(tmp_path / 'flat', VAL, flat=True)
    (tmp_path / 'labels.txt').write_text(text)
    with pytest.raises(ValueError, match=message):
        run(inputs[0], flat, tmp_path / 'o', val_labels=tmp_path / 'labels.txt')


def test_broken_images_are_listed_and_can_be_replaced(inputs, tmp_path):
    train, val = inputs
    broken = train / CLASSES[1] / f'{CLASSES[1]}_2.JPEG'
    data = broken.read_bytes()
    broken.write_bytes(data[:-300])
    message = r'16 train images where 17 are expected; 1 cannot be decoded:\nn01443537/'
    with pytest.raises(ValueError, match=message):
        run(train, val, tmp_path / 'out')
    assert not (tmp_path / 'out/imagenet2012/5.1.0').exists()
    broken.write_bytes(data)
    said = []
    run(train, val, tmp_path / 'out', say=said.append)
    assert '5 of 6 shards are finished already' in said
    assert stored(tmp_path / 'out', 'train')[CLASSES[1], broken.name] == data


def test_broken_images_may_be_left_out(inputs, tmp_path):
    train, val = inputs
    (train / CLASSES[1] / f'{CLASSES[1]}_2.JPEG').write_bytes(b'')
    summary = run(train, val, tmp_path / 'out', num_train=16)
    assert summary.broken == [
        'n01443537/n01443537_2.JPEG: n01443537_2.JPEG: an empty file'
    ]
    assert len(stored(tmp_path / 'out', 'train')) == 16


def test_images_can_be_shrunk(inputs, tmp_path):
    summary = run(*inputs, tmp_path / 'out', short_side=20)
    assert len(summary.repaired) == 2
    for image in stored(tmp_path / 'out', 'train').values():
        assert decode(image, 'x').shape == (20, 30, 3)
    run(*inputs, tmp_path / 'larger', short_side=50)
    assert stored(tmp_path / 'larger', 'validation') == VAL


def test_a_rotated_image_stays_rotated_when_it_is_shrunk(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {('a', f'{i}.JPEG'): jpeg(i, exif=exif) for i in range(2)}
    root = folders(tmp_path / 'images', files)
    run(root, root, tmp_path / 'out', num_train=2, num_val=2, short_side=20)
    for image in stored(tmp_path / 'out', 'train').values():
        assert decode(image, 'x').shape == (30, 20, 3)


def test_what_is_prepared_is_not_prepared_again(inputs, tmp_path):
    run(*inputs, tmp_path / 'out')
    with pytest.raises(FileExistsError, match='remove it to prepare it again'):
        run(*inputs, tmp_path / 'out')


def test_what_was_begun_otherwise_is_not_gone_on_with(inputs, tmp_path):
    with pytest.raises(ValueError, match='are expected'):
        run(*inputs, tmp_path / 'out', num_val=5)
    with pytest.raises(ValueError, match='begun from other images or with other flags'):
        run(*inputs, tmp_path / 'out', short_side=20)


def test_an_interrupted_run_goes_on_to_the_same_files(inputs, tmp_path, monkeypatch):
    whole = contents(run(*inputs, tmp_path / 'whole').folder)
    write, written = module.write_shard, []

    def interrupted(shard, class_names):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(shard.file)
        return write(shard, class_names)

    with monkeypatch.context() as patch:
        patch.setattr(module, 'write_shard', interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(*inputs, tmp_path / 'out')
    said = []
    again = run(*inputs, tmp_path / 'out', say=said.append).folder
    assert '3 of 6 shards are finished already' in said
    assert contents(again) == whole


def command(train, val, data_dir, *more):
    flags = ['--num_train=17', '--num_val=4', '--num_workers=2', *more]
    inputs = [f'--train={train}', f'--val={val}', f'--data_dir={data_dir}']
    return [sys.executable, str(SCRIPT), *inputs, *flags]


def test_the_command_prepares_in_processes_without_tensorflow(inputs, tmp_path):
    whole = run(*inputs, tmp_path / 'whole', shard_images=1250).folder
    result = subprocess.run(
        [sys.executable, '-c', WATCHED, *command(*inputs, tmp_path / 'out')[1:]],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert '17 train, 4 validation images of 3 classes' in result.stdout
    assert 'images/s, 0:00:00 to go' in result.stdout
    assert '2 images were encoded anew' in result.stdout
    assert contents(tmp_path / 'out/imagenet2012/5.1.0') == contents(whole)


WATCHED = """
import runpy, sys
del sys.argv[0]
if __name__ == '__main__':
    runpy.run_path(sys.argv[0], run_name='__main__')
    assert 'tensorflow' not in sys.modules
"""


def test_the_command_says_what_is_wrong_in_a_line(inputs, tmp_path):
    result = subprocess.run(
        command(inputs[0], tmp_path / 'nowhere', tmp_path / 'out'),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert result.stderr.startswith('prepare_imagenet: ')
    assert 'nowhere' in result.stderr
    assert 'Traceback' not in result.stderr


KILLED = """
import sys, time
from pathlib import Path
from slimjax.data import prepare, records

write = records.write_shard

def slow(shard, class_names):
    if shard.index == 2:
        # As if it were killed within the file.
        Path(shard.folder, shard.file + '.writing').write_bytes(b'half of it')
        print('third', flush=True)
        time.sleep(60)
    return write(shard, class_names)

prepare.write_shard = slow
train, val, out = map(Path, sys.argv[1:])
prepare.prepare_imagenet(
    train, val, out, num_train=17, num_val=4, shard_images=4, say=lambda line: None
)
"""


def test_a_killed_run_goes_on_to_the_same_files_and_keeps_others_out(inputs, tmp_path):
    whole = contents(run(*inputs, tmp_path / 'whole').folder)
    arguments = [str(path) for path in (*inputs, tmp_path / 'out')]
    with subprocess.Popen(
        [sys.executable, '-c', KILLED, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == 'third\n'
        with pytest.raises(ValueError, match=f'is in use by process {process.pid} on'):
            run(*inputs, tmp_path / 'out')
        process.send_signal(signal.SIGKILL)
    said = []
    again = run(*inputs, tmp_path / 'out', say=said.append).folder
    assert '2 of 6 shards are finished already' in said
    assert contents(again) == whole
