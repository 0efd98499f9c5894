"""What is compared: arms, each a family of networks for the same widths.

All follow one recipe, that of the config; an arm says in what it differs.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from slimjax.compare.cost import forward_macs
from slimjax.compare.metric import metric_of
from slimjax.compare.network import (
    Arm,
    Network,
    Tables,
    alone,
    changed,
    together,
)
from slimjax.config import check
from slimjax.models import model_fields
from slimjax.train.network import build_model
from slimjax.train.runs import image_shape
from slimjax.train.schedule import UNITS
from slimjax.width import ChannelTable, width_name

# Where the config draws no widths itself: as many a step as US-Nets do.
_SANDWICH = 4
REFERENCE = 'individual'
# Those that need neither a teacher nor fields that a detector does not have.
_OF_DETECTORS = (REFERENCE, 'individual_twice', 'individual_compute', 'slimmable_sum')
# Ends of a supernet, times the narrowest and the widest width of the config.
_BELOW, _ABOVE = 0.75, 1.5
_SEARCH_SHARE = 0.1
_RANDOM_TABLES = 10


def base_config(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the recipe that all arms share.

    There is one evaluation, after the last step, so that no checkpoint is chosen.

    Args:
        config: complete; its widths are compared.

    Raises:
        ValueError: widths that cannot be compared, or fields that an arm decides.

    Example:
        >>> from slimjax.config import complete
        >>> config = complete({'model': 'resnet14', 'widths': (0.5, 1.0)})
        >>> base_config(config).eval_epochs
        0.0
    """
    check(config)
    for name in ('teacher', 'init_from', 'channels'):
        if config[name]:
            raise ValueError(
                f'config.{name}={config[name]!r}: the networks compared start anew and '
                "learn from what their arm says; allowed is ''"
            )
    if config.frozen_width:
        raise ValueError(
            f'config.frozen_width={config.frozen_width}: an arm says what is frozen; '
            'allowed is 0.0'
        )
    widths = build_model(config).widths
    if len(widths) < 2 or any(isinstance(width, ChannelTable) for width in widths):
        raise ValueError(
            f'config.widths={tuple(map(width_name, widths))}: two multipliers or more '
            'are compared'
        )
    base = ml_collections.ConfigDict(config)
    base.widths = tuple(widths)
    base.best_metric = metric_of(config)
    for unit in UNITS:
        base[f'eval_{unit}'] *= 0
    return base


def known_arms(config: ml_collections.ConfigDict) -> list[str]:
    """Returns the names of all arms that there are of a config.

    Example:
        >>> known_arms(ml_collections.ConfigDict({'detector': 'mask_rcnn'}))[-1]
        'slimmable_sum'
    """
    return list(_OF_DETECTORS if config.detector else ARMS)


def make_arms(
    config: ml_collections.ConfigDict, names: Sequence[str] = ()
) -> dict[str, list[Network]]:
    """Returns the networks of each arm, those that teach first.

    Args:
        config: complete.
        names: the arms wanted besides `'individual'`; () for all but those that are
            trained when asked for.

    Raises:
        ValueError: no such arm, or a config of which arms cannot be made.

    Example:
        >>> from slimjax.config import complete
        >>> config = complete({'model': 'resnet14', 'widths': (0.5, 1.0)})
        >>> arms = make_arms(config, ['slimmable_sum'])
        >>> {name: [network.key for network in arm] for name, arm in arms.items()}
        ... # doctest: +NORMALIZE_WHITESPACE
        {'individual': ['individual/1.0', 'individual/0.5'],
         'slimmable_sum': ['slimmable_sum/all']}
    """
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        known = ', '.join(ARMS)
        raise ValueError(f'there is no arm {unknown[0]!r}; the arms are {known}')
    known = known_arms(config)
    others = [name for name in names if name not in known]
    if others:
        raise ValueError(
            f'the arm {others[0]!r} is of classifiers; those of detectors are '
            f'{", ".join(known)}'
        )
    usual = [name for name in known if not ARMS[name].asked]
    wanted = {REFERENCE, *(names or usual)}
    # What an arm is fairly compared with comes with it.
    controls = {control for name in wanted for control in ARMS[name].controls}
    wanted |= {name for name in controls if not ARMS[name].asked}
    base = base_config(config)
    return {
        name: arm.networks(base, name) for name, arm in ARMS.items() if name in wanted
    }


def _macs(config) -> Mapping[float, int]:
    """Forward multiply-adds of each width, widest first."""
    model = build_model(config)
    return forward_macs(model, image_shape(config, model))


def _individual(config, arm: str) -> list[Network]:
    return [alone(config, arm, width) for width in _macs(config)]


def _twice(config, arm: str) -> list[Network]:
    return [alone(config, arm, width, 2.0) for width in _macs(config)]


def _family_compute(config, arm: str) -> list[Network]:
    macs = _macs(config)
    family = sum(macs.values())
    return [alone(config, arm, width, family / own) for width, own in macs.items()]


def _taught(config, arm: str) -> list[Network]:
    # The widest of a distilled family learns from labels, and so does the teacher.
    teacher, *others = _individual(config, REFERENCE)
    return [
        teacher,
        *(
            dataclasses.replace(each, key=f'{arm}/{each.widths[0]}', teacher=teacher)
            for each in others
        ),
    ]


def _slimmable(reduce: str):
    def networks(config, arm: str) -> list[Network]:
        fields = {'sandwich': 0, 'distill': False, 'reduce': reduce}
        if not config.detector and build_model(config).norm == 'shared_affine':
            fields['norm'] = 'private'  # As published, of a US-Net's recipe too.
        return [together(config, arm, **fields)]

    return networks


def _universal(distill: bool):
    def networks(config, arm: str) -> list[Network]:
        return [
            together(
                config,
                arm,
                sandwich=config.sandwich or _SANDWICH,
                norm='shared_affine',
                distill=distill,
                reduce='sum',
                loss_weights=(),
                **_own_tail_statistics(config),
            )
        ]

    return networks


def _own_tail_statistics(config) -> dict[str, Any]:
    """The tail of MobileNet v2 shares them, which no calibration can get right."""
    if 'private_tail_stats' not in model_fields(config.model):
        return {}
    return {'model_fields': {**config.model_fields, 'private_tail_stats': True}}


def _supernet(config) -> Network:
    widths = list(_macs(config))
    ends = _BELOW * widths[-1], _ABOVE * widths[0]
    own = changed(
        _universal(True)(config, 'supernet')[0].config,
        widths=(ends[0], widths[0], ends[1]),
        search_share=_SEARCH_SHARE,
    )
    names = tuple(map(width_name, own.widths))
    return Network('autoslim/supernet', names, own, reported=False)


def _with_tables(config, arm: str, name: str, supernet: Network, drawn=None) -> Network:
    (network,) = _slimmable('sum')(config, arm)
    return dataclasses.replace(
        network,
        key=f'{arm}/{name}',
        config=changed(network.config, widths=()),
        tables=Tables(supernet, tuple(_macs(config).values()), drawn),
    )


def _autoslim(config, arm: str) -> list[Network]:
    supernet = _supernet(config)
    return [supernet, _with_tables(config, arm, 'all', supernet)]


def _random(config, arm: str) -> list[Network]:
    supernet = _supernet(config)
    return [
        _with_tables(config, arm, str(number), supernet, number)
        for number in range(_RANDOM_TABLES)
    ]


ARMS = {
    REFERENCE: Arm('each width a network of its own', _individual),
    'individual_distilled': Arm('the same, taught by the individual widest', _taught),
    'individual_twice': Arm('each width alone, twice the epochs', _twice),
    'individual_compute': Arm(
        'each width alone, with the multiply-adds of the whole family', _family_compute
    ),
    'slimmable_sum': Arm('S-Net, gradients of the widths summed', _slimmable('sum')),
    'slimmable_mean': Arm('S-Net, gradients averaged', _slimmable('mean')),
    'universal': Arm('US-Net, all widths from labels', _universal(False)),
    'universal_distilled': Arm(
        'US-Net, the widest teaches the others',
        _universal(True),
        controls=('individual_distilled',),
    ),
    'autoslim': Arm(
        'channels searched for the multiply-adds of each width, trained as S-Net',
        _autoslim,
        controls=('slimmable_sum', 'random'),
        asked=True,
    ),
    'random': Arm(
        f'the median of {_RANDOM_TABLES} networks whose channels are drawn likewise',
        _random,
        asked=True,
    ),
}
