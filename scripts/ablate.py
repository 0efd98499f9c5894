"""The ablations of the paper: what makes widths share, a study of a few arms each.

    python scripts/ablate.py --config=configs/digits.py --study=why --seeds=3

trains what the study compares under the recipe of the config, and prints top-1 of each
arm and width, how far it is from the first arm's with its 95 % interval, paired by
seed, and what was published. All studies share one workdir, and a network that several
of them need is trained once. An interrupted study goes on where it stopped, and a
finished one is reported again. --config.FIELD=VALUE changes any field.
docs/ablations.md says more.
"""

import argparse
import pathlib
import sys

from slimjax.ablate.results import ablation_results, all_arms
from slimjax.ablate.studies import STUDIES, make_studies
from slimjax.ablate.table import cosine_lines, study_lines
from slimjax.allocator import keep_freed_memory
from slimjax.command_line import Stop, command_parser, given_command, readable_mistakes
from slimjax.commands import write_json
from slimjax.compare.harness import default_workdir, plan_arms, train_all
from slimjax.compile_cache import use_compile_cache
from slimjax.config_file import change, load_config
from slimjax.insight.plot_gradient_cosine import plot_gradient_cosine
from slimjax.train.report import say


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    studies = '\n'.join(
        f'  {name}: {study.question}' for name, study in STUDIES.items()
    )
    parser = command_parser(f'{__doc__}\nThe studies:\n{studies}')
    add = parser.add_argument
    add('--config', required=True, help='FILE or FILE:RECIPE')
    add('--study', default='', help='names with commas between them (all)')
    add('--seeds', type=int, default=3, help='how many (%(default)s)')
    add('--workdir', type=pathlib.Path, help='of all (runs/ablate_CONFIG_RECIPE)')
    add('--json', type=pathlib.Path, help='also write the results to this file')
    add('--plot', type=pathlib.Path, help="draw the gradients' cosines to this PNG")
    add('--title', default='', help='above the plot')
    return parser.parse_known_args()


def main() -> None:
    """Trains what is missing, and reports."""
    flags, changes = parse()
    workdir = flags.workdir or default_workdir('ablate', flags.config)
    keep_freed_memory()
    with readable_mistakes():
        config = load_config(flags.config)
        change(config, changes)
        use_compile_cache()
        wanted = [study for study in flags.study.split(',') if study]
        studies = make_studies(config, wanted)
        comparison = plan_arms(all_arms(studies), config, workdir, seeds=flags.seeds)
        if not train_all(comparison, say=say, should_stop=Stop()):
            sys.exit('stopped and saved: the same command goes on')
        results = ablation_results(comparison, studies, config)
        if flags.json:
            write_json(flags.json, {'command': given_command(), **results})
        if flags.plot and results['cosines']:
            plot_gradient_cosine(results['cosines'], flags.plot, flags.title)
    say(f'\nTest top-1 in per cent, {flags.seeds} seeds, after the last step.')
    for study in studies:
        say('\n'.join(['', f'{study}: {STUDIES[study].question}', '']))
        say('\n'.join(study_lines(results, study)))
    if results['cosines']:
        say('\n'.join(['', "The gradients' cosines:", '', *cosine_lines(results)]))


if __name__ == '__main__':
    main()
