"""The full OASIS set from its two authors' public repositories, file by file, each checked against its SHA-256."""

from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from .oasis import SENSITIVE_THEMES, theme_stem

SERVER = "https://raw.githubusercontent.com"
AFFECT = "bkurdi/shiny-server/1a3bcada01115bbe651bf0e69f7410c8ef63cc94"
BEAUTY = "aenneb/OASIS-beauty/3751d2a38eae925b0ba1726a199f342425870d81"
"""Repository and commit: OASIS.csv and images/ come from the first, the beauty ratings from the second."""
BEAUTY_FILES = ("OASISdata.mat", "means_per_image.csv")
_CHECKSUMS = Path(__file__).with_name("oasis_sha256.txt")
TIMEOUT = 30  #: Seconds that a server may be silent
_RETRIES = 2
_CONNECTIONS = 4


def checksums() -> dict[str, str]:
    """The SHA-256 of each of the 903 published files, by its name in the repository."""
    lines = _CHECKSUMS.read_text(encoding="utf-8").splitlines()
    return {name: sha for sha, _, name in (line.partition("  ") for line in lines if not line.startswith("#"))}


def fetch(root: str | Path, sensitive: bool = False, server: str = SERVER) -> Path:
    """Download OASIS into a folder that ``readers.oasis`` reads; calling again resumes, and replaces damaged files.

    Args:
        sensitive: also the images of ``readers.oasis.SENSITIVE_THEMES``.
        server: where the repositories' files are served; a course may keep its own copy.
    """
    import pooch
    from tqdm import tqdm

    names = {name: sha for name, sha in checksums().items()
             if sensitive or theme_stem(Path(name).stem) not in SENSITIVE_THEMES}
    root = Path(root).expanduser()
    (root / "images").mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("ERROR")  # else a line per file, over the progress bar
    urls = {name: f"{server}/{BEAUTY if name in BEAUTY_FILES else AFFECT}/{quote(name)}" for name in names}
    files = pooch.create(path=root, base_url=server, registry=names, urls=urls, retry_if_failed=_RETRIES)
    pool = ThreadPoolExecutor(_CONNECTIONS)
    try:
        jobs = [pool.submit(_fetch, files, name) for name in names]
        for job in tqdm(as_completed(jobs), "OASIS", len(jobs), unit="file", disable=None):  # silent without a terminal
            job.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return root


def _fetch(files, name: str) -> None:
    import pooch

    try:
        path = Path(files.fetch(name, downloader=pooch.HTTPDownloader(timeout=TIMEOUT)))
        with suppress(PermissionError):  # a kept file may be someone else's
            path.chmod(0o644)  # only its owner may read a temporary file, but others read a course's folder
    except (ValueError, OSError) as error:  # a wrong checksum; requests' errors are OSErrors
        reason = " ".join(str(error).split())
        raise RuntimeError(f"{name}: could not be downloaded from {files.get_url(name)} ({reason}); "
                           f"check the connection and call again, what is whole is kept") from error
