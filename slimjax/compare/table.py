"""A comparison as tables, for the terminal and for a page of Markdown.

Individual, shared and gain are the columns of the paper's Table 3, which shades where
sharing wins; here, a gain is bold where it "beats".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slimjax.compare.arms import ARMS, REFERENCE
from slimjax.compare.metric import metric_title, scored
from slimjax.insight.table import format_count, markdown
from slimjax.train.report import duration

# A share of multiply-adds by which networks may differ and are compared all the same.
_LIKE = 0.01


def table_lines(results: Mapping[str, Any]) -> list[str]:
    """Returns the lines of the tables of a comparison, in Markdown.

    Args:
        results: what `comparison_results` returns.
    """
    arms, widths = results['arms'], list(results['arms'][REFERENCE])
    metric = scored(results)
    images = f'{results["test_images"]:,} test images'
    lines = [
        f'Test {metric_title(metric)} in per cent, mean and standard deviation of '
        f'{results["seeds"]} seeds, {images}, after the last step; protocol '
        f'{results["protocol"]}. Costs are those of all networks of an arm together:',
        '',
        markdown(
            [
                ('arm', *widths, 'training MACs', 'steps', 'wall time'),
                *(
                    (
                        arm,
                        *(_score(arms[arm][width][metric]) for width in widths),
                        format_count(costs['training_macs']),
                        f'{costs["steps"]:,.0f}',
                        duration(costs['seconds']),
                    )
                    for arm, costs in results['costs'].items()
                ),
            ]
        ),
        *_reservations(arms),
        *(_rate_lines(results['rates']) if results['protocol'] == 'tuned' else ()),
    ]
    against = {f'{arm} to {REFERENCE}': of for arm, of in results['regret'].items()}
    for arm, controls in results['control'].items():
        against |= {f'{arm} to {control}': of for control, of in controls.items()}
    return [
        *lines,
        '',
        *_gain_lines(results, widths),
        '',
        *_regret_lines(results, against, widths),
    ]


def _reservations(arms) -> list[str]:
    """Tells of controls that were not trained, or have other multiply-adds."""
    lines = []
    for arm, of in arms.items():
        for other in (REFERENCE, *ARMS[arm].controls):
            if other not in arms:
                lines.append(
                    f'{arm} lacks its control {other}, which --arms={other} trains.'
                )
                continue
            shares = {
                width: each['macs'] / arms[other][width]['macs'] - 1
                for width, each in of.items()
            }
            told = [
                f'{100 * share:+.1f} % at {width}'
                for width, share in shares.items()
                if abs(share) > _LIKE
            ]
            if told:
                lines.append(
                    f'{arm} infers with other multiply-adds than {other}: '
                    f'{", ".join(told)}.'
                )
    return ['', *lines] if lines else []


def _rate_lines(rates: Mapping[str, Mapping[str, int]]) -> list[str]:
    factors = list(rates[REFERENCE])
    return [
        '',
        "How often each multiple of the config's learning rate was the best on "
        'validation data:',
        '',
        markdown(
            [
                ('arm', *factors),
                *((arm, *map(str, of.values())) for arm, of in rates.items()),
            ]
        ),
    ]


def _gain_lines(results, widths: Sequence[str]) -> list[str]:
    shared = {
        arm: of for arm, of in results['regret'].items() if _is_shared(results, arm)
    }
    rows, metric = [], scored(results)
    for width in widths:
        cells = [width, _mean(results['arms'][REFERENCE][width][metric])]
        for arm, of in shared.items():
            cells += [_mean(results['arms'][arm][width][metric]), _gain(of[width])]
        rows.append(cells)
    titles = [title for arm in shared for title in (arm, 'gain')]
    return [
        'What sharing gains each width, in points with its 95 % interval; bold where '
        'it "beats" (below):',
        '',
        markdown([['width', REFERENCE, *titles], *rows]),
    ]


def _is_shared(results, arm: str) -> bool:
    """Whether one network serves all widths of an arm."""
    served = [tuple(of['networks']) for of in results['arms'][arm].values()]
    return len(served) > 1 and len(set(served)) == 1


def _mean(scores: Sequence[float]) -> str:
    return f'{100 * np.mean(scores):.2f}'


def _gain(found: Mapping[str, Any]) -> str:
    low, high = found['ci95']
    text = _interval(-found['mean'], -high, -low)
    return f'**{text}**' if found['beats'] else text


def _regret_lines(results, against, widths: Sequence[str]) -> list[str]:
    return [
        'Regret in points, paired by seed, with its 95 % interval (positive: worse); '
        'it "passes" where a one-sided bound, by Holm over the widths, is below the '
        'margin, and "beats" where one is below 0:',
        '',
        markdown(
            [
                ('regret of', 'margin', *widths),
                *(
                    (
                        which,
                        f'{of[widths[0]]["margin"]:g}',
                        *(_regret(of[width]) for width in widths),
                    )
                    for which, of in against.items()
                ),
            ]
        ),
    ]


def _score(scores: Sequence[float]) -> str:
    return f'{100 * np.mean(scores):.2f} ± {100 * np.std(scores, ddof=1):.2f}'


def _regret(found: Mapping[str, Any]) -> str:
    if found['passes'] is None:
        return 'the same network'
    verdict = 'beats' if found['beats'] else 'passes' if found['passes'] else ''
    return f'{_interval(found["mean"], *found["ci95"])} {verdict}'.strip()


def _interval(*values: float) -> str:
    # What rounds to zero has no sign.
    mean, low, high = (round(value, 2) + 0.0 for value in values)
    return f'{mean:+.2f} [{low:+.2f}, {high:+.2f}]'
