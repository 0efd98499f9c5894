"""The widest width that keeps a budget, chosen by what requests were measured to cost.

A rule and no more: it reads no clock and runs nothing, so that the same measurements
always give the same decisions.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping

from slimjax.deploy.costs import Cost, check_costs


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a controller changes the width. Times are in seconds.

    Attributes:
        window: so many of the newest requests are looked at.
        enough: fewer than these do not tell a 95th percentile.
        recent: of so many newest requests,
        urgent: so many over the budget narrow the width at once; one less in a trial.
        headroom: part of the budget that the 95th percentile leaves free, as what is
            measured is not what comes.
        hysteresis: a further part that it has to leave free to become wider, so that
            the width does not swing.
        cooldown: between a change and the next wider width.
        settle: a wider width that is given up sooner was a mistake: it is not tried
            for as long, and for twice as long after each further mistake. After as long
            in peace, the next wider width is tried even where its cost by measurements
            long ago speaks against it.
        longest_wait: for a width that was a mistake again and again.

    Raises:
        ValueError: values that contradict each other.
    """

    window: int = 128
    enough: int = 64
    recent: int = 8
    urgent: int = 3
    headroom: float = 0.05
    hysteresis: float = 0.1
    cooldown: float = 2.0
    settle: float = 10.0
    longest_wait: float = 600.0

    def __post_init__(self):
        if not 1 <= self.urgent <= self.recent <= self.enough <= self.window:
            raise ValueError(
                f'urgent={self.urgent}, recent={self.recent}, enough={self.enough}, '
                f'window={self.window}: none may be larger than the next, or below 1'
            )
        if min(self.headroom, self.hysteresis) < 0 or not self.calm > 0:
            raise ValueError(
                f'headroom={self.headroom}, hysteresis={self.hysteresis}: parts of the '
                'budget that leave something of it'
            )
        if not 0 < self.cooldown <= self.settle <= self.longest_wait:
            raise ValueError(
                f'cooldown={self.cooldown}, settle={self.settle}, longest_wait='
                f'{self.longest_wait}: seconds, none longer than the next'
            )

    @property
    def calm(self) -> float:
        """The part of the budget below which a wider width is looked for."""
        return 1 - self.headroom - self.hysteresis


@dataclasses.dataclass(frozen=True)
class Decision:
    """A change of the width.

    Attributes:
        time: in seconds, of the request that led to it.
        previous: the width that was.
        width: the width from now on.
        reason: `'urgent'`, one request after another was over the budget; `'p95'`, the
            95th percentile was; `'fits'`, a wider one is expected to fit; `'trial'`, it
            is not expected to, but is tried.
    """

    time: float
    previous: str
    width: str
    reason: str


class Controller:
    """Chooses the widest width whose 95th percentile stays within a budget.

    What a wider width would cost is told from the present one's measurements, by the
    ratio of what both cost undisturbed. Where that ratio misleads, as where other work
    hits one width harder, a trial tells.

    Args:
        costs: of each width, widest first, in the unit of the budget.
        budget: what the 95th percentile of requests may cost: milliseconds or
            millijoules.
        rule: when to change.

    Attributes:
        costs: as given.
        budget: as given.
        rule: as given.
        width: at which the next request should run; at first the widest that fits.

    Raises:
        ValueError: no widths, or a cost or budget that is no positive number.

    Example:
        >>> costs = {'1.0': Cost(8, 9), '0.5': Cost(3, 4)}
        >>> controller = Controller(costs, budget=10)
        >>> controller.width
        '1.0'
        >>> for second in (1, 2, 3):
        ...     decision = controller.observe('1.0', cost=16, time=second)
        >>> decision
        Decision(time=3, previous='1.0', width='0.5', reason='urgent')
    """

    def __init__(self, costs: Mapping[str, Cost], budget: float, rule: Rule = Rule()):
        check_costs(costs)
        if not 0 < budget < math.inf:
            raise ValueError(f'budget={budget}: a number above 0 is expected')
        self.costs, self.budget, self.rule = dict(costs), budget, rule
        self._names = list(costs)
        self._limit, self._calm = (1 - rule.headroom) * budget, rule.calm * budget
        fitting = [name for name in costs if costs[name].slow <= self._limit]
        self.width = (fitting or [self._cheapest(self._names)])[0]
        self._seen = collections.deque(maxlen=rule.window)
        self._over = collections.deque(maxlen=rule.recent)
        self._time, self._since, self._reason = -math.inf, None, None
        # By reason and width: a trial that failed is no evidence against a forecast.
        self._mistakes = collections.defaultdict(int)
        self._closed_until = collections.defaultdict(lambda: -math.inf)

    def observe(self, width: str, cost: float, time: float) -> Decision | None:
        """Takes in what a request cost, and may change the width.

        Args:
            width: at which it ran; one that began before a change tells nothing of the
                width of today, and is passed over.
            cost: in the unit of the budget.
            time: in seconds, of any clock that does not go back.

        Returns:
            The change, or None.

        Raises:
            ValueError: an unknown width, a cost that is no number or negative, or a
                time before the last one.
        """
        if width not in self.costs:
            raise ValueError(f'width={width!r}; allowed are {", ".join(self._names)}')
        if not 0 <= cost < math.inf:
            raise ValueError(f'cost={cost}: a number that is not negative is expected')
        if not self._time <= time < math.inf:
            raise ValueError(f'time={time} is before the last one, {self._time}')
        self._time = time
        self._since = time if self._since is None else self._since
        if width != self.width:
            return None
        self._seen.append(cost)
        self._over.append(cost > self.budget)
        level = None
        if len(self._seen) >= self.rule.enough:
            # The smallest that 95 % do not exceed.
            level = sorted(self._seen)[math.ceil(0.95 * len(self._seen)) - 1]
        found = self._narrower(level) or self._wider(level)
        return found and self._change(*found)

    def _narrower(self, level: float | None) -> tuple[str, str] | None:
        """The narrower width to change to, and why, if any."""
        below = self._names[self._names.index(self.width) + 1 :]
        # What was not expected to fit has less credit.
        if sum(self._over) >= max(1, self.rule.urgent - (self._reason == 'trial')):
            reason, level = 'urgent', max(list(self._seen)[-self.rule.recent :])
        elif level is not None and level > self._limit:
            reason = 'p95'
        else:
            return None
        # Searched channels may be fewer multiply-adds and take more time.
        cheaper = [
            name
            for name in below
            if self.costs[name].typical < self.costs[self.width].typical
        ]
        if not cheaper:
            return None
        slowdown = level / self.costs[self.width].typical
        for name in cheaper:
            if slowdown * self.costs[name].typical <= self._limit:
                return name, reason
        return self._cheapest(cheaper), reason

    def _wider(self, level: float | None) -> tuple[str, str] | None:
        """The wider width to change to, and why, if any."""
        above = self._names[: self._names.index(self.width)]
        rested, limit = self._time - self._since, self._calm
        if not above or level is None or level > limit or rested < self.rule.cooldown:
            return None
        slowdown = level / self.costs[self.width].typical
        for name in above:
            fits = slowdown * self.costs[name].typical <= limit
            if fits and self._time >= self._closed_until['fits', name]:
                return name, 'fits'
        # The next wider one, where no more than a forecast speaks against it.
        is_open = self._time >= self._closed_until['trial', name]
        if not fits and is_open and rested >= self.rule.settle:
            return name, 'trial'
        return None

    def _change(self, width: str, reason: str) -> Decision:
        previous = self.width
        if reason in ('urgent', 'p95') and self._reason in ('fits', 'trial'):
            self._learn(self._reason, previous, self._time - self._since)
        self.width, self._reason, self._since = width, reason, self._time
        self._seen.clear()
        self._over.clear()
        return Decision(self._time, previous, width, reason)

    def _learn(self, reason: str, width: str, lasted: float) -> None:
        """Remembers how a width ended that was widened to for a reason."""
        rule, mistakes = self.rule, self._mistakes[reason, width] + 1
        if lasted >= rule.settle:
            mistakes = 0
        self._mistakes[reason, width] = mistakes
        if mistakes:
            # A large exponent would be no float any more.
            wait = min(rule.settle * 2.0 ** min(mistakes - 1, 60), rule.longest_wait)
            for name in self._names[: self._names.index(width) + 1]:
                until = max(self._closed_until[reason, name], self._time + wait)
                self._closed_until[reason, name] = until

    def _cheapest(self, names: list[str]) -> str:
        # Of those that cost the same, as by a coarse clock, the narrowest.
        return min(reversed(names), key=lambda name: self.costs[name].typical)
