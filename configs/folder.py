"""Any folder of images: `DIR/train/<class>/*.jpg`, and `val` and `test` if there are.

    python -m slimjax.main --config=configs/folder.py --workdir=runs/mine \
        --config.data_dir=DIR --config.num_classes=10

Without a validation folder, 5 % of the training images are held out for it.
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.model = 'resnet50'
    config.widths = (0.25, 0.5, 0.75, 1.0)

    config.dataset = 'folder'
    config.num_classes = 10
    config.image_size = 224
    config.eval_resize = 256
    config.crop_scale = (0.25, 1.0)
    config.jitter = 0.4

    config.batch_size = 64
    config.train_epochs = 90
    config.warmup_epochs = 5
    config.learning_rate = 0.025
    config.schedule = 'cosine'
    config.eval_epochs = 1
    config.checkpoint_epochs = 1
    return config
