"""How any model, slimmable or not, is called: at each of its widths, or changed."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn

from slimjax.width import Width, widest_first


def pass_keywords(
    model: nn.Module, widths: Sequence[Width] | None = None
) -> dict[Width, dict[str, Any]]:
    """Returns the keywords of an inference pass for each width, widest first.

    Args:
        model: called with images, and with `width=` and `train=` if it takes them.
        widths: None for the model's field `widths`; a model that takes no `width=`
            has the one width 1.0.

    Raises:
        ValueError: the model takes `width=` but has no field `widths`, and none are
            stated; or widths are stated that it does not take.

    Example:
        >>> import slimjax
        >>> pass_keywords(slimjax.create_model('resnet14', widths=(0.5, 1.0)))
        {1.0: {'width': 1.0, 'train': False}, 0.5: {'width': 0.5, 'train': False}}
        >>> pass_keywords(nn.Dense(10))
        {1.0: {}}
    """
    taken = inspect.signature(model.__call__).parameters
    any_keyword = any(each.kind == each.VAR_KEYWORD for each in taken.values())
    inference = {'train': False} if any_keyword or 'train' in taken else {}
    name = type(model).__name__
    if widths is None:
        widths = getattr(model, 'widths', None)
        if widths is None and 'width' in taken:
            raise ValueError(f'{name} has no field `widths`: state widths=')
        if widths is None:
            return {1.0: inference}
    if not any_keyword and 'width' not in taken:
        raise ValueError(f'{name} takes no width=, so it has no widths to tell apart')
    return {width: {'width': width, **inference} for width in widest_first(widths)}


@contextlib.contextmanager
def changed_fields(layer: nn.Module, **fields: Any) -> Iterator[None]:
    """Changes fields of a module for a while, as long as it runs.

    Modules are frozen, and the user's own object may be the one that runs: so what the
    fields held is put back.

    Example:
        >>> layer = nn.Dense(10)
        >>> with changed_fields(layer, features=5):
        ...     layer.features
        5
        >>> layer.features
        10
    """
    before = {name: getattr(layer, name) for name in fields}
    for name, value in fields.items():
        object.__setattr__(layer, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            object.__setattr__(layer, name, value)
