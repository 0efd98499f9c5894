"""Small networks of every family, as different within as after training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import slimjax
from slimjax.deploy.manifest import write_manifest
from slimjax.deploy.onnx_bundle import write_onnx

IMAGE = (32, 32, 3)
TINY = {'base_features': 8, 'stage_sizes': (1, 1), 'num_classes': 5}

# Their narrowest and their widest.
FAMILIES = [
    ('mobilenet_v1', (0.25, 1.0)),
    ('mobilenet_v2', (0.35, 1.0)),
    ('shufflenet', (0.5, 1.0)),
    ('mnasnet', (0.5, 1.0)),
    ('autoslim_mobilenet_v2', ('1', '3')),
    ('resnet50', (0.25, 1.0)),
]


def shapes(model, image_shape=IMAGE):
    """The shapes of a model's variables."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


def drawn(model, image_shape=IMAGE):
    """A model's variables, drawn so that logits are neither huge nor all alike."""
    generator = np.random.default_rng(0)

    def values(leaf):
        if leaf.ndim == 1:
            return generator.uniform(0.5, 1.5, leaf.shape)
        return generator.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))

    return jax.tree.map(
        lambda leaf: values(leaf).astype(leaf.dtype), shapes(model, image_shape)
    )


def pictures(count):
    """Of one colour each, which logits tell more of than of noise."""
    draw = np.random.default_rng(1)
    colours = draw.normal(size=(count, 1, 1, 3))
    return (colours + 0.2 * draw.normal(size=(count, *IMAGE))).astype(np.float32)


def tiny(**fields):
    """A network of seven convolutions, and its variables."""
    fields = {**TINY, 'widths': (0.25, 0.5, 1.0), 'small_images': True, **fields}
    model = slimjax.create_model('resnet14', **fields)
    return model, drawn(model)


def write_bundle(
    folder, model, variables, image_shape, *, kind='onnx', write=None, **facts
):
    """Writes a bundle that was neither compared with JAX nor measured.

    By default, one in ONNX that stores float32.
    """
    write = write or functools.partial(write_onnx, storage='float32')
    folder.mkdir()
    manifest = {
        'kind': kind,
        'image_shape': list(image_shape),
        **({} if 'outputs' in facts else {'num_classes': model.num_classes}),
        **write(folder, model, variables, image_shape, model.widths[::-1]),
        **facts,
    }
    write_manifest(folder, manifest)
