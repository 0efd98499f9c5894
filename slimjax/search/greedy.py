"""Greedy slimming (AutoSlim, section 3.1): what hurts least goes, again and again."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from slimjax.search.evaluator import Scores
from slimjax.search.space import SearchSpace

CRITERIA = ('loss', 'error')

Cost = Callable[[np.ndarray], np.ndarray]
Evaluate = Callable[[np.ndarray], Scores]


class Found(NamedTuple):
    """A network that a search came by.

    Attributes:
        counts: `[variables]`, see `SearchSpace`.
        loss: mean cross-entropy on the search's images.
        error: share of the images that it has wrong.
    """

    counts: np.ndarray
    loss: float
    error: float


def slim(
    space: SearchSpace,
    evaluate: Evaluate,
    smallest: float,
    cost: Cost,
    *,
    criterion: str = 'loss',
    per_saved: bool = False,
) -> Iterator[Found]:
    """Yields the whole network and each that follows, until one costs little enough.

    Each step takes a chunk of channels from that variable that leaves the best network;
    of equally good ones that which saves the most multiply-adds.

    Args:
        space: what may be taken away.
        evaluate: scores candidates, see `Evaluator`.
        smallest: the cost at which it ends.
        cost: of candidates, such as `space.macs`.
        criterion: `'loss'`, or `'error'` as published.
        per_saved: judge by the rise of the criterion for each unit of cost saved.

    Raises:
        ValueError: another criterion, no network costs so little, or the whole one
            has no finite loss.

    Example:
        >>> import slimjax
        >>> from slimjax.search.space import search_space
        >>> model = slimjax.create_model('resnet14', norm='shared_affine',
        ...                              base_features=8)
        >>> space = search_space(model, (32, 32, 3))
        >>> def evaluate(counts):  # Pretends that small networks are good.
        ...     return Scores(space.macs(counts), space.macs(counts))
        >>> half = float(space.macs(space.whole)) / 2
        >>> *_, last = slim(space, evaluate, half, space.macs)
        >>> bool(space.macs(last.counts) <= half)
        True
    """
    check_criterion(criterion)
    check_reachable(space, smallest, cost)
    whole = space.whole[None]
    scores = evaluate(whole)
    found = best_of(whole, scores, scores.loss, space.macs(whole))
    if not np.isfinite(found.loss):
        raise ValueError(
            f'the network with all channels has a loss of {found.loss}: nothing in it '
            'can be told apart'
        )
    yield found
    while cost(found.counts) > smallest:
        candidates = space.fewer(found.counts)
        scores = evaluate(candidates)
        rank = getattr(scores, criterion)
        if per_saved:
            rank = _per_saved(
                rank - getattr(found, criterion), cost(found.counts) - cost(candidates)
            )
        found = best_of(candidates, scores, rank, space.macs(candidates))
        yield found


def within(
    space: SearchSpace,
    evaluate: Evaluate,
    trail: Sequence[Found],
    limit: float,
    cost: Cost,
    *,
    criterion: str = 'loss',
) -> Found:
    """Returns the network of a greedy search that uses what `limit` allows.

    The step that came within the limit may have taken much more than was needed: so
    chunks are given back while any fits, each time that which makes the best network.
    Else a search would be compared with networks that cost more.

    Args:
        space: which was searched.
        evaluate: scores candidates, see `Evaluator`.
        trail: what `slim` yielded.
        limit: the most that the network may cost.
        cost: of candidates, such as `space.macs`.
        criterion: `'loss'` or `'error'`.

    Raises:
        StopIteration: no network of the trail costs so little.
    """
    found = next(each for each in trail if cost(each.counts) <= limit)
    while True:
        candidates = space.more(found.counts)
        candidates = candidates[cost(candidates) <= limit]
        if not len(candidates):
            return found
        scores = evaluate(candidates)
        rank = getattr(scores, criterion)
        found = best_of(candidates, scores, rank, space.macs(candidates))


def check_reachable(space: SearchSpace, limit: float, cost: Cost) -> None:
    """Checks that a target is among the costs of the networks.

    Raises:
        ValueError: the smallest costs more, or the whole one less.
    """
    least, most = float(cost(space.least)), float(cost(space.whole))
    if limit < least:
        raise ValueError(
            f'a target of {limit:,.4g} is below the smallest network of the range, '
            f'which has {least:,.4g}: take a larger target, or train a range that '
            'begins at a narrower width'
        )
    if limit > most:
        raise ValueError(
            f'a target of {limit:,.4g} is above the whole network, which has '
            f'{most:,.4g}: there is nothing to take away; a number without a unit is a '
            'multiple of the network of width 1.0'
        )


def check_criterion(criterion: str) -> None:
    """Checks the name of what networks are judged by.

    Raises:
        ValueError: there is no such criterion.
    """
    if criterion not in CRITERIA:
        raise ValueError(f'criterion={criterion!r}; allowed: {", ".join(CRITERIA)}')


def best_of(
    candidates: np.ndarray, scores: Scores, rank: np.ndarray, macs: np.ndarray
) -> Found:
    """Returns the candidate of the lowest rank; of equal ones that of the fewest MACs.

    Example:
        >>> scores = Scores(np.array([0.5, 0.4, 0.4]), np.zeros(3))
        >>> best_of(np.array([[8], [7], [6]]), scores, scores.loss, np.arange(3)).counts
        array([7])
    """
    best = np.lexsort((macs, rank))[0]
    return Found(candidates[best], float(scores.loss[best]), float(scores.error[best]))


def _per_saved(rise: np.ndarray, saved: np.ndarray) -> np.ndarray:
    """What each unit saved costs; what does not hurt is the better the more it saves.

    A measured cost may rise where channels go: that saves next to nothing.
    """
    saved = np.maximum(saved, 1e-12 * np.abs(saved).max())
    return np.where(rise > 0, rise / saved, rise * saved)
