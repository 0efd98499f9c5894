"""All that a report tells of a run, as plain data."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from slimjax.config import complete
from slimjax.insight.activations import Layer, find_layers
from slimjax.insight.cost import cost_results
from slimjax.insight.curves import Points, error_curves
from slimjax.insight.device_cost import BATCHES, device_costs
from slimjax.insight.gain import Gain, gain
from slimjax.insight.inputs import chosen_images
from slimjax.insight.norm_statistics import NormStatistics, norm_statistics
from slimjax.insight.predictions import Predictions, predict
from slimjax.insight.top_images import TopImages, top_images
from slimjax.train.metrics import read_metrics
from slimjax.train.report import devices_line, jsonable, silent, versions
from slimjax.train.trained import Trained, open_classifier

# Examples shown of what a width loses.
_LOST = 12


@dataclasses.dataclass(frozen=True)
class Lost:
    """An image that the widest network has right and a narrower one does not.

    Attributes:
        name: of the image, as its data set calls it.
        image: `[height, width, colours]`, uint8, as the network takes it.
        label: its class.
        said: the class that the narrower network took it for.
        confidence: the probability that it gave that.
    """

    name: str
    image: np.ndarray
    label: int
    said: int
    confidence: float


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of the config.

    Attributes:
        name: as in `--config.NAME`.
        value: of the run.
        default: slimjax's.
        overridden: whether the command line changed it.
    """

    name: str
    value: str
    default: str
    overridden: bool

    @property
    def stated(self) -> bool:
        """Whether the config or the command line says something of its own."""
        return self.overridden or self.value != self.default


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a report tells.

    Attributes:
        name: of the workdir.
        model: the network's name.
        dataset: its data's.
        step: of the checkpoint that was read.
        total_steps: of the whole run.
        seed: of the run.
        finished: whether it came to its end.
        class_names: by label.
        costs: what `device_costs` returns, with `top1` and `top5` of each width.
        individual: `macs` and `top1` of networks that were trained alone, by width.
        gains: of sharing, for widths that were trained alone too.
        curves: `'training'` and `'validation'`: errors of each width.
        predictions: of each width, for each image of the split.
        lost: of each width but the widest, what the widest has right and it has not.
        tops: the top images of some channels.
        norms: what the norms hold; None where `norms_missing` says why.
        norms_missing: '' or a reason.
        fields: the config.
        environment: what the run was made with, and this report, by name.
    """

    name: str
    model: str
    dataset: str
    step: int
    total_steps: int
    seed: int
    finished: bool
    class_names: tuple[str, ...]
    costs: Mapping[str, Any]
    individual: Mapping[str, Mapping[str, float]]
    gains: Mapping[str, Gain]
    curves: Mapping[str, Mapping[str, Points]]
    predictions: Predictions
    lost: Mapping[str, Sequence[Lost]]
    tops: Sequence[TopImages]
    norms: NormStatistics | None
    norms_missing: str
    fields: Sequence[Field]
    environment: Mapping[str, str]

    def results(self) -> dict[str, Any]:
        """Returns the figures as `--json` writes them."""
        return {
            'model': self.model,
            'dataset': self.dataset,
            'split': self.predictions.split,
            'images': len(self.predictions.labels),
            'step': self.step,
            'seed': self.seed,
            **self.costs,
            'gains': {name: own._asdict() for name, own in self.gains.items()},
        }


def gather(
    workdir: str | pathlib.Path,
    changes: Sequence[str] = (),
    *,
    split: str | None = None,
    individual: Sequence[str | pathlib.Path] = (),
    channels: Sequence[tuple[str, int]] | None = None,
    batches: Sequence[int] = BATCHES,
    repeats: int = 50,
    say: Callable[[str], None] = silent,
) -> Facts:
    """Measures and reads all that a report tells.

    Args:
        workdir: of a run, finished or not.
        changes: `--config.FIELD=VALUE`, each, such as another `data_dir`.
        split: whose images; None for the test split of a finished run, and else the
            validation split.
        individual: workdirs of networks of fewer widths, to be compared with.
        channels: layers and channels whose top images are shown; None for the first
            channel of three layers, near the images, in the middle and deep.
        batches: as in `device_costs`.
        repeats: likewise.
        say: tells a person what is being done.

    Raises:
        FileNotFoundError: there is no checkpoint, or no data.
        ValueError: no run of images, no such layer, channel or split; or `individual`
            has another split than the run.
    """
    workdir = pathlib.Path(workdir)
    trained = open_classifier(workdir, changes)
    run, model, variables, meta = trained
    lines = read_metrics(workdir / 'metrics.jsonl')
    finished = any('test/best_step' in line for line in lines)
    split = split or ('test' if finished else 'validation')
    say(f'what each width says of the {split} split')
    predictions = predict(trained, split)
    alone, gains = _alone(individual, changes, predictions, say)
    say('the channels')
    if channels is None:
        layers = find_layers(model, variables, run.image_shape)
        channels = [(layer.name, 0) for layer in spread(layers)]
    tops = [top_images(trained, *channel, split=split) for channel in channels]
    norms, missing = _norms(trained)
    say('what each width costs on this device')
    costs = device_costs(
        model, variables, run.image_shape, batches=batches, repeats=repeats, say=say
    )
    for name, scores in predictions.scores().items():
        costs['widths'][name] |= scores
    averaged = any('ema/top1/' in name for line in lines for name in line)
    return Facts(
        name=workdir.absolute().name,
        model=run.config.model,
        dataset=run.config.dataset,
        step=meta['step'],
        total_steps=run.total_steps,
        seed=run.config.seed,
        finished=finished,
        class_names=tuple(run.source(split).class_names),
        costs=costs,
        individual=alone,
        gains=gains,
        curves={
            name: error_curves(
                lines, prefix, predictions.said, run.clock.steps_per_epoch
            )
            for name, prefix in (
                ('training', 'train'),
                ('validation', 'ema' if averaged else 'eval'),
            )
        },
        predictions=predictions,
        lost=_lost(trained, predictions),
        tops=tops,
        norms=norms,
        norms_missing=missing,
        fields=_fields(trained),
        environment=_environment(meta, costs),
    )


def spread(layers: Sequence[Layer], count: int = 3) -> list[Layer]:
    """Returns layers from near the images to the deepest that still has a map.

    Args:
        layers: what `find_layers` returns.
        count: how many.

    Example:
        >>> layers = [Layer(n, 'Conv', (4, 4), {1.0: 8}) for n in 'abcde']
        >>> [layer.name for layer in spread(layers)]
        ['a', 'c', 'e']
    """
    maps = [layer for layer in layers if len(layer.space) == 2]
    places = np.linspace(0, len(maps) - 1, min(count, len(maps))).round().astype(int)
    return [maps[place] for place in places]


def _alone(workdirs, changes, predictions: Predictions, say):
    """Scores of networks trained alone, and what sharing gains over them, by width."""
    alone, gains = {}, {}
    for workdir in workdirs:
        say(f'what {workdir} says')
        other = open_classifier(workdir, changes)
        own = predict(other, predictions.split)
        if not np.array_equal(own.labels, predictions.labels):
            raise ValueError(
                f'{workdir} has other images in its split {predictions.split} than the '
                'run: they cannot be compared'
            )
        costs = cost_results(other.model, other.run.image_shape)['widths']
        for name, said in own.said.items():
            alone[name] = {'macs': costs[name]['macs'], 'top1': float(said.top1.mean())}
            if name in predictions.said:
                gains[name] = gain(said.top1, predictions.said[name].top1)
    order = list(predictions.said)
    return alone, {name: gains[name] for name in order if name in gains}


def _norms(trained: Trained) -> tuple[NormStatistics | None, str]:
    run, model, variables, _ = trained
    try:
        return norm_statistics(model, variables, run.image_shape), ''
    except ValueError as error:
        # One width, or no BatchNorm: the rest of the report stands.
        return None, str(error)


def _lost(trained: Trained, predictions: Predictions) -> dict[str, list[Lost]]:
    """The examples shown of what each width but the widest loses."""
    source = trained.run.source(predictions.split)
    chosen = {
        name: predictions.only_wider(name)[:_LOST]
        for name in list(predictions.said)[1:]
    }
    places = {i: int(predictions.places[i]) for own in chosen.values() for i in own}
    images = chosen_images(trained.run, predictions.split, places.values())
    return {
        name: [
            Lost(
                name=source[places[i]].name,
                image=images[places[i]],
                label=int(predictions.labels[i]),
                said=int(predictions.said[name].classes[i]),
                confidence=float(predictions.said[name].confidence[i]),
            )
            for i in own
        ]
        for name, own in chosen.items()
    }


def _fields(trained: Trained) -> list[Field]:
    defaults = jsonable(complete({}))
    overridden = trained.meta.get('overridden', ())
    return [
        Field(
            name,
            repr(value),
            repr(defaults[name]),
            any(each.partition('.')[0] == name for each in overridden),
        )
        for name, value in trained.meta['config'].items()
    ]


def _environment(meta: Mapping[str, Any], costs: Mapping[str, Any]) -> dict[str, str]:
    def listed(found: Mapping[str, str]) -> str:
        return ', '.join(f'{name} {version}' for name, version in found.items())

    return {
        'trained with': listed(meta['versions']),
        'at commit': meta['git_commit'] or 'not in a checkout',
        'training data': f'order {meta["data"]}',
        'measured on': costs['device'],
        'devices': devices_line(),
        'measured with': listed(versions()),
        'reported at commit': costs['git_commit'] or 'not in a checkout',
        'date': costs['date'],
    }
