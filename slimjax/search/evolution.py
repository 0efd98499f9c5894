"""Evolutionary search: networks of a given cost, mutated and crossed, the best kept."""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from slimjax.search.draw import draw, fitted
from slimjax.search.greedy import (
    Cost,
    Evaluate,
    Found,
    check_criterion,
    check_reachable,
)
from slimjax.search.space import SearchSpace

# Once-for-All (Cai et al., 2020): a quarter of 100 networks are parents, of which one
# half of the next generation is mutated and the other half crossed; a mutation changes
# each number of channels with a probability of 0.1.
POPULATION = 100
GENERATIONS = 20
_PARENTS = 0.25
_FEWEST = round(1 / _PARENTS)
_MUTATION = 0.1
# A network uses at least this part of what it may cost; where chunks are coarse, less.
_USED = (0.95, 0.8, 0.5)


def evolve(
    space: SearchSpace,
    evaluate: Evaluate,
    limit: float,
    cost: Cost,
    *,
    criterion: str = 'loss',
    population: int = POPULATION,
    generations: int = GENERATIONS,
    seed: int = 0,
) -> Iterator[Found]:
    """Yields the best network so far after each generation.

    The parents of a generation are the best of all that came before it.

    Args:
        space: of the networks.
        evaluate: scores candidates, see `Evaluator`.
        limit: the most that a network may cost.
        cost: of candidates, such as `space.macs`.
        criterion: `'loss'` or `'error'`.
        population: networks of a generation; at least 4, of which one is a parent.
        generations: their number, the one drawn at random included.
        seed: decides what is drawn.

    Raises:
        ValueError: another criterion, a population that is too small, or a limit that
            no network or every network keeps.

    Example:
        >>> import slimjax
        >>> from slimjax.search.evaluator import Scores
        >>> from slimjax.search.space import search_space
        >>> model = slimjax.create_model('resnet14', norm='shared_affine',
        ...                              base_features=8)
        >>> space = search_space(model, (32, 32, 3))
        >>> def evaluate(counts):  # Pretends that wide stems are good.
        ...     return Scores(-counts[:, 0], -counts[:, 0])
        >>> half = float(space.macs(space.whole)) / 2
        >>> *_, best = evolve(space, evaluate, half, space.macs,
        ...                  population=8, generations=3)
        >>> int(best.counts[0]), int(space.whole[0])
        (8, 8)
    """
    check_criterion(criterion)
    check_reachable(space, limit, cost)
    if population < _FEWEST:
        raise ValueError(f'population={population}; {_FEWEST} or more are needed')

    def rank(found):
        value = getattr(found, criterion)
        return math.isnan(value), value  # What is no number is the worst.

    low = _least_cost(space, cost, limit)
    rng = np.random.default_rng(seed)
    known: dict[tuple[int, ...], Found] = {}
    children = np.stack([draw(space, rng, cost, low, limit) for _ in range(population)])
    for generation in range(generations):
        if generation:
            ranked = sorted(known.values(), key=rank)
            parents = [each.counts for each in ranked[: int(_PARENTS * population)]]
            makers = itertools.islice(itertools.cycle((_mutated, _crossed)), population)
            children = np.stack(
                [_child(space, rng, parents, make, cost, low, limit) for make in makers]
            )
        scores = evaluate(children)
        for counts, loss, error in zip(children, *scores, strict=True):
            known[tuple(counts)] = Found(counts, float(loss), float(error))
        yield min(known.values(), key=rank)


def _least_cost(space: SearchSpace, cost: Cost, limit: float) -> float:
    for used in _USED:
        try:
            draw(space, np.random.default_rng(0), cost, used * limit, limit)
        except ValueError:
            continue
        return used * limit
    return 0.0


def _child(space, rng, parents, make, cost, low, limit) -> np.ndarray:
    while True:
        counts = fitted(space, rng, make(space, rng, parents), cost, low, limit)
        if counts is not None:
            return counts


def _mutated(space, rng, parents) -> np.ndarray:
    counts = rng.choice(parents)
    (drawn,) = space.random(rng, 1)
    return np.where(rng.random(len(counts)) < _MUTATION, drawn, counts)


def _crossed(space, rng, parents) -> np.ndarray:
    one, other = rng.choice(parents, 2)
    return np.where(rng.random(len(one)) < 0.5, one, other)
