"""What a width costs on this device, measured on a tiny network."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from slimjax.insight import device_cost
from slimjax.insight.cost import cost_results
from slimjax.insight.device_cost import device_costs
from slimjax.insight.energy import NoMeterError
from slimjax.insight.plot_device_cost import plot_device_costs
from slimjax.insight.table import results_table
from slimjax.train.network import build_model
from slimjax.train.state import initial_variables
from tests.commands import run_command
from tests.train.runs import TINY, tiny_config

SHAPE = (8, 8, 1)


@pytest.fixture(scope='module')
def network():
    model = build_model(tiny_config())
    create = jax.jit(lambda key: initial_variables(model, SHAPE, key))
    params, stats = create(jax.random.key(0))
    return model, {'params': params, **stats}


class Watts:
    """Counts a joule at each reading."""

    source = 'a test'

    def __init__(self):
        self.readings = 0

    def read(self):
        self.readings += 1
        return (self.readings,)

    def joules(self, before, after):
        return after[0] - before[0]


def test_every_width_is_measured_and_what_was_not_has_a_reason(
    network, monkeypatch, tmp_path
):
    def missing():
        raise NoMeterError('there is none here')

    monkeypatch.setattr(device_cost, 'energy_meter', missing)
    results = device_costs(*network, SHAPE, batches=(1, 3), repeats=4)
    assert results['energy'] == {'source': None, 'reason': 'there is none here'}
    assert list(results['widths']) == ['1.0', '0.5']
    expected = cost_results(network[0], SHAPE)
    for name, own in results['widths'].items():
        assert own['macs'] == expected['widths'][name]['macs']
        assert list(own['batches']) == ['1', '3']
        first = own['batches']['1']
        assert 0 < own['latency_ms_p50'] <= own['latency_ms_p95']
        assert own['latency_ms_p50'] == first['latency_ms_p50']
        rates = [each['images_per_s'] for each in own['batches'].values()]
        assert own['images_per_s'] == max(rates)
        assert rates[1] == pytest.approx(3000 / own['batches']['3']['latency_ms_p50'])
        assert own['energy_mj'] is None
        # Each parameter, and a mean and a variance for each scale and shift.
        assert own['weight_bytes'] == 4 * (own['params'] + own['params_bn'])
    variables = jax.tree.leaves(network[1])
    assert results['stored_bytes'] == 4 * sum(leaf.size for leaf in variables)
    assert json.loads(json.dumps(results)) == results
    table = results_table(results).splitlines()
    assert table[0].split()[-1] == 'temporaries'
    plot_device_costs(results, tmp_path / 'cost.png')
    with Image.open(tmp_path / 'cost.png') as image:
        assert image.size == (1200, 380)
        assert np.asarray(image.convert('L')).std() > 20


def test_energy_is_of_an_image_at_the_best_batch(network, monkeypatch, tmp_path):
    monkeypatch.setattr(device_cost, 'energy_meter', Watts)
    monkeypatch.setattr(
        device_cost, 'joules_a_run', lambda meter, run: meter.joules((0,), (6,))
    )
    results = device_costs(*network, SHAPE, batches=(2,), repeats=1)
    assert results['energy'] == {'source': 'a test', 'reason': None}
    assert [own['energy_mj'] for own in results['widths'].values()] == [3000, 3000]
    plot_device_costs(results, tmp_path / 'cost.png')
    with Image.open(tmp_path / 'cost.png') as image:
        assert image.size == (1600, 380)


def test_no_batch_is_an_error(network):
    with pytest.raises(ValueError, match='at least one number'):
        device_costs(*network, SHAPE, batches=())
    with pytest.raises(ValueError, match='batch_size=0: at least 1'):
        device_costs(*network, SHAPE, batches=(0,))


def test_the_command_writes_what_the_controller_reads(tmp_path):
    path = tmp_path / 'cost.json'
    done = run_command(
        'scripts/cost.py',
        f'--config={TINY}',
        '--config.widths=(1.0,)',
        '--batches=1',
        '--repeats=2',
        f'--json={path}',
    )
    assert done.returncode == 0, done.stderr
    assert '1.0' in done.stdout.splitlines()[1]
    (own,) = json.loads(path.read_text())['widths'].values()
    assert own['latency_ms_p95'] >= own['latency_ms_p50'] > 0
