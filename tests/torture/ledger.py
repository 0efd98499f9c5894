"""What was injected, and what survived: kept for a table, and to go on from."""

import hashlib
import json
import os
import pathlib
import subprocess
import time

import jax

from slimjax.command_line import provenance
from slimjax.commands import write_json

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / 'results' / 'torture.json'


class Ledger:
    """Counts faults by part and kind.

    With a seed it remembers, in `.cache/torture/`, the tests that passed at this state
    of the code and this seed: a run that was cut short goes on, and its counts are
    whole.

    Args:
        seed: of `make torture`; None where tests are run for themselves.
        minutes: that one test may take.
        folder: of what is remembered.
        results: the file that the counts are merged into.
    """

    def __init__(
        self,
        seed: int | None,
        minutes: float = 30,
        folder: pathlib.Path = ROOT / '.cache' / 'torture',
        results: pathlib.Path = RESULTS,
    ):
        self._seed, self._results = seed, results
        self._command = f'make torture SEED={seed} MINUTES={minutes:g}'
        self._memory = folder / f'{code_state()}-{seed}.json'
        self._records: dict[str, list[dict]] = {}
        self.passed: set[str] = set()
        self._seconds: dict[str, float] = {}
        self._commands: dict[str, str] = {}
        if seed is not None and self._memory.exists():
            known = json.loads(self._memory.read_text())
            self._records, self._seconds = known['records'], known['seconds']
            self._commands = known['commands']
            self.passed = set(self._records)

    def record(self, part: str, fault: str, survived: bool, lost: str = '') -> None:
        """Takes one injected fault.

        Args:
            part: of issue 9, such as `'crash'`.
            fault: its kind, such as `'kill -9 inside a checkpoint write'`.
            survived: whether all that is promised held.
            lost: what did not hold.
        """
        test = os.environ['PYTEST_CURRENT_TEST'].rpartition(' ')[0]
        self._records.setdefault(test, []).append(
            {'part': part, 'fault': fault, 'survived': survived, 'lost': lost}
        )

    def finished(self, test: str, passed: bool, seconds: float) -> None:
        """Takes the end of a test."""
        self._seconds[test] = seconds
        self._commands[test] = self._command
        self._records.setdefault(test, [])
        if passed:
            self.passed.add(test)
            self._remember()

    def _remember(self) -> None:
        if self._seed is None:
            return
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        records = {name: self._records[name] for name in sorted(self.passed)}
        known = {'seconds': self._seconds, 'commands': self._commands}
        write_json(self._memory, {'records': records, **known})

    def write(self) -> None:
        """Merges the counts into the results; other parts there stay as they are."""
        records = [record for each in self._records.values() for record in each]
        if self._seed is None or not records:
            return
        parts = {}
        if self._results.exists():
            parts = json.loads(self._results.read_text())['parts']
        for part in {record['part'] for record in records}:
            own = [record for record in records if record['part'] == part]
            tests = {
                name
                for name, each in self._records.items()
                if any(record['part'] == part for record in each)
            }
            seconds = sum(self._seconds.get(name, 0.0) for name in tests)
            # Its tests may have been given different times.
            commands = {self._commands.get(name, self._command) for name in tests}
            parts[part] = {
                **provenance(),
                'command': '; '.join(sorted(commands)),
                'seed': self._seed,
                'date': time.strftime('%Y-%m-%d', time.gmtime()),
                'minutes': round(seconds / 60, 1),
                'faults': counts(own),
            }
        write_json(self._results, {'parts': dict(sorted(parts.items()))})


def counts(records: list[dict]) -> dict[str, dict]:
    """Counts the records of a part by the kind of fault, in the order of the first."""
    found: dict[str, dict] = {}
    for record in records:
        kind = found.setdefault(
            record['fault'], {'injected': 0, 'survived': 0, 'lost': []}
        )
        kind['injected'] += 1
        kind['survived'] += record['survived']
        if not record['survived']:
            kind['lost'].append(record['lost'])
    return found


def code_state() -> str:
    """Names the commit, and what was changed since, for what is remembered."""

    def git(*command):
        return subprocess.run(
            ['git', *command], cwd=ROOT, capture_output=True, check=False
        ).stdout

    changes = git('diff', 'HEAD', '--', '.', ':!results', ':!docs')
    commit = git('rev-parse', '--short', 'HEAD').decode().strip()
    return commit + (hashlib.md5(changes).hexdigest()[:8] if changes else '')


def children_environment(cache: pathlib.Path) -> dict[str, str]:
    """Returns the environment of runs that are killed: one device, compiled once."""
    count = '--xla_force_host_platform_device_count='
    return {
        **os.environ,
        'XLA_FLAGS': os.environ['XLA_FLAGS'].replace(f'{count}4', f'{count}1'),
        'JAX_COMPILATION_CACHE_DIR': str(cache),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'JAX_PLATFORMS': jax.default_backend(),
    }
