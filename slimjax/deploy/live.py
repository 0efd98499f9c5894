"""Requests at a steady rate on this machine, while other work comes and goes."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from slimjax.deploy.adaptive import Answer
from slimjax.deploy.plot_controller import Story

# Multiplies matrices that do not fit into a cache, and ends by itself.
_WORK = (
    'import sys, time, numpy\n'
    'matrix = numpy.ones((1024, 1024), numpy.float32)\n'
    'end = time.monotonic() + float(sys.argv[1])\n'
    'while time.monotonic() < end: matrix @ matrix\n'
)


@contextlib.contextmanager
def other_work(processes: int, seconds: float) -> Iterator[None]:
    """Keeps other processes computing while the context lasts, or for `seconds`."""
    command = [sys.executable, '-c', _WORK, str(seconds)]
    running = [subprocess.Popen(command) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def serve(
    ask: Callable[[], Answer],
    widths: Sequence[str],
    *,
    rate: float,
    seconds: float,
    processes: int,
) -> Story:
    """Asks again and again; other work runs in the second third of the time.

    Args:
        ask: runs a request.
        widths: their names, widest first.
        rate: requests a second. One that is late is asked at once, so that there are
            fewer where they take longer than that.
        seconds: in all.
        processes: of other work.

    Raises:
        ValueError: a rate or time that is not above 0, or fewer than no processes.
    """
    for name, value in (('rate', rate), ('seconds', seconds)):
        if not value > 0:
            raise ValueError(f'{name}={value}: more than 0 is expected')
    if processes < 0:
        raise ValueError(f'processes={processes}: 0 or more are expected')
    times, answers, spans = [], [], []
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        for end, busy in ((1, False), (2, True), (3, False)):
            if busy:
                work = stack.enter_context(contextlib.ExitStack())
                work.enter_context(other_work(processes, seconds / 3))
            begun = time.monotonic() - start
            while (now := time.monotonic() - start) < end * seconds / 3:
                times.append(now)
                answers.append(ask())
                rest = times[-1] + 1 / rate - (time.monotonic() - start)
                time.sleep(max(0.0, rest))
            if busy:
                work.close()
                spans.append((begun, now))
    return Story(
        np.array(times),
        np.array([answer.cost for answer in answers]),
        np.array([list(widths).index(answer.width) for answer in answers]),
        spans,
    )


def summary(story: Story, widths: Sequence[str], budget: float) -> dict[str, Any]:
    """Returns what came of requests, in each third of the time.

    Args:
        story: what `serve` returns.
        widths: their names, widest first.
        budget: milliseconds.

    Returns:
        `{'before': {'requests', 'p50', 'p95', 'within': share within the budget,
        'widths': {name: share}}, 'during': ..., 'after': ...}`.

    Example:
        >>> story = Story(np.arange(3.0), np.ones(3), np.zeros(3, int), [(1.0, 2.0)])
        >>> found = summary(story, ['1.0'], 2.0)
        >>> found['during']['requests'], found['after']['p95'], found['after']['within']
        (1, 1.0, 1.0)
    """
    ((begin, end),) = story.shaded
    found = {}
    for name, chosen in {
        'before': story.time < begin,
        'during': (story.time >= begin) & (story.time < end),
        'after': story.time >= end,
    }.items():
        cost, width = story.cost[chosen], story.width[chosen]
        found[name] = {
            'requests': len(cost),
            'p50': float(np.percentile(cost, 50)),
            'p95': float(np.percentile(cost, 95)),
            'within': float(np.mean(cost <= budget)),
            'widths': {
                each: float(np.mean(width == number))
                for number, each in enumerate(widths)
            },
        }
    return found
