"""Tables of Markdown, read."""


def rows(text):
    """Returns the cells of each line."""
    return [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
    ]
