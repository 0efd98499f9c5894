"""torchvision's Mask R-CNN, as it is compared with ours."""

import jax
import numpy as np
import pytest

from slimjax.benchmark.detection import detector_config, drawn_batch
from slimjax.detection import init_variables
from slimjax.train.network import build_model

torch = pytest.importorskip('torch')
pytest.importorskip('torchvision')

from slimjax.benchmark.torchvision_loop import NarrowMaskRCNN, training_steps  # noqa: E402


def config_of(size):
    return detector_config(
        'mask_rcnn', 'torchvision', 'resnet50', batch=1, size=size, dtype='float32'
    )


@pytest.mark.parametrize('width', [0.25, 1.0])
def test_it_has_the_parameters_of_ours(width):
    config = config_of((64, 64))
    config.widths = (width,)
    model = build_model(config)
    shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    own = sum(
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes['params'])
        if 'norm' not in jax.tree_util.keystr(path)
    )
    theirs = NarrowMaskRCNN(width, (64, 64)).parameters()
    assert sum(leaf.numel() for leaf in theirs) == own


@pytest.mark.slow
def test_its_steps_stay_finite():
    config = config_of((128, 160))
    batch = drawn_batch(config, build_model(config), 1)
    steps = training_steps(batch, (0.25,), bfloat16=False, rate=1e-9)
    assert np.isfinite([steps['0.25']() for _ in range(3)]).all()
