"""What the layers of a network give: which there are, and how one channel answers.

Layers are found by running the network, so that a user's own has them as well.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from slimjax.insight.inputs import with_places
from slimjax.insight.passes import pass_keywords
from slimjax.insight.table import aligned
from slimjax.models.common import Maps
from slimjax.width import Width, width_name

Score = Literal['max', 'mean']
SCORES = ('max', 'mean')


class Layer(NamedTuple):
    """A module of a network whose output has channels.

    Attributes:
        name: its path, such as `'block1/conv'`.
        kind: its class.
        space: height and width of its output, or whatever stands between the batch and
            the channels.
        channels: how many there are at each width, widest first.
    """

    name: str
    kind: str
    space: tuple[int, ...]
    channels: dict[Width, int]


class ChannelScores(NamedTuple):
    """How one channel answers to images at one width.

    Attributes:
        images: `[images]`, the places in their split of those that could be read.
        scores: `[images]`, over space.
        places: `[images]`, where its maximum is: an index into the flattened space.
        right: `[images]`, whether the network classifies the image as labelled.
    """

    images: np.ndarray
    scores: np.ndarray
    places: np.ndarray
    right: np.ndarray


def find_layers(
    model: nn.Module, variables: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> list[Layer]:
    """Returns the layers of a network in the order in which they finish.

    Args:
        model: called with images, and with `width=` and `train=` if it takes them.
        variables: of the model, or their shapes.
        image_shape: height, width and channels.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('resnet14', widths=(0.5, 1.0), num_classes=10)
        >>> images = jax.ShapeDtypeStruct((1, 32, 32, 3), 'float32')
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> layers = find_layers(model, variables, (32, 32, 3))
        >>> layers[2].name, layers[2].space, layers[2].channels
        ('stem', (16, 16), {1.0: 64, 0.5: 32})
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = {}
    for width, keywords in pass_keywords(model).items():
        found = {}

        def see(layer, values, found=found):
            found['/'.join(layer.path)] = (type(layer).__name__, values.shape[1:])

        with outputs_seen(see):
            run = functools.partial(model.apply, **keywords)
            jax.eval_shape(run, variables, images)
        shapes[width] = found
    widest = next(iter(shapes.values()))
    return [
        Layer(
            name,
            kind,
            shape[:-1],
            {width: found[name][1][-1] for width, found in shapes.items()},
        )
        for name, (kind, shape) in widest.items()
    ]


def find_layer(layers: Iterable[Layer], name: str, channel: int) -> Layer:
    """Returns the layer of a name, if it has the channel at two widths or more.

    Raises:
        ValueError: there is none; the message names near ones, or how many channels.

    Example:
        >>> layer = Layer('stem', 'ConvNorm', (4, 4), {1.0: 8, 0.5: 4})
        >>> find_layer([layer], 'stem', 3).name
        'stem'
    """
    known = {layer.name: layer for layer in layers}
    if name not in known:
        near = [other for other in known if name in other or other in name]
        raise ValueError(
            f'there is no layer {name!r}; there are '
            + ', '.join((near or list(known))[:8])
        )
    channels = known[name].channels
    if not 0 <= channel < max(channels.values()):
        raise ValueError(
            f'channel {channel}: {name} has channels 0 to {max(channels.values()) - 1}'
        )
    return known[name]


def channel_scores(
    model: nn.Module,
    variables: Mapping[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    layer: Layer,
    channel: int,
    *,
    by: Score = 'max',
    preprocess: Callable[[Array], Array] = lambda images: images,
) -> dict[Width, ChannelScores]:
    """Returns how a channel answers to images, at each width that has it.

    Args:
        model: a slimmable classifier.
        variables: of the model.
        batches: with `'image'`, `'label'` and, where they are padded, `'mask'`.
        layer: one of `find_layers`.
        channel: its number, from 0.
        by: the maximum over space, or the mean.
        preprocess: makes the model's input of a batch's images.

    Raises:
        ValueError: no such score, or no image.
    """
    if by not in SCORES:
        raise ValueError(f'by={by!r}; allowed: {", ".join(SCORES)}')
    keywords = {
        width: own
        for width, own in pass_keywords(model).items()
        if channel < layer.channels[width]
    }

    @functools.partial(jax.jit, static_argnames='width')
    def answers(variables, images, width):
        values = []

        def see(module, output):
            if '/'.join(module.path) == layer.name:
                values.append(output)

        with outputs_seen(see):
            logits = model.apply(variables, preprocess(images), **keywords[width])
        own = values[-1][..., channel].reshape(len(images), -1)
        scores = own.max(1) if by == 'max' else own.mean(1)
        return scores, own.argmax(1), logits.argmax(1)

    found = {width: [] for width in keywords}
    for batch, kept, images in with_places(batches):
        for width in keywords:
            scores, places, classes = map(
                np.asarray, answers(variables, batch['image'], width)
            )
            right = classes == batch['label']
            found[width].append((images, scores[kept], places[kept], right[kept]))
    if not all(found.values()):
        raise ValueError('there is no image')
    return {
        width: ChannelScores(*map(np.concatenate, zip(*parts, strict=True)))
        for width, parts in found.items()
    }


def layer_lines(layers: Iterable[Layer]) -> list[str]:
    """Returns a table of layers.

    Example:
        >>> print(*layer_lines([Layer('stem', 'ConvNorm', (4, 4), {1.0: 8, 0.5: 4})]))
        stem  ConvNorm  4 x 4  channels 1.0: 8, 0.5: 4
    """
    rows = [
        (
            layer.name,
            layer.kind,
            ' x '.join(map(str, layer.space)),
            'channels '
            + ', '.join(
                f'{width_name(width)}: {count}'
                for width, count in layer.channels.items()
            ),
        )
        for layer in layers
    ]
    return aligned(rows)


@contextlib.contextmanager
def outputs_seen(see: Callable[[nn.Module, Array], None]) -> Iterator[None]:
    """Calls `see(module, output)` after each module's call, if it has channels."""

    def interceptor(call, args, kwargs, context):
        output = call(*args, **kwargs)
        values = output.values if isinstance(output, Maps) else output
        if (
            context.method_name == '__call__'
            and context.module.path
            and getattr(values, 'ndim', 0) >= 2
        ):
            see(context.module, values)
        return output

    with nn.intercept_methods(interceptor):
        yield
