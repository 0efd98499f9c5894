"""The network configurations whose code and weights were published.

S-Nets (Yu et al., ICLR 2019), US-Nets (Yu and Huang, ICCV 2019) and AutoSlim (Yu and
Huang, 2019), by the names of the published code.
"""

from collections.abc import Callable
from functools import partial

from slimjax.models import autoslim
from slimjax.models.common import SlimmableClassifier
from slimjax.models.mnasnet import MNasNet
from slimjax.models.mobilenet_v1 import MobileNetV1
from slimjax.models.mobilenet_v2 import MobileNetV2
from slimjax.models.resnet import ResNet
from slimjax.models.shufflenet import ShuffleNet


def _grid(narrowest: float, step: float = 0.025) -> tuple[float, ...]:
    """All widths from `narrowest` to 1.0."""
    count = round((1.0 - narrowest) / step) + 1
    return tuple(round(narrowest + step * number, 3) for number in range(count))


PUBLISHED: dict[str, Callable[..., SlimmableClassifier]] = {
    's_mobilenet_v1': partial(MobileNetV1, widths=(0.25, 0.5, 0.75, 1.0)),
    's_mobilenet_v2': partial(MobileNetV2, widths=(0.35, 0.5, 0.75, 1.0)),
    's_shufflenet': partial(ShuffleNet, widths=(0.5, 1.0, 2.0)),
    's_resnet50': partial(ResNet, widths=(0.25, 0.5, 0.75, 1.0)),
    'us_mobilenet_v1': partial(MobileNetV1, widths=_grid(0.25), norm='shared_affine'),
    'us_mobilenet_v2': partial(MobileNetV2, widths=_grid(0.35), norm='shared_affine'),
    'autoslim_mobilenet_v1': partial(MobileNetV1, widths=autoslim.MOBILENET_V1),
    'autoslim_mobilenet_v2': partial(
        MobileNetV2, widths=autoslim.MOBILENET_V2, slim_tail=True
    ),
    'autoslim_mnasnet': partial(MNasNet, widths=autoslim.MNASNET, slim_tail=True),
    'autoslim_resnet': partial(ResNet, widths=autoslim.RESNET50),
}
