"""US-Nets and AutoSlim against the published numbers, and all networks at 224 px."""

import jax
import numpy as np
import pytest

from tests.models import golden
from tests.models.test_published import check_published, run_slimmable
from tests.slow import slow_but


def width_of(name, key):
    """The width that the published code calls `key`."""
    return key if name.startswith('autoslim') else float(key)


OTHERS = [name for name in golden.NUMBERS if not name.startswith('s_')]
# Compiled in seconds, for one US-Net and one of AutoSlim; all others are slow.
QUICK = ('us_mobilenet_v1', 'autoslim_mobilenet_v1')


def cases():
    """All widths of the US-Nets and of AutoSlim."""
    for name in OTHERS:
        for key in golden.NUMBERS[name]:
            yield name, width_of(name, key)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'width'), cases())
def test_a_width_computes_the_published_numbers(name, width):
    with jax.enable_x64(True):
        # A plain depthwise convolution compiles faster; one of 5x5 takes long to run.
        form = 'auto' if name == 'autoslim_mnasnet' else 'plain'
        model = golden.model(name, conv_form=form)
        check_published(name, width, run_slimmable(model, golden.fill(model), width))


@pytest.mark.parametrize('name', slow_but(OTHERS, *QUICK))
def test_the_narrowest_gives_the_published_logits(name):
    key = min(golden.NUMBERS[name], key=float)
    with jax.enable_x64(True):
        model = golden.model(name)
        apply = jax.jit(model.apply, static_argnames='width')
        images = golden.images()[:2]
        logits = apply(golden.fill(model), images, width=width_of(name, key))
    expected = golden.NUMBERS[name][key]['eval_logits']
    np.testing.assert_allclose(logits, expected, rtol=2e-7, atol=2e-8)


@pytest.mark.slow
@pytest.mark.parametrize('name', golden.NUMBERS)
def test_images_of_224_px_give_the_published_logits(name):
    with jax.enable_x64(True):
        model = golden.model(name, num_classes=1000)
        variables = golden.fill(model)
        image = golden.images(count=1, size=224)
        for key, numbers in golden.NUMBERS[name].items():
            expected = numbers['eval_224']
            apply = jax.jit(model.apply, static_argnames='width')
            (logits,) = apply(variables, image, width=width_of(name, key))
            np.testing.assert_allclose(
                logits[:10], expected['first_logits'], rtol=1e-6, atol=1e-8
            )
            # The sum cancels: its error is that of all thousand logits.
            np.testing.assert_allclose(
                logits.sum(),
                expected['sum'],
                rtol=1e-6,
                atol=1e-9 * np.abs(logits).sum(),
            )
            assert [int(logits.argmax())] == np.ravel(expected['argmax']).tolist()
