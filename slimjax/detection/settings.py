"""The settings in which published R-CNNs differ, as named fields and presets."""

import dataclasses
from typing import Any, Literal

from slimjax.detection.anchors import ANCHOR_STYLES, AnchorStyle
from slimjax.detection.matching import LOW_QUALITY, LowQuality
from slimjax.detection.roi_align import ALIGNMENTS, FORMS, Alignment, Form
from slimjax.detection.targets import MASK_TARGETS, MaskTargets

Detector = Literal['faster_rcnn', 'mask_rcnn', 'keypoint_rcnn']
DETECTORS = ('faster_rcnn', 'mask_rcnn', 'keypoint_rcnn')
Norm = Literal['frozen', 'batch', 'group']
_CHOICES = {
    'anchors': ANCHOR_STYLES,
    'rpn_low_quality': LOW_QUALITY,
    'roi_low_quality': LOW_QUALITY,
    'roi_alignment': ALIGNMENTS,
    'roi_align_form': FORMS,
    'rpn_normalizer': ('drawn', 'wanted'),
    'mask_targets': MASK_TARGETS,
    'keypoint_score': ('logit', 'probability'),
    'pyramid_init': ('xavier', 'kaiming'),
    'box_init': ('xavier', 'kaiming', 'torch'),
    'mask_init': ('normal', 'he'),
    'norm': ('frozen', 'batch', 'group'),
    'channel_order': ('rgb', 'bgr'),
}
_WHOLE = (
    'test_short_side',
    'longest_side',
    'max_boxes',
    'rpn_samples',
    'train_level_proposals',
    'train_proposals',
    'test_level_proposals',
    'test_proposals',
    'roi_samples',
    'detection_candidates',
    'detections',
    'pyramid_features',
    'box_features',
)
_SHARES = (
    'rpn_positive',
    'rpn_negative',
    'rpn_low_quality_minimum',
    'proposal_threshold',
    'roi_positive',
    'roi_positive_share',
    'score_threshold',
    'detection_threshold',
)
_POSITIVE = (
    'train_short_sides',
    'image_std',
    'anchor_sizes',
    'anchor_ratios',
    'mask_features',
    'keypoint_features',
)
# P6, the coarsest level that proposals come from, is half of P5, which is a 32nd.
_COARSEST_STRIDE = 32


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that a preset decides; the defaults are torchvision's.

    Pixels are those of the resized image. What is not a field is the same in all of the
    published codes, such as the weights 10, 10, 5, 5 of a box's code.

    Attributes:
        buckets: heights and widths that images are padded to, multiples of 32.
        train_short_sides: lengths of the shorter side that training draws from.
        test_short_side: length of the shorter side at evaluation.
        longest_side: of the longer side at most.
        image_mean: of the channels 0 to 255, in `channel_order`; subtracted.
        image_std: of the same; divided by.
        channel_order: `'rgb'`, or `'bgr'` as Caffe's backbones have it.
        max_boxes: boxes of the truth of an image at most.
        legacy: boxes end at their last pixel instead of their edge, see
            `slimjax.detection.boxes`.
        clamp_shrinking: as of `slimjax.detection.boxes.decode`.
        anchors: where they stand, see `slimjax.detection.anchors`.
        anchor_sizes: square roots of their areas, finest level first.
        anchor_ratios: their heights over their widths.
        drop_outside_anchors: training ignores anchors that leave the image.
        rpn_positive: overlap from which on an anchor is positive.
        rpn_negative: overlap below which it is negative.
        rpn_low_quality: see `slimjax.detection.matching.match`.
        rpn_low_quality_minimum: likewise.
        rpn_samples: anchors of an image that the loss sees.
        rpn_normalizer: both losses are sums over the number of anchors that were
            `'drawn'` from all images, or `'wanted'`, `rpn_samples` times the images.
        rpn_beta: where the box loss turns from quadratic to linear; 0 is linear.
        train_level_proposals: best anchors of a level before suppression in training.
        train_proposals: best proposals of an image after it.
        test_level_proposals: the same at evaluation.
        test_proposals: likewise.
        proposal_threshold: overlap of suppression among proposals.
        proposal_minimum: proposals with a shorter side are dropped.
        roi_positive: overlap from which on a proposal is positive; below, negative.
        roi_low_quality: as of the anchors; their best has to be positive anyway.
        roi_samples: proposals of an image that the losses see.
        roi_positive_share: of them are positive at most; masks and keypoints are
            learnt from these alone.
        roi_alignment: see `slimjax.detection.roi_align`.
        roi_align_form: likewise.
        level_scale_epsilon: as `scale_epsilon` of `assign_levels`.
        level_epsilon: likewise.
        box_beta: as `rpn_beta`, of the second stage.
        mask_targets: as `style` of `slimjax.detection.targets.mask_targets`.
        mask_target_shift: as `shift` of `slimjax.detection.targets.mask_targets`.
        keypoint_shift: pixels of the original image added to a keypoint's coordinates
            as it is read, and taken off what is found; 0.5 is the middle of a pixel.
        keypoint_score: what a keypoint's score is: the `'logit'` of its place, or its
            `'probability'` among the 56 x 56 places.
        score_threshold: of detections; they are above it.
        detection_threshold: overlap of suppression among detections of a class.
        detection_minimum: detections with a shorter side are dropped.
        detection_candidates: so many of the best go through suppression, which is
            exact as long as that leaves `detections` of them.
        detections: of an image at most.
        pyramid_features: channels of the feature pyramid.
        box_features: of the box head.
        mask_features: of the mask head, a number a convolution.
        keypoint_features: of the keypoint head, likewise.
        pyramid_init: of the feature pyramid: Xavier's uniform, or He's with a = 1.
        box_init: of the box head's hidden layers, likewise, or PyTorch's own.
        mask_init: of the mask head's last layer: `'normal'` of deviation 0.001, or
            `'he'`, normal as its other layers.
        norm: the backbone's: BatchNorm that is `'frozen'`, statistics, scale and bias,
            at every width; `'batch'`, the same but trained; or `'group'`, GroupNorm of
            16 channels a group, trained.
        frozen_stages: the stem and so many stages are frozen; 0 freezes nothing, not
            even the stem. With norm `'batch'`, whose statistics would go on
            changing, it is 0.
        stride_on_1x1: the stride of a bottleneck stands on its first convolution, as in
            Caffe's backbones, instead of its 3x3.
        learning_rate: at 16 images a step.
        weight_decay: of all that is trained.
        clip_norm: of the gradient, after the mean over devices; 0 does not clip.
        epochs: of training.
        decay_epochs: when the learning rate is divided by 10.
        warmup_steps: of linear warm-up.
        warmup_factor: share of the learning rate where it starts.

    Raises:
        ValueError: a value that is not allowed, or conventions that are mixed.

    Example:
        >>> settings('torchvision', 'mask_rcnn').train_proposals
        2000
    """

    buckets: tuple[tuple[int, int], ...] = ((800, 1344), (1344, 800))
    train_short_sides: tuple[int, ...] = (800,)
    test_short_side: int = 800
    longest_side: int = 1333
    image_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    image_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    channel_order: Literal['rgb', 'bgr'] = 'rgb'
    max_boxes: int = 100
    legacy: bool = False
    clamp_shrinking: bool = False
    anchors: AnchorStyle = 'rounded'
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    drop_outside_anchors: bool = False
    rpn_positive: float = 0.7
    rpn_negative: float = 0.3
    rpn_low_quality: LowQuality = 'label'
    rpn_low_quality_minimum: float = 0.0
    rpn_samples: int = 256
    rpn_normalizer: Literal['drawn', 'wanted'] = 'drawn'
    rpn_beta: float = 1 / 9
    train_level_proposals: int = 2000
    train_proposals: int = 2000
    test_level_proposals: int = 1000
    test_proposals: int = 1000
    proposal_threshold: float = 0.7
    proposal_minimum: float = 1e-3
    roi_positive: float = 0.5
    roi_low_quality: LowQuality = 'none'
    roi_samples: int = 512
    roi_positive_share: float = 0.25
    roi_alignment: Alignment = 'unaligned'
    roi_align_form: Form = 'auto'
    level_scale_epsilon: float = 0.0
    level_epsilon: float = 1e-6
    box_beta: float = 1 / 9
    mask_targets: MaskTargets = 'soft'
    mask_target_shift: float = 0.5
    keypoint_shift: float = 0.0
    keypoint_score: Literal['logit', 'probability'] = 'logit'
    score_threshold: float = 0.05
    detection_threshold: float = 0.5
    detection_minimum: float = 1e-2
    detection_candidates: int = 2048
    detections: int = 100
    pyramid_features: int = 256
    box_features: int = 1024
    mask_features: tuple[int, ...] = (256,) * 4
    keypoint_features: tuple[int, ...] = (512,) * 8
    pyramid_init: Literal['xavier', 'kaiming'] = 'kaiming'
    box_init: Literal['xavier', 'kaiming', 'torch'] = 'torch'
    mask_init: Literal['normal', 'he'] = 'he'
    norm: Norm = 'frozen'
    frozen_stages: int = 1
    stride_on_1x1: bool = False
    learning_rate: float = 0.02
    weight_decay: float = 1e-4
    clip_norm: float = 0.0
    epochs: float = 26
    decay_epochs: tuple[float, ...] = (16, 22)
    warmup_steps: int = 1000
    warmup_factor: float = 1e-3

    def __post_init__(self):
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f'{name}={value!r}; allowed are {", ".join(allowed)}')
        for name in _WHOLE:
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(
                    f'{name}={getattr(self, name)!r}; allowed are whole numbers from 1 '
                    'on'
                )
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name}={getattr(self, name)}; allowed is 0 to 1')
        for name in _POSITIVE:
            if not getattr(self, name) or not min(getattr(self, name)) > 0:
                raise ValueError(
                    f'{name}={getattr(self, name)}; allowed are numbers above 0'
                )
        for height, width in self.buckets:
            if min(height, width) < 1 or height % 32 or width % 32:
                raise ValueError(
                    f'buckets={self.buckets}: multiples of {_COARSEST_STRIDE} px are '
                    f'needed, not {height} x {width}'
                )
        if self.legacy != (self.roi_alignment == 'legacy'):
            raise ValueError(
                f'legacy={self.legacy} goes with roi_alignment='
                f'{"legacy" if self.legacy else "unaligned or aligned"}, not with '
                f'{self.roi_alignment!r}'
            )
        if self.legacy != (self.anchors == 'legacy'):
            raise ValueError(
                f'legacy={self.legacy} goes with anchors='
                f'{"legacy" if self.legacy else "centred or rounded"}, not with '
                f'{self.anchors!r}'
            )
        if len(self.anchor_sizes) != 5:
            raise ValueError(
                f'anchor_sizes={self.anchor_sizes}: 5 are needed, one a level P2 to P6'
            )
        if self.rpn_samples < 2 or self.roi_samples * self.roi_positive_share < 1:
            raise ValueError(
                f'rpn_samples={self.rpn_samples}, roi_samples={self.roi_samples}, '
                f'roi_positive_share={self.roi_positive_share}: of an image, at least '
                'one anchor and one proposal has to be positive'
            )
        if self.rpn_negative > self.rpn_positive:
            raise ValueError(
                f'rpn_negative={self.rpn_negative}, rpn_positive={self.rpn_positive}: '
                'the first may be no larger'
            )
        if not 0 <= self.frozen_stages <= 4:
            raise ValueError(f'frozen_stages={self.frozen_stages}; allowed are 0 to 4')
        if self.frozen_stages and self.norm == 'batch':
            raise ValueError(
                f"frozen_stages={self.frozen_stages} with norm='batch', whose "
                "statistics would go on changing: allowed is 0, or norm='frozen' or "
                "'group'"
            )


# What the original code of the slimmable detectors had, mmdetection of October 2018.
_PUBLISHED = Settings(
    legacy=True,
    clamp_shrinking=True,
    anchors='legacy',
    drop_outside_anchors=True,
    rpn_low_quality='reassign',
    rpn_low_quality_minimum=0.3,
    test_level_proposals=2000,
    test_proposals=2000,
    proposal_minimum=0.0,
    roi_low_quality='reassign',
    roi_alignment='legacy',
    level_scale_epsilon=1e-6 / 4,
    level_epsilon=0.0,
    box_beta=1.0,
    mask_targets='crop',
    mask_target_shift=0.0,
    detection_minimum=0.0,
    pyramid_init='xavier',
    box_init='xavier',
    clip_norm=35.0,
    epochs=12,
    decay_epochs=(8, 11),
    warmup_steps=500,
    warmup_factor=1 / 3,
)
# detectron2's configs of that name; its 90,000 steps are 12.3 epochs.
_DETECTRON1 = Settings(
    image_mean=(103.53, 116.28, 123.675),
    image_std=(1.0, 1.0, 1.0),
    channel_order='bgr',
    anchors='centred',
    rpn_normalizer='wanted',
    train_proposals=1000,
    proposal_minimum=0.0,
    level_scale_epsilon=1e-8,
    level_epsilon=0.0,
    box_beta=1.0,
    mask_targets='binary',
    mask_target_shift=0.0,
    detection_minimum=0.0,
    box_init='kaiming',
    mask_init='normal',
    stride_on_1x1=True,
    epochs=12.3,
    decay_epochs=(8.2, 10.9),
)
# torchvision's, so small that a test or a toy trains in minutes.
_TINY = Settings(
    buckets=((128, 128),),
    train_short_sides=(128,),
    test_short_side=128,
    longest_side=128,
    max_boxes=16,
    anchor_sizes=(8, 16, 32, 64, 128),
    rpn_samples=64,
    train_level_proposals=128,
    train_proposals=128,
    test_level_proposals=128,
    test_proposals=64,
    roi_samples=32,
    detection_candidates=256,
    detections=20,
    pyramid_features=32,
    box_features=64,
    mask_features=(32, 32),
    mask_target_shift=0.0,
    keypoint_features=(32, 32),
    mask_init='normal',
    norm='batch',
    frozen_stages=0,
)
PRESETS = {
    'published': _PUBLISHED,
    'detectron1': _DETECTRON1,
    'torchvision': Settings(),
    'tiny': _TINY,
}
_KEYPOINT_JITTER = (640, 672, 704, 736, 768, 800)
# Its 90,000 steps are 25.4 epochs of the 56,599 images with keypoints.
_DETECTRON_KEYPOINTS = dataclasses.replace(
    _DETECTRON1,
    train_short_sides=_KEYPOINT_JITTER,
    train_proposals=1500,
    keypoint_shift=0.5,
    keypoint_score='probability',
    epochs=25.4,
    decay_epochs=(17.0, 22.6),
)
_KEYPOINT_PRESETS = {
    # No slimmable keypoint detector was published: this is Detectron's, with the
    # published backbone and its input, and its clipping of a sum of gradients.
    'published': dataclasses.replace(
        _DETECTRON_KEYPOINTS,
        **{
            name: getattr(_PUBLISHED, name)
            for name in (
                'image_mean',
                'image_std',
                'channel_order',
                'stride_on_1x1',
                'clip_norm',
            )
        },
    ),
    'detectron1': _DETECTRON_KEYPOINTS,
    'torchvision': Settings(
        train_short_sides=_KEYPOINT_JITTER, epochs=46, decay_epochs=(36, 43)
    ),
    'tiny': _TINY,
}


def settings(preset: str, detector: Detector, **changes: Any) -> Settings:
    """Returns the settings of a preset for a detector.

    Args:
        preset: `'published'` (the slimmable detectors' own), `'detectron1'`
            (detectron2's `Detectron1-Comparisons`), `'torchvision'`, or `'tiny'`.
        detector: `'faster_rcnn'`, `'mask_rcnn'` or `'keypoint_rcnn'`.
        **changes: fields of `Settings` that are to differ.

    Raises:
        ValueError: an unknown preset, detector or field, or a value that is not
            allowed.

    Example:
        >>> settings('published', 'faster_rcnn', detections=50).detections
        50
    """
    if preset not in PRESETS:
        raise ValueError(f'preset={preset!r}; allowed are {", ".join(PRESETS)}')
    if detector not in DETECTORS:
        raise ValueError(f'detector={detector!r}; allowed are {", ".join(DETECTORS)}')
    known = {field.name for field in dataclasses.fields(Settings)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise ValueError(
            f'no setting {", ".join(unknown)}; there are {", ".join(sorted(known))}'
        )
    presets = _KEYPOINT_PRESETS if detector == 'keypoint_rcnn' else PRESETS
    return dataclasses.replace(presets[preset], **changes)
