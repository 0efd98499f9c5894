"""Images made up on the fly: throughput without data.

    python -m slimjax.main --config=configs/synthetic.py:resnet50 \
        --workdir=/tmp/throughput --config.num_train_steps=50

The recipe is the name of a model, at its own widths.
"""

import ml_collections


def get_config(recipe='resnet50'):
    config = ml_collections.ConfigDict()
    config.model = recipe
    config.widths = ()  # the model's own

    config.dataset = 'synthetic'
    config.num_classes = 1000
    config.image_size = 224
    config.eval_resize = 256
    config.crop_scale = ()

    config.batch_size = 64
    config.eval_batch_size = 64
    config.train_steps = 200
    config.eval_steps = 100
    config.checkpoint_steps = 100
    config.log_steps = 10
    config.schedule = 'constant'
    return config
