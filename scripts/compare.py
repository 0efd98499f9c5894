"""What sharing weights costs: slimmable networks against networks trained alone.

    python scripts/compare.py --config=configs/digits.py --seeds=3 --json=compare.json

trains every arm under the recipe of the config and reports the regret of each width:
the top-1 of the individual network less that of the shared one, in points, paired by
seed. Three seeds are a smoke run; --seeds=5 --folds=5 is what a claim about the digits
takes. An interrupted comparison goes on where it stopped, and a finished one is
reported again. --config.FIELD=VALUE changes any field. docs/compare.md says more.
"""

import argparse
import pathlib
import sys

from slimjax.allocator import keep_freed_memory
from slimjax.command_line import Stop, command_parser, given_command, readable_mistakes
from slimjax.commands import write_json
from slimjax.compare.arms import ARMS, known_arms
from slimjax.compare.harness import default_workdir, plan, train_all
from slimjax.compare.plot import plot_regret
from slimjax.compare.protocol import PROTOCOLS
from slimjax.compare.results import comparison_results
from slimjax.compare.table import table_lines
from slimjax.compile_cache import use_compile_cache
from slimjax.config_file import change, load_config
from slimjax.train.report import say


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    arms = '\n'.join(
        f'  {name}: {arm.meaning}{" (if asked for)" if arm.asked else ""}'
        for name, arm in ARMS.items()
    )
    parser = command_parser(f'{__doc__}\nThe arms:\n{arms}')
    add = parser.add_argument
    add('--config', required=True, help='FILE or FILE:RECIPE')
    add('--seeds', type=int, default=3, help='how many (%(default)s)')
    add('--folds', type=int, default=0, help='that are tested in turn (none)')
    add('--protocol', default='paper', help=f'{" or ".join(PROTOCOLS)} (%(default)s)')
    add('--arms', default='', help='names with commas between them, or all')
    add('--margin', type=float, help='points that pass (digits 1.0, others 0.3)')
    add('--workdir', type=pathlib.Path, help='of all (runs/compare_CONFIG_RECIPE)')
    add('--json', type=pathlib.Path, help='also write the results to this file')
    add('--plot', type=pathlib.Path, help='draw the regret to this PNG file')
    add('--title', default='', help='above the plot')
    return parser.parse_known_args()


def main() -> None:
    """Trains what is missing, and reports."""
    flags, changes = parse()
    names = [arm for arm in flags.arms.split(',') if arm]
    workdir = flags.workdir or default_workdir('compare', flags.config)
    keep_freed_memory()
    with readable_mistakes():
        config = load_config(flags.config)
        change(config, changes)
        use_compile_cache()
        comparison = plan(
            config,
            workdir,
            seeds=flags.seeds,
            folds=flags.folds,
            protocol=flags.protocol,
            arms=known_arms(config) if flags.arms == 'all' else names,
        )
        if not train_all(comparison, say=say, should_stop=Stop()):
            sys.exit('stopped and saved: the same command goes on')
        results = comparison_results(comparison, config, flags.margin)
        say('\n'.join(['', *table_lines(results)]))
        if flags.json:
            write_json(flags.json, {'command': given_command(), **results})
        if flags.plot:
            plot_regret(results, flags.plot, flags.title)


if __name__ == '__main__':
    main()
