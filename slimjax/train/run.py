"""A run: a checked config with its data, model, optimiser and mapped functions."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
import optax
from jax import Array

from slimjax.channel_file import with_channels
from slimjax.config import check
from slimjax.data import pipeline
from slimjax.data.sources import load_source
from slimjax.evaluate import Results, evaluate, make_eval_step
from slimjax.insight.memory import temporary_bytes
from slimjax.train import report
from slimjax.train.calibration import RunCalibration
from slimjax.train.frozen import freeze
from slimjax.train.limits import check_batch, check_memory
from slimjax.train.network import build_model
from slimjax.train.optimizer import make_optimizer
from slimjax.train.parallel import (
    AXIS,
    pmapped,
    shared_between_devices,
    split_over_devices,
)
from slimjax.train.sandwich import make_sandwich
from slimjax.train.schedule import Clock, learning_rate
from slimjax.train.state import TrainState, create_state
from slimjax.train.step import Batch, make_train_step, metric_names
from slimjax.train.universal import UniversalStep, universal_metric_names
from slimjax.width import width_name


class Run:
    """All that a config means, ready to run.

    Attributes:
        config: the checked config.
        model: the network, under the mapped axis.
        sandwich: which widths a step trains; None for all of the model's.
        calibration: computes statistics from the training images.
        optimizer: as configured.
        schedule: learning rate of each step.
        clock: converts durations to steps.
        metric_names: what a training step returns.
        total_steps: steps of the whole run.
        log_steps, eval_steps, checkpoint_steps: intervals.

    Raises:
        ValueError: a config that cannot run, before anything is compiled.
    """

    def __init__(self, config: ml_collections.ConfigDict):
        check(config)
        self.config = with_channels(config)
        self.local_batch = shared_between_devices(config.batch_size)
        shared_between_devices(config.eval_batch_size, 'eval_batch_size')
        check_batch(config)
        self.model = build_model(config, axis_name=AXIS)
        check_memory(config, self.model, self.image_shape)
        self._sources = {}
        train = self.source('train')
        self.clock = Clock(len(train), config.batch_size)
        self.schedule = learning_rate(config, self.clock)
        self.sandwich = make_sandwich(
            config, self.model.clone(axis_name=None), self.image_shape
        )
        self.optimizer = self._optimizer()
        self.metric_names = self._metric_names()
        scheduled = self.clock.steps(config, 'train')
        self.total_steps = min(scheduled, config.num_train_steps or scheduled)
        self.calibration = RunCalibration(self)
        never = self.total_steps + 1
        self.log_steps = self.clock.steps(config, 'log') or never
        self.eval_steps = self.clock.steps(config, 'eval') or never
        self.checkpoint_steps = self.clock.steps(config, 'checkpoint') or never

    def _optimizer(self) -> optax.GradientTransformation:
        optimizer = make_optimizer(self.config, self.schedule)
        if frozen := self.config.frozen_width:
            return freeze(optimizer, self.model, frozen, self.image_shape)
        return optimizer

    def _metric_names(self) -> tuple[str, ...]:
        if self.sandwich is None:
            return metric_names(self.model.widths, self.config)
        return universal_metric_names(self.sandwich)

    def source(self, split: str):
        """Returns the examples of `'train'`, `'validation'`, `'test'` or `'search'`."""
        if split not in self._sources:
            config = self.config
            source = load_source(
                config.dataset,
                split,
                config.data_dir,
                synthetic=(config.num_classes, config.image_channels),
                folds=config.folds,
                fold=config.fold,
                search_share=config.search_share,
            )
            found = len(source.class_names)
            if found != config.num_classes:
                raise ValueError(
                    f'config.num_classes={config.num_classes}, but {config.dataset} '
                    f'has {found} classes'
                )
            self._sources[split] = source
        return self._sources[split]

    @functools.cached_property
    def image_shape(self) -> tuple[int, int, int]:
        size = self.config.image_size
        return size, size, self.config.image_channels

    def check_from_scratch(self) -> None:
        """Refuses a run that cannot start from weights drawn at random.

        Raises:
            ValueError: of a frozen width, they would stay as they were drawn.
        """
        if frozen := self.config.frozen_width:
            raise ValueError(
                f"config.frozen_width={frozen}: with init_from='', the frozen weights "
                'are drawn at random and stay so; start from a trained network'
            )

    def new_state(self) -> TrainState:
        """Returns the state at step 0."""
        return create_state(
            self.model.clone(axis_name=None),
            self.optimizer,
            self.image_shape,
            self.metric_names,
            seed=self.config.seed,
            average=bool(self.config.ema_decay),
        )

    def train_reader(self, start_step: int):
        """Returns an iterator over this process's part of the batches to come."""
        config = self.config
        return pipeline.train_batches(
            self.source('train'),
            self._format,
            batch_size=config.batch_size,
            seed=config.seed,
            start_step=start_step,
            augmentation=pipeline.Augmentation(
                config.crop_scale, config.crop_ratio, config.pad, config.flip
            ),
            reading=self._reading,
            bad_image_limit=config.bad_image_limit,
        )

    def eval_reader(self, source):
        """Returns an iterator over this process's part of a source, each image once."""
        return pipeline.eval_batches(
            source,
            self._format,
            batch_size=self.config.eval_batch_size,
            resize=self.config.eval_resize,
            reading=self._reading,
            bad_image_limit=self.config.bad_image_limit,
        )

    @functools.cached_property
    def _format(self) -> pipeline.Format:
        config = self.config
        return pipeline.Format(
            config.image_size, config.image_channels, config.exif_rotation
        )

    @functools.cached_property
    def _reading(self) -> pipeline.Reading:
        return pipeline.Reading(
            jax.process_index(),
            jax.process_count(),
            self.config.num_workers,
            self.config.num_threads,
        )

    def train_step(
        self, state: TrainState, start: int, say: Callable[[str], None]
    ) -> Callable[[int, TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
        """Returns the mapped training step; compiles it and says what memory it needs.

        Several processes do not know that memory, and compile the step of an S-Net with
        its first call.

        Args:
            state: placed by `replicated`.
            start: number of steps done.
            say: prints a line for a person.

        Returns:
            `step(done, state, batch)`, where `done` is the number of steps before it.
        """
        if self.sandwich is not None:
            return self._universal_step(state, start, say)
        step = pmapped(
            make_train_step(self.model, self.optimizer, self.config), donate=True
        )
        # Ahead of time, pmap takes the batch of all processes, which none has.
        if jax.process_count() == 1:
            step = step.lower(state, self._blank_batch()).compile()
            say(report.memory_line(temporary_bytes(step), state))
        return lambda done, state, batch: step(state, batch)

    def _universal_step(self, state, start, say) -> UniversalStep:
        step = UniversalStep(
            self.model, self.optimizer, self.config, self.sandwich, self.image_shape
        )
        widths = self.sandwich.all_widths(range(start, self.total_steps))
        bar = report.Bar(say)
        step.warm_up(state, self._blank_batch(), widths, bar)
        say(f'{step.programs} widths will be trained, {bar.done} programs are compiled')
        if jax.process_count() == 1:
            say(report.memory_line(step.temporary_bytes(), state, state.params))
        return step

    def _blank_batch(self):
        config, size = self.config, self.local_batch
        blank = {
            'image': np.zeros((size, *self.image_shape), np.uint8),
            'label': np.zeros(size, np.int32),
        }
        if config.teacher:
            blank['teacher'] = np.zeros((size, config.num_classes), config.dtype)
        return split_over_devices(blank)

    @functools.cached_property
    def _eval_step(self):
        return pmapped(make_eval_step(self.model, self.config))

    def evaluate(self, params: Any, stats: Any, split: str) -> Results:
        """Returns the scores of every width; the trees are placed by `replicated`."""
        reader = self.eval_reader(self.source(split))
        try:
            return evaluate(self._eval_step, {'params': params, **stats}, reader)
        finally:
            reader.close()

    def score(self, results: Results) -> float:
        """Returns the number by which checkpoints are compared; higher is better."""
        metric, _, width = self.config.best_metric.partition('/')
        names = [width] if width else list(results)
        mean = sum(results[name][metric] for name in names) / len(names)
        return -mean if metric == 'loss' else mean

    def results_line(self, results: Results) -> str:
        """Returns the accuracies of all widths in one line."""
        return report.accuracy_line('top-1', 'top1', results)

    @functools.cached_property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint tells of its run; asked of git and the packages once."""
        source = self.source('train')
        return {
            'model': self.config.model,
            'widths': [width_name(width) for width in self.model.widths],
            'averaged': bool(self.config.ema_decay),
            'config': report.jsonable(self.config),
            'class_names': list(source.class_names),
            'data': self.fingerprint,
            'examples': len(source),
            'versions': report.versions(),
            'git_commit': report.git_commit(),
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names the order of the training data."""
        return pipeline.fingerprint(self.source('train'), seed=self.config.seed)
