"""What a request costs at each width: where a controller starts from."""

import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from slimjax.json_file import read_json

# What may be kept in a budget, and which fields of a measurement tell of it.
QUANTITIES = {
    'latency_ms': ('latency_ms_p50', 'latency_ms_p95'),
    'energy_mj': ('energy_mj', 'energy_mj'),
}


class Cost(NamedTuple):
    """What a request costs at a width while nothing disturbs it.

    Attributes:
        typical: its median, by which widths are compared.
        slow: its 95th percentile, by which the first width is chosen.
    """

    typical: float
    slow: float


def costs_from(
    measured: Mapping[str, Any], quantity: str = 'latency_ms'
) -> dict[str, Cost]:
    """Returns the cost of each width, widest first.

    Args:
        measured: what `scripts/cost.py` writes, or the manifest of a bundle.
        quantity: `'latency_ms'`, milliseconds of a request, or `'energy_mj'`,
            millijoules of an image, which only the first has, and not of each device.

    Raises:
        ValueError: another quantity, or a width of which it was not measured.

    Example:
        >>> own = {'macs': 5, 'latency_ms_p50': 1.0, 'latency_ms_p95': 1.5}
        >>> costs_from({'widths': {'0.5': own}})
        {'0.5': Cost(typical=1.0, slow=1.5)}
    """
    if quantity not in QUANTITIES:
        raise ValueError(f'quantity={quantity!r}; allowed are {", ".join(QUANTITIES)}')
    widths = measured['widths']
    found = {}
    for name in sorted(widths, key=lambda name: -widths[name]['macs']):
        values = [widths[name].get(field) for field in QUANTITIES[quantity]]
        if not all(value and math.isfinite(value) for value in values):
            raise ValueError(f'width {name}: {quantity} was not measured: {values}')
        found[name] = Cost(*map(float, values))
    return found


def read_costs(
    path: str | os.PathLike, quantity: str = 'latency_ms'
) -> dict[str, Cost]:
    """Returns the costs in a file; see `costs_from`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file of that kind.
    """
    try:
        found = costs_from(read_json(path), quantity)
        check_costs(found)
        return found
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: no costs of widths: {error}') from error


def check_costs(costs: Mapping[str, Cost]) -> None:
    """Raises a ValueError where costs are none, or no positive numbers."""
    if not costs:
        raise ValueError('costs: not a single width')
    for name, cost in costs.items():
        if not all(0 < value < math.inf for value in cost):
            raise ValueError(f'costs: {cost} of width {name}: numbers above 0 expected')
