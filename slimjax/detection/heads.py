"""The heads of the R-CNNs, whole at every width (paper, Table 5)."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from slimjax.detection.doubling import Doubling
from slimjax.dtypes import at_least_float32
from slimjax.layers import SlimConv, SlimDense

Init = Callable[..., Array]
he_normal = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class ProposalHead(nn.Module):
    """Says of each anchor whether it is an object, and where (Faster R-CNN, 3.1).

    The same layers run on all levels.

    Attributes:
        anchors: of a cell.
        conv: `SlimConv` with the model's settings.

    Example:
        >>> import functools
        >>> import jax.numpy as jnp
        >>> head = ProposalHead(3, functools.partial(SlimConv, slim_output=False))
        >>> maps = [jnp.ones((2, 4, 4, 8)), jnp.ones((2, 2, 2, 8))]
        >>> logits, deltas = jax.eval_shape(
        ...     lambda: head.init_with_output(jax.random.key(0), maps)[0])
        >>> logits[0].shape, deltas[1].shape
        ((2, 48), (2, 12, 4))
    """

    anchors: int
    conv: Callable[..., SlimConv]

    @nn.compact
    def __call__(
        self, maps: Sequence[Float[Array, 'batch _height _width channels']]
    ) -> tuple[list[Array], list[Array]]:
        init = {'kernel_init': nn.initializers.normal(0.01)}
        hidden = self.conv(maps[0].shape[-1], 3, name='conv', **init)
        objectness = self.conv(self.anchors, 1, name='objectness', **init)
        boxes = self.conv(4 * self.anchors, 1, name='boxes', **init)
        logits, deltas = [], []
        for each in maps:
            shared = nn.relu(hidden(each))
            batch = each.shape[0]
            logits.append(_wide(objectness(shared)).reshape(batch, -1))
            deltas.append(_wide(boxes(shared)).reshape(batch, -1, 4))
        return logits, deltas


class BoxHead(nn.Module):
    """Says what each proposal is and where, a box a class.

    Attributes:
        num_classes: the background, which is class 0, included.
        features: of both hidden layers.
        dense: `SlimDense` with the model's settings.
        kernel_init: initialiser of the hidden layers' kernels.

    Example:
        >>> import functools
        >>> import jax.numpy as jnp
        >>> head = BoxHead(3, 16, functools.partial(SlimDense, slim_output=False),
        ...                nn.initializers.lecun_normal())
        >>> features = jnp.ones((2, 5, 7, 7, 8))
        >>> found = jax.eval_shape(
        ...     lambda: head.init_with_output(jax.random.key(0), features)[0])
        >>> [each.shape for each in found]
        [(2, 5, 3), (2, 5, 3, 4)]
    """

    num_classes: int
    features: int
    dense: Callable[..., SlimDense]
    kernel_init: Init

    @nn.compact
    def __call__(
        self, features: Float[Array, 'batch boxes size size channels']
    ) -> tuple[
        Float[Array, 'batch boxes classes'], Float[Array, 'batch boxes classes 4']
    ]:
        hidden = features.reshape(*features.shape[:2], -1)
        for name in ('hidden1', 'hidden2'):
            layer = self.dense(self.features, kernel_init=self.kernel_init, name=name)
            hidden = nn.relu(layer(hidden))
        classes = self.dense(
            self.num_classes, kernel_init=nn.initializers.normal(0.01), name='classes'
        )
        boxes = self.dense(
            4 * self.num_classes,
            kernel_init=nn.initializers.normal(0.001),
            name='boxes',
        )
        logits, deltas = _wide(classes(hidden)), _wide(boxes(hidden))
        return logits, deltas.reshape(*deltas.shape[:2], self.num_classes, 4)


class MaskHead(nn.Module):
    """Logits of a mask a class, twice as fine as the features (Mask R-CNN, figure 4).

    Attributes:
        num_classes: the background, which is class 0, included.
        features: of each convolution.
        conv: `SlimConv` with the model's settings.
        kernel_init: initialiser of the last layer's kernel.
        upsample: `Doubling` with the model's settings.

    Example:
        >>> import functools
        >>> import jax.numpy as jnp
        >>> conv = functools.partial(SlimConv, slim_output=False)
        >>> head = MaskHead(3, (8,), conv, nn.initializers.normal(0.001))
        >>> features = jnp.ones((2, 5, 14, 14, 8))
        >>> jax.eval_shape(
        ...     lambda: head.init_with_output(jax.random.key(0), features)[0]).shape
        (2, 5, 28, 28, 3)
    """

    num_classes: int
    features: Sequence[int]
    conv: Callable[..., SlimConv]
    kernel_init: Init
    upsample: Callable[..., Doubling] = Doubling

    @nn.compact
    def __call__(
        self, features: Float[Array, 'batch boxes size size channels']
    ) -> Float[Array, 'batch boxes new new classes']:
        hidden = _stack(self.conv, self.features, features)
        hidden = self.upsample(self.features[-1], name='upsample')(hidden)
        logits = self.conv(
            self.num_classes, 1, kernel_init=self.kernel_init, name='masks'
        )(nn.relu(hidden))
        return _wide(logits).reshape(*features.shape[:2], *logits.shape[1:])


class KeypointHead(nn.Module):
    """Logits of each keypoint's place in a box, four times as fine as the features.

    Attributes:
        keypoints: their number.
        features: of each convolution.
        conv: `SlimConv` with the model's settings.
        upsample: `Doubling` likewise.

    Example:
        >>> import functools
        >>> import jax.numpy as jnp
        >>> conv = functools.partial(SlimConv, slim_output=False)
        >>> head, features = KeypointHead(17, (8,), conv), jnp.ones((2, 5, 14, 14, 8))
        >>> jax.eval_shape(
        ...     lambda: head.init_with_output(jax.random.key(0), features)[0]).shape
        (2, 5, 56, 56, 17)
    """

    keypoints: int
    features: Sequence[int]
    conv: Callable[..., SlimConv]
    upsample: Callable[..., Doubling] = Doubling

    @nn.compact
    def __call__(
        self, features: Float[Array, 'batch boxes size size channels']
    ) -> Float[Array, 'batch boxes new new keypoints']:
        hidden = _stack(self.conv, self.features, features)
        logits = self.upsample(self.keypoints, taps=4, name='upsample')(hidden)
        batch, height, width, keypoints = logits.shape
        logits = jax.image.resize(
            _wide(logits), (batch, 2 * height, 2 * width, keypoints), 'bilinear'
        )
        return logits.reshape(*features.shape[:2], *logits.shape[1:])


def _stack(conv, features: Sequence[int], inputs: Array) -> Array:
    """3x3 convolutions of all boxes of all images."""
    hidden = inputs.reshape(-1, *inputs.shape[2:])
    for number, each in enumerate(features, start=1):
        layer = conv(each, 3, kernel_init=he_normal, name=f'conv{number}')
        hidden = nn.relu(layer(hidden))
    return hidden


def _wide(outputs: Array) -> Array:
    """What the losses are computed from: never less than float32."""
    return outputs.astype(at_least_float32(outputs.dtype))
