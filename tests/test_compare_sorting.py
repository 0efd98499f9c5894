"""The command that tells what sorted channels are worth, as a user runs it."""

import json
import shutil

import pytest

from tests.commands import run_command

SMALL = (
    *('--config.widths=(0.5,1.0)', '--config.train_epochs=2'),
    *(
        '--config.model_fields.base_features=4',
        '--config.model_fields.stage_sizes=(1,)',
    ),
)


def command(*flags):
    return run_command('scripts/compare_sorting.py', *flags, timeout=500)


@pytest.mark.slow
def test_every_start_is_calibrated_and_fine_tuned_once(tmp_path):
    flags = (
        '--config=configs/digits.py',
        *(f'--workdir={tmp_path / "runs"}', f'--json={tmp_path / "found.json"}'),
        *('--seeds=1', '--epochs=2', *SMALL),
    )
    done = command(*flags)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['widths'] == ['1.0', '0.5']
    starts = {'as it is', 'l1', 'bn_scale', 'taylor'}
    calibrated = {f'{start}, calibrated' for start in starts}
    tuned = {f'{start}, fine-tuned' for start in (*starts, 'anew')}
    assert found['top1'].keys() == calibrated | tuned
    # Before a weight is changed, the widest is the same network in any order.
    assert len({found['top1'][key][0][0] for key in calibrated}) == 1
    # What is finished is only told again, and what was interrupted is made anew.
    (half,) = tmp_path.glob('runs/**/l1/calibrated/checkpoints')
    shutil.rmtree(half)
    half.mkdir()
    again = command(*flags)
    assert again.stdout == done.stdout


def test_no_epochs_are_refused_in_a_line():
    done = command('--config=configs/digits.py', '--epochs=0')
    assert done.returncode == 2
    assert '--epochs=0: at least 1 is needed' in done.stderr
