"""Greedy slimming and evolution, judged by scores that are known."""

import dataclasses

import numpy as np
import pytest

from slimjax.search.evaluator import Scores
from slimjax.search.evolution import evolve
from slimjax.search.greedy import slim, within
from slimjax.search.remembered import Remembered
from slimjax.search.space import Linear, SearchSpace
from slimjax.search.variables import Segment, Variable

# Three layers, one behind the other, of which the first costs most.
SIZES = np.array([16, 8, 4])


def space():
    eye = np.eye(3)
    return SearchSpace(
        tuple(Variable((Segment((name,), frozenset()),), 8, 2, 2) for name in ('abc')),
        dict.fromkeys('abc'),
        Linear(np.zeros(3), eye),
        (SIZES, Linear(np.ones(3), 0 * eye), Linear(np.zeros(3), eye)),
        (Linear(np.zeros(3), eye),),
    )


def judged(*worth):
    """Scores as if each channel of a layer were worth so much."""

    def evaluate(counts):
        lost = ((8 - counts) * np.array(worth)).sum(1).astype(float)
        return Scores(lost, lost[::-1].copy())

    return evaluate


def counts_of(trail):
    return [found.counts.tolist() for found in trail]


def test_what_hurts_least_goes_first():
    trail = list(slim(space(), judged(3, 1, 2), 100, space().macs))
    assert counts_of(trail)[:5] == [
        [8, 8, 8],
        [8, 6, 8],
        [8, 4, 8],
        [8, 2, 8],
        [8, 2, 6],
    ]
    assert space().macs(trail[-1].counts) <= 100 < space().macs(trail[-2].counts)


def test_of_equal_ones_what_saves_most_goes():
    trail = list(slim(space(), judged(0, 0, 0), 200, space().macs))
    assert counts_of(trail)[1] == [6, 8, 8]


def test_a_rise_may_be_judged_by_what_it_saves():
    # The first layer hurts twice as much, and saves four times what the last does.
    trail = list(slim(space(), judged(2, 9, 1), 200, space().macs, per_saved=True))
    assert counts_of(trail)[1] == [6, 8, 8]
    trail = list(slim(space(), judged(2, 9, 1), 200, space().macs))
    assert counts_of(trail)[1] == [8, 8, 6]


def test_what_does_not_hurt_is_the_better_the_more_it_saves():
    # The first two help, the first twice as much as the second, and it saves twice
    # as much; the last hurts.
    trail = list(slim(space(), judged(-2, -1, 1), 200, space().macs, per_saved=True))
    assert counts_of(trail)[1] == [6, 8, 8]

    def measured(counts):
        """A cost that rises where channels of the last layer go."""
        return counts @ np.array([16, 8, -1])

    trail = list(slim(space(), judged(2, 9, 1), 160, measured, per_saved=True))
    assert counts_of(trail)[1] == [6, 8, 8]


def test_each_limit_gets_the_network_within_it_that_has_room_for_no_chunk_more():
    trail = list(slim(space(), judged(3, 1, 2), 100, space().macs))
    for limit in (224, 200, 150, 130, 100):
        found = within(space(), judged(3, 1, 2), trail, limit, space().macs)
        assert space().macs(found.counts) <= limit
        assert (space().macs(space().more(found.counts)) > limit).all()
    whole = within(space(), judged(3, 1, 2), trail, 224, space().macs)
    assert whole is trail[0]


def test_what_a_step_took_too_much_is_given_back_the_best_first():
    trail = list(slim(space(), judged(0, 1, 1), 150, space().macs))
    assert trail[-1].counts.tolist() == [2, 8, 8]
    found = within(space(), judged(0, 2, 1), trail[-1:], 150, space().macs)
    assert found is trail[-1]
    short = trail[-1]._replace(counts=np.array([2, 6, 4]))
    # It costs 96: of the 29 that are left the second layer's chunk takes 16, and one of
    # the third 8.
    found = within(space(), judged(1, 2, 1), [short], 125, space().macs)
    assert found.counts.tolist() == [2, 8, 6]


@pytest.mark.parametrize('method', [slim, evolve])
def test_what_no_network_reaches_is_refused(method):
    with pytest.raises(ValueError, match='below the smallest network'):
        next(method(space(), judged(1, 1, 1), 10, space().macs))
    with pytest.raises(ValueError, match='300 is above the whole network, which has 2'):
        next(method(space(), judged(1, 1, 1), 300, space().macs))
    with pytest.raises(ValueError, match='criterion'):
        next(method(space(), judged(1, 1, 1), 200, space().macs, criterion='top5'))


def test_a_generation_needs_a_parent():
    with pytest.raises(ValueError, match='population=3; 4 or more'):
        next(evolve(space(), judged(1, 1, 1), 200, space().macs, population=3))


def test_what_is_no_number_is_never_the_best():
    def evaluate(counts):
        loss = np.where(np.arange(len(counts)) == 0, np.nan, 1.0)
        return Scores(loss, loss)

    found = evolve(space(), evaluate, 150, space().macs, population=8, generations=3)
    assert [each.loss for each in found] == [1.0] * 3
    with pytest.raises(ValueError, match='all channels has a loss of nan'):
        next(slim(space(), evaluate, 150, space().macs))


def test_an_evolution_takes_less_where_no_network_uses_most_of_the_target():
    # Of one layer, in steps of 30 multiply-adds: none has 114 to 119.
    eye = np.ones((1, 1))
    coarse = SearchSpace(
        (Variable((Segment(('a',), frozenset()),), 8, 2, 2),),
        {'a': None},
        Linear(np.zeros(1), eye),
        (np.array([15]), Linear(np.ones(1), 0 * eye), Linear(np.zeros(1), eye)),
        (Linear(np.zeros(1), eye),),
    )

    def evaluate(counts):
        return Scores(-counts[:, 0].astype(float), counts[:, 0].astype(float))

    *_, best = evolve(coarse, evaluate, 119, coarse.macs, population=4, generations=2)
    assert best.counts.tolist() == [6]


def test_evolution_finds_the_best_and_is_the_same_again():
    def run(seed):
        return [
            (found.loss, *found.counts.tolist())
            for found in evolve(
                space(),
                judged(1, 9, 9),
                130,
                space().macs,
                population=12,
                generations=6,
                seed=seed,
            )
        ]

    best = run(0)
    assert best == run(0)
    losses = [loss for loss, *_ in best]
    assert losses == sorted(losses, reverse=True)
    # Both others whole, and of the first what is left: 130 - 8 * 12 = 34.
    assert best[-1][1:] == (2, 8, 8)


def test_a_search_goes_on_from_what_is_on_disk(tmp_path):
    path = tmp_path / 'scores.jsonl'
    asked = []

    def evaluate(counts):
        asked.append(len(counts))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return judged(3, 1, 2)(counts)

    def run():
        return counts_of(slim(space(), Remembered(evaluate, path), 100, space().macs))

    with pytest.raises(KeyboardInterrupt):
        run()
    # The interruption tore a line.
    path.write_bytes(path.read_bytes() + b'[[2, 2, 2], 0.5')
    trail = run()
    assert trail == counts_of(slim(space(), judged(3, 1, 2), 100, space().macs))
    evaluated = len(asked)
    assert run() == trail
    assert len(asked) == evaluated


def test_a_network_is_named_by_its_layers():
    assert dict(space().table(np.array([2, 4, 6]), 'x').channels) == {
        'a': 2,
        'b': 4,
        'c': 6,
    }
    assert dataclasses.astuple(space().variables[0])[1:] == (8, 2, 2)
