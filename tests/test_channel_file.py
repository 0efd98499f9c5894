"""Channel tables in files: what is written is read, and nothing else is."""

import json

import pytest

from slimjax.channel_file import channels_text, load_channels
from slimjax.config import check, complete
from slimjax.models import create_model
from slimjax.train.network import build_model
from slimjax.train.run import Run
from slimjax.width import ChannelTable


def table(name, count, macs):
    paths = ['stem/conv'] + [
        f'stage{stage}_block1/{conv}/conv'
        for stage in (1, 2, 3, 4)
        for conv in ('conv1', 'conv2', 'conv3', 'shortcut')
    ]
    return ChannelTable(name, tuple((path, count) for path in paths), macs)


TABLES = table('2', 16, 200), table('1', 8, 100)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'channels.json'
    path.write_text(channels_text(TABLES[::-1]))
    return path


def config_of(path, **changes):
    return complete(
        {
            'model': 'resnet14',
            'channels': str(path),
            'image_size': 16,
            'dataset': 'synthetic',
            'model_fields': {'small_images': True},
            **changes,
        }
    )


def test_what_is_written_is_read(path):
    assert load_channels(path) == TABLES
    assert load_channels(path.read_text()) == TABLES


def test_a_config_takes_all_tables_or_those_it_names(path):
    assert build_model(config_of(path)).widths == TABLES
    assert build_model(config_of(path, widths=('1',))).widths == (TABLES[1],)


def test_a_run_holds_the_tables_and_not_their_place(path):
    run = Run(config_of(path))
    path.unlink()
    assert run.model.widths == TABLES
    assert load_channels(run.config.channels) == TABLES
    assert build_model(run.config).widths == TABLES
    assert run.meta['config']['channels'] == run.config.channels


def test_multipliers_do_not_go_with_tables(path):
    with pytest.raises(ValueError, match='names of its tables, or'):
        check(config_of(path, widths=(0.5, 1.0)))
    with pytest.raises(ValueError, match="'3'"):
        check(config_of(path, widths=('3',)))


def test_tables_of_another_network_are_refused(path):
    tables = [ChannelTable('1', (*TABLES[1].channels, ('tail/conv', 8)), macs=100)]
    path.write_text(channels_text(tables))
    with pytest.raises(ValueError, match="states 'tail/conv', and the network has no"):
        build_model(config_of(path))
    with pytest.raises(ValueError, match='has no layer'):
        build_model(config_of(path, model='mobilenet_v1'))


@pytest.mark.parametrize(
    'text',
    [
        '',
        'no json',
        '[]',
        '{}',
        '{"tables": []}',
        '{"tables": {}}',
        '{"tables": {"1": {"channels": {"stem/conv": 8}}}}',
        '{"tables": {"1": {"macs": 1, "channels": {"stem/conv": 8.5}}}}',
        '{"tables": {"1": {"macs": 1, "channels": {"stem/conv": 0}}}}',
        '{"tables": {"1": {"macs": 1, "channels": {"stem/conv": true}}}}',
        '{"tables": {"0.5": {"macs": 1, "channels": {"stem/conv": 8}}}}',
        '{"tables":' * 100_000,
    ],
)
def test_what_is_no_table_is_refused(path, text):
    path.write_text(text)
    with pytest.raises(ValueError, match='holds no channel tables'):
        load_channels(path)


def test_a_missing_file_is_named(path):
    with pytest.raises(FileNotFoundError, match='nowhere.json'):
        load_channels(path.with_name('nowhere.json'))


def test_published_tables_are_written_and_read():
    tables = create_model('autoslim_mobilenet_v1').widths
    assert sorted(load_channels(channels_text(tables)), key=lambda t: t.macs) == sorted(
        tables, key=lambda t: t.macs
    )
    assert json.loads(channels_text(tables))['tables']['1']['macs'] == 149825128
