"""A cascade is chosen on validation images, and does in service what was computed."""

import json
import runpy
import sys

import numpy as np
import pytest

from slimjax.deploy.cascade import (
    Cascade,
    CascadeRuntime,
    load_cascade,
    probabilities,
)
from slimjax.deploy.cascade_choice import (
    Split,
    calibration,
    choose,
    curve,
    score,
    temperatures,
)
from slimjax.deploy.confidence import calibration_error, fit_temperature
from slimjax.deploy.runtime import Runtime
from slimjax.train.checkpoint import Checkpoints
from slimjax.train.run import Run
from slimjax.variables import split_variables
from tests.commands import ROOT
from tests.deploy.networks import drawn
from tests.train.runs import tiny_config

MACS = {'1.0': 100, '0.5': 30, '0.25': 10}
# How well a width knows its classes, how loudly it says so, by its name.
SKILLS = {'1.0': (4.0, 1.0), '0.5': (3.0, 6.0), '0.25': (2.5, 0.5)}


def split(seed, images=400, classes=5):
    """Logits that are right the more often, the wider; hard images are so for all."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    noise = rng.normal(size=(images, classes))
    logits = {}
    for name, (skill, loudness) in SKILLS.items():
        own = noise + 0.3 * rng.normal(size=noise.shape)
        own[np.arange(images), labels] += skill
        logits[name] = (loudness * own).astype(np.float32)
    return Split(logits, labels)


class Recorded:
    """A backend that answers with recorded logits; an image's value is its number."""

    def __init__(self, logits):
        self.logits, self.asked = logits, []

    def run(self, name, images):
        self.asked.append((name, len(images)))
        return [self.logits[name][images[:, 0, 0, 0].astype(int)]]


def runtime_of(backend):
    manifest = {
        'widths': {name: {} for name in backend.logits},
        'image_shape': [1, 1, 1],
        'num_classes': 5,
    }
    return Runtime(manifest, backend)


def test_what_runs_is_what_was_scored():
    data = split(0)
    backend = Recorded(data.logits)
    cascade = Cascade(('0.25', '0.5', '1.0'), 0.8, temperatures(data))
    numbers = np.arange(400, dtype=np.float32).reshape(-1, 1, 1, 1)
    said, stages = CascadeRuntime(runtime_of(backend), cascade).infer(numbers)
    found = score(data, cascade, MACS)
    assert found.top1 == np.mean(said.argmax(-1) == data.labels)
    assert found.stages == tuple(np.bincount(stages, minlength=3) / 400)
    assert min(found.stages) > 0.05
    assert [name for name, _ in backend.asked] == list(cascade.widths)
    spent = sum(MACS[name] * count for name, count in backend.asked)
    assert found.macs == spent / 400
    # Each answer is that of the width it is of, and all but the last are sure.
    for number, name in enumerate(cascade.widths):
        own = stages == number
        expected = probabilities(data.logits[name], cascade.temperatures[name])
        np.testing.assert_array_equal(said[own], expected[own])
    assert np.all(said[stages < 2].max(-1) >= 0.8)


def test_the_choice_keeps_accuracy_at_the_least_cost():
    """No pair or triple at any threshold of its curve is as right and cheaper."""
    data = split(1)
    widest = np.mean(data.logits['1.0'].argmax(-1) == data.labels)
    costs = []
    for tolerance in (0.0, 0.02, 0.1):
        cascade = choose(data, MACS, tolerance=tolerance)
        found = score(data, cascade, MACS)
        assert found.top1 >= widest - tolerance
        for widths in (('0.25', '1.0'), ('0.5', '1.0'), ('0.25', '0.5', '1.0')):
            other = Cascade(widths, 0.0, temperatures(data))
            for point in curve(data, other, MACS):
                assert point['top1'] < widest - tolerance or point['macs'] >= found.macs
        costs.append(found.macs)
    assert costs[0] > costs[1] > costs[2]
    # It is worth having: on images that it was not chosen by, too.
    fresh = split(2)
    found = score(fresh, choose(data, MACS), MACS)
    assert found.macs < 0.8 * MACS['1.0']
    assert found.top1 > np.mean(fresh.logits['1.0'].argmax(-1) == fresh.labels) - 0.02


def test_a_temperature_is_found_again():
    """Labels drawn by the softmax of logits: 1 is the best temperature of these."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (5000, 4))
    drawn_labels = (logits + rng.gumbel(size=logits.shape)).argmax(-1)
    for temperature in (0.5, 1.0, 3.0):
        found = fit_temperature(temperature * logits, drawn_labels)
        assert found == pytest.approx(temperature, rel=0.05)
    own = probabilities(logits)
    right = own.argmax(-1) == drawn_labels
    assert calibration_error(own.max(-1), right) < 0.02
    loud = probabilities(4 * logits)
    assert calibration_error(loud.max(-1), right) > 0.1


def test_temperatures_fitted_on_validation_help_on_the_test():
    found = calibration(split(3, 2000), split(4, 2000), MACS)
    assert list(found) == ['1.0', '0.5', '0.25']
    for name in ('0.5', '0.25'):  # the too loud and the too quiet
        own = found[name]
        assert own['calibration_error_scaled'] < 0.5 * own['calibration_error']
    assert found['0.25']['temperature'] < 1 < found['0.5']['temperature']


def test_the_command_writes_what_the_runtime_loads(tmp_path, monkeypatch, capsys):
    run = Run(tiny_config())
    params, stats = split_variables(
        drawn(run.model.clone(axis_name=None), run.image_shape)
    )
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        checkpoints.save_weights(params, stats, run.meta)
        checkpoints.wait()
    monkeypatch.setattr(sys, 'argv', ['cascade.py', f'--workdir={tmp_path}'])
    runpy.run_path(str(ROOT / 'scripts' / 'cascade.py'), run_name='__main__')
    assert 'threshold' in capsys.readouterr().out
    assert tmp_path.joinpath('cascade.png').read_bytes().startswith(b'\x89PNG')
    found = json.loads(tmp_path.joinpath('cascade.json').read_text())
    assert found['images'] == {'validation': 240, 'test': 360}
    widest = max(found['widths'].values(), key=lambda own: own['macs'])
    assert found['curve'][-1]['top1'] == pytest.approx(widest['top1'])
    logits = {name: np.zeros((1, 5), np.float32) for name in found['widths']}
    loaded = load_cascade(tmp_path / 'cascade.json', runtime_of(Recorded(logits)))
    assert loaded.cascade._asdict() == {
        **found['cascade'],
        'widths': tuple(found['cascade']['widths']),
    }


def test_what_is_no_cascade_is_refused(tmp_path):
    data = split(0, 10)
    runtime = runtime_of(Recorded(data.logits))
    good = {'widths': ['0.5'], 'threshold': 0.5, 'temperatures': {'0.5': 1.0}}
    path = tmp_path / 'cascade.json'
    for wrong in (
        {'widths': []},
        {'threshold': 1.5},
        {'threshold': float('nan')},
        {'temperatures': {}},
        {'temperatures': {'0.5': 0.0}},
        {'temperatures': {'0.5': 'warm'}},
    ):
        path.write_text(json.dumps({'cascade': {**good, **wrong}}))
        with pytest.raises(ValueError, match=r'cascade\.json: no cascade'):
            load_cascade(path, runtime)
    for text in ('', '[]', '{}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r'cascade\.json: no cascade'):
            load_cascade(path, runtime)
    other = {'cascade': {**good, 'widths': ['0.3'], 'temperatures': {'0.3': 1}}}
    path.write_text(json.dumps(other))
    with pytest.raises(ValueError, match=r'the cascade has width 0\.3; the widths'):
        load_cascade(path, runtime)
    with pytest.raises(ValueError, match=r'tolerance=-0\.1'):
        choose(data, MACS, tolerance=-0.1)
    with pytest.raises(ValueError, match='a cascade takes two'):
        choose(Split({'1.0': data.logits['1.0']}, data.labels), MACS)
