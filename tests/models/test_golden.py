"""US-Nets and AutoSlim against the published numbers, and all networks at 224 px."""

import jax
import numpy as np
import pytest

from tests.models import golden
from tests.models.test_published import check_published, run_slimmable


def width_of(name, key):
    """The width that the published code calls `key`."""
    return key if name.startswith('autoslim') else float(key)


def cases(names):
    """All widths of the networks; all but one of each are slow."""
    return [
        pytest.param(
            name,
            width_of(name, key),
            id=f'{name}-{key}',
            marks=[]
            if key == min(golden.NUMBERS[name], key=float)
            else pytest.mark.slow,
        )
        for name in names
        for key in golden.NUMBERS[name]
    ]


@pytest.mark.parametrize(
    ('name', 'width'), cases(n for n in golden.NUMBERS if not n.startswith('s_'))
)
def test_any_switch_computes_the_published_numbers(name, width):
    with jax.enable_x64(True):
        model = golden.model(name, conv_form='plain')
        check_published(name, width, run_slimmable(model, golden.fill(model), width))


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
