"""What the fields of a configuration must be together."""

import operator

import ml_collections

from slimjax.models import SlimmableClassifier
from slimjax.norm import SHARED_STATS
from slimjax.train.schedule import UNITS
from slimjax.width import ChannelTable, canonical, width_name


def check_together(
    config: ml_collections.ConfigDict, model: SlimmableClassifier
) -> None:
    """Checks a config each of whose fields is right by itself.

    Args:
        config: a complete config.
        model: the network that it names.

    Raises:
        ValueError: says which field, its value and what is allowed.

    Example:
        >>> from slimjax.config import complete
        >>> from slimjax.models import create_model
        >>> check_together(complete({}), create_model('resnet50'))
    """
    widths = [width_name(width) for width in model.widths]
    _check_widths(config, model)
    for name in ('mean', 'std'):
        if len(config[name]) != config.image_channels:
            raise ValueError(
                f'config.{name}={config[name]} has {len(config[name])} numbers; '
                f'image_channels={config.image_channels} needs as many'
            )
    if config.loss_weights and len(config.loss_weights) != len(widths):
        raise ValueError(
            f'config.loss_weights={config.loss_weights}: as many numbers are needed '
            f'as widths={tuple(widths)}'
        )
    if config.crop_scale and len(config.crop_scale) != 2:
        raise ValueError(
            f'config.crop_scale={config.crop_scale}: two numbers or () is needed'
        )
    if config.crop_scale and not config.crop_scale[0] <= config.crop_scale[1] <= 1:
        raise ValueError(
            f'config.crop_scale={config.crop_scale}: two rising numbers up to 1'
        )
    if config.crop_scale and config.pad:
        raise ValueError(
            f'config.pad={config.pad}: pad and crop_scale={config.crop_scale} exclude '
            'each other; set crop_scale=() or pad=0'
        )
    # Beyond these, images would have black borders, or be nothing but them.
    for name, limit, is_allowed in (
        ('pad', 'less than', operator.lt),
        ('eval_resize', 'at least', operator.ge),
    ):
        if not is_allowed(config[name], config.image_size):
            raise ValueError(
                f'config.{name}={config[name]}: allowed is {limit} image_size='
                f'{config.image_size}'
            )
    if config.schedule == 'multistep' and not any(
        config[f'milestone_{unit}'] for unit in UNITS
    ):
        raise ValueError(
            "config.schedule='multistep' needs milestone_epochs, milestone_steps or "
            'milestone_examples'
        )
    if config.image_channels == 1 and (config.jitter or config.lighting != 'none'):
        raise ValueError(
            f'config.jitter={config.jitter}, lighting={config.lighting!r}: grey images '
            "have no colour; set jitter=0 and lighting='none'"
        )
    if config.batch_size % config.accumulate_steps:
        raise ValueError(
            f'config.accumulate_steps={config.accumulate_steps} does not divide '
            f'batch_size={config.batch_size}'
        )
    if config.ema_decay and config.param_dtype == 'bfloat16':
        raise ValueError(
            f"config.ema_decay={config.ema_decay}: with param_dtype='bfloat16', which "
            'tells no steps so small apart, averages would stand still; allowed is 0.0'
        )
    if config.fold and config.fold >= config.folds:
        raise ValueError(
            f'config.fold={config.fold}: folds={config.folds} has none of that number'
        )
    names = ('top1', 'top5', 'loss')
    metric, _, width = config.best_metric.partition('/')
    if metric not in names or (width and width not in widths):
        raise ValueError(
            f'config.best_metric={config.best_metric!r}: allowed are '
            f"{', '.join(names)} (mean over widths), or one width's, such as top1/"
            f'{widths[0]}'
        )


def _check_widths(
    config: ml_collections.ConfigDict, model: SlimmableClassifier
) -> None:
    """Checks what is trained of the widths, and who teaches."""
    if config['distill'] and len(model.widths) < 2:
        raise ValueError(
            f'config.distill=True: the widest teaches the others, and there is only '
            f'width {width_name(model.widths[0])}; set distill=False'
        )
    for name in ('distill', 'sandwich') if config['teacher'] else ():
        if config[name]:
            raise ValueError(
                f'config.teacher={config["teacher"]!r}: with {name}={config[name]}, '
                f'who teaches is not settled; set {name}={type(config[name])()}, or '
                "teacher=''"
            )
    if config['frozen_width']:
        _check_frozen(config, model)
    for name in ('distill', 'sandwich') if config['reduce'] == 'in_turn' else ():
        if config[name]:
            raise ValueError(
                f"config.reduce='in_turn': a step trains one width, and {name}="
                f'{config[name]} wants several; allowed is {type(config[name])()}'
            )
    if not config['sandwich']:
        return
    if len(model.widths) < 2 or isinstance(model.widths[0], ChannelTable):
        raise ValueError(
            f'config.sandwich={config["sandwich"]}: widths='
            f'{tuple(map(width_name, model.widths))} state no range to draw from; two '
            'multipliers or more are needed'
        )
    if model.norm != 'shared_affine':
        raise ValueError(
            f'config.norm={model.norm!r}: with sandwich={config["sandwich"]}, widths '
            'are drawn that have no scale and bias of their own; allowed is '
            "'shared_affine'"
        )
    if config['loss_weights']:
        raise ValueError(
            f'config.loss_weights={config["loss_weights"]}: with sandwich='
            f'{config["sandwich"]}, widths have no weights; allowed is ()'
        )


def _check_frozen(
    config: ml_collections.ConfigDict, model: SlimmableClassifier
) -> None:
    """Checks that what a frozen width gives cannot change."""
    frozen, widths = config['frozen_width'], model.widths
    if any(isinstance(width, ChannelTable) for width in widths):
        raise ValueError(
            f'config.frozen_width={frozen}: channel tables do not contain one another; '
            'allowed is 0.0'
        )
    narrower = sorted(map(canonical, widths))[:-1]
    if frozen not in narrower:
        raise ValueError(
            f'config.frozen_width={frozen}: allowed is 0.0, or one of '
            f'{tuple(narrower)}, the widths but the widest'
        )
    if SHARED_STATS in {
        name for width in widths for name in model.stats_collections(width)
    }:
        raise ValueError(
            f'config.frozen_width={frozen}: the widths share BatchNorm statistics, '
            "which training changes; allowed is norm='private' or 'shared_affine' (and "
            'model_fields.private_tail_stats=True)'
        )
    for name in ('sandwich', 'loss_weights'):
        if config[name]:
            raise ValueError(
                f'config.{name}={config[name]}: with frozen_width={frozen}, only wider '
                f'widths are trained; allowed is {type(config[name])()}'
            )
    if config['ema_decay']:
        raise ValueError(
            f'config.ema_decay={config["ema_decay"]}: with frozen_width={frozen}, '
            'averages would change by rounding, and their statistics are computed '
            'anew; allowed is 0.0'
        )
