"""The slimmable classifiers, by name."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

from slimjax.json_file import tuples
from slimjax.models.common import SlimmableClassifier
from slimjax.models.mnasnet import MNasNet
from slimjax.models.mobilenet_v1 import MobileNetV1
from slimjax.models.mobilenet_v2 import MobileNetV2
from slimjax.models.published import PUBLISHED
from slimjax.models.resnet import ResNet
from slimjax.models.shufflenet import ShuffleNet
from slimjax.width import ChannelTable, Width, resolve, widest_first

MODELS: dict[str, Callable[..., SlimmableClassifier]] = {
    'mobilenet_v1': MobileNetV1,
    'mobilenet_v2': MobileNetV2,
    'mnasnet': MNasNet,
    'shufflenet': ShuffleNet,
    'resnet14': partial(ResNet, stage_sizes=(1, 1, 1, 1)),
    'resnet26': partial(ResNet, stage_sizes=(2, 2, 2, 2)),
    'resnet50': partial(ResNet, stage_sizes=(3, 4, 6, 3)),
    'resnet101': partial(ResNet, stage_sizes=(3, 4, 23, 3)),
    'resnet152': partial(ResNet, stage_sizes=(3, 8, 36, 3)),
    **PUBLISHED,
}


def model_fields(name: str) -> tuple[str, ...]:
    """Returns the fields that `create_model(name)` takes.

    Raises:
        ValueError: there is no such model; the message lists them.
    """
    if name not in MODELS:
        raise ValueError(f'model={name!r}; the models are {", ".join(MODELS)}')
    cls = getattr(MODELS[name], 'func', MODELS[name])
    return tuple(
        field.name
        for field in dataclasses.fields(cls)
        if field.name not in ('parent', 'name')
    )


def create_model(name: str, **fields) -> SlimmableClassifier:
    """Returns a slimmable classifier.

    Args:
        name: one of `MODELS`.
        **fields: fields of the model, such as `num_classes` and `widths`; see
            `SlimmableClassifier` for those that all models have. Among `widths`, a
            string names one of the model's own channel tables.

    Raises:
        ValueError: an unknown model or field, or widths that do not go together.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> fields = {'widths': (0.5, 1.0), 'stage_sizes': (1,)}
        >>> model = create_model('resnet14', num_classes=10, **fields)
        >>> images = jnp.ones((2, 32, 32, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> apply = jax.jit(model.apply, static_argnames='width')
        >>> apply(variables, images, width=0.5).shape
        (2, 10)
    """
    known = model_fields(name)
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(
            f'{name} has no field {", ".join(unknown)}; its fields are '
            + ', '.join(known)
        )
    # A model is a static argument of compiled functions, so its fields are hashable.
    fields = tuples(fields)
    if 'widths' in fields:
        own = MODELS[name]().widths
        fields['widths'] = tuple(_named(name, w, own) for w in fields['widths'])
    model = MODELS[name](**fields)
    widest_first(model.widths)
    return model


def _named(name: str, width: Width | str, own: Sequence[Width]) -> Width:
    """The one of a model's own channel tables that `width` names, if it is a name."""
    if isinstance(width, str):
        return resolve(width, own)
    if isinstance(own[0], ChannelTable) and not isinstance(width, ChannelTable):
        raise ValueError(
            f'widths of {name} are channel tables, by their names '
            + ', '.join(repr(table.name) for table in own)
            + f'; {width!r} is a number'
        )
    return width
