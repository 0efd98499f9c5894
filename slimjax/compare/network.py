"""A network that is compared: what it is, and what must be trained before it."""

import dataclasses
from collections.abc import Callable

import ml_collections

from slimjax.train.loop import Measure
from slimjax.train.network import build_model
from slimjax.train.run import Run
from slimjax.train.schedule import UNITS
from slimjax.width import widest_first, width_name


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that is trained once for each seed.

    Attributes:
        key: `ARM/NAME`, its folder; arms that have the same network train it once.
        widths: those that it is scored at, by name.
        config: complete; seed, fold, learning rate and what other networks must be
            trained for are the harness's.
        teacher: the network that teaches this one.
        start: the network whose weights this one starts from.
        watch: makes of its run what is measured at each epoch.
        tables: how its channels are found; None for width multipliers.
        reported: whether its scores are; a supernet is only searched.
    """

    key: str
    widths: tuple[str, ...]
    config: ml_collections.ConfigDict
    teacher: 'Network | None' = None
    start: 'Network | None' = None
    watch: Callable[[Run], Measure] | None = None
    tables: 'Tables | None' = None
    reported: bool = True

    @property
    def sources(self) -> list['Network']:
        """Those that must be trained before, and at the end this one."""
        # Among whose networks tables are drawn, needs no training.
        searched = self.tables and self.tables.drawn is None and self.tables.supernet
        needed = (each for each in (self.teacher, self.start, searched) if each)
        return [*(one for each in needed for one in each.sources), self]


@dataclasses.dataclass(frozen=True)
class Tables:
    """How the channel tables of a network are found.

    Attributes:
        supernet: among whose networks they are.
        budgets: the multiply-adds that each width's table may take, widest first.
        drawn: the number of a random draw; None for a search.
    """

    supernet: Network
    budgets: tuple[int, ...]
    drawn: int | None = None


@dataclasses.dataclass(frozen=True)
class Arm:
    """A way to get a network of each width.

    Attributes:
        meaning: one line for people.
        networks: makes them of the base config and the arm's name.
        controls: further arms that it must be compared with, to be fair.
        asked: whether it is left out unless it is asked for.
    """

    meaning: str
    networks: Callable[[ml_collections.ConfigDict, str], list[Network]]
    controls: tuple[str, ...] = ()
    asked: bool = False


def stretched(
    config: ml_collections.ConfigDict, factor: float
) -> ml_collections.ConfigDict:
    """Returns a config that trains `factor` times as long, with the same warm-up.

    Example:
        >>> from slimjax.config import complete
        >>> config = complete({'train_epochs': 10, 'warmup_epochs': 2})
        >>> stretched(config, 1.5).train_epochs
        15.0
    """
    longer = ml_collections.ConfigDict(config)
    for unit in UNITS:
        longer[f'train_{unit}'] = _times(config[f'train_{unit}'], factor)
        longer[f'milestone_{unit}'] = tuple(
            factor * value for value in config[f'milestone_{unit}']
        )
    if config.num_train_steps:
        longer.num_train_steps = _times(config.num_train_steps, factor)
    if config.schedule == 'exponential':
        # It decays with every epoch, and is to end where the shorter one does.
        longer.decay_factor = config.decay_factor ** (1 / factor)
    return longer


def _times(duration: float, factor: float) -> float:
    return round(factor * duration) if type(duration) is int else factor * duration


def changed(config: ml_collections.ConfigDict, **fields) -> ml_collections.ConfigDict:
    """Returns a config with other values of some fields.

    Example:
        >>> changed(ml_collections.ConfigDict({'seed': 1}), seed=2).seed
        2
    """
    own = ml_collections.ConfigDict(config)
    for name, value in fields.items():
        own[name] = value
    return own


def alone(
    config: ml_collections.ConfigDict, arm: str, width: float, factor: float = 1.0
) -> Network:
    """Returns a network of one width, trained `factor` times as long.

    Example:
        >>> from slimjax.config import complete
        >>> alone(complete({}), 'individual', 0.25).key
        'individual/0.25'
    """
    own = changed(
        stretched(config, factor),
        widths=(width,),
        sandwich=0,
        distill=False,
        loss_weights=(),
    )
    name = width_name(width)
    return Network(f'{arm}/{name}', (name,), own)


def together(config: ml_collections.ConfigDict, arm: str, **fields) -> Network:
    """Returns the network of all widths, with other values of some fields.

    Example:
        >>> from slimjax.config import complete
        >>> config = complete({'model': 'resnet14', 'widths': (0.5, 1.0)})
        >>> together(config, 'slimmable_mean', reduce='mean').widths
        ('1.0', '0.5')
    """
    own = changed(config, **fields)
    names = tuple(map(width_name, widest_first(build_model(own).widths)))
    return Network(f'{arm}/all', names, own)
