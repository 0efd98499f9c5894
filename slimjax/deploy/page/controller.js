// The rule of slimjax/deploy/controller.py, which says why: the same measurements give
// the same decisions, as a test of both checks.

export class Controller {
  // costs: [{ name, typical, slow }], widest first, in the unit of the budget.
  constructor(costs, budget, rule) {
    this.costs = costs;
    this.names = costs.map((cost) => cost.name);
    this.budget = budget;
    this.rule = rule;
    this.limit = (1 - rule.headroom) * budget;
    this.calm = (1 - rule.headroom - rule.hysteresis) * budget;
    const fitting = costs.find((cost) => cost.slow <= this.limit);
    this.width = (fitting ?? cheapest(costs)).name;
    this.seen = [];
    this.since = null;
    this.reason = null;
    this.mistakes = {};
    this.closedUntil = {};
  }

  // Takes in what a request cost; returns the change that it led to, or null.
  observe(width, cost, time) {
    this.time = time;
    this.since ??= time;
    if (width !== this.width) return null;
    this.seen.push(cost);
    if (this.seen.length > this.rule.window) this.seen.shift();
    let level = null;
    if (this.seen.length >= this.rule.enough) {
      const sorted = Float64Array.from(this.seen).sort();
      level = sorted[Math.ceil(0.95 * sorted.length) - 1];
    }
    const found = this.narrower(level) ?? this.wider(level);
    return found && this.change(...found);
  }

  narrower(level) {
    const place = this.names.indexOf(this.width);
    const below = this.costs.slice(place + 1);
    const newest = this.seen.slice(-this.rule.recent);
    const over = newest.filter((cost) => cost > this.budget).length;
    const urgent = Math.max(1, this.rule.urgent - (this.reason === 'trial' ? 1 : 0));
    let reason = 'p95';
    if (over >= urgent) {
      reason = 'urgent';
      level = Math.max(...newest);
    } else if (level === null || level <= this.limit) {
      return null;
    }
    if (!below.length) return null;
    const slowdown = level / this.costs[place].typical;
    const fitting = below.find((cost) => slowdown * cost.typical <= this.limit);
    return [(fitting ?? cheapest(below)).name, reason];
  }

  wider(level) {
    const place = this.names.indexOf(this.width);
    const above = this.costs.slice(0, place);
    const rested = this.time - this.since;
    const calm = level !== null && level <= this.calm;
    if (!above.length || !calm || rested < this.rule.cooldown) return null;
    const slowdown = level / this.costs[place].typical;
    const fits = (cost) => slowdown * cost.typical <= this.calm;
    const open = (reason, cost) =>
      this.time >= (this.closedUntil[`${reason} ${cost.name}`] ?? -Infinity);
    const found = above.find((cost) => fits(cost) && open('fits', cost));
    if (found) return [found.name, 'fits'];
    const next = above.at(-1);
    const tried = !fits(next) && open('trial', next) && rested >= this.rule.settle;
    return tried ? [next.name, 'trial'] : null;
  }

  change(width, reason) {
    const previous = this.width;
    const narrows = reason === 'urgent' || reason === 'p95';
    if (narrows && (this.reason === 'fits' || this.reason === 'trial')) {
      this.learn(this.reason, previous, this.time - this.since);
    }
    this.width = width;
    this.reason = reason;
    this.since = this.time;
    this.seen = [];
    return { time: this.time, previous, width, reason };
  }

  learn(reason, width, lasted) {
    const { settle, longest_wait: longest } = this.rule;
    const key = `${reason} ${width}`;
    this.mistakes[key] = lasted >= settle ? 0 : (this.mistakes[key] ?? 0) + 1;
    if (!this.mistakes[key]) return;
    const wait = Math.min(settle * 2 ** (this.mistakes[key] - 1), longest);
    for (const name of this.names.slice(0, this.names.indexOf(width) + 1)) {
      const before = this.closedUntil[`${reason} ${name}`] ?? -Infinity;
      this.closedUntil[`${reason} ${name}`] = Math.max(before, this.time + wait);
    }
  }
}

function cheapest(costs) {
  return costs.reduce((best, cost) => (cost.typical <= best.typical ? cost : best));
}
