"""Exports all widths of a run as one bundle; in ONNX and StableHLO weights stand once.

    python scripts/export.py --workdir=runs/digits --to=onnx --output=bundle
    python scripts/export.py --workdir=runs/digits --to=stablehlo --output=bundle
    python scripts/export.py --workdir=runs/digits --to=onnx --storage=w8a8 \
        --output=bundle

Of a detector its backbone is exported, which returns the maps of each level. Every
width is compared with JAX before the folder appears. manifest.json tells sizes,
differences, MACs, latency on this machine and the accuracy of the bundle at work, of
--split; with --split=none the data of the run need not be there, but for w8a8. That, in
ONNX and LiteRT, computes in 8-bit integers, whose ranges it chooses by 128 images of
the training set, and gives each width weights of its own. In Python,
`slimjax.deploy.load('bundle')` runs it. --config.FIELD=VALUE changes a field of the
run, such as another data_dir.
"""

import argparse
import itertools
import pathlib
from collections.abc import Iterator

import numpy as np

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.data.augment import normalize
from slimjax.data.sources import sample
from slimjax.deploy.bundle import export_bundle
from slimjax.deploy.manifest import KINDS, STORAGES
from slimjax.deploy.runtime import Runtime
from slimjax.detection import PyramidBackbone
from slimjax.insight.table import results_table
from slimjax.train.run import Run
from slimjax.train.trained import Network, open_network, open_run, preprocessing

_STORAGES = list(dict.fromkeys(itertools.chain(*STORAGES.values())))
_CALIBRATION_IMAGES = 128


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--workdir', required=True, type=pathlib.Path, help='of a run, or imported')
    add('--output', required=True, type=pathlib.Path, help='folder, new')
    add('--to', required=True, choices=KINDS, help='read by JAX, ONNX Runtime, LiteRT')
    add('--storage', default='float32', choices=_STORAGES, help='of kernels')
    add('--split', default='test', help='of the data for top-1, or none (%(default)s)')
    add('--image_size', type=int, default=0, help="side in pixels (the run's, or 224)")
    add('--threads', type=int, default=0, help='of ONNX Runtime, LiteRT (one a core)')
    add('--repeats', type=int, default=50, help='timed runs a width (%(default)s)')
    add('--time_alone', action='store_true', help='times ONNX files of one width too')
    return parser.parse_known_args()


def main() -> None:
    """Reads the best checkpoint, and writes the bundle."""
    flags, changes = parse()
    with readable_mistakes():
        network = open_network(flags.workdir, flags.image_size, backbone=True)
        if isinstance(network.model, PyramidBackbone):
            flags.split = 'none'  # No accuracy is the backbone's alone.
            if flags.storage == 'w8a8':
                raise ValueError(f'{flags.workdir} holds a detector: no --storage=w8a8')
        calibrated = flags.storage == 'w8a8' and 'w8a8' in STORAGES[flags.to]
        if changes and flags.split == 'none' and not calibrated:
            raise ValueError(f'{changes[0]!r} has no effect without data')
        score = calibration = None
        if flags.split != 'none' or calibrated:
            run = opened(flags.workdir, network, changes)
            # An application that prepares images so gets the accuracy that is stated.
            network = network._replace(preprocessing=preprocessing(run.config))
        if flags.split != 'none':
            source = run.source(flags.split)

            def score(runtime):
                return top1(runtime, run, source)

        if calibrated:
            shown = prepared(run, sample(run.source('train'), _CALIBRATION_IMAGES))
            calibration = np.concatenate([images[there] for images, _, there in shown])

        manifest = export_bundle(
            flags.output,
            network.model,
            network.variables,
            to=flags.to,
            image_shape=network.image_shape,
            storage=flags.storage,
            calibration=calibration,
            preprocessing=network.preprocessing,
            class_names=network.class_names,
            score=score,
            threads=flags.threads,
            repeats=flags.repeats,
            time_alone=flags.time_alone,
        )
    widths = {
        name: {**own, 'latency_ms': own['latency_ms_p50']}
        for name, own in manifest['widths'].items()
    }
    print(results_table({'widths': widths}))
    size = sum(path.stat().st_size for path in flags.output.iterdir())
    alone = manifest['bytes_widest_alone']
    print(f'{flags.output}: {size / 1e6:.2f} MB; the widest alone {alone / 1e6:.2f} MB')


def opened(workdir: pathlib.Path, network: Network, changes: list[str]) -> Run:
    """Returns the run of a workdir, whose data must be there.

    Raises:
        ValueError: it was imported, or its images are smaller than the network's.
    """
    if network.preprocessing is None:
        raise ValueError(
            f'{workdir} was imported, and does not say what data it is for: add '
            '--split=none, and --storage=w8a8 is not for it'
        )
    size = network.image_shape[0]
    return open_run(workdir, [*changes, f'--config.image_size={size}']).run


def prepared(run: Run, source) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields images as the network takes them, labels, and which are no padding."""
    reader = run.eval_reader(source)
    try:
        for batch in reader:
            images = normalize(batch['image'], run.config.mean, run.config.std)
            yield np.asarray(images), batch['label'], batch['mask'] > 0
    finally:
        reader.close()


def top1(runtime: Runtime, run: Run, source) -> dict[str, float]:
    """Returns the accuracy of each width on a source of the run."""
    right, count = dict.fromkeys(runtime.widths, 0), 0
    for images, labels, present in prepared(run, source):
        count += int(present.sum())
        for name in runtime.widths:
            guesses = runtime.infer(images, name).argmax(-1)
            right[name] += int((guesses == labels)[present].sum())
    return {name: each / count for name, each in right.items()}


if __name__ == '__main__':
    main()
