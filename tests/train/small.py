"""A network that compiles in a second, for tests of what is around it."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

import slimjax as sj

WIDTHS = (0.25, 0.5, 1.0)


class Net(nn.Module):
    """Two convolutions and a classifier."""

    widths: tuple = WIDTHS
    norm: str = 'private'
    norm_batch: int | str = 'device'
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, width=1.0, train=False):
        options = {'dtype': self.dtype, 'param_dtype': self.dtype}
        for channels in (8, 16):
            x = sj.SlimConv(channels, (3, 3), strides=2, **options)(x, width=width)
            norm = sj.SwitchableBatchNorm(
                self.widths,
                mode=self.norm,
                norm_batch=self.norm_batch,
                axis_name=self.axis_name,
                param_dtype=self.dtype,
            )
            x = nn.relu(norm(x, width=width, train=train))
        dense = sj.SlimDense(4, slim_output=False, **options)
        return dense(x.mean((1, 2)), width=width)


@functools.cache
def problem(**fields):
    """Returns a network, its parameters, statistics, a batch and a loss function."""
    model = Net(**fields)
    images = jax.random.normal(jax.random.key(1), (8, 8, 8, 3), model.dtype)
    batch = {'image': images, 'label': jnp.arange(8) % 4}
    variables = jax.jit(model.clone(axis_name=None).init)(jax.random.key(0), images)

    def loss_fn(params, stats, batch, *, width, teacher=None):
        logits, stats = sj.apply_train(
            model, params, stats, batch['image'], width=width
        )
        return sj.cross_entropy(logits, batch['label'], teacher), sj.Aux(stats, logits)

    return model, *sj.split_variables(variables), batch, loss_fn
