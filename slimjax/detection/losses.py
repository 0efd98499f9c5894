"""The losses of the R-CNNs, dense over padded candidates.

Each is a mean over what was drawn from the images that it gets, which are those of a
device: averaged over devices, they are what the published codes compute. Where counts
differ, as those of positive boxes do, that is not the mean over all devices' draws.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def smooth_l1(errors: Float[Array, '*shape'], beta: float) -> Float[Array, '*shape']:
    """Returns |x| - beta / 2, or x^2 / (2 beta) below `beta` (Fast R-CNN, equation 3).

    Example:
        >>> smooth_l1(jnp.array([-2.0, 0.5]), 1.0).tolist()
        [1.5, 0.125]
        >>> smooth_l1(jnp.array([-2.0, 0.5]), 0.0).tolist()
        [2.0, 0.5]
    """
    size = jnp.abs(errors)
    if not beta:
        return size
    return jnp.where(size < beta, 0.5 * size**2 / beta, size - 0.5 * beta)


def proposal_losses(
    logits: Float[Array, 'batch anchors'],
    deltas: Float[Array, 'batch anchors 4'],
    targets: Float[Array, 'batch anchors 4'],
    positive: Bool[Array, 'batch anchors'],
    negative: Bool[Array, 'batch anchors'],
    *,
    beta: float,
    count: int | None = None,
) -> dict[str, Float[Array, '']]:
    """Returns the losses of the proposals, `objectness` and `proposal_boxes`.

    Args:
        logits: of being an object.
        deltas: the boxes' code.
        targets: what it should be; of use where `positive`.
        positive: the anchors drawn as objects.
        negative: the anchors drawn as background.
        beta: of the box loss.
        count: what both sums are divided by; None takes the number that was drawn.

    Example:
        >>> drawn = jnp.array([[True, False]])
        >>> losses = proposal_losses(jnp.zeros((1, 2)), jnp.zeros((1, 2, 4)),
        ...                          jnp.ones((1, 2, 4)), drawn, ~drawn, beta=0.0)
        >>> {name: round(float(each), 4) for name, each in losses.items()}
        {'objectness': 0.6931, 'proposal_boxes': 2.0}
    """
    drawn = positive | negative
    count = jnp.maximum(drawn.sum(), 1) if count is None else jnp.array(count)
    binary = optax.sigmoid_binary_cross_entropy(logits, positive.astype(logits.dtype))
    # What was not drawn may be padding: it must not reach the gradient as a NaN.
    errors = jnp.where(positive[..., None], deltas - targets, 0)
    count = count.astype(logits.dtype)
    return {
        'objectness': jnp.where(drawn, binary, 0).sum() / count,
        'proposal_boxes': smooth_l1(errors, beta).sum() / count,
    }


def box_losses(
    logits: Float[Array, 'batch boxes classes'],
    deltas: Float[Array, 'batch boxes classes 4'],
    labels: Int[Array, 'batch boxes'],
    targets: Float[Array, 'batch boxes 4'],
    drawn: Bool[Array, 'batch boxes'],
    *,
    beta: float,
) -> dict[str, Float[Array, '']]:
    """Returns the losses of the second stage, `classes` and `boxes`.

    Args:
        logits: of the classes, background first.
        deltas: the boxes' code, one a class.
        labels: the true classes; 0 is background, which has no box.
        targets: the true code of the true class.
        drawn: the boxes that count.
        beta: of the box loss.

    Example:
        >>> losses = box_losses(jnp.zeros((1, 1, 2)), jnp.zeros((1, 1, 2, 4)),
        ...                     jnp.ones((1, 1), int), jnp.ones((1, 1, 4)),
        ...                     jnp.ones((1, 1), bool), beta=1.0)
        >>> {name: round(float(each), 4) for name, each in losses.items()}
        {'classes': 0.6931, 'boxes': 2.0}
    """
    count = jnp.maximum(drawn.sum(), 1).astype(logits.dtype)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    own = jnp.take_along_axis(deltas, labels[..., None, None], axis=2)[:, :, 0]
    counts = (drawn & (labels > 0))[..., None]
    errors = jnp.where(counts, own - targets, 0)
    return {
        'classes': jnp.where(drawn, entropy, 0).sum() / count,
        'boxes': smooth_l1(errors, beta).sum() / count,
    }


def mask_loss(
    logits: Float[Array, 'batch boxes size size classes'],
    labels: Int[Array, 'batch boxes'],
    targets: Float[Array, 'batch boxes size size'],
    positive: Bool[Array, 'batch boxes'],
) -> Float[Array, '']:
    """Returns the mean over the pixels of positive boxes (Mask R-CNN, section 3).

    Args:
        logits: a mask a class.
        labels: the true classes; the others' masks have no part in it.
        targets: 0 to 1.
        positive: the boxes that count; without any, the loss is 0.

    Example:
        >>> shape = (1, 1, 2, 2)
        >>> round(float(mask_loss(jnp.zeros((*shape, 3)), jnp.array([[1]]),
        ...                       jnp.ones(shape), jnp.array([[True]]))), 4)
        0.6931
    """
    # A product instead of a gather, whose gradient would scatter.
    chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    own = jnp.einsum('bnhwc,bnc->bnhw', logits, chosen)
    pixels = optax.sigmoid_binary_cross_entropy(own, targets).mean((2, 3))
    count = jnp.maximum(positive.sum(), 1).astype(logits.dtype)
    return jnp.where(positive, pixels, 0).sum() / count


def keypoint_loss(
    logits: Float[Array, 'batch boxes size size keypoints'],
    cells: Int[Array, 'batch boxes keypoints'],
    counts: Bool[Array, 'batch boxes keypoints'],
) -> Float[Array, '']:
    """Returns the mean cross-entropy over places, of the keypoints that count.

    Args:
        logits: of each keypoint's place.
        cells: the true place, numbered by rows.
        counts: which keypoints do; without any, the loss is 0.

    Example:
        >>> round(float(keypoint_loss(jnp.zeros((1, 1, 2, 2, 1)),
        ...     jnp.zeros((1, 1, 1), int), jnp.ones((1, 1, 1), bool))), 4)
        1.3863
    """
    batch, boxes, height, width, keypoints = logits.shape
    places = logits.reshape(batch, boxes, height * width, keypoints).swapaxes(2, 3)
    entropy = optax.softmax_cross_entropy_with_integer_labels(places, cells)
    count = jnp.maximum(counts.sum(), 1).astype(logits.dtype)
    return jnp.where(counts, entropy, 0).sum() / count
