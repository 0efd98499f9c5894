r"""Measures how many JPEG images a core reads, decodes and cuts out for training.

    python scripts/benchmark_input.py --json=results/input_cpu.json
    python scripts/benchmark_input.py --against=tf --tf_python=/tmp/tf/bin/python
    python scripts/benchmark_input.py --data_dir=/data/photos --size=160

The pipeline is the library's own: records, decoding, random-resized crop, mirroring,
batches of uint8. Images are made up (smooth noise and texture, of the file size of
photographs) or taken from a folder. TensorFlow is installed where nothing else is
(`python -m venv /tmp/tf && /tmp/tf/bin/pip install tensorflow-cpu`).

Times are processor time of the whole process tree, on one core, since the other
programs of a machine don't change it much; what is compared takes turns, and the
median of the ratios within each turn is shown. Only ratios mean something elsewhere.
"""

import contextlib
import io
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from absl import app, flags, logging
from PIL import Image

from slimjax.benchmark.device import processor_name
from slimjax.command_line import given_command, readable_mistakes
from slimjax.data import records
from slimjax.data.base import Source, Subset
from slimjax.data.decode import decode
from slimjax.data.inventory import Item
from slimjax.data.pipeline import Augmentation, Format, Reading, train_batches
from slimjax.data.resize import crop_box, random_crop
from slimjax.data.sources import load_source
from slimjax.train.report import git_commit

SOURCE = flags.DEFINE_string('source', '500x375', 'width x height of made-up images')
DATA_DIR = flags.DEFINE_string('data_dir', '', 'a folder of JPEGs, instead')
IMAGES = flags.DEFINE_integer('images', 400, 'how many, at most', 8)
SIZE = flags.DEFINE_integer('size', 224, 'side of what is cut out, in pixels', 1)
BATCH = flags.DEFINE_integer('batch', 32, 'images of a batch', 1)
REPEATS = flags.DEFINE_integer('repeats', 20, 'turns of each that is compared', 1)
BLOCK = flags.DEFINE_integer('block', 8, 'batches of a turn', 1)
WORKERS = flags.DEFINE_list('workers', ['1', '2'], 'reader processes, each of a thread')
AGAINST = flags.DEFINE_enum('against', '', ['', 'tf'], 'tf: compare with tf.data')
TF_PYTHON = flags.DEFINE_string('tf_python', '', 'a Python that has TensorFlow')
JSON = flags.DEFINE_string('json', '', 'file for the results')

HERE = pathlib.Path(__file__).parent
AUGMENTATION = Augmentation(crop_scale=(0.25, 1.0))
# As many as ImageNet has: the order of a few would cost more to compute.
_LENGTH = 1_281_167
_STAGES = ('read', 'decode', 'resize and crop', 'batch')


class Contender(NamedTuple):
    """Something that makes batches.

    Attributes:
        take: makes so many.
        pids: the processes that it runs in.
    """

    take: Callable[[int], None]
    pids: Callable[[], list[int]]


class Block(NamedTuple):
    """Microseconds an image, in a turn."""

    cpu: float
    wall: float


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark."""
    logging.set_verbosity(logging.WARNING)
    with readable_mistakes():
        if len(arguments) > 1:
            raise ValueError(f'{arguments[1]} is no flag; see --help')
        if sys.platform != 'linux':
            raise ValueError('processor times of other processes are read as on Linux')
        if not all(count.isdecimal() for count in WORKERS.value):
            raise ValueError(f'--workers={",".join(WORKERS.value)}: numbers are needed')
        workers = [int(count) for count in WORKERS.value]
        if AGAINST.value and not TF_PYTHON.value:
            raise ValueError('--against=tf needs --tf_python=, see --help')
        with tempfile.TemporaryDirectory() as folder:
            results = benchmark(pathlib.Path(folder), workers)
    print(table(results))
    if JSON.value:
        path = pathlib.Path(JSON.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        records.replace_text(path, json.dumps(results, indent=2) + '\n')


def benchmark(folder: pathlib.Path, workers: Sequence[int]) -> dict[str, Any]:
    """Returns all measurements; `folder` gets the images."""
    files = found_files() if DATA_DIR.value else made_files(folder)
    source = recorded(files, folder)
    cores = sorted(os.sched_getaffinity(0))
    # One core for all that is compared, the children included.
    os.sched_setaffinity(0, cores[-1:])
    with contextlib.ExitStack() as stack:
        ours = pipeline(source, Reading(num_threads=1))
        contenders = {'slimjax': stack.enter_context(ours)}
        if AGAINST.value:
            tensorflow = stack.enter_context(tf_process(files, source, folder))
            for kind in ('antialiased', 'aliased'):
                contenders[f'tf.data {kind}'] = tensorflow(kind)
        one_core = in_turns(contenders)
    stages = stage_times(source)
    os.sched_setaffinity(0, cores)
    with contextlib.ExitStack() as stack:
        readers = {
            f'{count} worker{"s"[: count != 1]}': Reading(0, 1, count, 1)
            for count in workers
            if count
        }
        for count in sorted({1, min(len(cores), 8)}):
            readers[f'{count} thread{"s"[: count != 1]}'] = Reading(0, 1, 0, count)
        scaling = in_turns(
            {
                name: stack.enter_context(pipeline(source, reading))
                for name, reading in readers.items()
            }
        )
    sizes = [pathlib.Path(file).stat().st_size for file in files]
    return {
        'command': given_command(),
        'git_commit': git_commit(),
        'machine': f'{processor_name()}, {len(cores)} cores',
        'source': DATA_DIR.value or SOURCE.value,
        'image_kb': round(statistics.median(sizes) / 1000, 1),
        'images': len(files),
        'size': SIZE.value,
        'batch': BATCH.value,
        'repeats': REPEATS.value,
        'one_core': {name: summary(blocks) for name, blocks in one_core.items()},
        'ratios': ratios(one_core),
        'stages_us': stages,
        'scaling': scaling_summary(scaling),
    }


def made_files(folder: pathlib.Path) -> list[str]:
    """Writes JPEGs as ImageNet's are: three of four without subsampled colours."""
    try:
        width, height = map(int, SOURCE.value.split('x'))
        if min(width, height) < 8 or max(width, height) > 8000:
            raise ValueError
    except ValueError:
        raise ValueError(
            f'--source={SOURCE.value} is no size from 8x8 to 8000x8000, as 500x375'
        ) from None
    files = []
    for index in range(IMAGES.value):
        image = Image.fromarray(made_up(width, height, index))
        file = io.BytesIO()
        plain = {'quality': 90, 'subsampling': '4:2:0'}
        rich = {'quality': 85, 'subsampling': '4:4:4'}
        image.save(file, 'JPEG', **(rich if index % 4 else plain))
        files.append(f'{folder}/{index}.jpg')
        pathlib.Path(files[-1]).write_bytes(file.getvalue())
    return files


def made_up(width: int, height: int, seed: int) -> np.ndarray:
    """Returns smooth noise of several scales with some grain: uint8 `[h, w, 3]`."""
    rng = np.random.default_rng(seed)
    values = np.full((height, width, 3), 120, np.float32)
    for side, strength in ((4, 70), (12, 35), (40, 18), (120, 10)):
        shape = max(2, side * height // width), side, 3
        noise = rng.standard_normal(shape, np.float32)
        noise = 0.5 * noise + 0.7 * noise.mean(-1, keepdims=True)
        noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        values += strength * noise
    values += 4 * rng.standard_normal((height, width, 1), np.float32)
    return values.clip(0, 255).astype(np.uint8)


def found_files() -> list[str]:
    """Returns the JPEGs of `--data_dir`, evenly chosen from all."""
    root = pathlib.Path(DATA_DIR.value)
    files = sorted(
        str(path)
        for path in root.rglob('*')
        if path.suffix.lower() in ('.jpg', '.jpeg')
    )
    if not files:
        raise ValueError(f'--data_dir={root} has no .jpg or .jpeg files')
    return files[:: max(1, len(files) // IMAGES.value)][: IMAGES.value]


def recorded(files: Sequence[str], folder: pathlib.Path) -> Source:
    """Writes files as the library's records; returns a source as long as ImageNet."""
    items = [Item(file, 0, -1, 'image', os.path.basename(file)) for file in files]
    shard = records.Shard(str(folder), 'train', 0, 1, items, 0)
    # A set without a validation split would lend it some training images.
    others = shard._replace(split='validation', items=items[:1])
    reports = {
        each.split: [records.write_shard(each, ['image'])] for each in (shard, others)
    }
    broken = reports['train'][0].broken
    if broken:
        raise ValueError(f'{len(broken)} images cannot be read: {broken[0]}')
    records.write_info(folder, ['image'], reports, 'for a benchmark')
    source = load_source(records.NAME, 'train', str(folder))
    return Subset(source, np.arange(_LENGTH) % len(files))


@contextlib.contextmanager
def pipeline(source: Source, reading: Reading) -> Iterator[Contender]:
    """Runs the library's pipeline."""
    batches = train_batches(
        source,
        Format(SIZE.value),
        batch_size=BATCH.value,
        augmentation=AUGMENTATION,
        reading=reading,
    )
    before = {child.pid for child in multiprocessing.active_children()}
    next(batches)
    children = {child.pid for child in multiprocessing.active_children()} - before

    def take(count):
        for _ in range(count):
            next(batches)

    try:
        yield Contender(take, lambda: [os.getpid(), *children])
    finally:
        batches.close()


@contextlib.contextmanager
def tf_process(files: Sequence[str], source: Source, folder: pathlib.Path):
    """Starts TensorFlow; yields what makes a contender of a kind of pipeline."""
    rng = np.random.default_rng(0)
    crops = []
    for index, file in enumerate(files):
        example = source[index]
        shape = decode(example.image, example.name).shape[:2]
        # The same distribution of crops: TensorFlow's own are smaller.
        crops.append([file, *crop_box(shape, AUGMENTATION, rng)])
    listing = folder / 'crops.json'
    listing.write_text(json.dumps(crops))
    # TensorFlow says much that is no error.
    log = folder / 'tensorflow.log'
    process = subprocess.Popen(
        [
            TF_PYTHON.value,
            HERE / 'benchmark_input_tf.py',
            listing,
            str(SIZE.value),
            str(BATCH.value),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log.open('w'),
        text=True,
        env={name: os.environ[name] for name in os.environ if name != 'PYTHONPATH'},
    )

    def answer():
        line = process.stdout.readline()
        if not line:
            said = log.read_text().strip().rpartition('\n')[2]
            raise ValueError(f'--tf_python={TF_PYTHON.value} failed: {said}')
        return line

    def contender(kind):
        def take(count):
            process.stdin.write(f'{kind} {count}\n')
            process.stdin.flush()
            answer()

        return Contender(take, lambda: [process.pid])

    with process:
        try:
            answer()
            yield contender
        finally:
            process.kill()


def in_turns(contenders: Mapping[str, Contender]) -> dict[str, list[Block]]:
    """Returns the times of each, which take turns, a first one to warm up left out."""
    blocks = {name: [] for name in contenders}
    for turn in range(REPEATS.value + 1):
        for name, contender in contenders.items():
            block = measured(contender)
            if turn:
                blocks[name].append(block)
    return blocks


def measured(contender: Contender) -> Block:
    """Takes a block of batches, from full buffers to full buffers."""
    pids = contender.pids()
    settled(pids)
    cpu, wall = cpu_seconds(pids), time.perf_counter()
    contender.take(BLOCK.value)
    end = settled(pids)
    scale = 1e6 / (BLOCK.value * BATCH.value)
    return Block(scale * (cpu_seconds(pids) - cpu), scale * (end - wall))


def settled(pids: Sequence[int]) -> float:
    """Waits until the processes have read ahead all they may; returns when they had."""
    end, before = time.perf_counter(), cpu_seconds(pids)
    while time.perf_counter() - end < 0.1:
        time.sleep(0.01)
        now = cpu_seconds(pids)
        # To look at the clock takes time too.
        if now - before > 1e-3:
            end, before = time.perf_counter(), now
    return end


def cpu_seconds(pids: Sequence[int]) -> float:
    """Returns the processor time of processes so far."""
    # Linux's number of the clock of another process.
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def stage_times(source: Source) -> dict[str, float]:
    """Returns the microseconds of each stage for an image, one after the other."""
    times = {stage: [] for stage in _STAGES}
    rng = np.random.default_rng(0)

    def timed(stage, function, inputs):
        start = time.process_time()
        results = [function(each) for each in inputs]
        times[stage].append(1e6 * (time.process_time() - start) / BATCH.value)
        return results

    for turn in range(REPEATS.value):
        places = range(turn * BATCH.value, (turn + 1) * BATCH.value)
        examples = timed('read', source.__getitem__, places)
        pixels = timed('decode', lambda each: decode(each.image, each.name), examples)
        crops = timed(
            'resize and crop',
            lambda each: random_crop(each, SIZE.value, AUGMENTATION, rng),
            pixels,
        )
        timed('batch', np.stack, [crops])
    return {stage: round(statistics.median(of), 1) for stage, of in times.items()}


def summary(blocks: Sequence[Block]) -> dict[str, float]:
    """Returns images in a second of the processor, and of the clock."""
    cpu = [block.cpu for block in blocks]
    return {
        'images_per_cpu_second': round(1e6 / statistics.median(cpu), 1),
        'images_per_cpu_second_best': round(1e6 / min(cpu), 1),
        'images_per_second': round(
            1e6 / statistics.median(block.wall for block in blocks), 1
        ),
    }


def ratios(blocks: Mapping[str, Sequence[Block]]) -> dict[str, dict[str, float]]:
    """Returns how many times as many images slimjax makes in a second of processor."""
    results = {}
    for name in blocks:
        if name == 'slimjax':
            continue
        pairs = zip(blocks[name], blocks['slimjax'], strict=True)
        turns = sorted(other.cpu / ours.cpu for other, ours in pairs)
        best = [min(block.cpu for block in blocks[each]) for each in (name, 'slimjax')]
        results[f'slimjax / {name}'] = {
            'median': round(statistics.median(turns), 3),
            'quartiles': [
                round(float(np.quantile(turns, part)), 3) for part in (0.25, 0.75)
            ],
            'best': round(best[0] / best[1], 3),
        }
    return results


def scaling_summary(blocks: Mapping[str, Sequence[Block]]) -> dict[str, Any]:
    """Returns the images a second of each number of readers, and the cores they had."""
    results = {}
    for name, of in blocks.items():
        cores = statistics.median(block.cpu / block.wall for block in of)
        results[name] = {**summary(of), 'cores_busy': round(cores, 2)}
    return results


def table(results: Mapping[str, Any]) -> str:
    """Returns the results for people."""
    lines = [
        f'{results["images"]} images of {results["image_kb"]} kB ({results["source"]}) '
        f'to {results["size"]} px, {results["machine"]}',
        f'{"one core":24} {"images / CPU-s":>15} {"best":>8} {"images / s":>12}',
    ]
    form = '{:24} {images_per_cpu_second:15.0f} {images_per_cpu_second_best:8.0f} '
    form += '{images_per_second:12.0f}'
    lines += [form.format(name, **row) for name, row in results['one_core'].items()]
    for name, row in results['ratios'].items():
        low, high = row['quartiles']
        lines.append(
            f'{name}: {row["median"]:.2f} ({low:.2f} to {high:.2f}), '
            f'of the best turns {row["best"]:.2f}'
        )
    lines.append(
        'us an image: '
        + ', '.join(
            f'{stage} {time_:.0f}' for stage, time_ in results['stages_us'].items()
        )
    )
    lines.append('all cores')
    for name, row in results['scaling'].items():
        lines.append(f'{form.format(name, **row)} on {row["cores_busy"]:.2f} cores')
    return '\n'.join(lines)


if __name__ == '__main__':
    app.run(main)
