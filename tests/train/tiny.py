"""The digits config, made small: two widths of five convolutions on images of 8 px."""

from configs import digits


def get_config():
    config = digits.get_config()
    config.model_fields.base_features = 4
    config.model_fields.stage_sizes = (1,)
    config.image_size = config.eval_resize = 8
    config.widths = (0.5, 1.0)
    config.batch_size = 32
    config.num_train_steps = 6
    config.train_epochs = 1
    config.warmup_epochs = 0
    config.checkpoint_epochs, config.checkpoint_steps = 0, 2
    config.eval_epochs, config.eval_steps = 0, 3
    config.log_epochs, config.log_steps = 0, 2
    return config
