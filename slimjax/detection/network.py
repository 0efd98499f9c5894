"""What the slimmable R-CNNs are made of, up to the features of a box."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slimjax.batch_moments import NormBatch
from slimjax.convolution import Form
from slimjax.detection.anchors import pyramid_anchors
from slimjax.detection.doubling import Doubling
from slimjax.detection.group_norm_resnet import GroupNormResNet
from slimjax.detection.heads import (
    BoxHead,
    KeypointHead,
    MaskHead,
    ProposalHead,
    he_normal,
)
from slimjax.detection.proposals import Proposals, propose
from slimjax.detection.pyramid import FeaturePyramid
from slimjax.detection.roi_align import assign_levels, roi_align
from slimjax.detection.settings import Detector, Settings
from slimjax.dtypes import at_least_float32
from slimjax.layers import SlimConv, SlimDense
from slimjax.models.resnet import ResNet
from slimjax.norm import stats_collection
from slimjax.width import Width, resolve, truncate, widest

Batch = Mapping[str, Array]

_INITS = {
    # Glorot's and He's uniform kernels, the latter with a = 1, and torch.nn.Linear's.
    'xavier': nn.initializers.glorot_uniform(),
    'kaiming': nn.initializers.variance_scaling(1.0, 'fan_in', 'uniform'),
    'torch': nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform'),
}
_MASK_INITS = {'normal': nn.initializers.normal(0.001), 'he': he_normal}


class RCNNNetwork(nn.Module):
    """The layers of an R-CNN, and its first stage.

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
        backbone = GroupNormResNet if options.norm == 'group' else ResNet
        self.backbone = backbone(
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
        upsample = partial(Doubling, conv_form=self.conv_form, **types)
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
                _MASK_INITS[options.mask_init],
                upsample,
            )
        if self.detector == 'keypoint_rcnn':
            self.keypoint_head = KeypointHead(
                self.num_keypoints,
                options.keypoint_features,
                conv,
                upsample,
            )

    def stats_collections(self, width: Width | str | None = None) -> tuple[str, ...]:
        """Returns the collections that a training pass at `width` may change."""
        if self.settings.norm == 'group':
            return ()
        return (stats_collection(resolve(width, self.widths)),)

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
        return self.proposals_of(maps, batch, train=train)

    def proposals_of(
        self, maps: list[Array], batch: Batch, *, train: bool
    ) -> Proposals:
        """Returns the proposals of each image, from its maps."""
        logits, deltas = self.proposal_head(maps)
        return self.proposed(
            logits, deltas, self.anchors(maps, batch), batch, train=train
        )

    def anchors(self, maps: list[Array], batch: Batch) -> list[Array]:
        """Returns the anchors of each level."""
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

    def proposed(
        self,
        logits: list[Array],
        deltas: list[Array],
        anchors: list[Array],
        batch: Batch,
        *,
        train: bool,
    ) -> Proposals:
        """Returns the proposals of each image, from what the first stage says."""
        return jax.vmap(
            partial(propose, options=self.settings, train=train),
            in_axes=(0, 0, None, 0),
        )(logits, deltas, anchors, batch['image_size'])

    def features(
        self, maps: list[Array], boxes: Float[Array, 'batch boxes 4'], size: int
    ) -> Float[Array, 'batch boxes size size channels']:
        """Returns the features of boxes, each from one of P2 to P5."""
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
