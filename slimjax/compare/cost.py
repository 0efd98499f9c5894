"""What training a network costs, in multiply-adds."""

import functools

from slimjax.insight.cost import width_costs
from slimjax.models import SlimmableClassifier
from slimjax.train.run import Run
from slimjax.train.step import trained_widths
from slimjax.width import Width, canonical

# A training pass: forward, and backward to the inputs and to the kernels.
TRAINING_PASSES = 3


@functools.cache
def forward_macs(
    model: SlimmableClassifier, image_shape: tuple[int, int, int]
) -> dict[Width, int]:
    """Returns the multiply-adds of each width for one image, widest first.

    Args:
        model: under no mapped axis.
        image_shape: height, width and channels.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('resnet14', widths=(0.5, 1.0))
        >>> list(forward_macs(model, (32, 32, 3)))
        [1.0, 0.5]
    """
    costs = width_costs(model, image_shape)
    return {canonical(width): cost.macs for width, cost in costs.items()}


def training_macs(run: Run, teacher_macs: int = 0) -> int:
    """Returns the multiply-adds of all training passes of a run.

    Each image of each step counts three times the forward pass of every width that the
    step trains. What the widths share, as the convolution of the images, is counted
    for each; evaluation and calibration are not counted.

    Args:
        run: whose steps are counted.
        teacher_macs: of the forward pass of a trained teacher, once an image.
    """
    model = run.model.clone(axis_name=None)
    if run.sandwich is None:
        every = forward_macs(model, run.image_shape)
        macs = [every[width] for width in trained_widths(run.model.widths, run.config)]
        passes = run.total_steps * sum(macs)
        if run.config.reduce == 'in_turn':
            passes = sum(macs[step % len(macs)] for step in range(run.total_steps))
    else:
        drawn = run.sandwich.all_widths(range(run.total_steps))
        macs = forward_macs(model.clone(widths=drawn), run.image_shape)
        passes = sum(
            macs[canonical(width)]
            for step in range(run.total_steps)
            for width in run.sandwich.widths(step)
        )
    images = run.config.batch_size
    return images * (TRAINING_PASSES * passes + run.total_steps * teacher_macs)
