"""Which layers of a network a search can switch channels off in."""

import contextlib
from collections.abc import Iterable, Iterator

import flax.linen as nn

from slimjax.group_norm import SwitchableGroupNorm
from slimjax.layer_norm import SlimLayerNorm
from slimjax.layers import layer_path
from slimjax.models.common import ConvNorm


@contextlib.contextmanager
def noting_masked() -> Iterator[set[str]]:
    """Yields the paths of the layers that can be masked, as a network is traced.

    Raises:
        ValueError: a norm over channels, whose statistics zeros would change.

    Example:
        >>> import slimjax
        >>> from slimjax.models.slim_layers import slim_layers
        >>> model = slimjax.create_model('mobilenet_v1', widths=(0.5, 1.0))
        >>> with noting_masked() as masked:
        ...     layers = slim_layers(model, (32, 32, 3))
        >>> set(layers) <= masked
        True
    """
    masked = set()

    def note(call, args, kwargs, context):
        layer = context.module
        if isinstance(layer, SlimLayerNorm | SwitchableGroupNorm):
            raise ValueError(
                f'{layer_path(layer)}: a search puts zeros in place of channels, which '
                f'change the statistics of a {type(layer).__name__}'
            )
        if isinstance(layer, ConvNorm):
            masked.add('/'.join((*layer.path, 'conv')))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        yield masked


def check_masked(layers: Iterable[str], masked: set[str]) -> None:
    """Checks that a search can change the channels of layers.

    Args:
        layers: the paths of those that have channels of their own at each width.
        masked: what `noting_masked` yielded.

    Raises:
        ValueError: others are among them.
    """
    others = [path for path in layers if path not in masked]
    if others:
        raise ValueError(
            f'{", ".join(others)}: a search changes the channels of convolutions in '
            'slimjax.models.common.ConvNorm alone; make others of it, or set their '
            'slim_output=False'
        )
