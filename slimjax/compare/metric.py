"""What a comparison reports of a network."""

from collections.abc import Mapping
from typing import Any

from slimjax.detection.configuration import KINDS, split_metric

TOP1 = 'top1'


def metric_of(config: Mapping[str, Any]) -> str:
    """Returns the score of each width that is compared, a fraction.

    Args:
        config: complete; of a detector, its `best_metric` says which.

    Example:
        >>> metric_of({'detector': 'mask_rcnn', 'best_metric': 'segm/AP/0.25'})
        'segm/AP'
        >>> metric_of({'detector': '', 'best_metric': 'top1'})
        'top1'
    """
    return split_metric(config['best_metric'])[0] if config['detector'] else TOP1


def kept_metrics(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the scores of a finished network that are kept, to report any of them.

    Example:
        >>> kept_metrics({'detector': 'mask_rcnn', 'best_metric': 'segm/AP50'})
        ('segm/AP50', 'bbox/AP', 'segm/AP')
    """
    others = (f'{kind}/AP' for kind in KINDS.get(config['detector'], ()))
    return tuple(dict.fromkeys([metric_of(config), *others]))


def scored(results: Mapping[str, Any]) -> str:
    """Returns the score that results are of, also of files that name none.

    Example:
        >>> scored({'metric': 'bbox/AP'}), scored({})
        ('bbox/AP', 'top1')
    """
    return results.get('metric', TOP1)


def metric_title(metric: str) -> str:
    """Returns what a person calls a score.

    Example:
        >>> metric_title('top1'), metric_title('bbox/AP')
        ('top-1', 'bbox/AP')
    """
    return 'top-1' if metric == TOP1 else metric
