"""AutoSlim: searches the channels of every layer of a universally slimmable network.

    python -m slimjax.main --config=configs/digits.py:supernet --workdir=runs/supernet
    python scripts/search.py --workdir=runs/supernet --macs=0.5,0.25 \\
        --output=channels.json
    python -m slimjax.main --config=configs/digits.py --workdir=runs/autoslim \\
        --config.channels=channels.json '--config.widths=()'

takes channels away, always those without which the network remains best on images that
it was not trained on, until the multiply-adds are those wanted: fractions of the
network of width 1.0, or numbers such as 300M. An interrupted search, started again,
goes on where it was.
--config.FIELD=VALUE changes a field of the run, such as another data_dir.
"""

import argparse
import pathlib

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.compile_cache import use_compile_cache
from slimjax.search.command import search_workdir
from slimjax.search.greedy import CRITERIA
from slimjax.search.run import METHODS, Settings
from slimjax.search.targets import UNITS


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--workdir', required=True, type=pathlib.Path, help='of a supernet')
    targets = parser.add_mutually_exclusive_group(required=True)
    for cost in UNITS:
        targets.add_argument(f'--{cost}', help=f'targets, such as 0.5,0.25; {cost}')
    add('--output', required=True, type=pathlib.Path, help='a JSON file, new')
    add('--method', choices=METHODS, default='greedy', help='(%(default)s)')
    add(
        '--criterion',
        choices=CRITERIA,
        default='loss',
        help='cross-entropy or top-1 error (%(default)s)',
    )
    add(
        '--per_saved',
        action='store_true',
        help='judge by what a change costs for each unit that it saves',
    )
    add('--images', type=int, default=10_000, help='at most (%(default)s)')
    add('--seed', type=int, default=0, help='(%(default)s)')
    return parser.parse_known_args()


def main() -> None:
    """Searches, and writes the tables."""
    flags, changes = parse()
    use_compile_cache()
    cost = next(cost for cost in UNITS if getattr(flags, cost) is not None)
    with readable_mistakes():
        settings = Settings(
            cost,
            flags.method,
            flags.criterion,
            flags.per_saved,
            flags.images,
            flags.seed,
        )
        search_workdir(
            flags.workdir, getattr(flags, cost), flags.output, settings, changes=changes
        )


if __name__ == '__main__':
    main()
