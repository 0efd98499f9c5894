"""One HTML file that shows all there is to see of a run.

    python scripts/report.py --workdir=runs/digits
    python scripts/report.py --workdir=runs/digits --output=digits.html \\
        --individual=runs/digits_0.25,runs/digits_0.5

It needs no network and no server: open it from the disk, send it, print it. A slider
chooses the width. The run may be finished or not: its best checkpoint is read. Costs
are those of this device; --individual are runs of networks that were trained alone, and
what sharing gains over each is printed too.
--config.FIELD=VALUE changes a field of the run, such as another data_dir.
"""

import argparse
import pathlib
import sys

from slimjax.command_line import command_parser, given_command, readable_mistakes
from slimjax.commands import write_json
from slimjax.compile_cache import use_compile_cache
from slimjax.insight.device_cost import BATCHES
from slimjax.insight.gain import gain_rows
from slimjax.insight.table import aligned, results_table
from slimjax.report.gather import gather
from slimjax.report.page import write_page


def channel(text: str) -> tuple[str, int]:
    """Returns layer and channel of `LAYER:CHANNEL`."""
    layer, colon, number = text.rpartition(':')
    if not colon or not number.isdigit():
        raise argparse.ArgumentTypeError(f'{text!r}: LAYER:NUMBER is expected')
    return layer, int(number)


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--workdir', required=True, type=pathlib.Path, help='of a run')
    add('--output', type=pathlib.Path, help='an HTML file (WORKDIR/report.html)')
    add(
        '--split',
        choices=['train', 'validation', 'test'],
        help='whose images (test if the run is finished, else validation)',
    )
    add(
        '--individual',
        type=lambda text: tuple(map(pathlib.Path, text.split(','))),
        default=(),
        help='workdirs of networks trained alone, with commas',
    )
    add(
        '--channels',
        type=lambda text: [channel(each) for each in text.split(',')],
        help='LAYER:CHANNEL, with commas (channel 0 of three layers)',
    )
    add(
        '--batches',
        type=lambda text: tuple(map(int, text.split(','))),
        default=BATCHES,
        help='images run together, with commas (1,4,16,64)',
    )
    add('--repeats', type=int, default=50, help='timed runs of each (%(default)s)')
    add('--json', type=pathlib.Path, help='write the figures to this file')
    return parser.parse_known_args()


def main() -> None:
    """Measures, writes and prints."""
    flags, changes = parse()
    output = flags.output or flags.workdir / 'report.html'
    with readable_mistakes():
        use_compile_cache()
        facts = gather(
            flags.workdir,
            changes,
            split=flags.split,
            individual=flags.individual,
            channels=flags.channels,
            batches=flags.batches,
            repeats=flags.repeats,
            say=lambda line: print(line, file=sys.stderr),
        )
        write_page(facts, output)
        if flags.json:
            write_json(flags.json, {'command': given_command(), **facts.results()})
    print(results_table(facts.costs))
    if facts.gains:
        print('\n'.join(aligned(gain_rows(facts.gains))))
    print(f'report: {output}')


if __name__ == '__main__':
    main()
