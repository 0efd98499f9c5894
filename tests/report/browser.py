"""A report in a real browser: Debian's Chromium, which notes whatever goes wrong."""

import contextlib
import dataclasses


@dataclasses.dataclass
class Seen:
    """What a page did.

    Attributes:
        page: of playwright.
        complaints: errors, and all that was written to the console.
        requests: the addresses of all that was asked for.
    """

    page: object
    complaints: list
    requests: list


@contextlib.contextmanager
def opened(chromium, path, **context):
    """Yields a page from the disk whose charts are drawn."""
    context = chromium.new_context(**context)
    page = context.new_page()
    seen = Seen(page, [], [])
    page.on('console', lambda message: seen.complaints.append(message.text))
    page.on('pageerror', lambda error: seen.complaints.append(str(error)))
    page.on('request', lambda request: seen.requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_function('document.body.dataset.drawn', timeout=60_000)
    yield seen
    context.close()
