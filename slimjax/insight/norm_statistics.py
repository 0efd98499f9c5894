"""What the norms of each width hold, and how far the widths disagree with depth.

The paper's Figure 4: near the images the widths have much the same scales, shifts,
means and variances; deep in the network they have not, so that one norm cannot serve
them all.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from slimjax.insight.agreement import rank_correlation
from slimjax.insight.passes import pass_keywords
from slimjax.insight.table import aligned
from slimjax.layers import ACTIVE
from slimjax.moments import find_norms
from slimjax.width import Width

# What the figure calls them, and the variables of a norm.
QUANTITIES = {'scale': 'scale', 'shift': 'bias', 'mean': 'mean', 'variance': 'var'}


@dataclasses.dataclass(frozen=True)
class NormStatistics:
    """The norms of a network.

    Attributes:
        values: of each norm's path, in the order in which they run, for each width,
            widest first, what each of `QUANTITIES` is: `[channels]`, those that the
            width uses.
    """

    values: Mapping[str, Mapping[Width, Mapping[str, np.ndarray]]]

    def discrepancy(self, quantity: str) -> np.ndarray:
        """Returns how far the widths disagree about a quantity, `[norms]`, from 0 to 2.

        Of two widths, the mean distance over the channels that both have, in units of
        the mean size: 0 is the same, and 2 are opposite signs. The mean over all pairs.
        """
        return np.array(
            [
                np.mean(
                    [
                        relative_distance(one[quantity], other[quantity])
                        for one, other in itertools.combinations(own.values(), 2)
                    ]
                )
                for own in self.values.values()
            ]
        )

    def depth_correlation(self, quantity: str) -> float:
        """Returns the rank correlation of depth and discrepancy."""
        found = self.discrepancy(quantity)
        return rank_correlation(np.arange(len(found), dtype=float), found)

    def lines(self) -> list[str]:
        """Returns a table of discrepancies by depth, and their correlation with it."""
        found = [self.discrepancy(quantity) for quantity in QUANTITIES]
        rows = [('norm', *QUANTITIES)]
        for name, *own in zip(self.values, *found, strict=True):
            rows.append((name, *map('{:.3f}'.format, own)))
        correlations = [self.depth_correlation(quantity) for quantity in QUANTITIES]
        rows.append(('correlation with depth', *map('{:.2f}'.format, correlations)))
        return aligned(rows)


def relative_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the mean distance of two vectors in units of their mean size.

    Args:
        one: `[channels]`.
        other: likewise; what the longer one has more is left out.

    Example:
        >>> relative_distance(np.array([1.0, 3.0]), np.array([2.0, 2.0, 9.0]))
        0.5
    """
    count = min(len(one), len(other))
    one, other = (np.asarray(values[:count], np.float64) for values in (one, other))
    size = (np.abs(one).mean() + np.abs(other).mean()) / 2
    return float(np.abs(one - other).mean() / size) if size else 0.0


def norm_statistics(
    model: nn.Module, variables: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> NormStatistics:
    """Returns what the norms of each width hold.

    Args:
        model: a module of `SwitchableBatchNorm` layers with a field `widths`.
        variables: of the model.
        image_shape: height and width in pixels, and channels.

    Raises:
        ValueError: the model has no such layer, or only one width.

    Example:
        >>> import slimjax
        >>> fields = {'widths': (0.5, 1.0), 'stage_sizes': (1,)}
        >>> model = slimjax.create_model('resnet14', num_classes=10, **fields)
        >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 32, 32, 3)))
        >>> found = norm_statistics(model, variables, (32, 32, 3))
        >>> found.values['stem/norm'][0.5]['variance'].shape
        (32,)
        >>> found.discrepancy('mean')[0].item()
        0.0
    """
    keywords = pass_keywords(model)
    if len(keywords) < 2:
        raise ValueError('one width has no other to be compared with')
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    values = {}
    for width, own in keywords.items():
        order = find_norms(model, own, variables, images)
        if not order:
            raise ValueError(f'{type(model).__name__} has no SwitchableBatchNorm')
        shown = jax.jit(functools.partial(_shown, model, own))
        active = shown(variables, jnp.zeros(images.shape, images.dtype))
        for path in order:
            held = functools.reduce(lambda tree, key: tree[key], path, active)
            values.setdefault('/'.join(path), {})[width] = {
                quantity: np.asarray(held[name])
                for quantity, name in QUANTITIES.items()
            }
    return NormStatistics(values)


def _shown(model, keywords, variables, images):
    """The parts of all variables that the layers use at a width."""
    return model.apply(variables, images, **keywords, mutable=[ACTIVE])[1][ACTIVE]
