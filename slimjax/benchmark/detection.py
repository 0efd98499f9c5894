"""The figures of a detector: steps, inference, suppression and RoIAlign."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from slimjax.benchmark.inference import inference_ms
from slimjax.benchmark.results import versions_with
from slimjax.benchmark.steps import compiled_figures, measured, timed_steps
from slimjax.benchmark.training import TrainingStep, training_steps
from slimjax.config import check, complete
from slimjax.data.coco_format.transform import blank_example
from slimjax.detection.configuration import reads_of
from slimjax.detection.model import SlimmableRCNN
from slimjax.detection.nms import kept_boxes
from slimjax.detection.run import first_bucket
from slimjax.detection.train import (
    detection_metric_names,
    make_detection_optimizer,
    make_detection_step,
)
from slimjax.insight.cost import width_costs
from slimjax.insight.timing import Estimate, estimate, interleaved
from slimjax.train.network import build_model
from slimjax.train.parallel import AXIS
from slimjax.train.state import create_state
from slimjax.width import width_name

# Objects of an image; COCO has 7 in the mean.
_OBJECTS = 7
_BINS = 7
# Pixels by which boxes of one object differ, so that suppression has work to do.
_JITTER = 4
# Norms that are frozen at random weights leave them finite at small rates alone.
_RATE = 1e-9
_SMALL = (64, 64, 3)  # Variables depend on no size.


def detector_config(
    detector: str,
    preset: str,
    model: str,
    *,
    batch: int,
    size: tuple[int, int],
    dtype: str,
) -> ml_collections.ConfigDict:
    """Returns the config of the step, SGD by the preset's settings.

    Args:
        detector: `'faster_rcnn'`, `'mask_rcnn'` or `'keypoint_rcnn'`.
        preset: of settings.
        model: the backbone, at its own widths.
        batch: images of each device.
        size: height and width of the images in pixels, multiples of 32.
        dtype: type of the computation.

    Raises:
        ValueError: what cannot be built.

    Example:
        >>> detector_config('mask_rcnn', 'tiny', 'resnet14', batch=1, size=(64, 96),
        ...                 dtype='float32').model_fields['buckets']
        ((64, 96),)
    """
    config = complete(
        {
            'detector': detector,
            'preset': preset,
            'model': model,
            'model_fields': {'buckets': (size,)},
            'widths': (),
            'dataset': 'coco',
            'num_classes': 1 if detector == 'keypoint_rcnn' else 80,
            'batch_size': batch * jax.local_device_count(),
            'dtype': dtype,
            'best_metric': 'bbox/AP',
        }
    )
    check(config)
    return config


def drawn_batch(
    config: Mapping[str, Any], model: SlimmableRCNN, count: int
) -> dict[str, np.ndarray]:
    """Returns images and objects drawn at random, as of `SlimmableRCNN`.

    Args:
        config: of the detector.
        model: what it describes.
        count: number of images.
    """
    rng = np.random.default_rng(0)
    bucket = first_bucket(model.settings)[:2]
    format = reads_of(config, model.settings).format
    blank = blank_example(format, bucket, config['num_keypoints'])
    del blank['image_id'], blank['mask']
    batch = {name: np.repeat(each[None], count, 0) for name, each in blank.items()}
    batch['image'] = rng.standard_normal(batch['image'].shape, np.float32)
    some = slice(min(_OBJECTS, format.max_boxes))
    batch['boxes'][:, some] = _boxes(rng, batch['boxes'][:, some].shape, bucket)
    batch['labels'][:, some] = rng.integers(
        1, model.num_classes, batch['labels'][:, some].shape
    )
    batch['valid'][:, some] = True
    if 'masks' in batch:
        batch['masks'][:, some] = 1
    if 'keypoints' in batch:
        corners = batch['boxes'][:, some].reshape(count, -1, 2, 2)
        batch['keypoints'][:, some, :, :2] = corners.mean(2, keepdims=True)
        batch['keypoints'][:, some, :, 2] = 2
    return batch


def _boxes(rng: np.random.Generator, shape, bucket) -> np.ndarray:
    """Boxes of an eighth to a half of an image's sides, within it."""
    sides = np.array(bucket[::-1])
    lengths = sides * rng.uniform(1 / 8, 1 / 2, (*shape[:-1], 2))
    starts = rng.uniform(0, 1, lengths.shape) * (sides - lengths)
    return np.concatenate([starts, starts + lengths], -1).astype(np.float32)


def detector_step(config: Mapping[str, Any], model: SlimmableRCNN) -> TrainingStep:
    """Returns the step of a detector on images and objects drawn at random."""

    def create():
        schedule = optax.constant_schedule(_RATE)
        optimizer = make_detection_optimizer(model.settings, schedule)
        names = detection_metric_names(model.detector, model.widths)
        state = create_state(model, optimizer, _SMALL, names, seed=0)
        step = make_detection_step(model.clone(axis_name=AXIS), optimizer, config)
        return step, state, drawn_batch(config, model, config['batch_size'])

    return TrainingStep(create)


def operation_ms(
    model: SlimmableRCNN, *, batch: int, repeats: int
) -> dict[str, Estimate]:
    """Times suppression and RoIAlign alone, as a training step has them.

    Args:
        model: whose settings say how many boxes there are.
        batch: images.
        repeats: timed runs of each.

    Returns:
        `nms_ms`, of one level's proposals; `roi_align_ms`, of the boxes that the losses
        see, and `roi_align_gradient_ms`, of that and its gradient by the maps.
    """
    options, rng = model.settings, np.random.default_rng(0)
    height, width, _ = first_bucket(options)
    count = options.train_level_proposals
    # Around few objects, as proposals are: chains of overlaps are long.
    around = _boxes(rng, (batch, _OBJECTS, 4), (height, width))
    proposals = around[:, rng.integers(0, _OBJECTS, count)]
    proposals = proposals + rng.normal(0, _JITTER, proposals.shape)
    boxes = _boxes(rng, (batch, options.roi_samples, 4), (height, width))
    maps = [
        jnp.zeros(
            (batch, height // stride, width // stride, options.pyramid_features),
            model.dtype,
        )
        for stride in (4, 8, 16, 32)
    ]

    def suppress(boxes):
        valid = jnp.ones(boxes.shape[0], bool)
        return kept_boxes(
            boxes, valid, options.proposal_threshold, legacy=options.legacy
        )

    def align(maps, boxes):
        return model.apply({}, maps, boxes, _BINS, method='features')

    def total(maps, boxes):
        return align(maps, boxes).astype(jnp.float32).sum()

    runs = {
        'nms_ms': _program(jax.vmap(suppress), proposals.astype(np.float32)),
        'roi_align_ms': _program(align, maps, boxes),
        'roi_align_gradient_ms': _program(jax.value_and_grad(total), maps, boxes),
    }
    times = interleaved(runs, repeats)
    return {name: estimate(each) for name, each in times.items()}


def _program(function: Callable, *inputs: Any) -> Callable[[], object]:
    inputs = jax.device_put(inputs)
    compiled = jax.jit(function).lower(*inputs).compile()
    return lambda: jax.block_until_ready(compiled(*inputs))


def benchmark_detector(
    config: ml_collections.ConfigDict,
    *,
    against: str | None = None,
    repeats: int = 20,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measures one detector.

    Args:
        config: of `detector_config`.
        against: `'torch'` runs torchvision's Mask R-CNN in between.
        repeats: timed runs of each kind, which take turns.
        say: tells a person what is being done.

    Returns:
        What `slimjax.benchmark.results.benchmark` returns, without the share of the
        device's arithmetic, and with the `operation_ms`.

    Raises:
        ImportError: torchvision is asked for and not installed.
    """
    model = build_model(config)
    name = f'{config.detector}, {config.preset}, {config.model}'
    shape, local = first_bucket(model.settings), config.batch_size
    batch = local // jax.local_device_count()
    macs = {
        width_name(width): cost.macs
        for width, cost in width_costs(model, shape).items()
    }
    say(f'{name}: compiling {1 + len(macs)} training steps')
    slimmable, alone = training_steps(config, model, detector_step)
    results = compiled_figures(slimmable, alone)
    say(f'{name}: {repeats} x {2 + len(alone)} steps in turn')
    rivals = _rivals(against, config, model)
    estimates, times = timed_steps(slimmable, alone, rivals, repeats)
    if rivals:
        estimates |= _against(times, list(alone))
    del rivals, slimmable, alone
    say(f'{name}: suppression and RoIAlign alone')
    estimates |= operation_ms(model, batch=batch, repeats=repeats)
    say(f'{name}: inference at {len(macs)} widths')
    inference = {batch: inference_ms(model, shape, batch=batch, repeats=repeats)}
    return {
        'model': name,
        'batch': batch,
        'size': f'{shape[0]} x {shape[1]}',
        'dtype': config.dtype,
        **results,
        'macs': macs,
        **measured(estimates, inference, batch=batch, repeats=repeats),
        'versions': versions_with(against),
    }


def check_torchvision(config: Mapping[str, Any], against: str | None) -> None:
    """Raises what is wrong with a comparison before anything is compiled.

    Raises:
        ImportError: torchvision is not installed, or does not go with torch.
        ValueError: another detector than the one that is compared, or another backbone.
    """
    if against is None:
        return
    for name, allowed in (('detector', 'mask_rcnn'), ('model', 'resnet50')):
        if config[name] != allowed:
            raise ValueError(
                f'--{name}={config[name]}: --against=torch has {allowed} alone'
            )
    try:
        importlib.import_module('torchvision')
    except (ImportError, RuntimeError) as error:
        # A torchvision of another torch fails as it registers its operators.
        raise ImportError(f'--against=torch: no torchvision here: {error}') from error


def _rivals(against, config, model) -> dict[str, Callable[[], None]]:
    if against is None:
        return {}
    from slimjax.benchmark import torchvision_loop

    steps = torchvision_loop.training_steps(
        drawn_batch(config, model, config.batch_size),
        model.widths,
        bfloat16=config.dtype == 'bfloat16',
        rate=_RATE,
    )
    return {f'torch, {width}': step for width, step in steps.items()}


def _against(times: Mapping[str, np.ndarray], widths) -> dict[str, Any]:
    """All widths beside torchvision's one after another, and each beside its own."""
    rivals = {width: times[f'torch, {width}'] for width in widths}
    whole = sum(rivals.values())
    return {
        'torch_step_ms': estimate(whole),
        'ratio_to_torch': estimate(times['slimmable'] / whole),
        'torch_variants_ms': {'torchvision': estimate(whole)},
        'individual_torch_ms': {w: estimate(each) for w, each in rivals.items()},
        'individual_ratio_to_torch': {
            w: estimate(times[w] / each) for w, each in rivals.items()
        },
    }
