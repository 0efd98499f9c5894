"""The slimmable training loop in PyTorch, as a rival to be timed.

It does what the published loop does: weights are sliced, every width has its own
BatchNorm and its own backward pass, and one SGD step follows. Layers are functions of
tensors in dictionaries, so that nothing but PyTorch's own work is timed.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from slimjax.width import divisible_by_8, truncate


class Network:
    """Layers that create their parameters when they are first run.

    Args:
        forward: one of `NETWORKS`.
        device: `'cpu'` or `'cuda'`.
        channels_last: the layout of images and kernels; contiguous NCHW otherwise.
    """

    def __init__(self, forward: Callable, device: str, channels_last: bool):
        self._forward, self.device = forward, device
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.parameters: dict[str, Tensor] = {}
        self._running: dict[str, tuple[Tensor, Tensor]] = {}
        self.width = 1.0

    def __call__(self, images: Tensor, width: float) -> Tensor:
        """Returns the logits of images `[batch, 3, height, width]`."""
        self.width = width
        return self._forward(self, images)

    def _parameter(self, name: str, value: Callable[[], Tensor]) -> Tensor:
        if name not in self.parameters:
            leaf = value().to(self.device)
            if leaf.ndim == 4:
                leaf = leaf.contiguous(memory_format=self.layout)
            self.parameters[name] = leaf.requires_grad_()
        return self.parameters[name]

    def conv(self, x, name, features, size, stride=1, groups=1):
        inputs = x.shape[1] // groups
        kernel = self._parameter(
            name,
            lambda: (
                torch.randn(features, inputs, size, size)
                * (2 / (size * size * features)) ** 0.5
            ),
        )
        kernel = kernel[:features, :inputs]
        return F.conv2d(x, kernel, stride=stride, padding=size // 2, groups=groups)

    def norm(self, x, name):
        name, count = f'{name}/{self.width}', x.shape[1]
        scale = self._parameter(f'{name}/scale', lambda: torch.ones(count))
        bias = self._parameter(f'{name}/bias', lambda: torch.zeros(count))
        if name not in self._running:
            moments = torch.zeros(count), torch.ones(count)
            self._running[name] = tuple(each.to(self.device) for each in moments)
        return F.batch_norm(
            x, *self._running[name], scale, bias, training=True, momentum=0.1, eps=1e-5
        )

    def conv_norm(self, x, name, features, size=1, stride=1, activation=None):
        """A convolution and its norm; depthwise where `features` is None."""
        groups = 1
        if features is None:
            features = groups = x.shape[1]
        x = self.conv(x, name, features, size, stride, groups)
        x = self.norm(x, f'{name}/norm')
        return x if activation is None else activation(x, inplace=True)

    def linear(self, x, classes=1000):
        inputs = x.shape[1]
        weight = self._parameter('linear', lambda: 0.01 * torch.randn(classes, inputs))
        bias = self._parameter('linear/bias', lambda: torch.zeros(classes))
        return F.linear(x, weight[:, :inputs], bias)


def _mobilenet_v1(net: Network, x: Tensor) -> Tensor:
    def count(channels):
        return divisible_by_8(channels, net.width)

    x = net.conv_norm(x, 'stem', count(32), 3, 2, F.relu6)
    stages = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
    for stage, (channels, blocks, stride) in enumerate(stages):
        for block in range(blocks):
            name = f'{stage}.{block}'
            step = 1 if block else stride
            x = net.conv_norm(x, f'{name}.depthwise', None, 3, step, F.relu6)
            x = net.conv_norm(
                x, f'{name}.pointwise', count(channels), activation=F.relu6
            )
    return net.linear(x.mean((2, 3)))


_INVERTED = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def _mobilenet_v2(net: Network, x: Tensor) -> Tensor:
    def count(channels):
        return divisible_by_8(channels, net.width)

    x = net.conv_norm(x, 'stem', count(32), 3, 2, F.relu6)
    inputs = 32
    for stage, (expansion, channels, blocks, stride) in enumerate(_INVERTED):
        for block in range(blocks):
            name, hidden = f'{stage}.{block}', x
            step = 1 if block else stride
            if expansion > 1:
                features = expansion * count(inputs)
                hidden = net.conv_norm(
                    hidden, f'{name}.expand', features, activation=F.relu6
                )
            hidden = net.conv_norm(hidden, f'{name}.depthwise', None, 3, step, F.relu6)
            hidden = net.conv_norm(hidden, f'{name}.project', count(channels))
            x = x + hidden if step == 1 and inputs == channels else hidden
            inputs = channels
    # The published tail keeps its channels and shares one norm between the widths.
    width, net.width = net.width, 1.0
    x = net.conv_norm(x, 'tail', 1280, activation=F.relu6)
    net.width = width
    return net.linear(x.mean((2, 3)))


def _resnet50(net: Network, x: Tensor) -> Tensor:
    def count(channels):
        return truncate(channels, net.width)

    x = net.conv_norm(x, 'stem', count(64), 7, 2, F.relu)
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, outer = count(64 * 2**stage), count(256 * 2**stage)
        for block in range(blocks):
            name = f'{stage}.{block}'
            stride = 2 if stage and not block else 1
            hidden = net.conv_norm(x, f'{name}.1', inner, activation=F.relu)
            hidden = net.conv_norm(hidden, f'{name}.2', inner, 3, stride, F.relu)
            hidden = net.conv_norm(hidden, f'{name}.3', outer)
            if not block:
                x = net.conv_norm(x, f'{name}.shortcut', outer, 1, stride)
            x = F.relu(x + hidden)
    return net.linear(x.mean((2, 3)))


_GROUPS = 3


def _shufflenet(net: Network, x: Tensor) -> Tensor:
    def count(channels):
        return truncate(channels, net.width)

    def grouped(x, name, features, activation=None, size=1, stride=1, parts=None):
        parts = parts or x.chunk(_GROUPS, 1)
        share = features // _GROUPS
        return torch.cat(
            [
                net.conv_norm(part, f'{name}.{number}', share, size, stride, activation)
                for number, part in enumerate(parts)
            ],
            1,
        )

    x = grouped(x, 'stem', _GROUPS * count(8), F.relu, 3, 2, parts=[x] * _GROUPS)
    x = F.max_pool2d(x, 3, 2)
    for stage, (channels, blocks) in enumerate(((240, 4), (480, 8), (960, 4))):
        for block in range(blocks):
            name = f'{stage}.{block}'
            squeezed = _GROUPS * count(channels // 4 // _GROUPS)
            whole = [x] * _GROUPS if stage == block == 0 else None
            hidden = grouped(x, f'{name}.squeeze', squeezed, F.relu, parts=whole)
            batch, features, *space = hidden.shape
            hidden = hidden.reshape(batch, _GROUPS, features // _GROUPS, *space)
            hidden = hidden.transpose(1, 2).reshape(batch, features, *space)
            hidden = net.conv_norm(
                hidden, f'{name}.depthwise', None, 3, 1 if block else 2
            )
            outputs = count(channels) if block else count(channels) - x.shape[1]
            hidden = grouped(hidden, f'{name}.expand', outputs)
            if block:
                x = F.relu(x + hidden)
            else:
                x = torch.cat([F.relu(hidden), F.avg_pool2d(x, 3, 2, 1)], 1)
    return net.linear(x.mean((2, 3)))


NETWORKS = {
    's_mobilenet_v1': _mobilenet_v1,
    's_mobilenet_v2': _mobilenet_v2,
    's_resnet50': _resnet50,
    's_shufflenet': _shufflenet,
}


def training_step(
    name: str,
    widths: Sequence[float],
    *,
    batch: int,
    size: int,
    bfloat16: bool,
    channels_last: bool,
    compiled: bool,
) -> tuple[Network, Callable[[], None]]:
    """Returns the network and a function that makes one training step.

    Args:
        name: one of `NETWORKS`.
        widths: that are trained together.
        batch: images of a step.
        size: height and width of an image in pixels.
        bfloat16: whether the passes run under autocast.
        channels_last: the layout; contiguous NCHW otherwise.
        compiled: whether `torch.compile` makes the passes.

    The step runs on the GPU where PyTorch sees one.
    """
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.backends.cudnn.benchmark = True  # XLA, too, chooses among algorithms.
    net = Network(NETWORKS[name], device, channels_last)
    images = torch.randn(batch, 3, size, size, device=device)
    images = images.contiguous(memory_format=net.layout)
    labels = torch.randint(0, 1000, (batch,), device=device)
    widths = sorted(widths, reverse=True)
    for width in widths:
        net(images, width)
    optimizer = torch.optim.SGD(
        net.parameters.values(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    # A program for each width: numbers of channels are no variables.
    forward = torch.compile(net.__call__, dynamic=False) if compiled else net

    def step():
        optimizer.zero_grad()
        for width in widths:
            with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                loss = F.cross_entropy(forward(images, width), labels)
            loss.backward()
        optimizer.step()
        if device == 'cuda':
            torch.cuda.synchronize()
        else:
            loss.item()

    return net, step


def variants(bfloat16: bool) -> dict[str, dict[str, bool]]:
    """Returns the ways to run it of which the fastest counts, `{name: options}`."""
    options = {
        'contiguous': {'channels_last': False, 'compiled': False},
        'channels_last': {'channels_last': True, 'compiled': False},
    }
    if torch.cuda.is_available():
        options['channels_last, torch.compile'] = {
            'channels_last': True,
            'compiled': True,
        }
    return {name: {**each, 'bfloat16': bfloat16} for name, each in options.items()}
