"""scikit-learn's 1,797 handwritten digits: real images, no download, two CPU cores.

    python -m slimjax.main --config=configs/digits.py --workdir=runs/digits
    python -m slimjax.main --config=configs/digits.py:us --workdir=runs/digits_us
    python -m slimjax.main --config=configs/digits.py:supernet --workdir=runs/supernet

The second trains every width from 0.25 to 1.0 (on a grid of 1/16) and reports seven.
The third is for scripts/search.py: it goes up to width 1.5, on 90 % of the images.
"""

import ml_collections


def get_config(recipe='s'):
    if recipe not in ('s', 'us', 'supernet'):
        raise ValueError(
            f'there is no recipe {recipe!r}; the recipes are s, us and supernet'
        )
    config = ml_collections.ConfigDict()
    config.model = 'resnet14'
    config.model_fields = {'small_images': True, 'base_features': 16}
    config.widths = (0.25, 0.5, 0.75, 1.0)
    if recipe != 's':
        config.widths = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)  # evaluated
        config.sandwich = 4  # the widest, the narrowest and two drawn for each step
        config.width_grid = 0.0625
        config.norm = 'shared_affine'
        config.distill = True
    if recipe == 'supernet':
        config.widths = (0.1875, 0.5, 1.0, 1.5)
        config.search_share = 0.1

    config.dataset = 'digits'  # 8 x 8 px, grey; split in 1,197 / 240 / 360
    config.num_classes = 10
    config.image_size = 12
    config.image_channels = 1
    config.eval_resize = 12
    config.mean = (0.305,)
    config.std = (0.376,)
    config.crop_scale = ()
    config.pad = 1  # and a random crop of 12 px
    config.flip = False  # a mirrored digit is another sign

    config.batch_size = 64
    config.eval_batch_size = 120
    config.train_epochs = 22
    config.warmup_epochs = 2
    config.learning_rate = 0.05
    config.schedule = 'cosine'
    config.weight_decay = 5e-4
    config.eval_epochs = 5
    config.checkpoint_epochs = 5
    config.log_epochs = 1
    return config
