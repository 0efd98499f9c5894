"""Chooses a cascade of widths of a run: narrow first, wide where it is not sure.

    python scripts/cascade.py --workdir=runs/digits
    python scripts/cascade.py --workdir=runs/digits --output=cascade --tolerance=0.002

Temperatures, widths and threshold are chosen on the validation images: the cascade that
computes least, of those that lose no more than --tolerance of the widest's accuracy.
The test images, by which nothing is chosen, tell what it is worth. The folder gets
cascade.json, which slimjax.deploy.load_cascade reads, and cascade.png.
--config.FIELD=VALUE changes a field of the run, such as another data_dir.
"""

import argparse
import pathlib
from typing import Any

from slimjax.command_line import command_parser, provenance, readable_mistakes
from slimjax.commands import write_json
from slimjax.compile_cache import use_compile_cache
from slimjax.deploy.cascade_choice import Split, calibration, choose, curve, score
from slimjax.deploy.plot_cascade import plot_cascade
from slimjax.insight.cost import cost_results
from slimjax.insight.predictions import of_every_image
from slimjax.insight.table import aligned, format_count
from slimjax.train.trained import Trained, open_classifier


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--workdir', required=True, type=pathlib.Path, help='of a run')
    add('--output', type=pathlib.Path, help='folder (WORKDIR)')
    add(
        '--tolerance',
        type=float,
        default=0.0,
        help="part of the validation images' accuracy that may be lost (%(default)s)",
    )
    add('--title', default='', help='above the plot')
    return parser.parse_known_args()


def main() -> None:
    """Chooses, prints, writes and draws."""
    flags, changes = parse()
    output = flags.output or flags.workdir
    with readable_mistakes():
        use_compile_cache()
        trained = open_classifier(flags.workdir, changes)
        results = chosen(trained, flags.tolerance)
        results = provenance() | results
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / 'cascade.json', results)
        plot_cascade(results, output / 'cascade.png', flags.title)
    rows = [['', 'MACs', 'test top-1 %', 'temperature', 'ECE %', 'scaled %']]
    for name, own in results['widths'].items():
        errors = own['calibration_error'], own['calibration_error_scaled']
        rows.append(
            [
                name,
                format_count(own['macs']),
                f'{100 * own["top1"]:.2f}',
                f'{own["temperature"]:.2f}',
                *(f'{100 * error:.2f}' for error in errors),
            ]
        )
    found, test = results['cascade'], results['test']
    macs, top1 = format_count(test['macs']), f'{100 * test["top1"]:.2f}'
    rows.append(['cascade', macs, top1, '', '', ''])
    print('\n'.join(aligned(rows)))
    shares = zip(found['widths'], test['stages'], strict=True)
    print(
        f'threshold {found["threshold"]:.4f}; '
        + ', '.join(f'{name} answers {100 * share:.1f} %' for name, share in shares)
    )
    print(f'{output / "cascade.json"}')


def chosen(trained: Trained, tolerance: float) -> dict[str, Any]:
    """Returns a cascade of a run, and what it is worth, as plain data.

    Args:
        trained: what `open_classifier` returns.
        tolerance: see `choose`.
    """
    validation, test = (
        Split(logits, labels)
        for _, labels, logits in (
            of_every_image(trained, split, lambda logits, labels: logits)
            for split in ('validation', 'test')
        )
    )
    costs = cost_results(trained.model, trained.run.image_shape)['widths']
    macs = {name: costs[name]['macs'] for name in validation.logits}
    cascade = choose(validation, macs, tolerance=tolerance)
    return {
        'cascade': cascade._asdict(),
        'tolerance': tolerance,
        'images': {'validation': len(validation.labels), 'test': len(test.labels)},
        'validation': score(validation, cascade, macs)._asdict(),
        'test': score(test, cascade, macs)._asdict(),
        'widths': calibration(validation, test, macs),
        'curve': curve(test, cascade, macs),
    }


if __name__ == '__main__':
    main()
