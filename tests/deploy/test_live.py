"""On this machine, beside other work, the controller keeps what the widest does not."""

import json
import subprocess
import sys

import pytest

from slimjax.deploy.decision_log import replay
from slimjax.deploy.live import serve
from tests.commands import ROOT, environment
from tests.deploy.networks import drawn, tiny, write_bundle


def held(tmp_path, size, *flags, **fields):
    """What scripts/hold_budget.py finds of a network for images of `size` px."""
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    model, _ = tiny(**fields)
    shape = (size, size, 3)
    write_bundle(tmp_path / 'bundle', model, drawn(model, shape), shape)
    done = subprocess.run(
        [
            sys.executable,
            ROOT / 'scripts' / 'hold_budget.py',
            f'--bundle={tmp_path / "bundle"}',
            f'--output={tmp_path / "held"}',
            *flags,
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / 'held'
    assert folder.joinpath('held.png').read_bytes().startswith(b'\x89PNG')
    # Whatever the machine did, the decisions follow from what was measured.
    decisions = replay(folder / 'log.jsonl')
    return json.loads(folder.joinpath('results.json').read_text()), decisions


def test_live_decisions_replay(tmp_path):
    """Nothing takes the hundredth of a microsecond that is allowed here."""
    costs = tmp_path / 'costs.json'
    widths = {'1.0': (4, 3e-6), '0.5': (2, 2e-6), '0.25': (1, 1e-6)}
    own = {
        name: {'macs': macs, 'latency_ms_p50': cost, 'latency_ms_p95': cost}
        for name, (macs, cost) in widths.items()
    }
    costs.write_text(json.dumps({'widths': own}))
    flags = f'--costs={costs}', '--budget=0.00001', '--seconds=1.5', '--processes=1'
    found, decisions = held(tmp_path, 32, *flags)
    assert [(each.width, each.reason) for each in decisions] == [('0.25', 'urgent')]
    assert found['results']['controlled']['after']['widths']['0.25'] == 1.0
    assert found['results']['the widest alone']['during']['widths']['1.0'] == 1.0
    assert all(own['requests'] > 1 for own in found['results']['controlled'].values())


@pytest.mark.slow
def test_beside_other_work_more_requests_stay_within_the_budget(tmp_path):
    found, decisions = held(tmp_path, 96, '--seconds=45', base_features=32)
    controlled, widest = found['results'].values()
    assert decisions
    assert controlled['during']['within'] >= widest['during']['within'] + 0.1
    assert controlled['during']['p95'] < widest['during']['p95']


def test_a_rate_that_is_none_is_refused():
    for changes, message in (
        ({'rate': 0.0}, r'rate=0\.0: more than 0'),
        ({'seconds': -1.0}, r'seconds=-1\.0'),
        ({'processes': -1}, 'processes=-1: 0 or more'),
    ):
        settings = {'rate': 1.0, 'seconds': 1.0, 'processes': 0, **changes}
        with pytest.raises(ValueError, match=message):
            serve(lambda: None, ['1.0'], **settings)
