r"""Slimmable Faster, Mask and Keypoint R-CNN on COCO (Yu et al., ICLR 2019).

    python -m slimjax.main --config=configs/coco.py:mask_rcnn --workdir=runs/mask_rcnn \
        --config.data_dir=/data/coco --config.init_from=runs/r50 \
        --config.dtype=bfloat16

data_dir is the output of scripts/prepare_coco.py, init_from a run of
configs/imagenet.py:s_resnet50, or what scripts/import_torch.py made of the published
one. 12 epochs, as published; no slimmable Keypoint R-CNN was, which follows Detectron:
25.4 epochs of the images with keypoints.
Recipes: faster_rcnn, mask_rcnn, keypoint_rcnn.

One width alone, physically narrow: '--config.widths=(0.25,)'
From scratch: --config.model_fields.norm=batch --config.model_fields.frozen_stages=0
"""

import ml_collections


def get_config(recipe='mask_rcnn'):
    if recipe not in ('faster_rcnn', 'mask_rcnn', 'keypoint_rcnn'):
        raise ValueError(
            f'there is no recipe {recipe!r}; the recipes are faster_rcnn, mask_rcnn '
            'and keypoint_rcnn'
        )
    config = ml_collections.ConfigDict()
    config.detector = recipe
    config.preset = 'published'
    config.model = 'resnet50'
    config.widths = (0.25, 0.5, 0.75, 1.0)

    config.dataset = 'coco'
    config.num_classes = 80
    config.too_many_boxes = 'error'
    config.min_box_side = 1.0
    config.min_image_side = 32
    config.paste = 'published'

    config.batch_size = 16
    config.eval_batch_size = 16
    config.learning_rate = 0.02  # at 16 images a step
    config.momentum = 0.9
    config.nesterov = False
    config.weight_decay = 1e-4
    config.decay_all = True
    config.clip_norm = 35.0
    config.schedule = 'multistep'
    config.decay_factor = 0.1
    config.train_epochs = 12.0
    config.milestone_epochs = (8, 11)
    config.warmup_steps = 500
    config.warmup_factor = 1 / 3
    config.log_steps = 50
    config.best_metric = 'bbox/AP'
    if recipe == 'keypoint_rcnn':  # Detectron's, whose boxes end at their edges.
        config.num_classes = 1  # person
        config.min_keypoints = 1
        config.min_box_side = 0.0
        config.min_image_side = 0
        config.paste = 'detectron2'
        config.train_epochs = 25.4  # 90,000 steps of the images with keypoints
        config.milestone_epochs = (17.0, 22.6)
        config.warmup_steps = 1000
        config.warmup_factor = 1e-3
    return config
