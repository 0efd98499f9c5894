"""Exports all widths of a run as one bundle, every weight stored once.

    python scripts/export.py --workdir=runs/digits --to=onnx --output=bundle
    python scripts/export.py --workdir=runs/digits --to=stablehlo --output=bundle

Every width is compared with JAX before the folder appears. manifest.json tells sizes,
differences, MACs, latency on this machine and the accuracy of the bundle at work, of
--split; with --split=none the data of the run need not be there. In Python,
`slimjax.deploy.load('bundle')` runs it. --config.FIELD=VALUE changes a field of the
run, such as another data_dir.
"""

import argparse
import pathlib

import numpy as np

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.data.augment import normalize
from slimjax.deploy.bundle import export_bundle
from slimjax.deploy.manifest import KINDS
from slimjax.deploy.runtime import Runtime
from slimjax.deploy.storage import STORAGES
from slimjax.insight.table import results_table
from slimjax.train.run import Run
from slimjax.train.trained import open_network, open_run, preprocessing


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--workdir', required=True, type=pathlib.Path, help='of a run, or imported')
    add('--output', required=True, type=pathlib.Path, help='folder, new')
    add('--to', required=True, choices=KINDS, help='read by JAX, or by ONNX Runtime')
    add('--storage', default='float32', choices=STORAGES, help='of kernels, in ONNX')
    add('--split', default='test', help='of the data for top-1, or none (%(default)s)')
    add('--image_size', type=int, default=0, help="side in pixels (the run's, or 224)")
    add('--threads', type=int, default=0, help='of ONNX Runtime (one a core)')
    add('--repeats', type=int, default=50, help='timed runs a width (%(default)s)')
    add('--time_alone', action='store_true', help='times ONNX files of one width too')
    return parser.parse_known_args()


def main() -> None:
    """Reads the best checkpoint, and writes the bundle."""
    flags, changes = parse()
    with readable_mistakes():
        network = open_network(flags.workdir, flags.image_size)
        if changes and flags.split == 'none':
            raise ValueError(f'{changes[0]!r} has no effect with --split=none')
        score = None
        if flags.split != 'none':
            if network.preprocessing is None:
                raise ValueError(
                    f'{flags.workdir} was imported, and does not say what data it is '
                    'for: add --split=none'
                )
            size = network.image_shape[0]
            changes.append(f'--config.image_size={size}')
            run = open_run(flags.workdir, changes).run
            # An application that prepares images so gets the accuracy that is stated.
            network = network._replace(preprocessing=preprocessing(run.config))
            source = run.source(flags.split)

            def score(runtime):
                return top1(runtime, run, source)

        manifest = export_bundle(
            flags.output,
            network.model,
            network.variables,
            to=flags.to,
            image_shape=network.image_shape,
            storage=flags.storage,
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


def top1(runtime: Runtime, run: Run, source) -> dict[str, float]:
    """Returns the accuracy of each width on a source of the run."""
    right, count = dict.fromkeys(runtime.widths, 0), 0
    reader = run.eval_reader(source)
    try:
        for batch in reader:
            present = batch['mask'] > 0
            pixels = normalize(batch['image'], run.config.mean, run.config.std)
            images = np.asarray(pixels)
            count += int(present.sum())
            for name in runtime.widths:
                guesses = runtime.infer(images, name).argmax(-1)
                right[name] += int((guesses == batch['label'])[present].sum())
    finally:
        reader.close()
    return {name: each / count for name, each in right.items()}


if __name__ == '__main__':
    main()
