"""A trained network that teaches another: the control of in-place distillation."""

from collections.abc import Callable

from jax import Array

from slimjax.config import about_field
from slimjax.train.parallel import pmapped, replicated
from slimjax.train.run import Run
from slimjax.train.state import TrainState
from slimjax.train.step import Batch, make_inputs
from slimjax.train.trained import open_network
from slimjax.width import widest

# What the two networks must have in common: a teacher that was trained on other folds
# knows the student's test images, or those that are kept for a search.
_SAME = (
    'image_size',
    'image_channels',
    'mean',
    'std',
    'num_classes',
    'folds',
    'fold',
    'search_share',
)


class Teacher:
    """The widest width of the run in `config.teacher`, whose weights are fixed.

    The softmax of its logits on the very images that the student sees is all that the
    student learns from, as in in-place distillation. It is in evaluation mode, since it
    has statistics: it does not depend on the rest of the batch.

    Args:
        run: of the student.

    Raises:
        ValueError: there is no checkpoint, or the teacher takes other images or knows
            other classes.
    """

    def __init__(self, run: Run):
        workdir = run.config.teacher
        with about_field(run.config, 'teacher'):
            trained = open_network(workdir)
            if trained.config is None:
                raise ValueError(
                    f'{workdir} was imported, and does not say what images it is for: '
                    'train or calibrate it first'
                )
        own, theirs = (
            {name: each[name] for name in _SAME}
            for each in (run.config, trained.config)
        )
        own |= {'class_names': list(run.source('train').class_names)}
        theirs |= {'class_names': trained.class_names}
        for name, value in theirs.items():
            if value != own[name]:
                raise ValueError(
                    f'config.teacher={workdir!r} has {name}={value}; the network that '
                    f'it is to teach has {own[name]}'
                )
        self._student, self._model = run, trained.model
        self._variables = replicated(trained.variables)
        self._logits = pmapped(self._taught, in_axes=(None, None, 0), out_axes=0)

    def step(
        self, train_step: Callable[[int, TrainState, Batch], tuple]
    ) -> Callable[[int, TrainState, Batch], tuple]:
        """Returns a training step whose batches have the teacher's logits.

        Args:
            train_step: what `Run.train_step` returns.
        """

        def step(done, state, batch):
            logits = self._logits(self._variables, state.step, batch)
            return train_step(done, state, {**batch, 'teacher': logits})

        return step

    def _taught(self, variables, step, batch) -> Array:
        images = make_inputs(self._student.model, self._student.config, step, batch)
        width = widest(self._model.widths)
        logits = self._model.apply(variables, images['image'], width=width, train=False)
        return logits.astype(self._student.config.dtype)
