"""The optimisers, with the published weight decay."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

OPTIMIZERS = ('sgd', 'lars', 'adamw')


def decay_mask(params: Any) -> Any:
    """Returns which parameters decay: the kernels that are not depthwise.

    Norms, biases and depthwise kernels do not, as published.

    Example:
        >>> decay_mask({'conv': {'kernel': 1.0, 'bias': 0.0}, 'depthwise_kernel': 1.0})
        {'conv': {'bias': False, 'kernel': True}, 'depthwise_kernel': False}
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], 'key', None) == 'kernel', params
    )


def _every_parameter(params: Any) -> Any:
    return jax.tree.map(lambda _: True, params)


def make_optimizer(
    config: Mapping[str, Any], schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Returns the optimiser that `config` describes.

    Args:
        config: `optimizer`, `momentum`, `nesterov`, `weight_decay`, `decay_all`
            (every parameter decays, as in most other code; not if left out),
            `adam_betas` and `clip_norm` (0 does not clip), which bounds the summed
            gradient's norm.
        schedule: the learning rate of each step.

    Example:
        >>> config = {'optimizer': 'sgd', 'momentum': 0.9, 'nesterov': True,
        ...           'weight_decay': 1e-4, 'clip_norm': 0.0}
        >>> optimizer = make_optimizer(config, optax.constant_schedule(0.1))
        >>> state = optimizer.init({'kernel': jax.numpy.ones(2)})
    """
    decay = config['weight_decay']
    mask = _every_parameter if config.get('decay_all', False) else decay_mask
    if config['optimizer'] == 'sgd':
        # Momentum acts on decayed gradients, as in PyTorch.
        chain = optax.chain(
            optax.add_decayed_weights(decay, mask),
            optax.trace(config['momentum'], nesterov=config['nesterov']),
            optax.scale_by_learning_rate(schedule),
        )
    elif config['optimizer'] == 'lars':
        chain = optax.lars(
            schedule,
            weight_decay=decay,
            weight_decay_mask=mask,
            trust_ratio_mask=decay_mask,
            momentum=config['momentum'],
            nesterov=config['nesterov'],
        )
    elif config['optimizer'] == 'adamw':
        first, second = config['adam_betas']
        chain = optax.adamw(
            schedule, b1=first, b2=second, weight_decay=decay, mask=mask
        )
    else:
        raise ValueError(
            f'optimizer={config["optimizer"]!r}; allowed are {", ".join(OPTIMIZERS)}'
        )
    if config['clip_norm']:
        return optax.chain(optax.clip_by_global_norm(config['clip_norm']), chain)
    return chain
