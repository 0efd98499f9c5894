"""The paper's Figure 4: what the norms of each width hold, near the images and deep.

    python scripts/norms.py --workdir=runs/digits --plot=norms.png
    python scripts/norms.py --workdir=runs/digits --channels=0,1,2,3 \\
        --norms=stem/norm,stage4_block1/conv2/norm

draws scale, shift, mean and variance of channels over the widths, a line each, and how
far the widths disagree in each norm against its depth; and prints the latter, with its
rank correlation with depth. A discrepancy is the mean distance of two widths' values,
over the channels that both have, in units of their mean size; the mean over all pairs
of widths. --config.FIELD=VALUE changes a field of the run, such as another data_dir.
"""

import argparse
import pathlib

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.insight.norm_statistics import norm_statistics
from slimjax.insight.plot_norm_statistics import plot_norm_statistics
from slimjax.train.trained import open_run


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--workdir', required=True, type=pathlib.Path, help='of a run')
    add('--norms', default='', help='names, with commas (the first and the last)')
    add(
        '--channels',
        type=lambda text: tuple(map(int, text.split(','))),
        default=tuple(range(8)),
        help='numbers, with commas (the first eight)',
    )
    add('--plot', type=pathlib.Path, help='a PNG file (WORKDIR/norms.png)')
    add('--title', default='', help='above the picture')
    return parser.parse_known_args()


def main() -> None:
    """Draws, and prints a table."""
    flags, changes = parse()
    plot = flags.plot or flags.workdir / 'norms.png'
    with readable_mistakes():
        trained = open_run(flags.workdir, changes)
        shape = trained.run.image_shape
        found = norm_statistics(trained.model, trained.variables, shape)
        norms = tuple(filter(None, flags.norms.split(',')))
        plot_norm_statistics(
            found, plot, flags.title, norms=norms, channels=flags.channels
        )
    print('\n'.join(found.lines()))
    print(f'plot: {plot}')


if __name__ == '__main__':
    main()
