"""The HTML report of a run: one file that opens from the disk, without a network.

`gather.py` measures, `*_charts.py` and `pictures.py` draw, and `page.py` fills
`page.html` with it, beside `page.css` and `page.js`.
"""
