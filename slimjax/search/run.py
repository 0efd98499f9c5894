"""A search over a trained universally slimmable network."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np

from slimjax.data.augment import normalize
from slimjax.data.sources import sample
from slimjax.search.evaluator import Evaluator
from slimjax.search.evolution import evolve
from slimjax.search.greedy import (
    Cost,
    Found,
    check_criterion,
    check_reachable,
    slim,
    within,
)
from slimjax.search.latency import Latency
from slimjax.search.remembered import Remembered, digest
from slimjax.search.space import search_space
from slimjax.search.targets import UNITS
from slimjax.train.trained import open_classifier, stored_config
from slimjax.variables import split_variables
from slimjax.width import order, widest, width_name

METHODS = ('greedy', 'evolution')
# Images that tell candidates apart.
_NEEDED = 1024
_NAMES = {'macs': 'MACs', 'params': 'parameters', 'latency': 'seconds'}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a search goes.

    Attributes:
        cost: what the targets limit: `'macs'`, `'params'`, or `'latency'` in seconds.
        method: `'greedy'` or `'evolution'`.
        criterion: `'loss'` (cross-entropy) or `'error'` (top-1, as published).
        per_saved: greedy: judge by the rise of the criterion for each unit saved.
        images: of the search split, at most.
        seed: chooses the images, if there are more, and decides in an evolution.

    Raises:
        ValueError: another cost, method or criterion, or no images.

    Example:
        >>> Settings('latency', images=1024).method
        'greedy'
    """

    cost: str = 'macs'
    method: str = 'greedy'
    criterion: str = 'loss'
    per_saved: bool = False
    images: int = 10_000
    seed: int = 0

    def __post_init__(self):
        for name, allowed in (('cost', tuple(UNITS)), ('method', METHODS)):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f'{name}={value!r}; allowed: {", ".join(allowed)}')
        check_criterion(self.criterion)
        if self.images < 1:
            raise ValueError(f'--images={self.images}: at least 1 is needed')
        if self.per_saved and self.method != 'greedy':
            raise ValueError(
                f"--per_saved goes with method='greedy', not {self.method!r}"
            )


class Search:
    """A trained network, the networks in it, and the images that judge them.

    Args:
        workdir: of a run with `config.sandwich` and `config.search_share`.
        settings: see `Settings`.
        changes: `--config.FIELD=VALUE`, each, as in `open_classifier`.
        say: prints a line for a person.

    Attributes:
        trained: what the workdir holds.
        space: the networks among which the search chooses.
        evaluate: their scores, those of an interrupted search at once.
        evaluator: the program that computes scores.
        unit: the cost of the network of width 1.0, or of the widest below.

    Raises:
        FileNotFoundError: there is no checkpoint, or no data.
        ValueError: a network or data that cannot be searched with.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        settings: Settings,
        changes: Sequence[str] = (),
        say: Callable[[str], None] = print,
    ):
        if jax.process_count() > 1:
            raise ValueError('a search runs in one process, on all of its devices')
        self.trained, self.settings = open_classifier(workdir, changes), settings
        run, model = self.trained.run, self.trained.model
        _check_split(run.config, stored_config(self.trained.meta['config']))
        source = run.source('search')
        _check_images(settings.images, len(source))
        self.space = search_space(model, run.image_shape)
        self.cost = self._cost(workdir, say)
        one = min(1.0, order(widest(model.widths)))
        self.unit = float(self.cost(self.space.uniform(one)))
        params, _ = split_variables(self.trained.variables)
        config = run.config
        batches = _batches(run, sample(source, self._images(), settings.seed))
        self.evaluator = Evaluator(
            model,
            params,
            self.space,
            batches,
            preprocess=lambda images: normalize(
                images, config.mean, config.std, model.dtype
            ),
        )
        fields = sorted(config.model_fields.items())
        computed = (str(model.dtype), model.conv_form, fields, config.mean, config.std)
        name = f'{digest(params, self.space, batches, computed)}.jsonl'
        self.evaluate = Remembered(
            self.evaluator, pathlib.Path(workdir, 'search', name)
        )

    def _images(self) -> int:
        """Batches are whole: rather a few images more than fewer than are asked for."""
        asked, batch = self.settings.images, self.trained.run.config.eval_batch_size
        return asked if asked < batch else asked + -asked % batch

    def _cost(self, workdir, say) -> Cost:
        if self.settings.cost != 'latency':
            return getattr(self.space, self.settings.cost)
        trained, path = (
            self.trained,
            pathlib.Path(workdir, 'search', 'layer_times.json'),
        )
        shape = trained.run.image_shape
        return Latency(trained.model, trained.variables, self.space, shape, path, say)

    def trail(
        self, limits: Sequence[float], say: Callable[[str], None]
    ) -> tuple[list[Found], list[Found]]:
        """Searches, and returns the network for each limit, and what led to them."""
        settings = self.settings
        for limit in limits:
            check_reachable(self.space, limit, self.cost)
        if settings.method == 'greedy':
            trail = []
            for found in slim(
                self.space,
                self.evaluate,
                min(limits),
                self.cost,
                criterion=settings.criterion,
                per_saved=settings.per_saved,
            ):
                say(self._step_line(trail, found))
                trail.append(found)
            return [self._within(trail, limit) for limit in limits], trail
        best, trail = [], []
        for limit in limits:
            found = None
            for number, found in enumerate(
                evolve(
                    self.space,
                    self.evaluate,
                    limit,
                    self.cost,
                    criterion=settings.criterion,
                    seed=settings.seed,
                )
            ):
                say(f'generation {number + 1}: {self._line(found)}')
                trail.append(found)
            best.append(found)
        return best, trail

    def _within(self, trail: Sequence[Found], limit: float) -> Found:
        return within(
            self.space,
            self.evaluate,
            trail,
            limit,
            self.cost,
            criterion=self.settings.criterion,
        )

    def line(self) -> str:
        """Returns what a person is told at the start."""
        widths = self.trained.model.widths
        ends = min(map(order, widths)), order(widest(widths))
        known, few = self.evaluate.known, self.evaluator.images < _NEEDED
        return (
            f'{len(self.space.variables)} numbers of channels between widths '
            f'{width_name(ends[0])} and {width_name(ends[1])}, judged on '
            f'{self.evaluator.images:,} images'
            + (f' ({_NEEDED:,} are better)' if few else '')
            + (f'; {known:,} scores are known already' if known else '')
        )

    def _step_line(self, trail: Sequence[Found], found: Found) -> str:
        if not trail:
            return f'all channels: {self._line(found)}'
        before = trail[-1].counts
        changed = int(np.flatnonzero(found.counts != before)[0])
        return (
            f'{self.space.variables[changed].name} {before[changed]} -> '
            f'{found.counts[changed]}: {self._line(found)}'
        )

    def _line(self, found: Found) -> str:
        cost = float(self.cost(found.counts))
        return (
            f'loss {found.loss:.4f}, error {100 * found.error:.2f} %, {cost:,.4g} '
            f'{_NAMES[self.settings.cost]} ({cost / self.unit:.3f})'
        )


def _check_split(config, trained) -> None:
    """Other images would be among those that the network was trained or is tested on.

    Raises:
        ValueError: a field that decides which images are kept has changed.
    """
    for field in ('dataset', 'search_share', 'folds', 'fold'):
        if config[field] != trained[field]:
            raise ValueError(
                f'config.{field}={config[field]!r}: the network was trained with '
                f'{field}={trained[field]!r}, which keeps other images for the search'
            )


def _check_images(images: int, kept: int) -> None:
    """Few images tell candidates apart by chance.

    Raises:
        ValueError: fewer are asked for than are needed and there.
    """
    if images < _NEEDED <= kept:
        raise ValueError(
            f'--images={images}: {_NEEDED:,} or more of the {kept:,} that are kept for '
            'the search are needed'
        )


def _batches(run, source) -> dict[str, np.ndarray]:
    """Whole batches of images, `[batches, size, ...]`; all in one if they are few."""
    reader = run.eval_reader(source)
    try:
        read = list(reader)
    finally:
        reader.close()
    kept = [batch['mask'] > 0 for batch in read]
    count = sum(int(each.sum()) for each in kept)
    size = min(count, run.config.eval_batch_size)
    found = {}
    for name in ('image', 'label'):
        whole = [batch[name][own] for batch, own in zip(read, kept, strict=True)]
        values = np.concatenate(whole)[: count - count % size]
        found[name] = values.reshape(-1, size, *values.shape[1:])
    return found
