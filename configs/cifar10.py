"""CIFAR-10, read through TFDS, with a stem for images of 32 px.

    python -m slimjax.main --config=configs/cifar10.py:resnet26 --workdir=runs/cifar10

Recipes: resnet26, resnet50, mobilenet_v1, mobilenet_v2. A folder of images instead of
TFDS: --config.dataset=folder --config.data_dir=DIR
"""

import ml_collections


def get_config(recipe='resnet26'):
    recipes = ('resnet26', 'resnet50', 'mobilenet_v1', 'mobilenet_v2')
    if recipe not in recipes:
        raise ValueError(
            f'there is no recipe {recipe!r}; the recipes are {", ".join(recipes)}'
        )
    config = ml_collections.ConfigDict()
    config.model = recipe
    config.model_fields = {'small_images': True}
    config.widths = (0.25, 0.5, 0.75, 1.0)
    if recipe == 'mobilenet_v2':
        config.widths = (0.35, 0.5, 0.75, 1.0)

    config.dataset = 'cifar10'
    config.num_classes = 10
    config.image_size = 32
    config.eval_resize = 32
    config.crop_scale = ()
    config.pad = 4  # and a random crop of 32 px
    config.mean = (0.4914, 0.4822, 0.4465)
    config.std = (0.2470, 0.2435, 0.2616)

    config.batch_size = 128
    config.train_epochs = 200
    config.warmup_epochs = 5
    config.learning_rate = 0.1
    config.schedule = 'cosine'
    config.weight_decay = 5e-4
    config.eval_epochs = 5
    config.checkpoint_epochs = 5
    return config
