"""A network that learns from another, trained before it."""

import jax
import jax.numpy as jnp
import pytest

from slimjax.data.augment import normalize
from slimjax.train.loop import train
from slimjax.train.losses import cross_entropy
from slimjax.train.metrics import read_metrics
from slimjax.train.run import Run
from slimjax.train.teacher import Teacher
from slimjax.train.trained import open_run
from slimjax.variables import apply_train
from tests.train.runs import tiny_config


def silent(line):
    pass


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """A run of two steps, at the widest alone."""
    path = tmp_path_factory.mktemp('teacher')
    config = tiny_config(widths=(1.0,), num_train_steps=2)
    train(config, path, test=False, say=silent)
    return path


def student_config(teacher, **changes):
    return tiny_config(
        widths=(0.5,), teacher=str(teacher), num_train_steps=1, log_steps=1, **changes
    )


def test_the_loss_is_against_the_logits_of_the_teacher_in_evaluation(teacher, tmp_path):
    # One group of examples, so that the batch is normalised as one network sees it.
    config = student_config(teacher, norm_batch='global')
    train(config, tmp_path, say=silent)
    loss = read_metrics(tmp_path / 'metrics.jsonl')[0]['train/loss/0.5']

    run, trained = Run(config), open_run(teacher)
    reader = run.train_reader(0)
    batch = next(reader)
    reader.close()
    images = normalize(batch['image'], config.mean, config.std)
    soft = jax.jit(trained.model.apply)(trained.variables, images)
    model = run.model.clone(axis_name=None)
    state = run.new_state()
    logits, _ = jax.jit(apply_train, static_argnames=('model', 'width'))(
        model, state.params, state.stats, images, width=0.5
    )
    assert loss == pytest.approx(float(cross_entropy(logits, None, soft)), rel=1e-5)
    labels = jnp.asarray(batch['label'])
    assert abs(loss - float(cross_entropy(logits, labels))) > 1e-3


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'image_size': 12, 'eval_resize': 12},
            r'has image_size=8; the network that it is to teach has',
        ),
        ({'mean': (0.5,)}, r'has mean=\(0.305,\)'),
        ({'teacher': '/nowhere'}, "config.teacher='/nowhere': /nowhere holds no"),
        ({'widths': (0.5, 1.0), 'distill': True}, 'with distill=True'),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(teacher, tmp_path, changes, message):
    config = student_config(teacher)
    for name, value in changes.items():
        config[name] = value
    with pytest.raises(ValueError, match=message):
        train(config, tmp_path, say=silent)


def test_a_teacher_that_knows_other_classes_is_refused(teacher, tmp_path, monkeypatch):
    run = Run(student_config(teacher))
    monkeypatch.setattr(
        run.source('train'), 'class_names', [*map(str, range(9)), 'ten']
    )
    with pytest.raises(ValueError, match=r"has class_names=\['0', .*'ten'\]"):
        Teacher(run)


def test_how_a_teacher_was_trained_does_not_matter(teacher):
    # 10 examples of each of 4 devices, which do not divide into groups of its 32.
    Teacher(Run(student_config(teacher, batch_size=40, norm_batch='global')))


def test_without_test_the_results_are_of_validation_and_the_test_is_left(teacher):
    config = tiny_config(widths=(1.0,), num_train_steps=2)
    results = train(config, teacher, test=False, say=silent)
    lines = read_metrics(teacher / 'metrics.jsonl')
    assert not any(name.startswith('test/') for line in lines for name in line)
    assert results['1.0']['top1'] == lines[-1]['eval/top1/1.0']

    assert set(train(config, teacher, say=silent)) == {'1.0'}
    assert 'test/top1/1.0' in read_metrics(teacher / 'metrics.jsonl')[-1]
