"""The addresses in the package's metadata, from where the checkout that it is built in was cloned."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

try:
    from hatchling.metadata.plugin.interface import MetadataHookInterface
except ModuleNotFoundError:  # docs/book.py asks for the address alone
    MetadataHookInterface = object


def web_address(remote: str) -> str | None:
    """The page of a repository, by what git calls it; None for a folder or a name of the user's own.

    >>> web_address("git@github.com:owner/name.git")
    'https://github.com/owner/name'
    """
    parts = urlsplit(remote)
    if parts.scheme in ("http", "https"):
        host, path = parts.netloc.rpartition("@")[2], parts.path  # no one's password
    elif parts.scheme in ("ssh", "git", "git+ssh"):
        host, path = parts.hostname, parts.path
    else:
        found = re.fullmatch(r"(?:[^@/:]+@)?([\w-]+(?:\.[\w-]+)+):(.+)", remote)  # host:path, by ssh
        host, path = found.groups() if found else ("", "")
    path = path.strip("/").removesuffix(".git")
    scheme = "http" if parts.scheme == "http" else "https"
    return f"{scheme}://{host}/{path}" if host and path else None


def repository(checkout: Path) -> str | None:
    """The page of a checkout's remote ``origin``; None if it has none, or is no checkout."""
    command = ["git", "--git-dir", str(checkout / ".git"), "config", "--get", "remote.origin.url"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8")
    except OSError:  # no git here
        return None
    return web_address(done.stdout.strip())


def addresses(page: str) -> dict[str, str]:
    """What a package index links, in the forms that GitHub and GitLab have."""
    return {"Source": page, "Documentation": f"{page}#readme", "Issues": f"{page}/issues",
            "Changelog": f"{page}/blob/HEAD/CHANGELOG.md"}


class Addresses(MetadataHookInterface):
    """Fills ``project.urls``. A source distribution has them in its PKG-INFO and doesn't ask again."""

    def update(self, metadata: dict) -> None:
        page = repository(Path(self.root))
        if page:
            metadata["urls"] = addresses(page)
        else:
            print("hatch_build: no remote 'origin' with a page on the web, so the metadata has no addresses",
                  file=sys.stderr)
