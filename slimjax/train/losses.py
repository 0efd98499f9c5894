"""Losses and per-example scores of a classifier, as the published code defines them."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from slimjax.dtypes import at_least_float32

SMOOTHING_FORMS = ('published', 'uniform')


def cross_entropy(
    logits: Float[Array, 'batch classes'],
    labels: Int[Array, ' batch'],
    teacher: Float[Array, 'batch classes'] | None = None,
    *,
    smoothing: float = 0.0,
    form: str = 'published',
) -> Float[Array, '']:
    """Returns the mean cross-entropy, against labels or a teacher.

    Args:
        logits: unnormalised log-probabilities.
        labels: the true classes.
        teacher: logits whose softmax replaces the labels (in-place distillation of
            US-Nets, section 4.2: soft targets only); no gradient flows into it.
        smoothing: probability taken from the true class. Ignored with a teacher.
        form: who gets it. `'published'` gives `smoothing / (classes - 1)` to each
            other class; `'uniform'` gives `smoothing / classes` to every class, the
            true one included, as Szegedy et al. (2016) and nearly all other code do.

    Returns:
        A scalar of float32, or wider where the logits are.

    Raises:
        ValueError: another form.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0, -1.0]])
        >>> round(float(cross_entropy(logits, jnp.array([0]), smoothing=0.1)), 6)
        0.64019
    """
    return example_losses(
        logits, labels, teacher, smoothing=smoothing, form=form
    ).mean()


def example_losses(
    logits: Float[Array, 'batch classes'],
    labels: Int[Array, ' batch'],
    teacher: Float[Array, 'batch classes'] | None = None,
    *,
    smoothing: float = 0.0,
    form: str = 'published',
) -> Float[Array, ' batch']:
    """Returns the loss of each example; see `cross_entropy`.

    Example:
        >>> example_losses(jnp.zeros((2, 4)), jnp.array([0, 1])).shape
        (2,)
    """
    if form not in SMOOTHING_FORMS:
        allowed = ', '.join(map(repr, SMOOTHING_FORMS))
        raise ValueError(f'label_smoothing_form={form!r}; allowed: {allowed}')
    logits = logits.astype(at_least_float32(logits.dtype))
    if teacher is not None:
        teacher = jax.lax.stop_gradient(teacher).astype(logits.dtype)
        return optax.safe_softmax_cross_entropy(logits, jax.nn.softmax(teacher))
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    classes = logits.shape[-1]
    targets = jax.nn.one_hot(labels, classes, dtype=logits.dtype)
    if form == 'uniform':
        targets = targets * (1 - smoothing) + smoothing / classes
    else:
        other = smoothing / (classes - 1)
        targets = targets * (1 - smoothing - other) + other
    return optax.softmax_cross_entropy(logits, targets)


def correct_in_top(
    logits: Float[Array, 'batch classes'], labels: Int[Array, ' batch'], k: int
) -> Float[Array, ' batch']:
    """Returns 1 for each example whose label is among its `k` largest logits.

    Equal logits count against the label, so that a network that says the same of all
    classes is not called right.

    Example:
        >>> logits = jnp.array([[3.0, 1.0, 2.0]])
        >>> correct_in_top(logits, jnp.array([2]), 1), correct_in_top(
        ...     logits, jnp.array([2]), 2)
        (Array([0.], dtype=float32), Array([1.], dtype=float32))
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    not_below = jnp.sum((logits >= own).astype(jnp.int32), axis=-1)
    # With a NaN every comparison is false: not even the label counts itself.
    right = (not_below <= k) & (not_below >= 1)
    return right.astype(jnp.float32)
