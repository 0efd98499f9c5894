"""The slimmable R-CNNs: what they find, and what they are trained by."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from slimjax.detection import losses as loss
from slimjax.detection.draw import (
    DrawnBoxes,
    draw_anchors,
    draw_boxes,
    positive_slots,
)
from slimjax.detection.network import Batch, RCNNNetwork
from slimjax.detection.postprocess import decode_keypoints, detect
from slimjax.detection.proposals import Proposals
from slimjax.detection.settings import Settings
from slimjax.detection.targets import keypoint_targets, mask_targets
from slimjax.dtypes import at_least_float32
from slimjax.width import Width

_BOX_BINS, _MASK_BINS, _KEYPOINT_BINS = 7, 14, 14


class SlimmableRCNN(RCNNNetwork):
    """Faster, Mask or Keypoint R-CNN whose backbone runs at several widths.

    Only the backbone is slimmed; the feature pyramid and the heads are whole at every
    width and shared by all (paper, Table 5).

    A batch is a mapping of arrays, of B padded images and at most N boxes each:
    `image` `[B, H, W, 3]`, normalised, H and W multiples of 32; `image_size` `[B, 2]`,
    height and width without padding, int32; `original_size` `[B, 2]`, that of the image
    file (asked for by the legacy convention). For training also `boxes` `[B, N, 4]` in
    pixels, `labels` `[B, N]` from 1 on, int32, `crowd` and `valid` `[B, N]`, bool, and
    `masks` `[B, N, side, side]`, each cut to its box, 0 or 1, or `keypoints`
    `[B, N, K, 3]`: x, y and visibility, read with `settings.keypoint_shift`.

    Its fields are those of `slimjax.detection.network.RCNNNetwork`.

    Example:
        >>> from slimjax.detection import create_model
        >>> model = create_model('faster_rcnn', 'tiny', num_classes=3, widths=(1.0,),
        ...                      stage_sizes=(1, 1, 1, 1), base_features=8)
        >>> images = jnp.zeros((2, 64, 64, 3))
        >>> found = jax.eval_shape(lambda: model.init_with_output(
        ...     jax.random.key(0), images)[0])
        >>> found['boxes'].shape, found['labels'].shape
        ((2, 20, 4), (2, 20))
    """

    def __call__(
        self,
        images: Float[Array, 'batch height width channels'],
        *,
        width: Width | None = None,
        train: bool = False,
    ) -> dict[str, Array]:
        """Returns what is found in images without padding; see `predict`.

        Args:
            images: normalised; their sides are multiples of 32 px.
            width: of the backbone.
            train: as of `maps`; that `init` makes all variables takes no more.
        """
        size = jnp.array(images.shape[1:3], jnp.int32)
        sizes = jnp.broadcast_to(size[None], (images.shape[0], 2))
        batch = {'image': images, 'image_size': sizes, 'original_size': sizes}
        return self.predict(batch, width=width, train=train)

    def predict(
        self,
        batch: Batch,
        *,
        width: Width | None = None,
        train: bool = False,
        proposals: Proposals | None = None,
    ) -> dict[str, Array]:
        """Returns what is found in each image, D detections, the likeliest first.

        Args:
            batch: as of this class; what training alone needs is not looked at.
            width: of the backbone.
            train: as of `maps`.
            proposals: of each image; None takes those of the first stage.

        Returns:
            `boxes` `[B, D, 4]` in pixels of `image`, `labels` and `scores` `[B, D]`,
            `valid` `[B, D]`, which of them are any, and `masks` `[B, D, 28, 28]`,
            probabilities over the box, or `keypoints` `[B, D, K, 3]`: x, y and score.
        """
        options = self.settings
        maps = self.maps(batch['image'], width=width, train=train)
        if proposals is None:
            proposals = self.proposals_of(maps, batch, train=False)
        logits, deltas = self.box_head(self.features(maps, proposals.boxes, _BOX_BINS))
        found = jax.vmap(partial(detect, options=options))(
            logits, deltas, proposals.boxes, proposals.valid, batch['image_size']
        )
        result = found._asdict()
        if self.detector == 'mask_rcnn':
            features = self.features(maps, found.boxes, _MASK_BINS)
            masks = self.mask_head(features)
            own = found.labels[..., None, None, None]
            result['masks'] = jax.nn.sigmoid(
                jnp.take_along_axis(masks, own, axis=-1)[..., 0]
            )
        if self.detector == 'keypoint_rcnn':
            features = self.features(maps, found.boxes, _KEYPOINT_BINS)
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
        anchors = self.anchors(maps, batch)
        if proposals is None:
            # Nothing is learnt through the place of a proposal.
            stopped = lax.stop_gradient((logits, deltas))
            proposals = self.proposed(*stopped, anchors, batch, train=True)

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
        logits, deltas = self.box_head(self.features(maps, boxes.boxes, _BOX_BINS))
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
            result['masks'] = self._mask_loss(maps, boxes, batch)
        if self.detector == 'keypoint_rcnn':
            result['keypoints'] = self._keypoint_loss(maps, boxes, batch)
        return result

    def _mask_loss(self, maps, boxes: DrawnBoxes, batch: Batch) -> Array:
        options = self.settings
        logits = self.mask_head(self.features(maps, boxes.boxes, _MASK_BINS))
        targets = jax.vmap(
            partial(
                mask_targets,
                size=2 * _MASK_BINS,
                style=options.mask_targets,
                shift=options.mask_target_shift,
                legacy=options.legacy,
            )
        )(
            batch['masks'].astype(boxes.boxes.dtype),
            batch['boxes'].astype(boxes.boxes.dtype),
            boxes.truths,
            boxes.boxes,
            batch['image_size'],
        )
        return loss.mask_loss(logits, boxes.labels, targets, boxes.positive)

    def _keypoint_loss(self, maps, boxes: DrawnBoxes, batch: Batch) -> Array:
        options = self.settings
        logits = self.keypoint_head(self.features(maps, boxes.boxes, _KEYPOINT_BINS))
        keypoints = batch['keypoints'].astype(boxes.boxes.dtype)
        own = jax.vmap(lambda points, truth: points[truth])(keypoints, boxes.truths)
        cells, counts = jax.vmap(
            partial(keypoint_targets, size=4 * _KEYPOINT_BINS, legacy=options.legacy)
        )(own, boxes.boxes)
        counts &= boxes.positive[..., None]
        return loss.keypoint_loss(logits, cells, counts)

    def _places(self, logits, boxes) -> Array:
        """Keypoints of the detections of all images."""
        options = self.settings
        points = decode_keypoints(
            logits.reshape(-1, *logits.shape[2:]),
            boxes.reshape(-1, 4),
            score=options.keypoint_score,
            legacy=options.legacy,
        )
        return points.reshape(*boxes.shape[:2], *points.shape[1:])


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
