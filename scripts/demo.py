"""Trains a slimmable network on handwritten digits, and shows what each width costs.

    python scripts/demo.py [--workdir=runs/demo] [--seed=0]

The same as `python -m slimjax.main --config=configs/digits.py`, with a latency column
and a plot of accuracy against multiply-adds. A finished workdir is shown again; an
interrupted one goes on.
"""

import argparse
import pathlib
import time

from slimjax import commands
from slimjax.config_file import load_config
from slimjax.insight.latency import latency_ms
from slimjax.insight.plot import plot_accuracy
from slimjax.insight.table import results_table
from slimjax.train.checkpoint import load_variables
from slimjax.train.network import build_model
from slimjax.train.report import say
from slimjax.width import width_name

ROOT = pathlib.Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--workdir', type=pathlib.Path, default=ROOT / 'runs' / 'demo')
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    config = load_config(str(ROOT / 'configs' / 'digits.py'))
    config.seed = arguments.seed

    started = time.monotonic()
    results = commands.train_workdir(config, arguments.workdir, say=say)
    seconds = time.monotonic() - started

    checkpoint = load_variables(arguments.workdir)
    variables = {'params': checkpoint.params, **checkpoint.stats}
    shape = (config.image_size, config.image_size, config.image_channels)
    for width, milliseconds in latency_ms(
        build_model(config), variables, shape
    ).items():
        results['widths'][width_name(width)]['latency_ms'] = milliseconds
    commands.write_json(arguments.workdir / 'results.json', results)
    plot = arguments.workdir / 'accuracy.png'
    plot_accuracy(results, plot, title='Handwritten digits, test split')
    print()
    print(results_table(results))
    print(f'\ntrained and evaluated in {seconds:.0f} s')
    print(f'plot: {plot}\nrun:  {arguments.workdir}')


if __name__ == '__main__':
    main()
