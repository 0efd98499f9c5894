"""The browser, which the report's tests use too."""

from tests.report.conftest import chromium

__all__ = ['chromium']
