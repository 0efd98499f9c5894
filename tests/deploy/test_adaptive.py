"""A runtime that adapts: told what requests cost, it runs them at the right width."""

import threading

import numpy as np
import pytest

from slimjax.deploy.adaptive import AdaptiveRuntime
from slimjax.deploy.controller import Controller
from slimjax.deploy.costs import Cost
from slimjax.deploy.deadline import Deadlines
from slimjax.deploy.decision_log import DecisionLog, replay
from slimjax.deploy.runtime import Runtime
from slimjax.deploy.simulation import COSTS, made_up_costs

IMAGES = np.zeros((1, 2, 2, 1), np.float32)


class Machine:
    """A backend on which time passes as it is told; also a clock and a meter."""

    def __init__(self, costs):
        self.costs, self.slowdown, self.spent = costs, 1.0, 0.0
        self.calls = []

    def run(self, name, images):
        self.calls.append(name)
        self.spent += self.slowdown * self.costs[name].typical
        return [np.zeros((len(images), 3), np.float32)]

    def clock(self):
        return self.spent / 1000


def adaptive(machine, budget, **options):
    manifest = {
        'widths': {name: {} for name in machine.costs},
        'image_shape': [2, 2, 1],
        'num_classes': 3,
    }
    return AdaptiveRuntime(
        Runtime(manifest, machine),
        Controller(machine.costs, budget),
        meter=lambda: machine.spent,
        clock=machine.clock,
        **options,
    )


def test_requests_run_at_the_width_of_the_controller_and_are_logged(tmp_path):
    machine, path = Machine(COSTS), tmp_path / 'log.jsonl'
    controller = Controller(COSTS, 14.0)
    with DecisionLog(path, controller) as log:
        runtime = adaptive(machine, 14.0, log=log)
        first = runtime.infer(IMAGES)
        assert (first.width, first.cost, first.logits.shape) == ('1.0', 10.0, (1, 3))
        machine.slowdown = 3.0
        for _ in range(10):
            runtime.infer(IMAGES)
        assert runtime.infer(IMAGES).width == '0.5'
        machine.slowdown = 1.0
        for _ in range(2000):
            last = runtime.infer(IMAGES)
        assert last.width == '1.0'
    assert machine.calls == ['1.0'] * 4 + ['0.5'] * machine.calls.count('0.5') + [
        '1.0'
    ] * (machine.calls.count('1.0') - 4)
    assert [decision.width for decision in replay(path)] == ['0.5', '1.0']


def test_a_deadline_is_for_one_request_alone():
    machine = Machine(COSTS)
    runtime = adaptive(machine, 14.0)
    widths = [runtime.infer(IMAGES, deadline=left).width for left in (20, 7, 4, 2, 1)]
    assert widths == ['1.0', '0.75', '0.5', '0.25', '0.25']
    machine.slowdown = 2.0
    # What they cost is known from the first on, and none is of the budget.
    runtime.infer(IMAGES, deadline=1)
    runtime.infer(IMAGES, deadline=1)
    widths = [runtime.infer(IMAGES, deadline=left).width for left in (20, 13, 7, 3)]
    assert widths == ['1.0', '0.75', '0.5', '0.25']
    for _ in range(30):
        runtime.infer(IMAGES, deadline=1)
    assert runtime.infer(IMAGES).width == '1.0'


@pytest.mark.parametrize('name', ['steps', 'noise', 'contention'])
def test_19_of_20_deadlines_are_met_where_any_width_could(name):
    time, costs = made_up_costs(name, 60, 0)
    names, deadlines = list(COSTS), Deadlines(COSTS)
    typical = np.array([cost.typical for cost in COSTS.values()])
    lefts = np.random.default_rng(0).uniform(2, 30, len(time))
    possible = met = work = most = 0
    for at, row, left in zip(time, costs, lefts, strict=True):
        width = deadlines.widest(float(left), float(at)) or names[-1]
        chosen = names.index(width)
        deadlines.observe(width, float(row[chosen]), float(at))
        makes = row <= left
        if makes.any():
            possible += 1
            met += makes[chosen]
            work += typical[chosen]
            most += typical[makes.argmax()]
    assert possible > 0.5 * len(time)
    assert met / possible >= 0.95
    # Who knew each request's noise beforehand would do more, not by much.
    assert work / most >= 0.6


def test_old_requests_tell_nothing_of_a_deadline():
    deadlines = Deadlines(COSTS, horizon=5.0)
    for _ in range(3):
        deadlines.observe('0.25', cost=12.0, time=0.0)
    assert deadlines.widest(40, time=5.0) == '0.5'
    assert deadlines.widest(40, time=5.1) == '1.0'
    with pytest.raises(ValueError, match=r'horizon=0\.0'):
        Deadlines(COSTS, horizon=0.0)


def test_threads_share_a_controller():
    machine = Machine({'1.0': Cost(0.01, 0.02), '0.5': Cost(0.005, 0.01)})
    runtime, failed = adaptive(machine, 1.0), []

    def ask():
        try:
            for _ in range(200):
                assert runtime.infer(IMAGES).width in ('1.0', '0.5')
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(machine.calls) == 1600


def test_a_controller_of_other_widths_is_refused():
    machine = Machine({'1.0': Cost(2, 3)})
    runtime = Runtime(
        {'widths': {'0.5': {}}, 'image_shape': [2, 2, 1], 'num_classes': 3}, machine
    )
    with pytest.raises(ValueError, match=r'has the widths 0\.5, the controller 1\.0'):
        AdaptiveRuntime(runtime, Controller(machine.costs, 5.0))
