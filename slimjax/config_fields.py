"""The fields of a configuration: their defaults, meaning, and what is allowed."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from slimjax.calibrate import METHODS
from slimjax.data.coco_format.formats import TOO_MANY
from slimjax.detection.paste import STYLES
from slimjax.detection.settings import DETECTORS, PRESETS
from slimjax.models import MODELS
from slimjax.norm import NORM_MODES
from slimjax.train.losses import SMOOTHING_FORMS
from slimjax.train.optimizer import OPTIMIZERS
from slimjax.train.schedule import SCHEDULES, UNITS

DTYPES = ('float32', 'bfloat16', 'float64')
REDUCTIONS = ('sum', 'mean', 'in_turn')
LIGHTING = ('none', 'published', 'intended')


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a configuration.

    Attributes:
        default: its value where a config does not set it; its type is the field's.
        meaning: one line for people.
        allowed: what a value must be, in words.
        is_allowed: whether a value of the right type is.
    """

    default: Any
    meaning: str
    allowed: str = ''
    is_allowed: Callable[[Any], bool] = lambda value: True


def _one_of(default, meaning, names) -> Field:
    return Field(default, meaning, f'one of {", ".join(names)}', names.__contains__)


def _positive(default, meaning) -> Field:
    return Field(default, meaning, 'above 0', lambda value: value > 0)


def _not_negative(default, meaning) -> Field:
    return Field(default, meaning, '0 or more', lambda value: value >= 0)


def _fraction(default, meaning) -> Field:
    return Field(default, meaning, 'in [0, 1)', lambda value: 0 <= value < 1)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _up_to(default, meaning, most) -> Field:
    return Field(default, meaning, f'0 to {most:,}', lambda value: 0 <= value <= most)


def _numbers(default, meaning, size=None, positive=True) -> Field:
    count = 'numbers' if size is None else f'{size} numbers'

    def is_allowed(values):
        return (size is None or len(values) == size) and all(
            _is_number(v) and (v > 0 or not positive) for v in values
        )

    return Field(default, meaning, f'a tuple of {count}', is_allowed)


def _duration(name: str, meaning: str, unit: str, value: float) -> dict[str, Field]:
    fields = {}
    for each in UNITS:
        default = 0.0 if each == 'epochs' else 0
        if each == unit:
            default = type(default)(value)
        fields[f'{name}_{each}'] = _not_negative(default, f'{meaning}, in {each}')
    return fields


FIELDS: dict[str, Field] = {
    # What is trained.
    'model': _one_of('resnet50', 'architecture', tuple(MODELS)),
    'model_fields': Field({}, 'further fields of the model, such as small_images'),
    'detector': _one_of(
        '', "what finds objects on the backbone model; '' to classify", ('', *DETECTORS)
    ),
    'preset': _one_of('published', 'settings of the detector', PRESETS),
    'num_keypoints': _positive(17, 'of an object, where the detector finds them'),
    'widths': Field(
        (),
        "widths trained together; () for the model's own",
        'a tuple of numbers above 0, or of names of channel tables',
        lambda v: all(isinstance(w, str) or (_is_number(w) and w > 0) for w in v),
    ),
    'channels': Field(
        '', 'file of channel tables, as scripts/search.py writes it, that widths name'
    ),
    'sandwich': Field(
        0,
        'widths a step trains: widest, narrowest, the rest drawn; 0 for all of widths',
        '0, or 2 or more',
        lambda v: v == 0 or v >= 2,
    ),
    'width_grid': _not_negative(
        0.03125, 'multiples of this are drawn between the ends of widths; 0 for any'
    ),
    'max_programs': _positive(256, 'distinct networks that a sandwich may compile'),
    'frozen_width': _not_negative(
        0.0, 'what this one of widths uses is not trained, what is wider is; 0 for none'
    ),
    'norm': _one_of(
        'own',
        "what the BatchNorms of the widths share; 'own' is the model's choice",
        ('own', *NORM_MODES),
    ),
    'norm_batch': Field(
        'device',
        "examples normalised together: 'device', 'global' or a number",
        "'device', 'global' or a number above 0",
        lambda v: v in ('device', 'global') or (type(v) is int and v > 0),
    ),
    'dtype': _one_of('float32', 'type of the computation', DTYPES),
    'param_dtype': _one_of('float32', 'type of the parameters', DTYPES),
    # Data.
    'search_share': _fraction(
        0.0, 'part of the training images kept for scripts/search.py; 0.1 is usual'
    ),
    'dataset': Field(
        'digits',
        "'digits', 'folder', 'synthetic' or a TFDS name",
        'a name that is not empty',
        bool,
    ),
    'folds': Field(
        0,
        'parts into which all examples are cut, stratified; 0 for the own splits',
        '0, or 3 or more',
        lambda v: v == 0 or v >= 3,
    ),
    'fold': _not_negative(
        0, 'which of folds is the test split; the next one is the validation split'
    ),
    'data_dir': Field('', "folder of the data; '' for TFDS's own"),
    'num_classes': _positive(10, 'number of classes'),
    'image_size': _positive(224, 'side of the images in pixels'),
    'image_channels': Field(3, '3 or 1 (grey)', '1 or 3', (1, 3).__contains__),
    'mean': _numbers(
        (0.485, 0.456, 0.406), 'subtracted, of pixels in 0..1', None, False
    ),
    'std': _numbers((0.229, 0.224, 0.225), 'divided by, of pixels in 0..1'),
    'crop_scale': _numbers((0.08, 1.0), 'area of a random crop; () crops none', None),
    'crop_ratio': Field(
        (3 / 4, 4 / 3),
        'aspect ratio of a random crop',
        'a tuple of two rising numbers above 0',
        lambda v: len(v) == 2 and all(map(_is_number, v)) and 0 < v[0] <= v[1],
    ),
    'pad': _not_negative(0, 'pixels of padding before a random crop of image_size'),
    'flip': Field(True, 'flip half of the images'),
    'jitter': _fraction(0.0, 'strength of the colour jitter; 0 for none'),
    'lighting': _one_of('none', 'PCA lighting noise', LIGHTING),
    'eval_resize': _positive(256, 'shorter side before the centre crop, in pixels'),
    'exif_rotation': Field(True, 'turn images as their EXIF tag says'),
    'num_workers': _up_to(0, 'reader processes; 0 reads in threads', 512),
    'num_threads': _up_to(0, 'reader threads a process; 0 for one a core', 512),
    'bad_image_limit': _not_negative(50, 'unreadable images before a run stops'),
    # Data of detectors, and what their results are.
    'too_many_boxes': _one_of(
        'error', 'where an image has more objects than model_fields.max_boxes', TOO_MANY
    ),
    'min_box_side': _not_negative(0.0, 'pixels of an object that is learnt'),
    'min_image_side': _not_negative(0, 'pixels of an image that is learnt from'),
    'min_keypoints': _not_negative(0, 'labelled keypoints of such an image'),
    'paste': _one_of('detectron2', 'how masks become pixels of the image', STYLES),
    # Optimisation.
    # What the shuffling of grain takes.
    'seed': _up_to(0, 'of weights, order and augmentation', 2**32 - 1),
    'batch_size': _positive(256, 'examples a step, of all devices together'),
    'accumulate_steps': _positive(1, 'parts in which a batch is computed'),
    'optimizer': _one_of('sgd', 'optimiser', OPTIMIZERS),
    'learning_rate': _positive(0.1, 'peak learning rate'),
    'momentum': _fraction(0.9, 'of SGD and LARS'),
    'nesterov': Field(True, 'Nesterov momentum'),
    'adam_betas': Field(
        (0.9, 0.999),
        'of AdamW',
        'a tuple of two numbers in [0, 1)',
        lambda v: len(v) == 2 and all(_is_number(b) and 0 <= b < 1 for b in v),
    ),
    'weight_decay': _not_negative(1e-4, 'of kernels that are not depthwise'),
    'decay_all': Field(False, 'decay norms, biases and depthwise kernels too'),
    'clip_norm': _not_negative(0.0, "bound of the gradient's norm; 0 for none"),
    'skip_nonfinite': _not_negative(
        0, 'steps in a row passed over for a NaN or infinity; 0 stops at the first'
    ),
    'schedule': _one_of('cosine', 'learning-rate schedule', SCHEDULES),
    'decay_factor': _positive(0.1, 'of multistep and exponential schedules'),
    'label_smoothing': _fraction(0.0, 'probability taken from the true class'),
    'label_smoothing_form': _one_of(
        'published', "who gets it: the others, or 'uniform': all", SMOOTHING_FORMS
    ),
    'distill': Field(False, 'the widest teaches the others in place'),
    'teacher': Field('', 'workdir of a trained network that teaches all widths'),
    'reduce': _one_of(
        'sum', "gradients of the widths; 'in_turn': one width a step", REDUCTIONS
    ),
    'loss_weights': _numbers((), 'one for each of widths; () for 1', None),
    'ema_decay': _fraction(0.0, 'of the moving averages of weights; 0 for none'),
    'calibration': _one_of(
        'pooled', 'how statistics are computed, see slimjax.calibrate', METHODS
    ),
    'calibration_examples': _positive(
        1024, 'training images or more for statistics that no step keeps; 10,000 help'
    ),
    'calibration_transform': _one_of(
        'eval', "how they are cut: as in evaluation, or 'train'", ('eval', 'train')
    ),
    'init_from': Field('', 'checkpoint to start from, for fine-tuning'),
    # Durations: state each in one unit.
    **_duration('train', 'length of the schedule', 'epochs', 100),
    **_duration('warmup', 'rise of the learning rate', 'epochs', 0),
    'warmup_factor': _fraction(0.0, 'share of the learning rate where that begins'),
    **_duration('eval', 'between evaluations', 'epochs', 1),
    **_duration('checkpoint', 'between checkpoints', 'epochs', 1),
    **_duration('log', 'between log lines', 'steps', 100),
    **{
        f'milestone_{unit}': _numbers((), f'multistep decay, in {unit}')
        for unit in UNITS
    },
    'num_train_steps': _not_negative(0, 'stop after so many steps; 0 for all'),
    # Evaluation and logging.
    'eval_batch_size': _positive(256, 'examples a step of the evaluation'),
    'best_metric': Field(
        'top1', "picks the best checkpoint: 'top1', or 'bbox/AP', is a mean over widths"
    ),
    'tensorboard': Field(False, 'write TensorBoard event files too'),
}

# A resumed run may change these: they do not touch what is computed.
FREE_FIELDS = frozenset(
    [
        'data_dir',
        'num_workers',
        'num_threads',
        'bad_image_limit',
        'skip_nonfinite',
        'max_programs',
        'num_train_steps',
        'tensorboard',
        'init_from',
        *(f'checkpoint_{unit}' for unit in UNITS),
    ]
)
