"""What each width costs on this device: latency, throughput, memory and energy.

    python scripts/cost.py --workdir=runs/digits
    python scripts/cost.py --config=configs/imagenet.py:s_resnet50 --batches=1,8 \\
        --json=cost.json --plot=cost.png

measures a run, or the untrained network of a config, whose costs are the same. Prints a
table, writes JSON for programs (the run-time controller reads it) and draws. The widths
take turns; p50 and p95 are of whole batches of the first size, images/s the best of all
sizes. Energy is read where the device has a counter, see slimjax/insight/energy.py.
--config.FIELD=VALUE changes a field of the run or config, such as its widths.
"""

import argparse
import pathlib
import sys

import jax

from slimjax.command_line import command_parser, given_command, readable_mistakes
from slimjax.commands import write_json
from slimjax.compile_cache import use_compile_cache
from slimjax.config_file import change, load_config
from slimjax.insight.device_cost import BATCHES, device_costs
from slimjax.insight.memory import format_bytes
from slimjax.insight.plot_device_cost import plot_device_costs
from slimjax.insight.table import results_table
from slimjax.train.network import build_model
from slimjax.train.state import initial_variables
from slimjax.train.trained import open_run


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--workdir', type=pathlib.Path, help='of a run')
    what.add_argument('--config', help='FILE or FILE:RECIPE')
    add(
        '--batches',
        type=lambda text: tuple(map(int, text.split(','))),
        default=BATCHES,
        help='images run together, with commas (1,4,16,64)',
    )
    add('--repeats', type=int, default=50, help='timed runs of each (%(default)s)')
    add('--json', type=pathlib.Path, help='a file (WORKDIR/cost.json)')
    add('--plot', type=pathlib.Path, help='a PNG file (WORKDIR/cost.png)')
    add('--title', default='', help='above the plot')
    flags, changes = parser.parse_known_args()
    if flags.workdir:
        flags.json = flags.json or flags.workdir / 'cost.json'
        flags.plot = flags.plot or flags.workdir / 'cost.png'
    return flags, changes


def main() -> None:
    """Measures, prints, writes and draws."""
    flags, changes = parse()
    with readable_mistakes():
        use_compile_cache()
        name, model, variables, shape = _network(flags, changes)
        results = {'command': given_command(), 'model': name} | device_costs(
            model,
            variables,
            shape,
            batches=flags.batches,
            repeats=flags.repeats,
            say=lambda line: print(line, file=sys.stderr),
        )
        if flags.json:
            write_json(flags.json, results)
        if flags.plot:
            plot_device_costs(results, flags.plot, flags.title)
    print(results_table(results))
    print(f'on {results["device"]}, {results["dtype"]}')
    print(f'stored for all widths: {format_bytes(results["stored_bytes"])}')
    energy = results['energy']
    print(f'energy: {energy["source"] or "not read: " + energy["reason"]}')
    for label, path in (('json', flags.json), ('plot', flags.plot)):
        if path:
            print(f'{label}: {path}')


def _network(flags, changes):
    """The name, module, variables and image shape of what is measured."""
    if flags.workdir:
        run, model, variables, _ = open_run(flags.workdir, changes)
        return run.config.model, model, variables, run.image_shape
    config = load_config(flags.config)
    change(config, changes)
    model = build_model(config)
    shape = (config.image_size, config.image_size, config.image_channels)
    create = jax.jit(lambda key: initial_variables(model, shape, key))
    params, stats = create(jax.random.key(0))
    return config.model, model, {'params': params, **stats}, shape


if __name__ == '__main__':
    main()
