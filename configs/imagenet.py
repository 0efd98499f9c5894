"""ImageNet recipes of Yu et al.: S-Nets (ICLR 2019), US-Nets, AutoSlim.

    python -m slimjax.main --config=configs/imagenet.py:s_resnet50 --workdir=runs/r50

Recipes and their published top-1 accuracy in %, widest first:

    s_mobilenet_v1        71.5  69.5  64.8  53.1   widths 1.0 0.75 0.5 0.25
    s_mobilenet_v1_8      71.6 ... 52.4            eight widths, 1.0 ... 0.25
    s_mobilenet_v2        70.5  68.9  64.4  59.7   widths 1.0 0.75 0.5 0.35
    s_shufflenet          71.4  65.5  57.2         widths 2.0 1.0 0.5, repository
    s_shufflenet_paper    71.3  65.5  57.3         the same, batch and rate of the paper
    s_resnet50            76.0  74.9  72.1  65.0   widths 1.0 0.75 0.5 0.25
    s_resnet101, s_resnet152                       defined by the code, not published
    us_mobilenet_v1       71.8  69.5  64.2  55.7   at 1.0 0.75 0.5 0.25, of all widths
    us_mobilenet_v2       71.5  69.6  65.1  62.3   at 1.0 0.75 0.5 0.35, of all widths
    us_resnet50, us_shufflenet                     promised, never published
    supernet_mobilenet_v1, supernet_mobilenet_v2, supernet_mnasnet, supernet_resnet50
                                                   for scripts/search.py
    autoslim_mobilenet_v1 73.0  71.5  67.9         572, 325 and 150 million MACs
    autoslim_mobilenet_v2 75.4  74.2  73.0         505, 305 and 207 million MACs
    autoslim_mnasnet      75.4  74.6  73.2         532, 315 and 217 million MACs
    autoslim_resnet       76.0  75.6  74.0  72.2   3.0, 2.0, 1.0 and 0.57 billion MACs

A US-Net is trained at all widths of a grid and evaluated at `widths`; at others after
--mode=calibrate '--config.widths=(0.3,0.7,1.0)', with --mode=eval on WORKDIR/calibrated
and the same widths. --config.width_grid=0.0 trains any width there is, 187 networks of
MobileNet v1.

What scripts/search.py finds in a supernet is trained by an AutoSlim recipe, in place of
the published channels: --config.channels=channels.json '--config.widths=()'.

The baseline of one width, physically narrow: '--config.widths=(0.25,)'
On an accelerator add --config.dtype=bfloat16.
"""

import ml_collections


def get_config(recipe='s_resnet50'):
    config = ml_collections.ConfigDict()
    config.dataset = 'imagenet2012'  # prepared by scripts/prepare_imagenet.py
    config.num_classes = 1000
    config.image_size = 224
    config.eval_resize = 256
    config.exif_rotation = False  # as published
    config.jitter = 0.4
    config.lighting = 'published'  # at most one grey level, as the code computes it
    config.seed = 1995
    config.optimizer = 'sgd'
    config.momentum = 0.9
    config.nesterov = True
    config.weight_decay = 1e-4

    if recipe in ('s_mobilenet_v1', 's_mobilenet_v1_8', 's_mobilenet_v2'):
        config.model = recipe.removeprefix('s_').removesuffix('_8')
        config.widths = (0.25, 0.5, 0.75, 1.0)
        if recipe == 's_mobilenet_v1_8':
            config.widths = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 1.0)
        if recipe == 's_mobilenet_v2':
            config.widths = (0.35, 0.5, 0.75, 1.0)
        config.train_epochs = 480
        config.batch_size = 160
        config.norm_batch = 40  # four devices, BatchNorm on each
        config.learning_rate = 0.045
        config.schedule = 'exponential'  # x 0.98 every epoch
        config.decay_factor = 0.98
        config.crop_scale = (0.25, 1.0)
    elif recipe in ('s_shufflenet', 's_shufflenet_paper'):
        config.model = 'shufflenet'
        config.widths = (0.5, 1.0, 2.0)
        config.train_epochs = 250
        config.batch_size = 1024 if recipe == 's_shufflenet' else 512
        config.norm_batch = 128
        config.learning_rate = 0.5 if recipe == 's_shufflenet' else 0.25
        config.schedule = 'linear'  # to 0, with every step
        config.crop_scale = (0.25, 1.0)
    elif recipe in ('s_resnet50', 's_resnet101', 's_resnet152', 'us_resnet50'):
        config.model = recipe.partition('_')[2]
        config.widths = (0.25, 0.5, 0.75, 1.0)
        if recipe == 'us_resnet50':
            config.widths = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
            universal(config)
        config.train_epochs = 100
        config.batch_size = 256
        config.norm_batch = 64
        config.learning_rate = 0.1
        config.schedule = 'multistep'
        config.milestone_epochs = (30, 60, 90)
        config.decay_factor = 0.1
        config.crop_scale = (0.08, 1.0)
    elif recipe in ('us_mobilenet_v1', 'us_mobilenet_v2', 'us_shufflenet'):
        config.model = recipe.removeprefix('us_')
        config.widths = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
        if recipe == 'us_mobilenet_v2':
            config.widths = (0.35, 0.5, 0.65, 0.75, 0.85, 1.0)
            config.model_fields = {'private_tail_stats': True}
        universal(config)
        if recipe == 'us_shufflenet':
            config.widths = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
            config.width_grid = 0.0625
        config.train_epochs = 250
        config.batch_size = 1024
        config.norm_batch = 128
        config.learning_rate = 0.5
        config.schedule = 'linear'
        config.crop_scale = (0.25, 1.0)
    elif recipe in (
        'supernet_mobilenet_v1',
        'supernet_mobilenet_v2',
        'supernet_mnasnet',
        'supernet_resnet50',
    ):
        config.model = recipe.removeprefix('supernet_')
        config.widths = (0.15, 0.5, 1.0, 1.5)  # 1.5, as channels of AutoSlim are wider
        if recipe == 'supernet_resnet50':
            config.widths = (0.15, 0.5, 1.0)
        if recipe in ('supernet_mobilenet_v2', 'supernet_mnasnet'):
            config.model_fields = {'slim_tail': True}
        universal(config)
        config.search_share = 0.1  # unseen in training: they judge the candidates
        config.train_epochs = 50
        config.batch_size = 1024
        config.norm_batch = 128
        config.learning_rate = 0.5
        config.schedule = 'linear'
        config.crop_scale = (0.25, 1.0)
    elif recipe in (
        'autoslim_mobilenet_v1',
        'autoslim_mobilenet_v2',
        'autoslim_mnasnet',
    ):
        config.model = recipe  # its switches are the widths '1', '2' and '3'
        config.train_epochs = 300
        config.batch_size = 2048
        config.norm_batch = 256
        config.learning_rate = 0.5
        config.schedule = 'linear'
        config.crop_scale = (0.25, 1.0)
        config.label_smoothing = 0.1
    elif recipe == 'autoslim_resnet':
        config.model = recipe  # its switches are the widths '1', '2', '3' and '4'
        config.train_epochs = 100
        config.batch_size = 256
        config.norm_batch = 64
        config.learning_rate = 0.1
        config.schedule = 'multistep'
        config.milestone_epochs = (30, 60, 90)
        config.decay_factor = 0.1
        config.crop_scale = (0.25, 1.0)
        config.label_smoothing = 0.1
    else:
        raise ValueError(
            f'there is no recipe {recipe!r}; the recipes are s_mobilenet_v1, '
            's_mobilenet_v1_8, s_mobilenet_v2, s_shufflenet, s_shufflenet_paper, '
            's_resnet50, s_resnet101, s_resnet152, us_mobilenet_v1, us_mobilenet_v2, '
            'us_shufflenet, us_resnet50, supernet_mobilenet_v1, '
            'supernet_mobilenet_v2, supernet_mnasnet, supernet_resnet50, '
            'autoslim_mobilenet_v1, autoslim_mobilenet_v2, autoslim_mnasnet and '
            'autoslim_resnet'
        )
    return config


def universal(config):
    """Trains all widths between the ends of `widths`, as the US-Nets paper means it."""
    config.sandwich = 4  # the widest, the narrowest and two drawn for each step
    config.width_grid = 0.03125  # between the ends; each width is a program
    config.norm = 'shared_affine'
    config.distill = True  # which the published configs meant to, and did not
