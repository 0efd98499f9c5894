"""The backbone of a detector and its feature pyramid, as a network of their own."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float

from slimjax.detection.model import SlimmableRCNN
from slimjax.detection.network import RCNNNetwork
from slimjax.width import Width

_LAYERS = ('backbone', 'pyramid')


class PyramidBackbone(RCNNNetwork):
    """What a slimmable R-CNN computes of an image before it looks for anything in it.

    Its fields are those of the detector; `backbone_of` makes it of one.
    """

    def __call__(
        self,
        images: Float[Array, 'batch height width channels'],
        *,
        width: Width | None = None,
        train: bool = False,
    ) -> dict[str, Array]:
        """Returns the maps of the levels, `p2` to `p6`, of 1/4 to 1/64 of the sides.

        Args:
            images: normalised; their sides are multiples of 32 px.
            width: of the backbone.
            train: whether norms use the statistics of these images.
        """
        maps = self.maps(images, width=width, train=train)
        return {f'p{level}': each for level, each in enumerate(maps, start=2)}


def backbone_of(
    model: SlimmableRCNN, variables: Mapping[str, Any]
) -> tuple[PyramidBackbone, dict[str, Any]]:
    """Returns the backbone of a detector and its part of the variables.

    Args:
        model: a detector.
        variables: of the detector.

    Example:
        >>> import jax
        >>> from slimjax.detection import create_model, init_variables
        >>> fields = {'stage_sizes': (1, 1, 1, 1), 'base_features': 8, 'widths': (1.0,)}
        >>> model = create_model('faster_rcnn', 'tiny', num_classes=3, **fields)
        >>> shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
        >>> backbone, own = backbone_of(model, shapes)
        >>> images = jax.ShapeDtypeStruct((1, 64, 96, 3), 'float32')
        >>> maps = jax.eval_shape(backbone.apply, own, images)
        >>> {name: each.shape[1:3] for name, each in maps.items()}['p3']
        (8, 12)
    """
    fields = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(RCNNNetwork)
        if field.name not in ('parent', 'name')
    }
    parts = {
        name: {layer: tree[layer] for layer in _LAYERS if layer in tree}
        for name, tree in variables.items()
    }
    return PyramidBackbone(**fields), parts
