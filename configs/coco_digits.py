r"""Scenes of handwritten digits: slimmable detection without COCO, on two CPU cores.

    python scripts/make_digit_scenes.py --output=runs/digit_scenes
    python -m slimjax.main --config=configs/coco_digits.py:mask_rcnn \
        --workdir=runs/mask_digits

Recipes: faster_rcnn, mask_rcnn, keypoint_rcnn. Trained from scratch, so that each width
has BatchNorm of its own that is trained. One width alone:
'--config.widths=(0.25,)'
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
    config.preset = 'tiny'
    config.model = 'resnet14'
    config.model_fields = {
        'base_features': 16,
        'image_mean': (67.3, 67.1, 67.0),
        'image_std': (38.9, 39.1, 38.9),
    }
    config.widths = (0.25, 0.5, 0.75, 1.0)
    config.norm_batch = 'global'  # a device may have too few images

    config.dataset = 'coco'  # its format
    config.data_dir = 'runs/digit_scenes'
    config.num_classes = 10
    config.num_keypoints = 4  # top, left, bottom and right of the stroke
    config.flip = False  # a mirrored digit is another sign

    config.batch_size = 16
    config.eval_batch_size = 16
    config.train_epochs = 12
    config.warmup_epochs = 0.5
    config.optimizer = 'adamw'
    config.learning_rate = 2e-3
    config.weight_decay = 1e-4
    config.clip_norm = 5.0
    config.schedule = 'cosine'
    config.eval_epochs = 3
    config.checkpoint_epochs = 1
    config.log_steps = 25
    config.best_metric = 'bbox/AP'
    return config
