"""What a run found, as one page for people: HTML, Markdown or JSON, from the run directory alone.

In goes a run directory, finished or not; out comes a `Report`, whose sections hold texts, tables and the data of plots,
and from it one file without references to others. Read `content.py` first: it says what is on the page and in which
order. `read.py` reads the files, `page.py` and `markdown.py` write, `plots.py` alone knows Matplotlib.
"""
