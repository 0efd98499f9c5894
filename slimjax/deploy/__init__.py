"""Taking a trained network away: one width, or all of them for other runtimes."""

from slimjax.deploy.adaptive import AdaptiveRuntime, Answer
from slimjax.deploy.cascade import Cascade, CascadeRuntime, load_cascade
from slimjax.deploy.controller import Controller, Decision, Rule
from slimjax.deploy.costs import Cost, costs_from, read_costs
from slimjax.deploy.decision_log import DecisionLog, replay
from slimjax.deploy.runtime import Runtime, load

__all__ = [
    'AdaptiveRuntime',
    'Answer',
    'Cascade',
    'CascadeRuntime',
    'Controller',
    'Cost',
    'Decision',
    'DecisionLog',
    'Rule',
    'Runtime',
    'costs_from',
    'load',
    'load_cascade',
    'read_costs',
    'replay',
]
