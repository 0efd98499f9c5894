"""A run of a detector: what the training loop asks of it, as of a classifier's."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax import Array

from slimjax.data.coco_format.annotations import Category
from slimjax.data.coco_format.batches import (
    detection_eval_batches,
    detection_fingerprint,
    detection_train_batches,
)
from slimjax.data.coco_format.formats import choose_buckets
from slimjax.data.coco_format.source import CocoSource, trainable
from slimjax.data.coco_format.transform import blank_example
from slimjax.detection.configuration import KINDS, reads_of, split_metric
from slimjax.detection.evaluate import detect_all, metrics_of, score_all
from slimjax.detection.network import Batch
from slimjax.detection.results import ResultsFormat
from slimjax.detection.settings import Settings
from slimjax.detection.train import (
    detection_metric_names,
    keeping_frozen,
    make_detection_step,
)
from slimjax.evaluate import Results
from slimjax.insight.memory import temporary_bytes
from slimjax.train import report
from slimjax.train.optimizer import make_optimizer
from slimjax.train.parallel import (
    joined_examples,
    pmapped,
    split_over_devices,
)
from slimjax.train.run import Run
from slimjax.train.state import TrainState, create_state
from slimjax.width import Width

# Variables depend on no size: they are made on a small image.
_SMALL = (64, 64, 3)
# What a detector looks at of a batch, in evaluation and besides in training.
INPUTS = ('image', 'image_size', 'original_size')
_TRUTHS = ('boxes', 'labels', 'crowd', 'valid', 'masks', 'keypoints')
_TITLES = {'bbox': 'box AP', 'segm': 'mask AP', 'keypoints': 'keypoint AP'}


def first_bucket(options: Settings) -> tuple[int, int, int]:
    """Returns height, width and channels of the first bucket.

    Example:
        >>> first_bucket(Settings())
        (800, 1344, 3)
    """
    return (*options.buckets[0], 3)


class DetectionRun(Run):
    """All that the config of a detector means, ready to run; see `Run`.

    Raises:
        ValueError: a config that cannot run, before anything is compiled.
    """

    def __init__(self, config):
        super().__init__(config)
        self._reads = reads_of(config, self.model.settings)
        # What cannot be read is refused before anything is compiled.
        self._train_buckets = self._used_buckets(self.source('train'))
        self.train_reader(0).close()
        self.eval_reader(self.source('validation')).close()
        metrics = metrics_of(self.source('validation'))
        for kind in KINDS[config.detector]:
            metrics.prepared(kind)

    def _used_buckets(self, source) -> list[tuple[int, int]]:
        format, augmentation = self._reads
        used = np.unique(choose_buckets(source, format, augmentation.short_sides))
        return [format.buckets[place] for place in used.tolist()]

    def _optimizer(self) -> optax.GradientTransformation:
        optimizer = make_optimizer(self.config, self.schedule)
        return keeping_frozen(optimizer, self.model.settings)

    def _metric_names(self) -> tuple[str, ...]:
        return detection_metric_names(self.config.detector, self.model.widths)

    def source(self, split: str) -> CocoSource:
        """Returns the images of `'train'` (those to learn from), or another split."""
        if split not in self._sources:
            config = self.config
            if not config.data_dir:
                raise ValueError(
                    "config.data_dir='': a detector reads what scripts/prepare_coco.py "
                    'has prepared; state its --output'
                )
            keypoints = config.detector == 'keypoint_rcnn'
            source = CocoSource(config.data_dir, split, keypoints=keypoints)
            found = {'num_classes': len(source.class_names)}
            if keypoints:
                found['num_keypoints'] = source.num_keypoints
            for name, count in found.items():
                if config[name] != count:
                    raise ValueError(
                        f'config.{name}={config[name]}, but {config.data_dir} has '
                        f'{count}'
                    )
            if split == 'train':
                source = trainable(
                    source,
                    min_keypoints=config.min_keypoints,
                    min_image_side=config.min_image_side,
                )
            else:
                self._check_categories(source, split)
            self._sources[split] = source
        return self._sources[split]

    def _check_categories(self, source: CocoSource, split: str) -> None:
        """A label is to mean the same in every split; numbers may differ."""
        known = self.source('train').categories
        for label, (there, here) in enumerate(
            zip(known, source.categories, strict=True), start=1
        ):
            if (there.name, there.keypoints) != (here.name, here.keypoints):
                raise ValueError(
                    f'config.data_dir={self.config.data_dir!r}: label {label} is '
                    f'{_named(there)} in train, and {_named(here)} in {split}'
                )

    @functools.cached_property
    def image_shape(self) -> tuple[int, int, int]:
        return first_bucket(self.model.settings)

    def new_state(self) -> TrainState:
        """Returns the state at step 0."""
        return create_state(
            self.model,
            self.optimizer,
            _SMALL,
            self.metric_names,
            seed=self.config.seed,
        )

    def check_from_scratch(self) -> None:
        """Refuses weights drawn at random that training would leave so.

        Raises:
            ValueError: norms or stages are frozen, and the run starts from nothing.
        """
        options = self.model.settings
        if options.norm == 'frozen' or options.frozen_stages:
            raise ValueError(
                f"config.init_from='': norm={options.norm!r} and frozen_stages="
                f'{options.frozen_stages} stay as they start, so state a run of the '
                'backbone, or train all of it: --config.model_fields.norm=batch '
                '--config.model_fields.frozen_stages=0'
            )

    def train_reader(self, start_step: int):
        """Returns an iterator over this process's part of the batches to come."""
        format, augmentation = self._reads
        return detection_train_batches(
            self.source('train'),
            format,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            start_step=start_step,
            augmentation=augmentation,
            reading=self._reading,
        )

    def eval_reader(self, source: CocoSource):
        """Returns an iterator over this process's part of a source, each image once."""
        return detection_eval_batches(
            source,
            # What is on the images is compared on the host.
            self._reads.format._replace(masks=False, keypoints=False),
            batch_size=self.config.eval_batch_size,
            reading=self._reading,
        )

    def train_step(
        self, state: TrainState, start: int, say: Callable[[str], None]
    ) -> Callable[[int, TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
        """Returns the mapped training step; compiles it for each bucket that is used.

        Several processes compile it with its first calls, and do not know before.

        Args:
            state: placed by `replicated`.
            start: number of steps done.
            say: prints a line for a person.

        Returns:
            `step(done, state, batch)`, where `done` is the number of steps before it.
        """
        inner = make_detection_step(self.model, self.optimizer, self.config)
        mapped = pmapped(inner, donate=True)
        programs, buckets = {}, self._train_buckets
        if jax.process_count() == 1:
            bar = report.Bar(say)
            for place, bucket in enumerate(buckets, start=1):
                lowered = mapped.lower(state, self._blank_batch(bucket))
                programs[bucket] = lowered.compile()
                bar(place, len(buckets), f'{bucket[0]} x {bucket[1]} px')
            sizes = [temporary_bytes(program) for program in programs.values()]
            known = None if None in sizes else max(sizes)
            say(report.memory_line(known, state))

        def step(done, state, batch):
            program = programs.get(batch['image'].shape[2:4], mapped)
            names = (*INPUTS, *_TRUTHS, 'stop')
            return program(state, {n: batch[n] for n in names if n in batch})

        return step

    def _blank_batch(self, bucket):
        keypoints = self.config.num_keypoints
        blank = blank_example(self._reads.format, bucket, keypoints)
        return split_over_devices(
            {
                name: np.repeat(np.asarray(blank[name])[None], self.local_batch, 0)
                for name in (*INPUTS, *_TRUTHS)
                if name in blank
            }
        )

    @functools.cached_property
    def _predictions(self) -> dict[Width, Callable]:
        """Of each width, a mapped function from variables and a batch to detections."""

        def predict(variables, batch, width):
            return self.model.apply(variables, batch, width=width, method='predict')

        return {
            width: pmapped(functools.partial(predict, width=width), out_axes=0)
            for width in self.model.widths
        }

    def detections(
        self,
        params: Any,
        stats: Any,
        batches: Iterable[Mapping[str, np.ndarray]],
        categories: Sequence[Category],
    ) -> dict[str, Any]:
        """Returns what every width finds, as `detect_all` does.

        Args:
            params: placed by `replicated`, as `stats`.
            stats: all other collections.
            batches: as `eval_reader` gives them.
            categories: those of their source, whose numbers the results have.
        """
        variables = {'params': params, **stats}
        return detect_all(
            lambda width, batch: self._predictions[width](variables, batch['sent']),
            _sent(batches),
            self.model.widths,
            ResultsFormat(
                tuple(each.id for each in categories),
                self.config.paste,
                self.model.settings.keypoint_shift,
            ),
            fetch=joined_examples,
        )

    def evaluate(self, params: Any, stats: Any, split: str) -> Results:
        """Returns COCO's metrics of every width; trees are placed by `replicated`."""
        source = self.source(split)
        reader = self.eval_reader(source)
        try:
            found = self.detections(params, stats, reader, source.categories)
            return score_all(found, source)
        finally:
            reader.close()

    def score(self, results: Results) -> float:
        """Returns the number by which checkpoints are compared; higher is better."""
        metric, width = split_metric(self.config.best_metric)
        names = [width] if width else list(results)
        return sum(results[name][metric] for name in names) / len(names)

    def results_line(self, results: Results) -> str:
        """Returns the average precisions of all widths in one line."""
        return '; '.join(
            report.accuracy_line(_TITLES[kind], f'{kind}/AP', results)
            for kind in KINDS[self.config.detector]
        )

    @functools.cached_property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint tells of its run, its categories included."""
        categories = [each._asdict() for each in self.source('train').categories]
        return {**super().meta, 'categories': categories}

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names the order of the training data."""
        return detection_fingerprint(self.source('train'), self.config.seed)


def _named(category: Category) -> str:
    parts = f' with {", ".join(category.keypoints)}' if category.keypoints else ''
    return f'{category.name!r}{parts}'


def _sent(
    batches: Iterable[Mapping[str, np.ndarray]],
) -> Iterator[Mapping[str, Any]]:
    """Adds to each batch what the devices need of it, sent once for all widths."""
    for batch in batches:
        inputs = {name: batch[name] for name in INPUTS}
        yield {**batch, 'sent': split_over_devices(inputs)}
