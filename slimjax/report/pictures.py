"""Images as a page holds them: PNG, within the page."""

import base64
import io

import numpy as np
from PIL import Image


def data_uri(image: np.ndarray) -> str:
    """Returns an image as the address of itself.

    Args:
        image: `[height, width, 1 or 3]`, uint8.

    Example:
        >>> data_uri(np.zeros((2, 2, 1), np.uint8))[:22]
        'data:image/png;base64,'
    """
    file = io.BytesIO()
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(pixels).save(file, 'PNG')
    return 'data:image/png;base64,' + base64.b64encode(file.getvalue()).decode()


def css_color(color: np.ndarray) -> str:
    """Returns a colour, from 0 to 255, as style sheets write it.

    Args:
        color: `[1]` or `[3]`.

    Example:
        >>> css_color(np.array([127.6]))
        'rgb(128, 128, 128)'
    """
    red, green, blue = np.broadcast_to(np.asarray(color).round().astype(int), (3,))
    return f'rgb({red}, {green}, {blue})'
