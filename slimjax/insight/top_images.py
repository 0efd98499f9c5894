"""The images that a channel answers to most, at every width (the paper's Figure 3).

If the top images of a channel change with the width, then so does what it stands for:
that is why one set of statistics cannot serve all widths.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from slimjax.insight.activations import (
    ChannelScores,
    Layer,
    Score,
    channel_scores,
    find_layer,
    find_layers,
)
from slimjax.insight.agreement import jaccard, rank_correlation
from slimjax.insight.inputs import chosen_images, normalized
from slimjax.insight.receptive_field import receptive_fields
from slimjax.insight.table import aligned
from slimjax.train.trained import Trained
from slimjax.width import Width, width_name


@dataclasses.dataclass(frozen=True)
class Top:
    """One of the images that a channel answers to most.

    Attributes:
        index: its place in the split.
        score: the channel's answer.
        right: whether this width classifies it as labelled.
        image: `[height, width, colours]`, uint8, as the network takes it.
        crop: the part of it that the maximum sees.
    """

    index: int
    score: float
    right: bool
    image: np.ndarray
    crop: np.ndarray


@dataclasses.dataclass(frozen=True)
class TopImages:
    """The top images of a channel by width, and how much the widths have in common.

    Attributes:
        layer: the channel's.
        channel: its number.
        rows: the top images of each width's name, widest first, the best one first.
        overlap: of each pair of names, the Jaccard index of their top images.
        correlation: likewise, the rank correlation of the scores of all images.
        images: how many images were scored.
    """

    layer: Layer
    channel: int
    rows: Mapping[str, list[Top]]
    overlap: Mapping[tuple[str, str], float]
    correlation: Mapping[tuple[str, str], float]
    images: int

    def lines(self) -> list[str]:
        """Returns a table of what the widths have in common, and of each row."""
        rows = [
            (
                f'width {name}',
                f'{sum(top.right for top in tops)} of {len(tops)} right',
                'mean colour ' + ' '.join(f'{c:.0f}' for c in mean_colour(tops)),
            )
            for name, tops in self.rows.items()
        ]
        pairs = [
            (
                f'{one} and {other}',
                f'overlap {self.overlap[one, other]:.2f}',
                f'rank correlation {self.correlation[one, other]:.2f}',
            )
            for one, other in self.overlap
        ]
        return aligned(rows + pairs)


def mean_colour(tops: list[Top]) -> np.ndarray:
    """Returns the mean colour of what the maxima see, each crop counting the same.

    Example:
        >>> black, white = (np.full((2, 2, 1), grey, np.uint8) for grey in (0, 255))
        >>> mean_colour([Top(0, 1.0, True, c, c) for c in (black, white)]).tolist()
        [127.5]
    """
    return np.mean([top.crop.mean((0, 1)) for top in tops], axis=0)


def top_images(
    trained: Trained,
    layer: str,
    channel: int,
    *,
    split: str = 'validation',
    by: Score = 'max',
    count: int = 10,
) -> TopImages:
    """Returns the top images of a channel at each width that has it.

    Args:
        trained: what `open_run` returns.
        layer: the name of one of `find_layers`.
        channel: its number, from 0.
        split: the images.
        by: scores are the maximum over space, or the mean.
        count: how many images a width.

    Raises:
        ValueError: no such layer, channel, score or split.
    """
    run, model, variables, _ = trained
    layers = find_layers(model, variables, run.image_shape)
    found = find_layer(layers, layer, channel)
    scores = channel_scores(
        model,
        variables,
        run.eval_reader(run.source(split)),
        found,
        channel,
        by=by,
        preprocess=normalized(run, model),
    )
    fields = receptive_fields(model, variables, found, run.image_shape)
    best = {width: best_first(own.scores, count) for width, own in scores.items()}
    chosen = {width: own.images[best[width]].tolist() for width, own in scores.items()}
    images = chosen_images(run, split, itertools.chain.from_iterable(chosen.values()))
    rows = {
        width_name(width): [_top(own, i, images, fields) for i in best[width]]
        for width, own in scores.items()
    }
    return TopImages(found, channel, rows, *_agreement(scores, best), _size(scores))


def best_first(scores: np.ndarray, count: int) -> list[int]:
    """Returns the places of the largest scores; of equal ones, the first.

    Example:
        >>> best_first(np.array([0.1, 0.9, 0.9, 0.5]), 3)
        [1, 2, 3]
    """
    return np.argsort(-scores, kind='stable')[:count].tolist()


def _top(own: ChannelScores, i: int, images: Mapping[int, np.ndarray], fields) -> Top:
    index, box = int(own.images[i]), fields.box(int(own.places[i]))
    crop = images[index][box.top : box.bottom, box.left : box.right]
    right = bool(own.right[i])
    return Top(index, float(own.scores[i]), right, images[index], crop)


def _agreement(scores: Mapping[Width, ChannelScores], best: Mapping[Width, Any]):
    pairs = list(itertools.combinations(scores, 2))
    names = [(width_name(one), width_name(other)) for one, other in pairs]
    overlap = [jaccard(best[one], best[other]) for one, other in pairs]
    correlation = [
        rank_correlation(scores[one].scores, scores[other].scores)
        for one, other in pairs
    ]
    return (
        dict(zip(names, overlap, strict=True)),
        dict(zip(names, correlation, strict=True)),
    )


def _size(scores: Mapping[Width, ChannelScores]) -> int:
    return len(next(iter(scores.values())).scores)
