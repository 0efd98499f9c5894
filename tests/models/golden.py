"""What the published PyTorch networks compute on parameters that anyone can draw.

Each parameter and statistic is drawn by NumPy from a seed that is the checksum of its
name in the published checkpoint. `golden.json` keeps what the published code, run in
float64, made of them: for each width the logits of two images in evaluation, and of
four in training the loss, the logits, sums of absolute gradients and running means.
"""

import json
import pathlib
import zlib

import numpy as np

from slimjax.width import width_name
from tests.models.copying import at, kernel_of, units

NUMBERS = json.loads(pathlib.Path(__file__).with_suffix('.json').read_text())
LABELS = (1, 2, 3, 4)


def images():
    """Four images; the first two are those of evaluation."""
    drawn = np.random.RandomState(7).standard_normal((4, 3, 64, 64))
    return drawn.transpose(0, 2, 3, 1)


def draw(key, shape):
    """The published array called `key`, in PyTorch's layout."""
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    values = rng.standard_normal(int(np.prod(shape))).reshape(shape)
    if len(shape) == 4:
        return values * np.sqrt(2 / np.prod(shape[1:]))
    if len(shape) == 2 or key == 'classifier.0.bias':
        return 0.05 * values
    if key.endswith('running_var'):
        return np.exp(0.2 * values)
    return 1 + 0.1 * values if key.endswith('weight') else 0.1 * values


def published_units(name):
    """Names of each convolution and its BatchNorm, in the order in which they run."""
    body = {'mobilenet_v1': (0, 3)}.get(name, (0, 3, 6))
    if name == 'shufflenet':
        yield from ((f'head_{group}.0', f'head_{group}.1') for group in range(3))
        for block in (f'features.{number}' for number in range(16)):
            yield from ((f'{block}.a_{g}.0', f'{block}.a_{g}.1') for g in range(3))
            yield f'{block}.b.1', f'{block}.b.2'
            yield from ((f'{block}.c_{g}.0', f'{block}.c_{g}.1') for g in range(3))
        return
    yield 'features.0.0', 'features.0.1'
    blocks = {'mobilenet_v1': 13, 'mobilenet_v2': 17, 'resnet50': 16}[name]
    for number in range(1, blocks + 1):
        block = f'features.{number}'
        # The first block of MobileNet v2 does not expand.
        short = name == 'mobilenet_v2' and number == 1
        for layer in body[: 2 if short else None]:
            yield f'{block}.body.{layer}', f'{block}.body.{layer + 1}'
        if name == 'resnet50' and number in (1, 4, 8, 14):
            yield f'{block}.shortcut.0', f'{block}.shortcut.1'
    if name == 'mobilenet_v2':
        yield 'features.18.0', 'features.18.1'


def fill(name, widths, variables):
    """Variables like `variables`, with the published network's values."""
    published = published_units(name)
    filled = {collection: {} for collection in variables}
    params = variables['params']
    places = {width_name(width): i for i, width in enumerate(sorted(widths))}

    def put(collection, path, leaves):
        tree = filled[collection]
        for part in path:
            tree = tree.setdefault(part, {})
        tree.update(leaves)

    for path, groups in units(name, params):
        keys = [next(published) for _ in range(groups)]
        (stored_as,) = at(params, path)['conv']
        height, width, inputs, outputs = kernel_of(params, path).shape
        shape = (outputs // groups, inputs, height, width)
        kernels = [draw(f'{conv}.weight', shape) for conv, _ in keys]
        kernel = np.concatenate(kernels).transpose(2, 3, 1, 0)
        put('params', (*path, 'conv'), {stored_as: kernel})
        for own, leaves in at(params, path)['norm'].items():
            # The tail of MobileNet v2 has one BatchNorm for all widths.
            shared = own == 'affine'
            middle = '' if shared else f'.bn.{places[own]}'
            size = (leaves['scale'].size // groups,)

            def together(leaf, keys=keys, middle=middle, size=size):
                parts = [draw(f'{norm}{middle}.{leaf}', size) for _, norm in keys]
                return np.concatenate(parts)

            affine = {'scale': together('weight'), 'bias': together('bias')}
            put('params', (*path, 'norm', own), affine)
            collection = 'batch_stats' if shared else f'batch_stats_{own}'
            moments = {'mean': together('running_mean'), 'var': together('running_var')}
            put(collection, (*path, 'norm'), moments)
    assert next(published, None) is None
    inputs, classes = params['classifier']['kernel'].shape
    filled['params']['classifier'] = {
        'kernel': draw('classifier.0.weight', (classes, inputs)).T,
        'bias': draw('classifier.0.bias', (classes,)),
    }
    return filled
