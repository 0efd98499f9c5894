"""How small a searched network must be: `0.5` of width 1.0, or `300M`."""

import decimal
import math
import re

# What follows a number that is no fraction.
_COUNTS = {'k': 3, 'M': 6, 'G': 9}
_SECONDS = {'us': -6, 'ms': -3, 's': 0}
# The powers of ten that they stand for.
UNITS = {'macs': _COUNTS, 'params': _COUNTS, 'latency': _SECONDS}


def parse_targets(text: str, cost: str, whole: float) -> tuple[float, ...]:
    """Returns the most that networks may cost, the largest first.

    Args:
        text: with commas between; each a fraction of `whole`, or a number and a unit.
        cost: one of `UNITS`.
        whole: the cost of the network of width 1.0; latencies are in seconds.

    Raises:
        ValueError: something else stands there, or one stands there twice.

    Example:
        >>> parse_targets('0.25,0.5', 'macs', 1000)
        (500.0, 250.0)
        >>> parse_targets('300M,1.5G', 'macs', 1000)
        (1500000000.0, 300000000.0)
    """
    units = UNITS[cost]
    found = []
    for each in text.split(','):
        match = re.fullmatch(r'\s*([0-9.]+(?:e[0-9]+)?)\s*([a-zA-Z]*)\s*', each)
        try:
            number, unit = decimal.Decimal(match[1]), match[2]
            # Exact, as a whole number of multiply-adds may be meant.
            value = float(number.scaleb(units[unit])) if unit else float(number) * whole
        except (TypeError, decimal.InvalidOperation, KeyError):
            value = math.nan
        if not 0 < value < math.inf:
            raise ValueError(
                f'--{cost}={text}: {each!r} is no target; allowed are fractions of the '
                f'network of width 1.0, such as 0.5, and numbers with one of the units '
                f'{", ".join(units)}'
            )
        found.append(value)
    if len(set(found)) < len(found):
        raise ValueError(f'--{cost}={text}: a target stands there twice')
    return tuple(sorted(found, reverse=True))
