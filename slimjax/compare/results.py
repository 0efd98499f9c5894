"""From records to what is reported: accuracies, regret with intervals, costs."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from slimjax.compare.arms import ARMS, REFERENCE
from slimjax.compare.harness import Comparison
from slimjax.compare.metric import TOP1, metric_of
from slimjax.compare.network import Network
from slimjax.compare.protocol import PROTOCOLS
from slimjax.compare.statistics import described, differences, upper_bounds
from slimjax.train.report import jsonable, versions

# Points by which a shared network may be worse and still passes.
MARGINS = {'digits': 1.0}
OTHER_MARGIN = 0.3


def comparison_results(
    comparison: Comparison,
    config: ml_collections.ConfigDict,
    margin: float | None = None,
) -> dict[str, Any]:
    """Returns what `--json` writes; see `docs/compare.md` for each name.

    Args:
        comparison: all of it trained.
        config: what it was planned with.
        margin: points of the score; None for the one of the data set.
    """
    if margin is None:
        margin = MARGINS.get(config.dataset, OTHER_MARGIN)
    arms = {
        name: arm_results(comparison, networks)
        for name, networks in comparison.arms.items()
    }
    metric = metric_of(config)
    images = tested_images(comparison)
    return {
        'arms': arms,
        **verdicts(arms, metric, margin, images),
        'costs': {
            arm: costs_of(comparison, networks)
            for arm, networks in comparison.arms.items()
        },
        'rates': {
            arm: chosen_rates(comparison, networks)
            for arm, networks in comparison.arms.items()
        },
        'meanings': {arm: ARMS[arm].meaning for arm in arms},
        'metric': metric,
        'margin': margin,
        'protocol': comparison.protocol,
        'seeds': comparison.seeds,
        'folds': comparison.folds,
        'test_images': images,
        'config': jsonable(config),
        'versions': versions(),
        # Of the training: a finished comparison may be reported elsewhere, and later.
        'git_commits': found(comparison, 'git_commit'),
        'machines': found(comparison, 'machine'),
    }


def verdicts(
    arms: Mapping[str, Mapping[str, Mapping[str, Any]]],
    metric: str,
    margin: float,
    test_images: int,
) -> dict[str, Any]:
    """Returns the regret of every arm, against individual networks and its controls.

    Args:
        arms: what `arm_results` returns, of each.
        metric: the score that is compared.
        margin: in points.
        test_images: that a score is of.

    Returns:
        `regret`, by arm, and `control`, by arm and control: see `regret`.
    """
    # A share of images comes in steps; an average precision does not.
    resolution = 100 / test_images if metric == TOP1 else 0.0

    def against(other, arm, margin):
        return regret(
            {width: each[metric] for width, each in arms[other].items()},
            {width: each[metric] for width, each in arms[arm].items()},
            margin,
            resolution=resolution,
            same=[
                width
                for width, each in arms[arm].items()
                if each['networks'] == arms[other][width]['networks']
            ],
        )

    return {
        'regret': {
            arm: against(REFERENCE, arm, margin) for arm in arms if arm != REFERENCE
        },
        'control': {
            arm: {
                control: against(control, arm, _margin(arm, control, margin))
                for control in ARMS[arm].controls
                if control in arms
            }
            for arm in arms
            if ARMS[arm].controls
        },
    }


def _margin(arm: str, control: str, margin: float) -> float:
    """Searched channels must keep close to uniform ones, and be above those drawn."""
    if control == 'random':
        return 0.0
    return min(margin, OTHER_MARGIN) if arm == 'autoslim' else margin


def regret(
    alone: Mapping[str, Sequence[float]],
    shared: Mapping[str, Sequence[float]],
    margin: float,
    *,
    resolution: float = 0.0,
    same: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """Returns what sharing costs at each width, in points, paired by seed.

    Args:
        alone: scores as fractions of each width, one for each seed.
        shared: likewise, of the same seeds.
        margin: in points.
        resolution: points that an image is, see `t_interval`.
        same: widths at which the two are one network, so that there is no verdict.

    Returns:
        By width `mean`, `ci95` (by t over the seeds), `per_seed`, `n`, `unit`, the
        `margin`, the one-sided bound `upper` (by Holm over the widths), whether it
        `passes` (is below the margin), and whether the shared network `beats` the other
        (by a bound of its own below 0): these three are None at a width of `same`.

    Example:
        >>> found = regret({'1.0': [0.95, 0.97]}, {'1.0': [0.94, 0.96]}, margin=0.3)
        >>> round(found['1.0']['mean'], 6), found['1.0']['passes']
        (1.0, False)
    """
    points = differences(alone, shared)
    judged = {width: own for width, own in points.items() if width not in same}
    bounds, below_zero = (
        upper_bounds(judged, bound, resolution=resolution) for bound in (margin, 0.0)
    )
    return {
        width: {
            **described(values, resolution if width in judged else 0.0),
            'n': len(values),
            'unit': 'points',
            'margin': margin,
            'upper': bounds[width].upper if width in judged else None,
            'passes': bounds[width].below if width in judged else None,
            'beats': below_zero[width].below if width in judged else None,
        }
        for width, values in points.items()
    }


def arm_results(
    comparison: Comparison, networks: Sequence[Network]
) -> dict[str, dict[str, Any]]:
    """Returns scores by width, and what inference and the network's training cost.

    Where several networks serve a width, the median of their scores.

    Args:
        comparison: all of it trained.
        networks: of an arm.
    """
    scores, serving, metric = {}, {}, metric_of(networks[0].config)
    for network in networks:
        for width in network.widths if network.reported else ():
            own = [
                _score(records, width, metric)
                for records in comparison.records(network)
            ]
            scores.setdefault(width, []).append(own)
            serving.setdefault(width, []).append(network)
    return {
        width: {
            metric: np.median(scores[width], axis=0).tolist(),
            'macs': _inference_macs(comparison, serving[width], width),
            'networks': [network.key for network in serving[width]],
            **costs_of(comparison, serving[width]),
        }
        for width in scores
    }


def _score(records: Sequence[Mapping[str, Any]], width: str, metric: str) -> float:
    """The share of the test images of all folds that is classified right, or an AP."""
    if metric != TOP1:
        (record,) = records  # Average precisions of folds do not add up.
        return record[f'test_{metric}'][width]
    images = [record['test_images'] for record in records]
    right = [
        round(record['test_top1'][width] * record['test_images']) for record in records
    ]
    return sum(right) / sum(images)


def _inference_macs(comparison: Comparison, networks, width: str) -> float:
    """Multiply-adds of an image: searched channels have a little less than allowed."""
    return float(
        np.mean(
            [record['macs'][width] for record in _all_records(comparison, networks)]
        )
    )


def costs_of(comparison: Comparison, networks: Sequence[Network]) -> dict[str, float]:
    """Returns what training cost, of all networks together.

    Args:
        comparison: all of it trained.
        networks: each counted once.

    Returns:
        `training_macs`, `steps` and `seconds`, the means over seeds and folds.
    """
    costs = {}
    for name in ('training_macs', 'steps', 'seconds'):
        values = [
            sum(
                np.mean([record[name] for record in records])
                for records in comparison.records(network)
            )
            / comparison.seeds
            for network in networks
        ]
        costs[name] = float(sum(values))
    return costs


def chosen_rates(comparison: Comparison, networks: Sequence[Network]) -> dict[str, int]:
    """Returns how often each trial counts, by the factor of the learning rate.

    Args:
        comparison: all of it trained.
        networks: of an arm, at all seeds and folds.
    """
    chosen = Counter(record['factor'] for record in _all_records(comparison, networks))
    factors = PROTOCOLS[comparison.protocol]
    return {f'{factor:g}': chosen[factor] for factor in factors}


def found(comparison: Comparison, name: str) -> list[str]:
    """Returns what the records say under a name, such as `'machine'`, each once."""
    return sorted(
        {record[name] for record in _all_records(comparison, comparison.networks)}
    )


def _all_records(
    comparison: Comparison, networks: Sequence[Network]
) -> Iterator[Mapping[str, Any]]:
    """The records of networks at all seeds and folds."""
    for network in networks:
        for records in comparison.records(network):
            yield from records


def tested_images(comparison: Comparison) -> int:
    """Returns how many images each score is of."""
    first = comparison.records(comparison.networks[0])[0]
    return sum(record['test_images'] for record in first)
