"""One training step of a universally slimmable network, as a program for each width.

A step of four widths out of hundreds cannot be one program, as that of `train.step` is.
So each width has its own, which adds its gradient to a sum on every device; the sum is
donated from one program to the next. The last one averages it over devices and updates.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from slimjax.insight.memory import temporary_bytes
from slimjax.models.common import SlimmableClassifier
from slimjax.norm import stats_collection
from slimjax.train.objective import accumulated, width_gradient
from slimjax.train.parallel import abstract_over_devices, averaged, pmapped
from slimjax.train.sandwich import Sandwich
from slimjax.train.state import TrainState, abstract_variables
from slimjax.train.step import (
    Batch,
    make_inputs,
    make_loss_fn,
    updated,
    width_scores,
)
from slimjax.width import widest, width_name

# What is called with the number of programs compiled, of all, and the last one's name.
Progress = Callable[[int, int, str], None]


def universal_metric_names(sandwich: Sandwich) -> tuple[str, ...]:
    """Returns the names of the metrics that are summed up: the drawn widths' mean.

    Example:
        >>> from slimjax.models.grid import WidthGrid
        >>> universal_metric_names(Sandwich(WidthGrid((0.25, 1.0), (0.5, 0.5)), 2, 0))
        ('loss/1.0', 'top1/1.0', 'loss/0.25', 'top1/0.25', 'grad_norm')
    """
    names = [width_name(sandwich.widest), width_name(sandwich.narrowest)]
    if sandwich.count > 2:
        names.insert(1, 'drawn')
    return (*(f'{m}/{name}' for name in names for m in ('loss', 'top1')), 'grad_norm')


def _title(width: float) -> str:
    return f'width {width_name(width)}'


def network_at(model: SlimmableClassifier, width: float) -> SlimmableClassifier:
    """Returns a model whose variables are those of `model`, run at `width` alone.

    The kernels stored are the widest's, scale and bias are shared; only statistics are
    a width's own, and of no use to a pass that is normalised by its batch.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('resnet14', norm='shared_affine')
        >>> network_at(model, 0.6).widths
        (1.0, 0.6)
    """
    most = widest(model.widths)
    return model.clone(widths=(most,) if width == most else (most, width))


class UniversalStep:
    """A step of sandwich training; called with its number, the state and the batch.

    The widest runs first. With `config.distill` its logits, of this very pass and the
    same augmented images, are all that the others learn from. They come out of another
    program, so that no gradient can reach the teacher. Running statistics are kept of
    the widest and the narrowest, which every step trains; those of other widths are
    for calibration.

    Args:
        model: with `norm='shared_affine'`, under the mapped axis of `train.parallel`.
        optimizer: applied once, to the gradients of all widths together.
        config: as in `make_train_step`, less `loss_weights`.
        sandwich: which widths a step trains.
        image_shape: height, width and channels of an image.
    """

    def __init__(
        self,
        model: SlimmableClassifier,
        optimizer: optax.GradientTransformation,
        config: Mapping[str, Any],
        sandwich: Sandwich,
        image_shape: tuple[int, int, int],
    ):
        self._model, self._optimizer, self._config = model, optimizer, config
        self._sandwich, self._image_shape = sandwich, image_shape
        self._factor = 1.0 if config['reduce'] == 'sum' else 1.0 / sandwich.count
        self._prepare = pmapped(self._inputs, out_axes=0)
        self._update = pmapped(self._updated, in_axes=(None, 0, 0), donate=True)
        self._programs = {}
        self._temporaries = []

    @property
    def programs(self) -> int:
        """How many widths have their program."""
        return len(self._programs)

    def __call__(
        self, step: int, state: TrainState, batch: Batch
    ) -> tuple[TrainState, dict[str, Array]]:
        """Trains the widths of step `step`, counted from 0.

        Args:
            step: number of steps done before, the `step` of the state.
            state: placed by `replicated`; its buffers are given up to the result.
            batch: with a device axis, see `split_over_devices`.

        Returns:
            The next state and the metrics, which name each width that was trained.
        """
        batch = dict(batch)
        stop = batch.pop('stop', None)
        widths = self._sandwich.widths(step)
        inputs = self._prepare(state.step, batch)
        total, scores = self._summed(state, inputs, widths)
        state, metrics = self._update(state, total, {'scores': scores, 'stop': stop})
        drawn = metrics.pop('drawn')
        # Each by its name, ahead of their mean: so that an error names the width.
        named = {
            f'{score}/{width_name(width)}': value
            for width, values in zip(widths[1:-1], drawn, strict=True)
            for score, value in values.items()
        }
        return state, named | metrics

    def _summed(
        self,
        state: TrainState,
        inputs: Mapping[str, Array],
        widths: Sequence[float],
        done: Callable[[int, float], None] = lambda count, width: None,
    ):
        """Runs `widths`, widest first; returns their sums and scores."""
        kept = self._kept(state.stats)
        total, teacher, scores = None, None, []
        for count, width in enumerate(widths, start=1):
            program = self._program(width)
            if total is None:
                total, score, teacher = program(state.params, kept, inputs)
            else:
                total, score = program(state.params, inputs, teacher, total)
            scores.append(score)
            done(count, width)
        return total, scores

    def warm_up(
        self,
        state: TrainState,
        batch: Mapping[str, Array],
        widths: Sequence[float],
        progress: Progress,
    ) -> None:
        """Compiles the programs of `widths`, and what comes before and after them.

        Several processes do so by running them once, all but the update, which is
        compiled by the first step: ahead of time, pmap takes the batch of all
        processes, which none has.

        Args:
            state: placed by `replicated`; it is not changed.
            batch: an example of a batch, of which only the shapes matter.
            widths: those that are going to be trained, widest first.
            progress: told of each program.
        """
        if jax.process_count() > 1:
            total = len(widths) + 1
            inputs = self._prepare(state.step, batch)
            progress(1, total, 'images')
            self._summed(
                state,
                inputs,
                widths,
                lambda count, width: progress(count + 1, total, _title(width)),
            )
            return
        total = len(widths) + 2
        self._prepare = self._compiled(self._prepare, state.step, batch)
        progress(1, total, 'images')
        shapes = jax.eval_shape(pmapped(self._inputs, out_axes=0), state.step, batch)
        inputs = abstract_over_devices(shapes)
        kept = self._kept(state.stats)
        first = self._mapped(widths[0])
        sums, score, teacher = abstract_over_devices(
            jax.eval_shape(first, state.params, kept, inputs)
        )
        for count, width in enumerate(widths, start=2):
            arguments = (
                (state.params, kept, inputs)
                if width == widths[0]
                else (state.params, inputs, teacher, sums)
            )
            self._programs[width] = self._compiled(self._mapped(width), *arguments)
            progress(count, total, _title(width))
        rest = {'scores': [score] * self._sandwich.count, 'stop': None}
        self._update = self._compiled(self._update, state, sums, rest)
        progress(total, total, 'update')

    def temporary_bytes(self) -> int | None:
        """Returns the memory that the largest program compiled needs for itself."""
        known = [size for size in self._temporaries if size is not None]
        return max(known, default=None)

    def _compiled(self, mapped, *arguments):
        compiled = mapped.lower(*arguments).compile()
        self._temporaries.append(temporary_bytes(compiled))
        return compiled

    def _program(self, width: float):
        if width not in self._programs:
            self._programs[width] = self._mapped(width)
        return self._programs[width]

    def _mapped(self, width: float):
        if width == self._sandwich.widest:
            return pmapped(self._first(width), in_axes=(None, None, 0), out_axes=0)
        return pmapped(
            self._adding(width), in_axes=(None, 0, 0, 0), out_axes=0, donate=(3,)
        )

    def _kept(self, stats: Mapping[str, Any]) -> dict[str, Any]:
        """The running statistics that a step changes."""
        ends = (self._sandwich.widest, self._sandwich.narrowest)
        return {name: stats[name] for name in map(stats_collection, ends)}

    def _inputs(self, step, batch):
        return make_inputs(self._model, self._config, step, batch)

    def _gradient(self, width: float) -> Callable:
        """`f(params, kept, inputs, teacher) -> (gradients, kept, result)`."""
        network = network_at(self._model, width)
        gradient = width_gradient(
            make_loss_fn(network, self._config), width, self._factor
        )
        of_parts = accumulated(
            lambda params, stats, batch: gradient(
                params, stats, batch['inputs'], batch['teacher']
            ),
            self._config['accumulate_steps'],
        )
        own = stats_collection(width)
        _, unused = abstract_variables(network, self._image_shape)

        def gradient_of(params, kept, inputs, teacher):
            before = kept.get(own)
            if before is None:
                before = jax.tree.map(
                    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), unused[own]
                )
            gradients, stats, result = of_parts(
                params, {own: before}, {'inputs': inputs, 'teacher': teacher}
            )
            kept = {name: stats.get(name, tree) for name, tree in kept.items()}
            return gradients, kept, result

        return gradient_of

    def _first(self, width: float) -> Callable:
        gradient_of, distill = self._gradient(width), self._config['distill']

        def first(params, kept, inputs):
            gradients, kept, result = gradient_of(params, kept, inputs, None)
            teacher = lax.stop_gradient(result.logits) if distill else None
            total = {'gradients': gradients, 'stats': kept}
            return total, width_scores(result, inputs['label']), teacher

        return first

    def _adding(self, width: float) -> Callable:
        gradient_of = self._gradient(width)

        def add(params, inputs, teacher, total):
            gradients, kept, result = gradient_of(
                params, total['stats'], inputs, teacher
            )
            gradients = jax.tree.map(jnp.add, total['gradients'], gradients)
            total = {'gradients': gradients, 'stats': kept}
            return total, width_scores(result, inputs['label'])

        return add

    def _updated(self, state: TrainState, total, rest):
        axis_name = self._model.axis_name
        total, scores = averaged((total, rest['scores']), axis_name)
        ends = {
            width_name(self._sandwich.widest): scores[0],
            width_name(self._sandwich.narrowest): scores[-1],
        }
        drawn = scores[1:-1]
        if drawn:
            mean = jax.tree.map(lambda *values: sum(values) / len(drawn), *drawn)
            ends['drawn'] = mean
        metrics = {
            f'{score}/{name}': value
            for name, values in ends.items()
            for score, value in values.items()
        }
        state, metrics = updated(
            state,
            self._optimizer,
            total['gradients'],
            {**state.stats, **total['stats']},
            metrics,
            self._config,
        )
        if rest['stop'] is not None:
            metrics['stop'] = lax.pmax(rest['stop'], axis_name)
        return state, {**metrics, 'drawn': drawn}
