"""What the run-time controller makes of made-up loads, on a simulated clock.

    python scripts/simulate_controller.py --json=simulation.json --plot=simulation.png

The loads are steps, bursts, thermal throttling, noise, and other work that hits wide
widths harder; see slimjax/deploy/simulation.py. Printed of each:

- possible: windows of a second in which any width held the 95th percentile,
- held: the share of them in which the controller held it,
- switches: how often the width changed,
- work: what was computed, as a share of what the widest width that held the 95th
  percentile in each window computes.

The same command gives the same figures on any machine.
"""

import argparse
import pathlib

from slimjax.command_line import command_parser, provenance, readable_mistakes
from slimjax.commands import write_json
from slimjax.deploy.plot_controller import Story, plot_stories
from slimjax.deploy.simulation import BUDGET, COSTS, LOADS, simulate
from slimjax.insight.table import aligned


def parse() -> argparse.Namespace:
    """Returns the flags."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--seconds', type=int, default=600, help='simulated (%(default)s)')
    add('--seed', type=int, default=0, help='of loads and noise (%(default)s)')
    add('--json', type=pathlib.Path, help='a file to write')
    add('--plot', type=pathlib.Path, help='a PNG file to write')
    flags = parser.parse_args()
    if flags.seconds < 1:
        parser.error(f'--seconds={flags.seconds}: at least 1 is needed')
    return flags


def main() -> None:
    """Simulates, prints, writes and draws."""
    flags = parse()
    outcomes = {
        name: simulate(name, seconds=flags.seconds, seed=flags.seed) for name in LOADS
    }
    results = {name: outcome.results() for name, outcome in outcomes.items()}
    rows = [['load', 'possible', 'held %', 'switches', 'work %']]
    for name, own in results.items():
        possible = f'{own["possible"]}/{own["windows"]}'
        shares = [f'{100 * own[key]:.1f}' for key in ('held', 'work')]
        rows.append([name, possible, shares[0], str(own['switches']), shares[1]])
    print('\n'.join(aligned(rows)))
    with readable_mistakes():
        if flags.json:
            settings = {'seconds': flags.seconds, 'seed': flags.seed}
            facts = {**provenance(), **settings, 'budget': BUDGET}
            write_json(flags.json, facts | {'loads': results})
        if flags.plot:
            stories = {
                f'{name}: p95 held in {100 * results[name]["held"]:.1f} % of possible '
                f'windows, {results[name]["switches"]} switches': Story(
                    outcome.time, outcome.cost, outcome.width
                )
                for name, outcome in outcomes.items()
            }
            plot_stories(stories, list(COSTS), BUDGET, flags.plot)


if __name__ == '__main__':
    main()
