"""The energy counter of this device, where it has one that can be read.

A GPU's counter (NVML) is of the whole card, a CPU's (RAPL, in Linux's powercap) of the
whole package: what else runs there is counted too, and so is what it takes idle.
"""

import os
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Protocol

import jax

POWERCAP = pathlib.Path('/sys/class/powercap')


class Meter(Protocol):
    """Counts the joules that a device has taken.

    Attributes:
        source: what is counted, for people.
    """

    source: str

    def read(self) -> tuple[int, ...]: ...

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float: ...


class NoMeterError(Exception):
    """The energy of this device cannot be read; the message says why."""


class Rapl:
    """The energy counters of all CPU packages.

    Args:
        powercap: Linux's folder of them.

    Raises:
        NoMeterError: there is no counter, or it may not be read.
    """

    def __init__(self, powercap: pathlib.Path = POWERCAP):
        # Parts of a package have two numbers, and are counted in it; some machines
        # count the platform too, packages included.
        zones = sorted(powercap.glob('intel-rapl:[0-9]'))
        self._zones = [
            zone for zone in zones if (zone / 'name').read_text().startswith('package')
        ]
        if not self._zones:
            raise NoMeterError(f'there is no RAPL counter in {powercap}')
        self.source = f'RAPL, {len(self._zones)} CPU packages'
        try:
            self._range = tuple(
                int((zone / 'max_energy_range_uj').read_text()) for zone in self._zones
            )
            self.read()
        except OSError as error:
            raise NoMeterError(
                f'{error.filename} cannot be read: {error.strerror} (Linux lets only '
                'root read it)'
            ) from None

    def read(self) -> tuple[int, ...]:
        """Returns the microjoules of each package, since some time or other."""
        return tuple(int((zone / 'energy_uj').read_text()) for zone in self._zones)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Returns what was taken between two readings, over one wrap at most."""
        taken = [
            end - start if end >= start else end - start + most
            for start, end, most in zip(before, after, self._range, strict=True)
        ]
        return sum(taken) / 1e6


class Nvml:
    """The energy counter of the first NVIDIA GPU that JAX uses.

    Raises:
        NoMeterError: nvidia-ml-py is not installed, or the card has no counter.
    """

    def __init__(self):
        try:
            import pynvml
        except ImportError:
            raise NoMeterError(
                'the energy of a GPU is read with nvidia-ml-py, which is not installed'
            ) from None
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._card = self._find(jax.local_devices()[0].local_hardware_id)
            self.source = f'NVML, {pynvml.nvmlDeviceGetName(self._card)}'
            self.read()
        except pynvml.NVMLError as error:
            raise NoMeterError(f'NVML: {error}') from None

    def _find(self, number: int):
        visible = os.environ.get('CUDA_VISIBLE_DEVICES', '')
        name = visible.split(',')[number].strip() if visible else str(number)
        if name.isdigit():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(name))
        return self._nvml.nvmlDeviceGetHandleByUUID(name)

    def read(self) -> tuple[int, ...]:
        """Returns the millijoules of the card since its driver was loaded."""
        return (self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._card),)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Returns what was taken between two readings."""
        return (after[0] - before[0]) / 1e3


def energy_meter() -> Meter:
    """Returns the meter of the device that JAX computes on.

    Raises:
        NoMeterError: there is none; the message says why.
    """
    platform = jax.default_backend()
    if platform == 'cpu':
        return Rapl()
    if platform == 'gpu':
        return Nvml()
    raise NoMeterError(f'a {platform} has no energy counter that can be read')


def joules_a_run(meter: Meter, run: Callable[[], object], seconds: float = 1) -> float:
    """Returns the energy of a function that is called again and again for a while.

    Args:
        meter: its device's.
        run: returns when its work is done.
        seconds: how long; the counters tick some ten times a second.

    Example:
        >>> class Watch:
        ...     source = 'one watt'
        ...     def read(self):
        ...         return (time.perf_counter_ns(),)
        ...     def joules(self, before, after):
        ...         return (after[0] - before[0]) / 1e9
        >>> joules_a_run(Watch(), lambda: time.sleep(0.02), 0.1) >= 0.02
        True
    """
    count, before, end = 0, meter.read(), time.perf_counter() + seconds
    while count == 0 or time.perf_counter() < end:
        run()
        count += 1
    return meter.joules(before, meter.read()) / count


class Millijoules:
    """A count of millijoules that never goes back, as a counter does when it is full.

    Call it more often than the counter is full: every few minutes. Threads may share
    it.

    Args:
        meter: its device's.

    Example:
        >>> class Counter:
        ...     source = 'full at 10 J'
        ...     seen = iter([(2,), (9,), (1,), (8,), (0,)])
        ...     def read(self):
        ...         return next(self.seen)
        ...     def joules(self, before, after):
        ...         return (after[0] - before[0]) % 10
        >>> count = Millijoules(Counter())
        >>> [count() for _ in range(4)]
        [7000, 9000, 16000, 18000]
    """

    def __init__(self, meter: Meter):
        self._meter, self._last, self._count = meter, meter.read(), 0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            now = self._meter.read()
            self._count += 1000 * self._meter.joules(self._last, now)
            self._last = now
            return self._count
