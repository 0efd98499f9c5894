"""Made-up facts of a run whose every name tries to break out of the page."""

import numpy as np

from slimjax.insight.activations import Layer
from slimjax.insight.gain import Gain
from slimjax.insight.norm_statistics import QUANTITIES, NormStatistics
from slimjax.insight.predictions import Predictions, Said
from slimjax.insight.top_images import Top, TopImages
from slimjax.report.gather import Facts, Field, Lost

HOSTILE = (
    '</script><img src=x onerror="boom=1">',
    '<b>bold</b> & "quoted" \'%{x}\' {{ 7 * 7 }}',
    '<a href="javascript:boom=1">link</a><svg onload=boom=1>',
)
WIDTHS = ('1.0', '0.5', '0.25')
IMAGES = 30


def hostile_facts(**changes):
    """Returns facts of three widths and classes, with changes."""
    drawn = np.random.default_rng(0)
    labels = np.arange(IMAGES) % len(HOSTILE)
    said = {}
    for number, name in enumerate(WIDTHS):
        # The widest is right about all, the others about all but the first few.
        classes = np.where(np.arange(IMAGES) < 3 * number, (labels + 1) % 3, labels)
        right = classes == labels
        sure = np.linspace(0.6, 0.9, IMAGES)
        said[name] = Said(classes, sure, right, np.ones(IMAGES, bool))
    image = drawn.integers(0, 256, (8, 8, 3), np.uint8)
    lost = Lost(f'{HOSTILE[0]}.png', image, 0, 2, 0.75)
    layer = Layer(HOSTILE[1], 'Conv', (4, 4), {1.0: 8, 0.5: 4, 0.25: 2})
    row = [Top(3, 1.5, True, image, image[:3]), Top(4, 1.0, False, image, image[:, :3])]
    pairs = {('1.0', '0.5'): 0.5}
    norms = {
        norm: {
            float(width): {
                quantity: drawn.random(2 + int(8 * float(width)))
                for quantity in QUANTITIES
            }
            for width in WIDTHS
        }
        for norm in ('stem/norm', HOSTILE[2])
    }
    facts = {
        'name': HOSTILE[0],
        'model': 'resnet14',
        'dataset': HOSTILE[1],
        'step': 7,
        'total_steps': 10,
        'seed': 0,
        'finished': False,
        'class_names': HOSTILE,
        'costs': costs(said),
        'individual': {'0.25': {'macs': 1e6, 'top1': 0.7}},
        'gains': {'0.25': Gain(0.7, 0.8, 0.1, 0.02, 0.18)},
        'curves': {
            'training': {name: [(1.0, 0.5), (2.0, 0.25)] for name in WIDTHS},
            'validation': {},
        },
        'predictions': Predictions('validation', np.arange(IMAGES), labels, said),
        'lost': {'0.5': [lost], '0.25': []},
        'tops': [TopImages(layer, 1, dict.fromkeys(WIDTHS, row), pairs, pairs, IMAGES)],
        'norms': NormStatistics(norms),
        'norms_missing': '',
        'fields': [
            Field('data_dir', repr(HOSTILE[2]), "''", True),
            Field('seed', '0', '0', False),
        ],
        'environment': {'trained with': HOSTILE[0]},
    }
    return Facts(**facts | changes)


def costs(said):
    """Returns what `device_costs` does, with scores."""
    widths = {}
    for number, (name, own) in enumerate(said.items()):
        first = {'latency_ms_p50': 3.0 - number, 'latency_ms_p95': 4.0 - number}
        first |= {'images_per_s': 1000.0 / (3 - number), 'temporary_bytes': 2**18}
        widths[name] = {
            **first,
            'params': 9000 // (1 + number),
            'macs': 9_000_000 // (1 + number) ** 2,
            'weight_bytes': 2**20 // (1 + number),
            'energy_mj': None,
            'top1': float(own.top1.mean()),
            'top5': 1.0,
            'batches': {'1': first, '4': first},
        }
    return {
        'widths': widths,
        'stored_bytes': 2**21,
        'batches': [1, 4],
        'device': HOSTILE[1],
        'dtype': 'float32',
        'energy': {'source': None, 'reason': HOSTILE[2]},
    }
