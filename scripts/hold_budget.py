"""Keeps a latency budget on this machine, while other work comes and goes.

    python scripts/hold_budget.py --bundle=bundle --output=held
    python scripts/hold_budget.py --bundle=bundle --output=held --costs=cost.json \\
        --budget=20 --processes=4

Asks for an image again and again, first at the widths that the controller chooses, then
at the widest alone; in the second third of each, other processes multiply matrices. The
folder gets log.jsonl, all that the controller saw, which slimjax.deploy.replay reads,
results.json and held.png. Without --costs the widths are timed first; without --budget
it is 1.5 times what the widest then takes.
"""

import argparse
import pathlib
from functools import partial

import numpy as np

from slimjax.command_line import command_parser, provenance, readable_mistakes
from slimjax.commands import write_json
from slimjax.deploy.adaptive import AdaptiveRuntime, Answer, milliseconds
from slimjax.deploy.controller import Controller
from slimjax.deploy.costs import Cost, read_costs
from slimjax.deploy.decision_log import DecisionLog
from slimjax.deploy.folder import whole_folder
from slimjax.deploy.live import serve, summary
from slimjax.deploy.measure import latencies
from slimjax.deploy.plot_controller import plot_stories
from slimjax.deploy.runtime import Runtime, load
from slimjax.insight.table import aligned


def parse() -> argparse.Namespace:
    """Returns the flags."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--bundle', required=True, type=pathlib.Path, help='of scripts/export.py')
    add('--output', required=True, type=pathlib.Path, help='folder, new')
    add('--costs', type=pathlib.Path, help='of scripts/cost.py, or a manifest')
    add('--budget', type=float, help='milliseconds of the 95th percentile')
    add('--rate', type=float, default=20, help='requests a second (%(default)s)')
    add('--seconds', type=float, default=90, help='of each part (%(default)s)')
    add('--processes', type=int, default=4, help='of other work (%(default)s)')
    add('--threads', type=int, default=1, help='of ONNX Runtime (%(default)s)')
    return parser.parse_args()


def main() -> None:
    """Serves twice, prints, writes and draws."""
    flags = parse()
    with readable_mistakes():
        runtime = load(flags.bundle, threads=flags.threads)
        costs = read_costs(flags.costs) if flags.costs else _timed(runtime)
        budget = flags.budget
        if budget is None:
            budget = 1.5 * costs[runtime.widths[0]].typical
        controller = Controller(costs, budget)
        settings = {name: getattr(flags, name) for name in ('rate', 'seconds')}
        settings['processes'] = flags.processes
        with whole_folder(flags.output) as folder:
            image = np.zeros((1, *runtime.image_shape), np.float32)
            with DecisionLog(folder / 'log.jsonl', controller) as log:
                ask = partial(
                    AdaptiveRuntime(runtime, controller, log=log).infer, image
                )
                stories = {'controlled': serve(ask, runtime.widths, **settings)}
            ask = partial(_widest, runtime, image)
            stories['the widest alone'] = serve(ask, runtime.widths, **settings)
            results = {
                name: summary(story, runtime.widths, budget)
                for name, story in stories.items()
            }
            facts = {**provenance(), 'budget': budget, **settings}
            write_json(folder / 'results.json', facts | {'results': results})
            plot_stories(
                {
                    f'{name}: p95 of {own["during"]["p95"]:.1f} ms beside other work '
                    f'(shaded), {100 * own["during"]["within"]:.1f} % within '
                    f'{budget:.1f} ms': stories[name]
                    for name, own in results.items()
                },
                runtime.widths,
                budget,
                folder / 'held.png',
            )
    rows = [['', 'other work', 'requests', 'p50 ms', 'p95 ms', 'within %']]
    for name, parts in results.items():
        for part, own in parts.items():
            times = [f'{own["p50"]:.2f}', f'{own["p95"]:.2f}']
            within = f'{100 * own["within"]:.1f}'
            rows.append([name, part, str(own['requests']), *times, within])
    print('\n'.join(aligned(rows)))
    print(f'budget: {budget:.2f} ms on {facts["device"]}; {flags.output}')


def _timed(runtime: Runtime) -> dict[str, Cost]:
    runs = {name: partial(runtime.infer, width=name) for name in runtime.widths}
    times = latencies(runs, runtime.image_shape, repeats=50)
    return {
        name: Cost(own['latency_ms_p50'], own['latency_ms_p95'])
        for name, own in times.items()
    }


def _widest(runtime: Runtime, image: np.ndarray) -> Answer:
    before = milliseconds()
    logits = runtime.infer(image)
    return Answer(logits, runtime.width, milliseconds() - before)


if __name__ == '__main__':
    main()
