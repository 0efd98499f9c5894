"""Taking a trained network away: one width, or all of them for other runtimes."""

from slimjax.deploy.runtime import Runtime, load

__all__ = ['Runtime', 'load']
