"""The browser of the report's tests."""

import shutil

import pytest


# Of a module: while it lives, playwright's event loop runs, and orbax wants its own.
@pytest.fixture(scope='module')
def chromium():
    """Debian's Chromium, headless."""
    path = shutil.which('chromium')
    if path is None:
        pytest.skip('there is no chromium: apt-get install chromium')
    sync_api = pytest.importorskip('playwright.sync_api')
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()
