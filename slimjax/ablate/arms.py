"""The networks of the ablations, all under the recipe of one config."""

import dataclasses
from collections.abc import Callable, Sequence

import ml_collections

from slimjax.compare.network import Network, alone, changed, stretched, together
from slimjax.insight.gradient_cosine import watch_gradients
from slimjax.width import canonical, widest_first, width_name

# The widths of the paper's Table 4, and how it sets them between its ends.
WIDTHS = {
    2: (0.25, 1.0),
    4: (0.25, 0.5, 0.75, 1.0),
    8: (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 1.0),
}
Config = ml_collections.ConfigDict
Networks = Callable[[Config], list[Network]]


def _ordered(config: Config) -> tuple[float, ...]:
    return widest_first(config.widths)


def individual(config: Config) -> list[Network]:
    """Each width a network of its own, widest first."""
    return [alone(config, 'individual', width) for width in _ordered(config)]


def joint(config: Config) -> list[Network]:
    """The S-Net of all widths, the gradients of which are watched."""
    network = _together(config, 'joint')
    return [dataclasses.replace(network, watch=watch_gradients)]


def _together(config: Config, arm: str, **fields) -> Network:
    plain = {'sandwich': 0, 'distill': False, 'reduce': 'sum'}
    return together(config, arm, **plain | fields)


def incremental(config: Config) -> list[Network]:
    """The narrowest alone, then each next width beside what is done."""
    *wider, narrowest = _ordered(config)
    networks, widths = [alone(config, 'individual', narrowest)], (narrowest,)
    for width in reversed(wider):
        last = networks[-1]
        own = changed(
            last.config, widths=(*widths, width), frozen_width=float(widths[-1])
        )
        widths = own.widths
        name = width_name(width)
        networks.append(Network(f'incremental/{name}', (name,), own, start=last))
    return networks


def with_norm(mode: str):
    """The S-Net, with norms of which the widths share something."""

    def networks(config: Config) -> list[Network]:
        return [_together(config, mode, norm=mode)]

    return networks


def of_number(count: int):
    """The S-Net of so many widths, set as the paper's are between the config's ends."""

    def networks(config: Config) -> list[Network]:
        widths = between(config.widths, WIDTHS[count])
        if set(widths) == set(_ordered(config)):
            return joint(config)
        return [_together(config, f'widths_{count}', widths=widths, loss_weights=())]

    return networks


def between(ends: Sequence[float], widths: Sequence[float]) -> tuple[float, ...]:
    """Returns widths stretched to the ends of others.

    Example:
        >>> between((0.4, 0.6, 1.0), (0.25, 0.5, 1.0))
        (0.4, 0.6, 1.0)
    """
    low, high = min(ends), max(ends)
    scale = (high - low) / (max(widths) - min(widths))
    return tuple(canonical(low + scale * (width - min(widths))) for width in widths)


def one_width(config: Config) -> list[Network]:
    """One width a step, in turn; as many steps."""
    return [_together(config, 'one_width', reduce='in_turn')]


def one_width_compute(config: Config) -> list[Network]:
    """One width a step, in turn; as many passes, so that many times as many steps."""
    longer = stretched(config, float(len(config.widths)))
    return [_together(longer, 'one_width_compute', reduce='in_turn')]


def narrowest(config: Config) -> list[Network]:
    """The narrowest width alone."""
    return individual(config)[-1:]


def narrowest_twice(config: Config) -> list[Network]:
    """The same for twice the epochs."""
    return [alone(config, 'individual_twice', _ordered(config)[-1], 2.0)]


def distilled(config: Config) -> list[Network]:
    """The narrowest alone, taught by the widest alone: its supervision."""
    return [_narrowest(config, 'distilled', teacher=individual(config)[0])]


def from_wide(config: Config) -> list[Network]:
    """The narrowest alone, from its slice of the widest alone: its features."""
    return [_narrowest(config, 'from_wide', start=individual(config)[0])]


def joint_then_alone(config: Config) -> list[Network]:
    """The narrowest alone, from its slice of the network trained jointly."""
    return [_narrowest(config, 'joint_then_alone', start=joint(config)[0])]


def _narrowest(config: Config, arm: str, **sources: Network) -> Network:
    network = alone(config, arm, _ordered(config)[-1])
    return dataclasses.replace(network, **sources)
