"""Channel tables of a ResNet-14 of which none is the widest in every layer."""

import slimjax
from slimjax.models.slim_layers import slim_layers
from slimjax.width import ChannelTable

FIELDS = {'num_classes': 4, 'base_features': 4, 'stage_sizes': (1,)}


def crossing_tables():
    """Two networks of which the larger one's first convolution is the narrower."""
    layers = slim_layers(slimjax.create_model('resnet14', **FIELDS), (16, 16, 3))
    sizes = {path: layer.output_channels(1.0) for path, layer in layers.items()}
    large = {**sizes, 'stem/conv': 2}
    small = {path: size // 2 for path, size in sizes.items()} | {'stem/conv': 4}
    return tuple(
        ChannelTable(name, tuple(channels.items()), macs)
        for name, channels, macs in (('1', small, 100), ('2', large, 200))
    )
