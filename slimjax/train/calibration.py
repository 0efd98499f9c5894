"""What a run calibrates: averaged weights, and widths that a sandwich only draws."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array, Float, UInt8

from slimjax.calibrate import Calibrator
from slimjax.data.augment import normalize
from slimjax.data.sources import sample
from slimjax.norm import SHARED_STATS, stats_collection
from slimjax.train.parallel import replicated
from slimjax.train.state import TrainState
from slimjax.width import canonical

if TYPE_CHECKING:
    from slimjax.train.run import Run


class RunCalibration:
    """Statistics from the training images of a run, cut as in evaluation by default.

    Args:
        run: its config says how many images, and which method.

    Raises:
        ValueError: a run that needs it and has too few images for one batch, or whose
            network does not allow the method.
    """

    def __init__(self, run: 'Run'):
        self._run = run
        ends = (run.sandwich.widest, run.sandwich.narrowest) if run.sandwich else ()
        self._drawn = tuple(
            width
            for width in map(canonical, run.model.widths)
            if ends and width not in ends
        )
        if run.config.ema_decay or self._drawn:
            self.count()
        shared = SHARED_STATS in run.model.stats_collections()
        if run.config.ema_decay and shared and run.config.calibration == 'sequential':
            raise ValueError(
                "config.calibration='sequential': the widths share statistics, which "
                "can be right for one at a time only; allowed is 'pooled', for the "
                'mean of theirs'
            )

    @property
    def measured_later(self) -> list[str]:
        """The collections that hold nothing before an evaluation."""
        return [stats_collection(width) for width in self._drawn]

    def count(self) -> int:
        """Returns the number of images: those wanted, and what fills the last batch.

        A blank image would count, so batches are whole.

        Raises:
            ValueError: there are too few for one batch.
        """
        config, found = self._run.config, len(self._run.source('train'))
        name = 'eval_batch_size' if self._as_evaluated else 'batch_size'
        size = config[name]
        wanted = math.ceil(config.calibration_examples / size)
        if found < size:
            raise ValueError(
                f'config.{name}={size}: {found:,} training images fill no batch, of '
                'which statistics need one'
            )
        return min(wanted, found // size) * size

    @property
    def _as_evaluated(self) -> bool:
        return self._run.config.calibration_transform == 'eval'

    def averaged(self, params: Any, stats: Any) -> Any:
        """Returns statistics of averaged weights; what widths share is their mean."""
        return self._stats(self._of_averages, params, stats)

    def completed(self, state: TrainState) -> TrainState:
        """Returns a state with statistics of the widths that a sandwich only draws."""
        if not self._drawn:
            return state
        stats = self._stats(self._of_drawn, state.params, state.stats)
        return state.replace(stats=stats)

    def anew(self, params: Any, say: Callable[[str], None] | None = None) -> Any:
        """Returns statistics of all widths; with `say`, tells the methods' gap.

        Raises:
            ValueError: widths that share statistics, which cannot be right for all.
        """
        calibrator = Calibrator(self._run.model, preprocess=self._normalized)
        return self._stats(calibrator, params, {}, say)

    def _stats(self, calibrator: Calibrator, params, stats, say=None):
        method = self._run.config.calibration
        stats = calibrator.stats(params, stats, self._batches(), method=method, say=say)
        return replicated(stats)

    def _batches(self) -> list[Any]:
        if self._as_evaluated:
            images = sample(self._run.source('train'), self.count())
            reader, batches = self._run.eval_reader(images), None
        else:
            reader = self._run.train_reader(0)
            batches = self.count() // self._run.config.batch_size
        try:
            return [readable(batch) for batch in itertools.islice(reader, batches)]
        finally:
            reader.close()

    @functools.cached_property
    def _of_averages(self) -> Calibrator:
        model = self._run.model
        return Calibrator(model, preprocess=self._normalized, average_shared=True)

    @functools.cached_property
    def _of_drawn(self) -> Calibrator:
        model = self._run.model
        return Calibrator(model, self._drawn, preprocess=self._normalized)

    def _normalized(
        self, images: UInt8[Array, 'batch height width channels']
    ) -> Float[Array, 'batch height width channels']:
        config = self._run.config
        return normalize(images, config.mean, config.std, self._run.model.dtype)


def readable(batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the images of a batch, the first one again for each that is broken.

    Raises:
        ValueError: all are.

    Example:
        >>> images = np.array([[0], [7], [8]])
        >>> readable({'image': images, 'mask': np.array([0.0, 1.0, 1.0])}).tolist()
        [[7], [7], [8]]
    """
    images = batch['image']
    good = batch.get('mask', np.ones(len(images))) > 0
    if not good.any():
        raise ValueError(
            f'none of the {len(images)} training images of a batch can be read'
        )
    return images[np.where(good, np.arange(len(images)), good.argmax())]
