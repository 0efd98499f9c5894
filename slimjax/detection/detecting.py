"""A trained detector, opened from its folder alone, and what it finds on an image."""

import functools
import pathlib

import jax
import numpy as np

from slimjax.data.coco_format.annotations import Category
from slimjax.data.coco_format.transform import prepare_image
from slimjax.detection.configuration import reads_of
from slimjax.detection.results import Results, ResultsFormat, coco_results
from slimjax.detection.run import INPUTS
from slimjax.train.checkpoint import load_variables
from slimjax.train.network import build_model
from slimjax.train.runs import image_shape
from slimjax.train.state import abstract_variables
from slimjax.train.trained import stored_config
from slimjax.variables import check_shapes
from slimjax.width import Width, resolve


class Detector:
    """The detector of a workdir at one width; its data need not be there.

    Args:
        workdir: of a run, finished or not; its best checkpoint is read.
        width: of the backbone; None for the widest.

    Attributes:
        width: of the backbone.
        categories: by number and name, with the skeletons of their keypoints.
        least_keypoint_score: from which on a keypoint is worth drawing.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the workdir holds no detector, or not of that width.
    """

    def __init__(self, workdir: str | pathlib.Path, width: Width | None = None):
        checkpoint = load_variables(workdir)
        meta = checkpoint.meta
        config = stored_config(meta['config']) if 'config' in meta else None
        if config is None or not config.detector:
            raise ValueError(f'{workdir} holds no detector, but a classifier')
        model = build_model(config)
        self.width = resolve(width, model.widths)
        params, stats = abstract_variables(model, image_shape(config, model))
        where = f'the checkpoint in {workdir}'
        check_shapes(params, checkpoint.params, where)
        check_shapes(stats, checkpoint.stats, where)
        self._variables = {'params': checkpoint.params, **checkpoint.stats}
        self._reads = reads_of(config, model.settings).format
        self.categories = tuple(
            Category(**{name: _tuples(each[name]) for name in Category._fields})
            for each in meta['categories']
        )
        ids = tuple(each.id for each in self.categories)
        shift = model.settings.keypoint_shift
        self._results = ResultsFormat(ids, config.paste, shift)
        # A logit of 0 is no likelier than not; a probability is shared by all places.
        probable = model.settings.keypoint_score == 'probability'
        self.least_keypoint_score = 0.05 if probable else 0.0
        self._predict = jax.jit(
            functools.partial(model.apply, width=self.width, method='predict')
        )

    def __call__(self, pixels: np.ndarray) -> Results:
        """Returns what is found, as `coco_results` does.

        Args:
            pixels: uint8 `[height, width, 3]`.

        Raises:
            ValueError: no bucket holds the image.
        """
        example = prepare_image(pixels, self._reads)
        batch = {name: np.asarray(value)[None] for name, value in example.items()}
        found = self._predict(self._variables, {name: batch[name] for name in INPUTS})
        return coco_results(jax.device_get(found), batch, self._results)


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
