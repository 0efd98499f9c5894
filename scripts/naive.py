"""The paper's Figure 2: BatchNorm that widths share, switchable BatchNorm, calibration.

    python scripts/naive.py --config=configs/digits.py --workdir=runs/naive \\
        --config.eval_epochs=1 --plot=naive.png

trains the network of a config twice, in WORKDIR/shared and WORKDIR/private, and draws
the training error of the widest and the validation errors of every width: with shared
norms, with the same weights after calibration, and with norms of each width's own. An
interrupted run goes on where it stopped, and a finished one is drawn again.
--config.FIELD=VALUE changes any field.
"""

import argparse
import pathlib
import sys

from slimjax.command_line import Stop, command_parser, readable_mistakes
from slimjax.compile_cache import use_compile_cache
from slimjax.config_file import change, load_config
from slimjax.insight.naive import train_naive
from slimjax.insight.plot_naive import plot_naive


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--config', required=True, help='FILE or FILE:RECIPE')
    add('--workdir', required=True, type=pathlib.Path, help='of the two runs')
    add('--plot', type=pathlib.Path, help='a PNG file (WORKDIR/naive.png)')
    add('--title', default='', help='above the plot')
    return parser.parse_known_args()


def main() -> None:
    """Trains, prints a table and draws."""
    flags, changes = parse()
    with readable_mistakes():
        config = load_config(flags.config)
        change(config, changes)
        use_compile_cache()
        curves = train_naive(config, flags.workdir, should_stop=Stop())
        if curves is None:
            sys.exit('stopped and saved: the same command goes on')
        plot = flags.plot or flags.workdir / 'naive.png'
        plot_naive(curves, plot, flags.title)
    print('\n'.join(curves.lines()))
    print(f'plot: {plot}')


if __name__ == '__main__':
    main()
