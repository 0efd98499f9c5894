"""Measures slimmable training and inference on this machine.

    python scripts/benchmark.py --model=s_mobilenet_v1 --batch=16 --size=128 \\
        --against=torch --json=s_mobilenet_v1.json --plot=s_mobilenet_v1.png

For each network: the training step of all widths beside the steps of each width as a
network of its own, their memory and compile time, inference at every width, and with
--against=torch the same loop in PyTorch. All take turns; figures are medians with 95 %
intervals. On a GPU, the paper's setting:

    python scripts/benchmark.py --model=s_mobilenet_v1,s_resnet50 --batch=256 \\
        --size=224 --dtype=bfloat16 --against=torch --json=gpu.json

A detector on a ResNet, with suppression and RoIAlign alone besides; on a GPU and
with --against=torch, torchvision's Mask R-CNN at each width:

    python scripts/benchmark.py --detector=mask_rcnn --preset=torchvision \\
        --model=resnet50 --batch=8 --size=800x1344 --dtype=bfloat16 --against=torch

The input pipeline has a script of its own, scripts/benchmark_input.py. Read
docs/performance.md for what the figures mean and what limits them.
"""

import argparse
import os
import pathlib
import re
import sys
from typing import Any

import jax
import ml_collections

from slimjax.allocator import keep_freed_memory
from slimjax.benchmark import figure
from slimjax.benchmark.detection import (
    benchmark_detector,
    check_torchvision,
    detector_config,
)
from slimjax.benchmark.results import benchmark, check_rival
from slimjax.benchmark.training import benchmark_config
from slimjax.command_line import command_parser, given_command, readable_mistakes
from slimjax.commands import write_json
from slimjax.detection.settings import DETECTORS
from slimjax.train.network import build_model


def parse() -> argparse.Namespace:
    """Returns the flags."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--model', default='s_mobilenet_v1', help='names, with commas (%(default)s)')
    add('--detector', choices=DETECTORS, help='measure it, on the model as backbone')
    add('--preset', default='torchvision', help="the detector's (%(default)s)")
    add('--batch', type=int, default=16, help='images of a device (%(default)s)')
    add('--size', default='128', help='of an image, px: 128 or 800x1344 (%(default)s)')
    add('--dtype', default='float32', help='float32 or bfloat16 (%(default)s)')
    add('--against', choices=['torch'], help='also run this loop, in turn')
    add('--repeats', type=int, default=20, help='timed runs of each (%(default)s)')
    add('--json', type=pathlib.Path, help='write the figures to this file')
    add('--plot', type=pathlib.Path, help='draw them into this PNG file')
    return parser.parse_args()


def main() -> None:
    """Measures, prints and writes."""
    flags = parse()
    models = flags.model.split(',')
    with readable_mistakes():
        keep_freed_memory()
        if flags.against:
            # PyTorch needs its part of a GPU's memory.
            os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
        _check(flags, models)
        # What is timed includes compiling.
        jax.config.update('jax_enable_compilation_cache', False)
        every = []
        for model in models:
            results = _measured(flags, model)
            print('\n'.join(figure.lines(results)), end='\n\n', flush=True)
            every.append({'command': given_command(), **results})
            if flags.json:
                whole = every[0] if len(models) == 1 else every
                write_json(flags.json, whole)
        print(figure.markdown(every))
        if flags.plot:
            figure.plot(every, flags.plot)


def _measured(flags: argparse.Namespace, model: str) -> dict[str, Any]:
    common = {
        'against': flags.against,
        'repeats': flags.repeats,
        'say': lambda line: print(line, file=sys.stderr),
    }
    if flags.detector:
        return benchmark_detector(_detector(flags, model), **common)
    size, _ = _sides(flags.size)
    return benchmark(model, batch=flags.batch, size=size, dtype=flags.dtype, **common)


def _detector(flags: argparse.Namespace, model: str) -> ml_collections.ConfigDict:
    return detector_config(
        flags.detector,
        flags.preset,
        model,
        batch=flags.batch,
        size=_sides(flags.size),
        dtype=flags.dtype,
    )


def _sides(size: str) -> tuple[int, int]:
    """Height and width of an image; raises ValueError where they cannot be read."""
    found = re.fullmatch(r'([1-9]\d*)(?:x([1-9]\d*))?', size)
    if found is None:
        raise ValueError(f'--size={size}: a side, or height x width, such as 800x1344')
    return int(found[1]), int(found[2] or found[1])


def _check(flags: argparse.Namespace, models: list[str]) -> None:
    """Raises what is wrong before minutes are spent."""
    for name in ('batch', 'repeats'):
        if getattr(flags, name) < 1:
            raise ValueError(f'--{name}={getattr(flags, name)}: at least 1 is needed')
    for path in filter(None, (flags.json, flags.plot)):
        if not path.absolute().parent.is_dir():
            raise ValueError(f'{path}: there is no folder {path.absolute().parent}')
    height, width = _sides(flags.size)
    for model in models:
        if flags.detector:
            check_torchvision(_detector(flags, model), flags.against)
            continue
        if height != width:
            raise ValueError(f'--size={flags.size}: only a --detector takes oblongs')
        check_rival(flags.against, model)
        build_model(benchmark_config(model, flags.batch, height, flags.dtype))


if __name__ == '__main__':
    main()
