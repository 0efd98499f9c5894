"""What the command line does: train, evaluate, describe, calibrate."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections

from slimjax.config import check
from slimjax.evaluate import Results
from slimjax.insight.table import results_table
from slimjax.train.checkpoint import Checkpoints, load_variables
from slimjax.train.loop import train
from slimjax.train.network import build_model, network_costs
from slimjax.train.parallel import replicated
from slimjax.train.plan import Plan
from slimjax.train.report import jsonable, silent
from slimjax.train.runs import final_split, image_shape, make_run
from slimjax.train.sandwich import make_sandwich
from slimjax.train.state import abstract_variables
from slimjax.train.trained import check_measured, stored_config, stored_widest
from slimjax.variables import check_shapes
from slimjax.whole_file import whole_file
from slimjax.width import widest, width_name

Say = Callable[[str], None]
# What a trained network holds to: images on other scales, or of folds among whose
# training images its own test images are.
_KEPT = ('mean', 'std', 'folds', 'fold')
# What is asked of the widths of a training run, at values that ask nothing.
_UNTRAINED = {
    'sandwich': 0,
    'distill': False,
    'teacher': '',
    'loss_weights': (),
    'frozen_width': 0.0,
}


def describe(
    config: ml_collections.ConfigDict, say: Say = print, topology: str | None = None
) -> dict[str, Any]:
    """Says what each width of a config's network costs; needs no data.

    Args:
        config: a complete config.
        say: prints a line for a person.
        topology: a TPU slice, such as `'v5e:2x2'`, for which training is compiled to
            say what memory it needs there; see `slimjax.train.plan`.

    Returns:
        `{'widths': {'0.25': {'params': int, 'macs': int, ...}}, ...}`, and with a
        topology what the plan's `results` returns, as `'topology'`.

    Raises:
        ImportError: a topology is asked for, and libtpu is not installed.
        ValueError: a config that cannot be built, or no such topology.

    Example:
        >>> from slimjax.config import complete
        >>> config = complete({'model': 'resnet14', 'image_size': 32})
        >>> describe(config, say=lambda line: None)['widths']['0.25']['macs'] > 0
        True
    """
    check(config)
    if topology is not None and config.detector:
        raise ValueError(
            f'config.detector={config.detector!r}: --topology is of classifiers'
        )
    plan = None if topology is None else Plan(config, topology, say)
    model = build_model(config)
    shape = image_shape(config, model)
    results = {'model': config.detector or config.model, **network_costs(model, shape)}
    say(results_table(results))
    say(f'stored: {results["stored_params"]:,} parameters serve all widths')
    sandwich = make_sandwich(config, model, shape)
    if sandwich is not None:
        say(sandwich.grid.line())
    if plan is not None:
        results['topology'] = plan.results()
    return results


def evaluate_workdir(
    config: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    split: str = 'validation',
    say: Say = print,
) -> dict[str, Any]:
    """Evaluates every width of a trained network on a split.

    Args:
        config: a complete config, of the network that the workdir holds.
        workdir: of a run; its best checkpoint is read.
        split: `'train'`, `'validation'` or `'test'`.
        say: prints a line for a person.

    Returns:
        What `describe` returns, and the scores of each width.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint is of another network, of images normalised
            otherwise or of another fold, or of a run that was stopped before it first
            measured the statistics of widths that it only draws.
    """
    run, params, stats, meta = _trained(config, workdir)
    where = f'the checkpoint in {workdir}'
    expected = abstract_variables(run.model, run.image_shape)[1]
    # Some of its widths may be asked for.
    stats = {name: tree for name, tree in stats.items() if name in expected}
    check_shapes(expected, stats, where)
    check_measured(stats, where)
    results = describe(run.config, say=silent)
    results = _with_scores(results, run.evaluate(params, stats, split))
    results |= {'split': split, 'step': meta['step']}
    say(results_table(results))
    return results


def calibrate_workdir(
    config: ml_collections.ConfigDict, workdir: str | pathlib.Path, say: Say = print
) -> pathlib.Path:
    """Computes the BatchNorm statistics of every width anew, on training images.

    The widths need not be those that were trained, if scale and bias are shared: a
    US-Net is calibrated at any of its widths. A network that was imported has
    statistics of width 1.0 only.

    Args:
        config: a complete config, of the network that the workdir holds, with the
            `widths` wanted; `calibration_examples` images are read, as in evaluation,
            and `calibration` is the method.
        workdir: its best checkpoint is read, and not changed.
        say: prints a line for a person.

    Returns:
        The new workdir, `WORKDIR/calibrated`, to be evaluated or fine-tuned with the
        same widths.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint is of another network or a detector, of images
            normalised otherwise or of another fold, or the new workdir exists.
    """
    output = pathlib.Path(workdir, 'calibrated')
    if config.detector:
        raise ValueError(
            f'config.detector={config.detector!r}: --mode=calibrate is of classifiers'
        )
    if output.exists():
        raise ValueError(f'{output} exists: remove it, or take another --workdir')
    if jax.process_index():
        say = silent  # One process of many speaks.
    run, params, _, meta = _trained(config, workdir)
    stats = run.calibration.anew(params, say)
    with Checkpoints(output / 'checkpoints') as checkpoints:
        # What is read by name must not look for the averages of the run.
        checkpoints.save_weights(
            params,
            stats,
            {
                **meta,
                'config': jsonable(run.config),
                'widths': [width_name(width) for width in run.model.widths],
                'averaged': False,
                'weights_from': str(workdir),
            },
        )
        checkpoints.wait()
    say(
        f'{output}: {len(run.model.widths)} widths calibrated on '
        f'{run.calibration.count():,} training images ({config.calibration})'
    )
    return output


def _trained(config: ml_collections.ConfigDict, workdir: str | pathlib.Path):
    """The run, and the parameters, statistics and meta of its best checkpoint.

    Which widths may be trained together does not limit those that are looked at.
    """
    checkpoint = load_variables(workdir)
    config = ml_collections.ConfigDict(config)
    config.update(_UNTRAINED)
    if not config.detector:
        config.best_metric = 'top1'  # Of all widths, whichever they are.
    _check_kept(config, checkpoint.meta.get('config'), workdir)
    run = make_run(config)
    stored, most = stored_widest(checkpoint.meta), widest(run.model.widths)
    if stored not in (None, most):
        raise ValueError(
            f'config.widths={tuple(map(width_name, run.model.widths))}: the widest of '
            f'the network in {workdir}, {width_name(stored)}, has to be among them'
        )
    params, _ = abstract_variables(run.model, run.image_shape)
    check_shapes(params, checkpoint.params, f'the checkpoint in {workdir}')
    params, stats = replicated((checkpoint.params, checkpoint.stats))
    return run, params, stats, checkpoint.meta


def _check_kept(config, trained: Mapping[str, Any] | None, workdir) -> None:
    """Other values would give scores that mean nothing; what is imported has none."""
    if trained is None:
        return
    trained = stored_config(trained)
    for name in _KEPT:
        if config[name] != trained[name]:
            raise ValueError(
                f'config.{name}={config[name]}: the network in {workdir} was trained '
                f'with {name}={trained[name]}'
            )


def _with_scores(results: dict[str, Any], scores: Results) -> dict[str, Any]:
    for name, score in scores.items():
        results['widths'][name].update(score)
    return results


def train_workdir(
    config: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    say: Say = print,
    **options: Any,
) -> dict[str, Any] | None:
    """Trains, then says costs and test scores of every width; see `slimjax.train`."""
    scores = train(config, workdir, say=say, **options)
    if scores is None:
        return None
    results = _with_scores(describe(config, say=silent), scores)
    results |= {'split': final_split(config)}
    if jax.process_index() == 0:
        say(results_table(results))
        write_json(pathlib.Path(workdir, 'results.json'), results)
    return results


def write_json(path: str | pathlib.Path, results: Mapping[str, Any]) -> None:
    """Writes results whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + '\n')
