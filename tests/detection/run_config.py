"""Configs of detectors that train in seconds on a few scenes of digits."""

import pathlib

from slimjax.config_file import load_config

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
SMALL = {
    'base_features': 8,
    'buckets': ((64, 64),),
    'train_short_sides': (64,),
    'test_short_side': 64,
    'longest_side': 64,
    'pyramid_features': 8,
    'box_features': 16,
    'mask_features': (8,),
    'keypoint_features': (8,),
    'train_level_proposals': 32,
    'train_proposals': 32,
    'test_level_proposals': 32,
    'test_proposals': 16,
    'detection_candidates': 32,
    'detections': 5,
    'score_threshold': 0.0,
}
SHORT = {
    # optax's AdamW does not run under strict promotion.
    'optimizer': 'sgd',
    'learning_rate': 0.01,
    'widths': (0.5,),
    'batch_size': 4,
    'eval_batch_size': 4,
    'train_epochs': 0.0,
    'train_steps': 2,
    'eval_epochs': 0.0,
    'checkpoint_epochs': 0.0,
    'log_steps': 1,
    'num_threads': 1,
}


def digits_config(data_dir, detector='faster_rcnn', fields=SMALL, **changes):
    """Returns the config of a few steps on the scenes in `data_dir`."""
    config = load_config(f'{CONFIGS / "coco_digits.py"}:{detector}')
    config.data_dir = str(data_dir)
    for name, value in fields.items():
        config.model_fields[name] = value
    for name, value in {**SHORT, **changes}.items():
        config[name] = value
    return config
