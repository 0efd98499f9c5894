"""Training a slimmable detector: every width on the same images, one update."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from slimjax.detection.model import SlimmableRCNN
from slimjax.detection.network import Batch
from slimjax.detection.settings import Detector, Settings
from slimjax.train.objective import Aux, LossFn, accumulated, sum_over_widths
from slimjax.train.optimizer import make_optimizer
from slimjax.train.schedule import Clock, learning_rate
from slimjax.train.state import TrainState
from slimjax.train.step import finished
from slimjax.variables import apply_train
from slimjax.width import Width, widest_first, width_name

# Images a step that the published learning rates are for.
_IMAGES = 16
_MOMENTUM = 0.9
_LOSSES = ('objectness', 'proposal_boxes', 'classes', 'boxes')
_FURTHER_LOSSES = {'mask_rcnn': ('masks',), 'keypoint_rcnn': ('keypoints',)}


def trained(params: Any, options: Settings) -> Any:
    """Returns which parameters are trained, a tree of booleans.

    Frozen are the stem and the first stages, and where the norm is, the scale and bias
    of all norms of the backbone (paper's detectors, and all since Faster R-CNN).

    Args:
        params: of a detector.
        options: its settings.

    Example:
        >>> params = {'backbone': {'stem': {'conv': 1}, 'stage2_block1': {
        ...     'conv1': {'conv': 1, 'norm': 1}}}, 'box_head': 1}
        >>> trained(params, Settings())['backbone']['stage2_block1']
        {'conv1': {'conv': True, 'norm': False}}
    """
    stages = range(1, options.frozen_stages + 1)
    frozen = tuple(f'stage{stage}_' for stage in stages)
    if options.frozen_stages:
        frozen = ('stem', *frozen)

    def is_trained(path, _):
        names = [each.key for each in path]
        if names[0] != 'backbone':
            return True
        if options.norm == 'frozen' and 'norm' in names:
            return False
        return not names[1].startswith(frozen)

    return jax.tree_util.tree_map_with_path(is_trained, params)


def make_loss_fn(model: SlimmableRCNN) -> LossFn:
    """Returns the loss of one width, as `sum_over_widths` takes it.

    A batch is as of `SlimmableRCNN`, with random `keys` `[B]`, from which each width
    draws anchors and proposals of its own; without, they are drawn in their order. What
    is called logits there are the single losses, by name.

    Args:
        model: a detector.

    Example:
        >>> from slimjax.detection import create_model
        >>> loss_fn = make_loss_fn(create_model('mask_rcnn', 'tiny', num_classes=3))
        >>> gradients_of = sum_over_widths(loss_fn, (0.25, 0.5, 0.75, 1.0))
    """

    def loss_fn(params, stats, batch, *, width, teacher=None):
        params = jax.tree.map(
            lambda leaf, kept: leaf if kept else lax.stop_gradient(leaf),
            params,
            trained(params, model.settings),
        )
        keys = batch.get('keys')
        if keys is not None:
            number = zlib.crc32(width_name(width).encode())
            keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        losses, stats = apply_train(
            model, params, stats, batch, width=width, keys=keys, method='losses'
        )
        return sum(losses.values()), Aux(stats, losses)

    return loss_fn


def make_schedule(options: Settings, clock: Clock) -> optax.Schedule:
    """Returns the learning rate of each step.

    It is in proportion to the images of a step, rises linearly during warm-up and is
    divided by 10 at each of `decay_epochs`.

    Args:
        options: settings of the model.
        clock: converts epochs.

    Example:
        >>> options = Settings(warmup_steps=4, warmup_factor=0.5, decay_epochs=(1,))
        >>> schedule = make_schedule(options, Clock(examples=160, batch_size=16))
        >>> [round(float(schedule(step)), 4) for step in (0, 2, 4, 10)]
        [0.01, 0.015, 0.02, 0.002]
    """
    decayed = learning_rate(
        {
            'learning_rate': options.learning_rate * clock.batch_size / _IMAGES,
            'schedule': 'multistep',
            'decay_factor': 0.1,
            'train_epochs': options.epochs,
            'milestone_epochs': options.decay_epochs,
        },
        clock,
    )

    def schedule(step):
        rate = decayed(step)
        done = jnp.asarray(step).astype(rate.dtype) / max(options.warmup_steps, 1)
        done = jnp.minimum(done, 1)
        return rate * (options.warmup_factor * (1 - done) + done)

    return schedule


def keeping_frozen(
    optimizer: optax.GradientTransformation, options: Settings
) -> optax.GradientTransformation:
    """Returns the optimizer for what is `trained`; all else has no state in it.

    Args:
        optimizer: of the trained parameters.
        options: settings of the model.

    Example:
        >>> optimizer = keeping_frozen(optax.sgd(0.1, momentum=0.9), Settings())
        >>> params = {'backbone': {'stem': jnp.ones(2)}, 'box_head': jnp.ones(2)}
        >>> len(jax.tree.leaves(optimizer.init(params)))
        1
    """
    return optax.masked(optimizer, partial(trained, options=options))


def make_detection_optimizer(
    options: Settings, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Returns SGD with momentum, weight decay and clipping; what is frozen stays.

    Args:
        options: settings of the model.
        schedule: the learning rate of each step.

    Example:
        >>> schedule = optax.constant_schedule(0.1)
        >>> optimizer = make_detection_optimizer(Settings(), schedule)
        >>> params = {'backbone': {'stem': jnp.ones(2)}, 'box_head': jnp.ones(2)}
        >>> state = optimizer.init(params)
        >>> gradients = {'backbone': {'stem': jnp.zeros(2)}, 'box_head': jnp.ones(2)}
        >>> updates, _ = optimizer.update(gradients, state, params)
        >>> updates['backbone']['stem'].tolist(), updates['box_head'].round(3).tolist()
        ([0.0, 0.0], [-0.10000000149011612, -0.10000000149011612])
    """
    config = {
        'optimizer': 'sgd',
        'momentum': _MOMENTUM,
        'nesterov': False,
        'weight_decay': options.weight_decay,
        'decay_all': True,
        'clip_norm': options.clip_norm,
    }
    return keeping_frozen(make_optimizer(config, schedule), options)


def detection_metric_names(
    detector: Detector, widths: Sequence[Width]
) -> tuple[str, ...]:
    """Returns the names of the metrics that a step returns.

    Example:
        >>> detection_metric_names('faster_rcnn', (1.0,))[:2]
        ('loss/1.0', 'objectness/1.0')
    """
    losses = ('loss', *_LOSSES, *_FURTHER_LOSSES.get(detector, ()))
    names = [width_name(width) for width in widest_first(widths)]
    return (*(f'{loss}/{name}' for name in names for loss in losses), 'grad_norm')


def make_detection_step(
    model: SlimmableRCNN,
    optimizer: optax.GradientTransformation,
    config: Mapping[str, Any],
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """Returns the training step, a plain function to be mapped over devices.

    The gradients of all widths are summed, averaged over devices, clipped and applied
    once (paper, Algorithm 1).

    Args:
        model: its `axis_name` is the name of the mapped axis; None for no mapping.
        optimizer: such as `make_detection_optimizer` returns.
        config: `seed`, `accumulate_steps`, `ema_decay` and `skip_nonfinite`.

    Returns:
        `step(state, batch) -> (state, metrics)` with a device's part of the batch, as
        of `SlimmableRCNN`. All that it returns is averaged over devices. `metrics` are
        those of `detection_metric_names`, and `stop`, the largest `batch['stop']` of
        any device where the batch has one.
    """
    axis_name = model.axis_name
    gradients_of = accumulated(
        sum_over_widths(make_loss_fn(model), model.widths), config['accumulate_steps']
    )

    def step(state: TrainState, batch: Batch):
        images = batch['image'].shape[0]
        device = lax.axis_index(axis_name) if axis_name else 0
        key = jax.random.fold_in(jax.random.key(config['seed']), state.step)
        places = device * images + jnp.arange(images)
        keys = jax.vmap(partial(jax.random.fold_in, key))(places)
        inputs = {name: each for name, each in batch.items() if name != 'stop'}
        gradients, stats, aux = gradients_of(
            state.params, state.stats, {**inputs, 'keys': keys}
        )
        metrics = {}
        for width, result in aux.items():
            for name, each in {'loss': result.loss, **result.logits}.items():
                metrics[f'{name}/{width_name(width)}'] = each.mean()
        return finished(
            state,
            optimizer,
            (gradients, stats, metrics),
            batch,
            config,
            axis_name=axis_name,
        )

    return step
