"""A bundle that changes its width by itself, to keep a budget or a deadline."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slimjax.deploy.controller import Controller
from slimjax.deploy.deadline import Deadlines
from slimjax.deploy.decision_log import DecisionLog
from slimjax.deploy.runtime import Runtime


class Answer(NamedTuple):
    """What came of a request.

    Attributes:
        logits: float32 `[batch, classes]`.
        width: at which it ran.
        cost: what it cost, in the unit of the budget.
    """

    logits: np.ndarray
    width: str
    cost: float


def milliseconds() -> float:
    """Returns a count of milliseconds, from some time or other."""
    return 1000 * time.perf_counter()


class AdaptiveRuntime:
    """Runs requests at the width that a controller chooses, and tells it their cost.

    Any number of threads may ask. Requests of other numbers of images cost something
    else: use one for each. What is measured lies between asking and answering: waiting
    in a queue before that is the caller's to subtract from the deadline.

    Args:
        runtime: of a bundle.
        controller: of the same widths.
        log: of that controller, if any.
        meter: a count of what is spent, in the unit of the budget; of energy
            `slimjax.insight.energy.Millijoules`, which is of the whole device.
        clock: seconds, for the controller.

    Attributes:
        controller: as given.
        deadlines: forecasts for requests with a deadline.

    Raises:
        ValueError: the bundle and the controller have other widths.

    Example:
        ::

            runtime = slimjax.deploy.load('bundle')
            costs = slimjax.deploy.costs_from(runtime.manifest)
            adaptive = AdaptiveRuntime(runtime, Controller(costs, budget=5.0))
            logits, width, cost = adaptive.infer(images)
            logits, width, cost = adaptive.infer(images, deadline=2.5)  # this one alone
    """

    def __init__(
        self,
        runtime: Runtime,
        controller: Controller,
        *,
        log: DecisionLog | None = None,
        meter: Callable[[], float] = milliseconds,
        clock: Callable[[], float] = time.monotonic,
    ):
        if set(runtime.widths) != set(controller.costs):
            raise ValueError(
                f'the bundle has the widths {", ".join(runtime.widths)}, the '
                f'controller {", ".join(controller.costs)}'
            )
        self.controller = controller
        self.deadlines = Deadlines(controller.costs)
        self._runtime, self._log = runtime, log
        self._meter, self._clock = meter, clock
        self._lock = threading.Lock()

    def infer(self, images: np.ndarray, deadline: float | None = None) -> Answer:
        """Runs a request.

        Args:
            images: as `Runtime.infer` takes them.
            deadline: what this request may cost: it runs at the widest width that makes
                it 19 times in 20, or at the narrowest where none does, and tells the
                controller nothing of the budget. None for the controller's width.

        Raises:
            ValueError: images of another type or shape.
        """
        with self._lock:
            width = self.controller.width
            if deadline is not None:
                width = self.deadlines.widest(deadline, self._clock())
        width = width or self._runtime.widths[-1]
        before = self._meter()
        logits = self._runtime.infer(images, width)
        cost = self._meter() - before
        with self._lock:
            # Under the lock, so that the times of two threads come in order.
            now = self._clock()
            self.deadlines.observe(width, cost, now)
            if deadline is None:
                decision = self.controller.observe(width, cost, now)
                if self._log:
                    self._log.write(width, cost, now, decision)
        return Answer(logits, width, cost)
