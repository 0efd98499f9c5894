"""The slimmable R-CNNs: a backbone of any width under a whole pyramid and heads."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from slimjax.batch_moments import NormBatch
from slimjax.convolution import Form
from slimjax.detection import losses as loss
from slimjax.detection.anchors import pyramid_anchors
from slimjax.detection.draw import (
    DrawnBoxes,
    draw_anchors,
    draw_boxes,
    positive_slots,
)
from slimjax.detection.heads import (
    BoxHead,
    Doubling,
    KeypointHead,
    MaskHead,
    ProposalHead,
)
from slimjax.detection.postprocess import decode_keypoints, detect
from slimjax.detection.proposals import Proposals, propose
from slimjax.detection.pyramid import FeaturePyramid
from slimjax.detection.roi_align import assign_levels, roi_align
from slimjax.detection.settings import Detector, Settings
from slimjax.detection.targets import keypoint_targets, mask_targets
from slimjax.dtypes import at_least_float32
from slimjax.layers import SlimConv, SlimDense
from slimjax.models.resnet import ResNet
from slimjax.width import Width, truncate, widest

Batch = Mapping[str, Array]

_INITS = {
    # Glorot's and He's uniform kernels, the latter with a = 1, and torch.nn.Linear's.
    'xavier': nn.initializers.glorot_uniform(),
    'kaiming': nn.initializers.variance_scaling(1.0, 'fan_in', 'uniform'),
    'torch': nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform'),
}
_BOX_BINS, _MASK_BINS, _KEYPOINT_BINS = 7, 14, 14


class SlimmableRCNN(nn.Module):
    """Faster, Mask or Keypoint R-CNN whose backbone runs at several widths.

    Only the backbone is slimmed; the feature pyramid and the heads are whole at every
    width and shared by all (paper, section 4.4).

    A batch is a mapping of arrays, of B padded images and at most N boxes each:
    `image` `[B, H, W, 3]`, normalised, H and W multiples of 32; `image_size` `[B, 2]`,
    height and width without padding, int32; `original_size` `[B, 2]`, that of the image
    file (asked for by the legacy convention). For training also `boxes` `[B, N, 4]` in
    pixels, `labels` `[B, N]` from 1 on, int32, `crowd` and `valid` `[B, N]`, bool, and
    `masks` `[B, N, side, side]`, each cut to its box, 0 or 1, or `keypoints`
    `[B, N, K, 3]`: x, y and visibility.

    Attributes:
        detector: `'faster_rcnn'`, `'mask_rcnn'` or `'keypoint_rcnn'`.
        settings: see `slimjax.detection.settings`.
        num_classes: with the background, which is class 0.
        num_keypoints: of a keypoint detector.
        widths: of the backbone.
        stage_sizes: blocks of the stages of the backbone, a `ResNet`.
        base_features: of the backbone.
        norm_batch: images that are normalised together, where the norm is trained.
        axis_name: the mapped axis of devices, if any.
        dtype: type of the computation.
        param_dtype: type of the parameters.
        conv_form: see `slimjax.convolution`.
    """

    detector: Detector
    settings: Settings
    num_classes: int = 81
    num_keypoints: int = 17
    widths: Sequence[Width] = (0.25, 0.5, 0.75, 1.0)
    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    base_features: int = 64
    norm_batch: NormBatch = 'device'
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    conv_form: Form = 'auto'

    def setup(self):
        options = self.settings
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        self.backbone = ResNet(
            num_classes=0,
            widths=self.widths,
            stage_sizes=self.stage_sizes,
            base_features=self.base_features,
            stride_on_1x1=options.stride_on_1x1,
            norm_batch=self.norm_batch,
            axis_name=self.axis_name,
            conv_form=self.conv_form,
            **types,
        )
        whole = {'slim_output': False, **types}
        conv = partial(SlimConv, conv_form=self.conv_form, **whole)
        # Channels of C2 to C5: 4, 8, 16 and 32 times those of the stem.
        widest_features = [
            truncate(self.base_features * 4 * 2**stage, widest(self.widths))
            for stage in range(len(self.stage_sizes))
        ]
        self.pyramid = FeaturePyramid(
            options.pyramid_features,
            widest_features,
            conv,
            _INITS[options.pyramid_init],
        )
        self.proposal_head = ProposalHead(len(options.anchor_ratios), conv)
        self.box_head = BoxHead(
            self.num_classes,
            options.box_features,
            partial(SlimDense, **whole),
            _INITS[options.box_init],
        )
        if self.detector == 'mask_rcnn':
            self.mask_head = MaskHead(
                self.num_classes,
                options.mask_features,
                conv,
                partial(Doubling, **types),
            )
        if self.detector == 'keypoint_rcnn':
            self.keypoint_head = KeypointHead(
                self.num_keypoints,
                options.keypoint_features,
                conv,
                partial(nn.ConvTranspose, **types),
            )

    def __call__(
        self, batch: Batch, *, width: Width | None = None, train: bool = False
    ) -> dict[str, Array]:
        """Returns the detections of a batch; see `predict`.

        Initialises the parameters of all heads, and of all widths.
        """
        return self.predict(batch, width=width)

    def maps(
        self,
        images: Float[Array, 'batch height width channels'],
        *,
        width: Width | None = None,
        train: bool = False,
    ) -> list[Array]:
        """Returns the maps P2 to P6.

        Raises:
            ValueError: sides that are no multiples of 32.
        """
        height, across = images.shape[1:3]
        if height % 32 or across % 32:
            raise ValueError(
                f'image is {height} x {across} px: pad its sides to multiples of 32'
            )
        train = train and self.settings.norm != 'frozen'
        stages = self.backbone(images, width=width, train=train, features=True)
        return self.pyramid(list(stages.values()))

    def proposals(
        self, batch: Batch, *, width: Width | None = None, train: bool = False
    ) -> Proposals:
        """Returns the proposals of each image, as many as in training or not."""
        maps = self.maps(batch['image'], width=width)
        return self._proposals(maps, batch, train)

    def _proposals(self, maps, batch: Batch, train: bool) -> Proposals:
        logits, deltas = self.proposal_head(maps)
        return self._proposed(
            logits, deltas, self._anchors(maps, batch), batch, train=train
        )

    def _anchors(self, maps, batch: Batch) -> list[Array]:
        options = self.settings
        levels = pyramid_anchors(
            options.anchors,
            batch['image'].shape[1:3],
            [each.shape[1:3] for each in maps],
            options.anchor_sizes,
            options.anchor_ratios,
        )
        dtype = at_least_float32(self.dtype)
        return [jnp.asarray(each, dtype) for each in levels]

    def predict(
        self,
        batch: Batch,
        *,
        width: Width | None = None,
        proposals: Proposals | None = None,
    ) -> dict[str, Array]:
        """Returns what is found in each image, D detections, the likeliest first.

        Args:
            batch: as of this class; what training alone needs is not looked at.
            width: of the backbone.
            proposals: of each image; None takes those of the first stage.

        Returns:
            `boxes` `[B, D, 4]` in pixels of `image`, `labels` and `scores` `[B, D]`,
            `valid` `[B, D]`, which of them are any, and `masks` `[B, D, 28, 28]`,
            probabilities over the box, or `keypoints` `[B, D, K, 3]`: x, y and score.
        """
        options = self.settings
        maps = self.maps(batch['image'], width=width)
        if proposals is None:
            proposals = self._proposals(maps, batch, False)
        logits, deltas = self.box_head(self._features(maps, proposals.boxes, _BOX_BINS))
        found = jax.vmap(partial(detect, options=options))(
            logits, deltas, proposals.boxes, proposals.valid, batch['image_size']
        )
        result = found._asdict()
        if self.detector == 'mask_rcnn':
            features = self._features(maps, found.boxes, _MASK_BINS)
            masks = self.mask_head(features)
            own = found.labels[..., None, None, None]
            result['masks'] = jax.nn.sigmoid(
                jnp.take_along_axis(masks, own, axis=-1)[..., 0]
            )
        if self.detector == 'keypoint_rcnn':
            features = self._features(maps, found.boxes, _KEYPOINT_BINS)
            points = self._places(self.keypoint_head(features), found.boxes)
            result['keypoints'] = jnp.where(found.valid[..., None, None], points, 0)
        boxes = found.boxes + _to_edges(batch, options, found.boxes.dtype)
        result['boxes'] = jnp.where(found.valid[..., None], boxes, 0)
        return result

    def losses(
        self,
        batch: Batch,
        *,
        width: Width | None = None,
        train: bool = True,
        keys: Array | None = None,
        proposals: Proposals | None = None,
    ) -> dict[str, Float[Array, '']]:
        """Returns each loss of a batch; their sum is what is trained.

        Args:
            batch: as of this class.
            width: of the backbone.
            train: whether the backbone's norm takes the batch's statistics, if it is
                one that does.
            keys: random keys `[B]`, by which anchors and proposals are drawn; None
                draws them in their order, see `slimjax.detection.sampling`.
            proposals: of each image; None takes those of the first stage.

        Returns:
            Scalars `objectness`, `proposal_boxes`, `classes`, `boxes`, and `masks` or
            `keypoints`.
        """
        options = self.settings
        dtype = at_least_float32(self.dtype)
        truths = batch['boxes'].astype(dtype) - _to_edges(batch, options, dtype)
        usable = batch['valid'] & ~batch['crowd']
        keys = None if keys is None else jax.vmap(jax.random.split)(keys)
        first, second = (None, None) if keys is None else (keys[:, 0], keys[:, 1])
        maps = self.maps(batch['image'], width=width, train=train)
        logits, deltas = self.proposal_head(maps)
        anchors = self._anchors(maps, batch)
        if proposals is None:
            # Nothing is learnt through the place of a proposal.
            stopped = lax.stop_gradient((logits, deltas))
            proposals = self._proposed(*stopped, anchors, batch, train=True)

        def drawn_anchors(each):
            return draw_anchors(jnp.concatenate(anchors), *each, options)

        # One image after another: all overlaps of anchors with boxes are 100 MB.
        drawn = lax.map(drawn_anchors, (truths, usable, batch['image_size'], first))
        wanted = options.rpn_samples * truths.shape[0]
        result = loss.proposal_losses(
            jnp.concatenate(logits, 1),
            jnp.concatenate(deltas, 1),
            drawn.targets,
            drawn.positive,
            drawn.negative,
            beta=options.rpn_beta,
            count=wanted if options.rpn_normalizer == 'wanted' else None,
        )
        boxes = jax.vmap(partial(draw_boxes, options=options))(
            proposals.boxes, proposals.valid, truths, batch['labels'], usable, second
        )
        logits, deltas = self.box_head(self._features(maps, boxes.boxes, _BOX_BINS))
        result |= loss.box_losses(
            logits,
            deltas,
            boxes.labels,
            boxes.targets,
            boxes.drawn,
            beta=options.box_beta,
        )
        # Masks and keypoints are learnt from positive boxes, which come first.
        boxes = jax.tree.map(lambda each: each[:, : positive_slots(options)], boxes)
        if self.detector == 'mask_rcnn':
            result['masks'] = self._mask_loss(maps, boxes, truths, batch)
        if self.detector == 'keypoint_rcnn':
            result['keypoints'] = self._keypoint_loss(maps, boxes, batch)
        return result

    def _mask_loss(self, maps, boxes: DrawnBoxes, truths, batch: Batch) -> Array:
        options = self.settings
        logits = self.mask_head(self._features(maps, boxes.boxes, _MASK_BINS))
        targets = jax.vmap(
            partial(mask_targets, size=2 * _MASK_BINS, alignment=options.roi_alignment)
        )(
            batch['masks'].astype(truths.dtype),
            truths,
            boxes.truths,
            boxes.boxes,
            batch['image_size'],
        )
        if options.mask_targets == 'binary':
            targets = (targets >= 0.5).astype(targets.dtype)
        return loss.mask_loss(logits, boxes.labels, targets, boxes.positive)

    def _keypoint_loss(self, maps, boxes: DrawnBoxes, batch: Batch) -> Array:
        options = self.settings
        logits = self.keypoint_head(self._features(maps, boxes.boxes, _KEYPOINT_BINS))
        keypoints = batch['keypoints'].astype(boxes.boxes.dtype)
        keypoints = keypoints + _shift(options, keypoints)
        own = jax.vmap(lambda points, truth: points[truth])(keypoints, boxes.truths)
        cells, counts = jax.vmap(
            partial(keypoint_targets, size=4 * _KEYPOINT_BINS, legacy=options.legacy)
        )(own, boxes.boxes)
        counts &= boxes.positive[..., None]
        return loss.keypoint_loss(logits, cells, counts)

    def _proposed(self, logits, deltas, anchors, batch, *, train) -> Proposals:
        return jax.vmap(
            partial(propose, options=self.settings, train=train),
            in_axes=(0, 0, None, 0),
        )(logits, deltas, anchors, batch['image_size'])

    def _features(self, maps, boxes, size) -> Array:
        """RoIAlign of boxes from P2 to P5."""
        options = self.settings
        levels = assign_levels(
            boxes,
            scale_epsilon=options.level_scale_epsilon,
            epsilon=options.level_epsilon,
            legacy=options.legacy,
        )
        return roi_align(
            maps[:4],
            boxes,
            levels,
            size,
            alignment=options.roi_alignment,
            form=options.roi_align_form,
        )

    def _places(self, logits, boxes) -> Array:
        """Keypoints of the detections of all images."""
        options = self.settings
        points = decode_keypoints(
            logits.reshape(-1, *logits.shape[2:]),
            boxes.reshape(-1, 4),
            score=options.keypoint_score,
            legacy=options.legacy,
        )
        points = points - _shift(options, points)
        return points.reshape(*boxes.shape[:2], *points.shape[1:])


def _shift(options: Settings, keypoints: Array) -> Array:
    """What is added to x, y and not the visibility or score."""
    shift = jnp.array([options.keypoint_shift] * 2 + [0.0], keypoints.dtype)
    return shift.reshape((1,) * (keypoints.ndim - 1) + (3,))


def _to_edges(batch: Batch, options: Settings, dtype: Any) -> Array:
    """What legacy boxes lack to their right and lower edges, `[batch, 1, 4]`.

    It is a pixel of the original image, in which that convention counts.
    """
    images = batch['image_size'].shape[0]
    if not options.legacy:
        return jnp.zeros((images, 1, 4), dtype)
    new, old = (batch[name].astype(dtype) for name in ('image_size', 'original_size'))
    pixel = (new / old)[:, None, ::-1]
    return jnp.concatenate([jnp.zeros_like(pixel), pixel], -1)
