"""Imports a PyTorch checkpoint: the published S-Nets, US-Nets, AutoSlim; torchvision's.

    python scripts/import_torch.py s_mobilenet_v1.pt --model s_mobilenet_v1 \\
        --output runs/s_mobilenet_v1
    python -m slimjax.main --config=configs/imagenet.py:s_mobilenet_v1 --mode=eval \\
        --workdir=runs/s_mobilenet_v1

The output is a workdir: --mode=eval reads it, and --config.init_from starts from it.
PyTorch need not be installed, and a file that would run code is refused.
"""

import argparse
import pathlib

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.interop.pytorch import load_torch
from slimjax.models import MODELS, create_model
from slimjax.train import report
from slimjax.train.checkpoint import Checkpoints
from slimjax.variables import split_variables
from slimjax.width import width_name


def parse() -> argparse.Namespace:
    """Returns the flags."""
    parser = command_parser(__doc__)
    parser.add_argument('file', type=pathlib.Path, help='the .pt file')
    parser.add_argument('--model', required=True, help=f'one of {", ".join(MODELS)}')
    parser.add_argument(
        '--output', required=True, type=pathlib.Path, help='workdir, new'
    )
    parser.add_argument(
        '--num_classes', type=int, default=1000, help='classes (%(default)s)'
    )
    parser.add_argument(
        '--widths', help="of a network with others than the model's: 0.25,0.5,1.0"
    )
    parser.add_argument(
        '--sort',
        choices=('l1', 'bn_scale'),
        help="of a network of torchvision's: its important channels first, by this",
    )
    return parser.parse_args()


def main() -> None:
    """Reads the file, and writes a workdir with its weights."""
    flags = parse()
    with readable_mistakes():
        checkpoints = flags.output / 'checkpoints'
        if checkpoints.exists():
            raise ValueError(f'{checkpoints} exists: choose a new --output')
        fields = {'num_classes': flags.num_classes}
        if flags.widths:
            fields['widths'] = tuple(map(float, flags.widths.split(',')))
        model = create_model(flags.model, **fields)
        variables = load_torch(flags.file, model, sort_by=flags.sort)
    params, stats = split_variables(variables)
    meta = {
        'model': flags.model,
        'widths': [width_name(width) for width in model.widths],
        'class_names': [str(number) for number in range(flags.num_classes)],
        'weights_from': flags.file.name,
        'versions': report.versions(),
        'git_commit': report.git_commit(),
    }
    with Checkpoints(checkpoints) as writer:
        writer.save_weights(params, stats, meta)
        writer.wait()
    print(f'{flags.output}: {flags.model} at widths {", ".join(meta["widths"])}')


if __name__ == '__main__':
    main()
