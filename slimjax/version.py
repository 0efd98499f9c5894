"""The version of the package, apart so that setup.cfg can read it unimported."""

__version__ = '0.1.0'
