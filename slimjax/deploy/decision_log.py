"""What a controller saw and decided, a JSON object a line, and the way back."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from slimjax.deploy.controller import Controller, Decision, Rule
from slimjax.deploy.costs import Cost
from slimjax.json_file import parse_json


class DecisionLog:
    """Writes all that replays a controller's decisions.

    The first line holds its settings; then each observation has a line, with the
    decision that it led to, if any. A line leaves the process when it is written, so
    that one that dies loses none.

    Args:
        path: a new file.
        controller: before it has seen anything.

    Raises:
        FileExistsError: there is such a file.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'log.jsonl')
        >>> controller = Controller({'1.0': Cost(8, 9), '0.5': Cost(3, 4)}, budget=10)
        >>> with DecisionLog(path, controller) as log:
        ...     for second in range(3):
        ...         seen = '1.0', 16.0, float(second)
        ...         log.write(*seen, controller.observe(*seen))
        >>> replay(path)
        [Decision(time=2.0, previous='1.0', width='0.5', reason='urgent')]
    """

    def __init__(self, path: str | os.PathLike, controller: Controller):
        # Line by line.
        self._file = open(path, 'x', encoding='utf-8', buffering=1)  # noqa: SIM115
        self._line(
            costs=controller.costs,
            budget=controller.budget,
            rule=dataclasses.asdict(controller.rule),
        )

    def write(
        self, width: str, cost: float, time: float, decision: Decision | None
    ) -> None:
        """Adds an observation, as it was given to the controller, and what it said."""
        decided = {'decision': dataclasses.asdict(decision)} if decision else {}
        self._line(width=width, cost=cost, time=time, **decided)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> 'DecisionLog':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _line(self, **values: Any) -> None:
        # One write, and so whole lines only, unless the machine itself stops.
        self._file.write(json.dumps(values, allow_nan=False) + '\n')


def replay(path: str | os.PathLike) -> list[Decision]:
    """Returns the decisions that a new controller makes of a log's observations.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is damaged, or the controller decides otherwise than the log
            says; the message has the line.
    """
    lines = pathlib.Path(path).read_text(encoding='utf-8').splitlines()
    place, decisions = 1, []
    try:
        head = parse_json(lines[0])
        costs = {name: Cost(*values) for name, values in head['costs'].items()}
        controller = Controller(costs, head['budget'], Rule(**head['rule']))
        for place in range(2, len(lines) + 1):
            seen = parse_json(lines[place - 1])
            found = controller.observe(seen['width'], seen['cost'], seen['time'])
            logged = seen.get('decision')
            if logged != (found and dataclasses.asdict(found)):
                raise ValueError(f'{logged} is logged, and the replay gives {found}')
            decisions += [found] if found else []
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path}, line {place}: {error}') from error
    return decisions
