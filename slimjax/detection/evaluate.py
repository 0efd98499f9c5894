"""Evaluation of every width by COCO's metrics, every image once."""

import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from slimjax.data.coco_format.source import CocoSource
from slimjax.data.records import replace_text
from slimjax.detection.metrics import CocoMetrics
from slimjax.detection.results import (
    Results,
    ResultsFormat,
    coco_results,
    gathered,
    joined,
)
from slimjax.width import Width, width_name

Predict = Callable[[Width, Mapping[str, np.ndarray]], Mapping[str, Any]]


def detect_all(
    predict: Predict,
    batches: Iterable[Mapping[str, np.ndarray]],
    widths: Sequence[Width],
    format: ResultsFormat,
    fetch: Callable[[Any], Any] = jax.device_get,
) -> dict[str, Results]:
    """Returns what every width finds in all images, in COCO's form.

    While the device computes the next detections, the host works on the last.

    Args:
        predict: from a width and a batch to detections, as `coco_results` takes them;
            they may still be under way on a device.
        batches: this process's part, as `detection_eval_batches` gives it.
        widths: of the network.
        format: how to read detections.
        fetch: brings them to this process's host, as numpy arrays.

    Returns:
        `{'0.25': {'bbox': [...], ...}, ...}` of the images of all processes, the
        same in each.

    Raises:
        ValueError: there are no images.
    """
    found = {width_name(width): [] for width in widths}
    for name, detections, batch in _one_behind(
        (width_name(width), predict(width, batch), batch)
        for batch in batches
        for width in widths
    ):
        found[name].append(coco_results(fetch(detections), batch, format))
    if not all(found.values()):
        raise ValueError('there are no images to evaluate')
    return {name: gathered(joined(parts)) for name, parts in found.items()}


def score_all(
    found: Mapping[str, Results], source: CocoSource
) -> dict[str, dict[str, float]]:
    """Returns COCO's metrics of every width.

    Args:
        found: what `detect_all` returns.
        source: the images, which say what was to be found.

    Returns:
        `{'0.25': {'bbox/AP': ..., 'segm/AP': ..., 'keypoints/AP': ...}, ...}`, with
        all numbers of COCO's summary.
    """
    metrics = metrics_of(source)
    images = source.index['image_id'].tolist()
    return {
        name: {
            metric: value
            for kind, entries in results.items()
            for metric, value in metrics(kind, entries, images).items()
        }
        for name, results in found.items()
    }


def metrics_of(source: CocoSource) -> CocoMetrics:
    """Returns what compares detections with the annotations of a source."""
    return CocoMetrics(source.annotations, {each.id for each in source.categories})


def write_results(
    folder: str | pathlib.Path, found: Mapping[str, Results]
) -> list[pathlib.Path]:
    """Writes COCO's results files, `detections_WIDTH_KIND.json`.

    Args:
        folder: is made if it is not there.
        found: what `detect_all` returns.

    Returns:
        The files.

    Example:
        >>> import tempfile
        >>> found = {'0.25': {'bbox': []}}
        >>> [path.name for path in write_results(tempfile.mkdtemp(), found)]
        ['detections_0.25_bbox.json']
    """
    folder, paths = pathlib.Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for name, results in found.items():
        for kind, entries in results.items():
            paths.append(folder / f'detections_{name}_{kind}.json')
            replace_text(paths[-1], json.dumps(entries))
    return paths


def _one_behind(items: Iterable[Any]) -> Iterator[Any]:
    """Gives each item when the next one has been made."""
    last = None
    for item in items:
        if last is not None:
            yield last
        last = item
    if last is not None:
        yield last
