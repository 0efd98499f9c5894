"""The studies: which arms answer a question, and what was published of them."""

import dataclasses
from collections.abc import Mapping, Sequence

import ml_collections

from slimjax.ablate import arms
from slimjax.compare.arms import base_config
from slimjax.compare.network import Network


@dataclasses.dataclass(frozen=True)
class Published:
    """What the paper says of the same arms.

    Attributes:
        what: network, data and place in the paper.
        top1: by arm and width, in per cent.
    """

    what: str
    top1: Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Study:
    """One question.

    Attributes:
        question: for people.
        arms: make their networks of the recipe; the first is what the others are
            compared with.
        published: None where the paper has no figures.
    """

    question: str
    arms: Mapping[str, arms.Networks]
    published: Published | None = None


STUDIES = {
    'incremental': Study(
        'May a network be widened beside a narrow one that stays as it is?',
        {
            'individual': arms.individual,
            'incremental': arms.incremental,
            'joint': arms.joint,
        },
        Published(
            'MobileNet v2 on ImageNet, section 3.1 and Table 3',
            {
                'individual': {'0.35': 60.3, '0.5': 65.4},
                'incremental': {'0.35': 60.3, '0.5': 61.0},
                'joint': {'0.35': 59.7, '0.5': 64.4},
            },
        ),
    ),
    'why': Study(
        'Does the wide network give the narrow one features, or supervision?',
        {
            'alone': arms.narrowest,
            'alone_twice': arms.narrowest_twice,
            'distilled': arms.distilled,
            'from_wide': arms.from_wide,
            'joint_then_alone': arms.joint_then_alone,
            'joint': arms.joint,
        },
    ),
    'affine': Study(
        'What of BatchNorm must be private to a width?',
        {
            'private': arms.joint,
            'shared_affine': arms.with_norm('shared_affine'),
            'shared': arms.with_norm('shared'),
        },
        Published(
            'MobileNet v1 on ImageNet, Table 6; "shared" about 0.1, section 3.2',
            {
                'private': {'1.0': 71.5, '0.75': 69.5, '0.5': 64.8, '0.25': 53.1},
                'shared_affine': {'1.0': 71.2, '0.75': 69.1, '0.5': 64.1, '0.25': 52.9},
            },
        ),
    ),
    'number': Study(
        'How many widths can share?',
        {
            'widths_4': arms.of_number(4),
            'widths_2': arms.of_number(2),
            'widths_8': arms.of_number(8),
        },
        Published(
            'MobileNet v1 on ImageNet, Tables 3 and 4',
            {
                'widths_4': {'1.0': 71.5, '0.75': 69.5, '0.5': 64.8, '0.25': 53.1},
                'widths_8': {'1.0': 71.6, '0.75': 69.8, '0.25': 52.4},
            },
        ),
    ),
    'one_width': Study(
        'Need a step sum the gradients of all widths?',
        {
            'sum': arms.joint,
            'one_width': arms.one_width,
            'one_width_compute': arms.one_width_compute,
        },
    ),
}


def make_studies(
    config: ml_collections.ConfigDict, names: Sequence[str] = ()
) -> dict[str, dict[str, list[Network]]]:
    """Returns the networks of each arm of each study.

    Args:
        config: complete.
        names: the studies wanted; () for all.

    Raises:
        ValueError: no such study, or a config of which networks cannot be made.

    Example:
        >>> from slimjax.config import complete
        >>> config = complete({'model': 'resnet14', 'widths': (0.5, 1.0)})
        >>> made = make_studies(config, ['incremental'])['incremental']
        >>> [network.key for network in made['incremental']]
        ['individual/0.5', 'incremental/1.0']
    """
    unknown = [name for name in names if name not in STUDIES]
    if unknown:
        known = ', '.join(STUDIES)
        raise ValueError(f'there is no study {unknown[0]!r}; the studies are {known}')
    base = base_config(config)
    return {
        name: {arm: networks(base) for arm, networks in study.arms.items()}
        for name, study in STUDIES.items()
        if not names or name in names
    }
