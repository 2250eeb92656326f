"""How fast everything is, as ratios measured within one process or in runs by turns: ``make bench``.

``rows`` says what is measured and on which kinds of processor; each group of rows is measured by a function of its
name, in a process of its own (``child``); ``measure`` has the clocks; ``report`` keeps what was found and writes the
page.
"""
