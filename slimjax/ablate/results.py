"""From the networks of the studies to what is reported of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from slimjax.ablate.studies import STUDIES
from slimjax.compare.harness import Comparison, with_sources
from slimjax.compare.network import Network
from slimjax.compare.results import arm_results, costs_of, found, tested_images
from slimjax.compare.statistics import described, differences
from slimjax.insight.gradient_cosine import PREFIX
from slimjax.train.metrics import read_metrics
from slimjax.train.report import jsonable, versions
from slimjax.train.run import Run

Studies = Mapping[str, Mapping[str, Sequence[Network]]]


def all_arms(studies: Studies) -> dict[str, Sequence[Network]]:
    """Returns the networks of every arm of every study, as `plan_arms` takes them."""
    return {
        f'{study}/{arm}': networks
        for study, arms in studies.items()
        for arm, networks in arms.items()
    }


def ablation_results(
    comparison: Comparison, studies: Studies, config: ml_collections.ConfigDict
) -> dict[str, Any]:
    """Returns what `--json` writes; see `docs/ablations.md` for each name.

    Args:
        comparison: of all arms, all of it trained.
        studies: what `make_studies` returned.
        config: of which it was made.
    """
    return {
        'studies': {
            name: _study(comparison, name, arms) for name, arms in studies.items()
        },
        'cosines': _cosines(comparison),
        'seeds': comparison.seeds,
        'test_images': tested_images(comparison),
        'config': jsonable(config),
        'versions': versions(),
        'git_commits': found(comparison, 'git_commit'),
        'machines': found(comparison, 'machine'),
    }


def _study(comparison: Comparison, name: str, arms) -> dict[str, Any]:
    study, reference = STUDIES[name], next(iter(arms))
    top1 = {
        arm: {
            width: each['top1']
            for width, each in arm_results(comparison, networks).items()
        }
        for arm, networks in arms.items()
    }
    published = study.published and dataclasses.asdict(study.published)
    resolution = 100 / tested_images(comparison)
    return {
        'question': study.question,
        'reference': reference,
        'top1': top1,
        'difference': {
            arm: {
                width: described(points, resolution)
                for width, points in differences(top1[arm], top1[reference]).items()
            }
            for arm in arms
            if arm != reference
        },
        'costs': {
            arm: costs_of(comparison, with_sources(networks))
            for arm, networks in arms.items()
        },
        'published': published,
    }


def _cosines(comparison: Comparison) -> dict[str, Any]:
    """By pair of widths and layer, the mean over seeds at each epoch."""
    watched = [each for each in comparison.networks if each.watch is not None]
    if not watched:
        return {}
    every, epochs = [], []
    for seed in range(comparison.seeds):
        cell = comparison.cell(watched[0], seed, 0)
        lines = [
            line
            for line in read_metrics(cell.best() / 'metrics.jsonl')
            if any(name.startswith(f'{PREFIX}/') for name in line)
        ]
        every.append(lines)
        per_epoch = Run(cell.config(1.0)).clock.steps_per_epoch
        epochs = [round(line['step'] / per_epoch, 2) for line in lines]
    layers: dict[str, dict[str, list[float]]] = {}
    for name in every[0][0]:
        if name.startswith(f'{PREFIX}/'):
            _, wide, narrow, layer = name.split('/', 3)
            means = np.mean([[line[name] for line in lines] for lines in every], 0)
            pair = layers.setdefault(f'{wide}/{narrow}', {})
            pair[layer] = [round(float(mean), 4) for mean in means]
    return {'epochs': epochs, 'layers': layers}
