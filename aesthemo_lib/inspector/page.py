"""The inspector as HTML, for the browser."""

import json
from collections.abc import Sequence
from html import escape
from string import Template

from .subject import HERE, SCRIPT, STYLE

PAGE, LIVE = ((HERE / name).read_text(encoding="utf-8") for name in ("page.html", "live.js"))


def html(pages: Sequence[dict], live: bool = False) -> str:
    """The whole file; its policy forbids the browser to load anything else.

    Args:
        pages: one or several networks' (see ``Subject.page``), between which the reader chooses.
        live: whether it asks where it came from ('ask'), or holds all answers.
    """
    asking = "; connect-src 'self'" if live else ""
    # No tag can end the script.
    data = json.dumps(pages, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    start = LIVE.rstrip() if live else 'inspectOne(document.getElementById("inspector"), data, {address: true});'
    return Template(PAGE).substitute(asking=asking, title=escape(pages[0]["title"]), style=STYLE, data=data,
                                     script=SCRIPT, start=start)
