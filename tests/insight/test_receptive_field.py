"""What a value sees, against the gradient and against arithmetic."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import slimjax as sj
from slimjax.insight.activations import find_layers, outputs_seen
from slimjax.insight.receptive_field import ReceptiveFields, receptive_fields


class Net(nn.Module):
    """A dilated kernel, odd pads, a stride, a depthwise branch, two kinds of norm."""

    widths: tuple = (0.5, 1.0)

    @nn.compact
    def __call__(self, x, *, width=1.0):
        dilated = sj.SlimConv(8, 3, kernel_dilation=2, padding=((0, 2), (1, 1)))
        x = dilated(x, width=width)
        x = nn.relu(sj.SwitchableBatchNorm(self.widths)(x, width=width))
        y = sj.SlimConv(8, (1, 5), strides=(1, 2), feature_group_count=8)(
            x, width=width
        )
        x = sj.SlimConv(8, 1, strides=(1, 2), name='aside')(x, width=width)
        return sj.SlimLayerNorm(name='sum')(x + y, width=width)


def layer_of(model, variables, shape, name):
    (found,) = [x for x in find_layers(model, variables, shape) if x.name == name]
    return found


def seen_by_gradient(model, variables, name, shape, place):
    """The extent of the gradients of all channels at a place, over some images."""
    images = jax.random.normal(jax.random.key(1), (16, *shape))

    def value(images):
        values = []

        def see(module, output):
            if '/'.join(module.path) == name:
                values.append(output)

        with outputs_seen(see):
            model.apply(variables, images)
        flat = values[-1].reshape(len(images), -1, values[-1].shape[-1])
        return jnp.sin(flat[:, place]).sum()

    used = np.any(np.asarray(jax.jit(jax.grad(value))(images)) != 0, axis=(0, 3))
    rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def test_pads_strides_dilation_and_branches_are_followed():
    shape = (12, 14, 3)
    model = Net()
    variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, *shape)))
    layer = layer_of(model, variables, shape, 'sum')
    fields = receptive_fields(model, variables, layer, shape)
    rows, columns = layer.space
    assert (rows, columns) == (10, 6)
    for row in (0, 4, 9):
        for column in (0, 3, 5):
            # 5 rows from the place on; 5 pixels of 2 each way, seen 2 apart.
            middle = 2 * column
            expected = (
                row,
                min(row + 5, 12),
                max(middle - 3, 0),
                min(middle + 6, 14),
            )
            assert fields.box(row * columns + column) == expected, (row, column)


def test_the_field_is_where_the_gradient_is():
    shape, layer = (32, 32, 3), 'stage1_block1'  # behind a max-pool
    model = sj.create_model('resnet14', num_classes=10, base_features=16)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, *shape)))
    found = layer_of(model, variables, shape, layer)
    boxes = receptive_fields(model, variables, found, shape)
    rows, columns = found.space
    for place in (0, (rows // 2) * columns + columns // 2):
        expected = seen_by_gradient(model, variables, layer, shape, place)
        assert boxes.box(place) == expected


def test_what_sees_nothing_is_shown_the_whole_image():
    blind = ReceptiveFields(np.zeros((4, 2, 2), bool), np.zeros((6, 2, 2), bool))
    assert blind.box(3) == (0, 4, 0, 6)
