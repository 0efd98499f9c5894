"""Energy counters: Linux's files, as the kernel lays them, and NVML's calls."""

import itertools
import sys
import types

import pytest

from slimjax.insight.energy import NoMeterError, Nvml, Rapl, energy_meter, joules_a_run


def zone(powercap, number, microjoules, most=1000, name='package'):
    folder = powercap / f'intel-rapl:{number}'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'name').write_text(f'{name}-{number}\n')
    (folder / 'energy_uj').write_text(f'{microjoules}\n')
    (folder / 'max_energy_range_uj').write_text(f'{most}\n')
    return folder


def test_packages_are_added_and_a_counter_may_wrap_once(tmp_path):
    zone(tmp_path, 0, 100)
    zone(tmp_path, 1, 900)
    (tmp_path / 'intel-rapl:0:0').mkdir()  # the cores of package 0: counted in it
    zone(tmp_path, 2, 500, name='psys')  # the platform, which the packages are part of
    meter = Rapl(tmp_path)
    assert meter.source == 'RAPL, 2 CPU packages'
    before = meter.read()
    zone(tmp_path, 0, 150)
    zone(tmp_path, 1, 50)
    assert meter.joules(before, meter.read()) == pytest.approx((50 + 150) / 1e6)


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(NoMeterError, match='there is no RAPL counter in'):
        Rapl(tmp_path)
    (zone(tmp_path, 0, 1) / 'energy_uj').unlink()
    with pytest.raises(NoMeterError, match='energy_uj cannot be read'):
        Rapl(tmp_path)


def test_energy_is_shared_between_the_runs():
    class TwoJoulesARead:
        source = 'counted'
        counts = itertools.count()

        def read(self):
            return (next(self.counts),)

        def joules(self, before, after):
            return 2.0 * (after[0] - before[0])

    runs = []
    per_run = joules_a_run(TwoJoulesARead(), lambda: runs.append(1), seconds=0.01)
    assert per_run == pytest.approx(2 / len(runs))


class FakeNvml(types.ModuleType):
    """The calls of nvidia-ml-py that are used; a card's handle is its name."""

    class NVMLError(Exception):
        pass

    def __init__(self, millijoules):
        super().__init__('pynvml')
        self.millijoules = iter(millijoules)

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByIndex(self, index):
        return f'card {index}'

    def nvmlDeviceGetHandleByUUID(self, name):
        return name

    def nvmlDeviceGetName(self, card):
        return card

    def nvmlDeviceGetTotalEnergyConsumption(self, card):
        try:
            return next(self.millijoules)
        except StopIteration:
            raise self.NVMLError('Not Supported') from None


@pytest.mark.parametrize(
    ('visible', 'card'),
    [('', 'card 0'), ('2,3', 'card 2'), ('GPU-8a', 'GPU-8a')],
)
def test_the_card_is_the_one_that_jax_uses(visible, card, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    monkeypatch.setitem(sys.modules, 'pynvml', FakeNvml([1000, 2500, 6000]))
    meter = Nvml()
    assert meter.source == f'NVML, {card}'
    assert meter.joules(meter.read(), meter.read()) == pytest.approx(3.5)


def test_a_card_without_a_counter_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pynvml', FakeNvml([]))
    with pytest.raises(NoMeterError, match='NVML: Not Supported'):
        Nvml()
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    with pytest.raises(NoMeterError, match='nvidia-ml-py, which is not installed'):
        Nvml()
    monkeypatch.setattr('jax.default_backend', lambda: 'tpu')
    with pytest.raises(NoMeterError, match='a tpu has no energy counter'):
        energy_meter()
