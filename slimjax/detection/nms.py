"""Greedy non-maximum suppression, exact, with static shapes."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from slimjax.detection.boxes import overlaps


def kept_boxes(
    boxes: Float[Array, 'boxes 4'],
    valid: Bool[Array, ' boxes'],
    threshold: float,
    *,
    groups: Int[Array, ' boxes'] | None = None,
    legacy: bool = False,
) -> Bool[Array, ' boxes']:
    """Returns which boxes greedy non-maximum suppression keeps.

    The greedy loop takes the best box that is left and drops all that overlap it by
    more than the threshold. Its result is the only one in which each box is kept if
    no better kept box overlaps it. So that rule is applied to all boxes at once until
    nothing changes, which takes as many rounds as the longest chain of boxes that
    drop one another (6 to 8 among thousands, as a rule) instead of one a box.

    Args:
        boxes: the best first.
        valid: which are any; padding is never kept and drops nothing.
        threshold: overlap from above which the worse of two boxes is dropped.
        groups: boxes of different groups, such as classes, leave each other alone.
        legacy: the boxes' convention.

    Example:
        >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 3], [9, 9, 12, 12]])
        >>> kept_boxes(boxes, jnp.ones(3, bool), 0.5).tolist()
        [True, False, True]
    """
    count = boxes.shape[0]
    rank = jnp.arange(count)
    drops = overlaps(boxes, boxes, legacy=legacy) > threshold
    drops &= (rank[:, None] < rank[None]) & valid[:, None]
    if groups is not None:
        drops &= groups[:, None] == groups[None]

    def again(state):
        return state[1]

    def round_(state):
        keep, _ = state
        new = valid & ~jnp.any(drops & keep[:, None], axis=0)
        return new, jnp.any(new != keep)

    return lax.while_loop(again, round_, (valid, jnp.array(True)))[0]
