"""Class names as people write them: what is no label, what is one name spelt twice, and what is no class at all."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

NO_LABEL = frozenset({
    "", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nan", "none", "null", "nil", "?", "??", "???", "-", "--", "---",
    "–", "—", "…", "\\n", "missing", "unknown", "undefined", "unlabelled", "unlabeled", "n.d.", "blank", "empty", "tbd",
    "todo", "no answer", "no label", "not rated", "unrated", "not available", "not applicable", "don't know",
})
"""Cells that say that nobody judged, in lower case."""
RARE = 2
"""A class of so few images, one edit from a more frequent one, is taken for a typing error until it is confirmed."""
TOGETHER = re.compile(r"\s*[/+&\\>:]\s*|\s+(?:and|or|und|et|y)\s+")
"""What may stand between two classes; a comma, semicolon or bar always does, and words may be two classes too."""
OUT_OF = re.compile(r"\s*(%|/\s*\d+|(stars?|points?|pts)\.?)$", re.IGNORECASE)  #: What may follow a score
PARTS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
         "dev": "validation", "test": "test", "testing": "test"}
"""What people call the parts of a split, in lower case."""
NO_TASK = {"id", "uuid", "timestamp", "datetime", "filename", "url", "email", "rater", "worker", "user", "photographer"}
NO_TASK_ALONE = {"date", "time", "index", "year", "month", "day", "hour", "weekday", "comment", "note"}
"""Names of columns that are no task; the former also as the last word of one."""
BOOLEAN = frozenset({"true", "false", "yes", "no", "y", "n", "t", "f", "0", "1"})
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)")


@lru_cache(2**16)  # a long table repeats its cells, which then are the same object too
def clean(text: str) -> str:
    """Text without what nobody sees: composed (NFC), single spaces, no zero-width, format or variant characters."""
    composed = re.sub("[\ufe00-\ufe0f]", "", unicodedata.normalize("NFC", text))
    return " ".join("".join(c for c in composed if unicodedata.category(c) != "Cf").split())


@lru_cache(2**16)
def is_no_label(text: str) -> bool:
    """Whether a cell says that nobody judged: empty, NA, NaN, None, n/a, ?, - and the like."""
    return text.casefold() in NO_LABEL or re.sub(r"[\s.()]+", "", text.casefold()) in NO_LABEL


def check_names(counts: Mapping[str, int], what: str) -> None:
    """Raise ValueError for names that are one class spelt in two ways, or almost another class's name.

    ``counts``: how often each ``clean`` class name occurs; ``what`` has these classes, for the message.
    """
    spelt: dict[str, str] = {}
    for name in counts:
        if "\ufffd" in name or _garbled(name):
            raise ValueError(f"{what} has the class {name!r}, whose letters were garbled when it was saved"
                             f"{f' (it may be {_garbled(name)!r})' if _garbled(name) else ''}; write it anew, in UTF-8")
        other = spelt.setdefault(_key(name), name)
        if other != name:
            raise ValueError(f"{what} has the classes {other!r} and {name!r}; use one of the two spellings")
        if len(scripts := _scripts(name)) > 1:
            raise ValueError(f"{what} has the class {name!r}, which mixes {' and '.join(sorted(scripts))} letters; "
                             f"type it again")
    for name, count in counts.items():
        for other, more in counts.items():
            if count <= RARE and count < more and _one_edit(name.casefold(), other.casefold()):
                raise ValueError(f"{what} has the class {name!r} {count} time{'s' * (count > 1)} and {other!r} {more} "
                                 f"times: is the first a typing error? Correct it; a class of its own needs {RARE + 1} "
                                 f"or more")


def check_cells(counts: Mapping[str, int], what: str) -> None:
    """Raise ValueError for a column of labels that are no classes: lists of classes, scores, identifiers, times.

    ``counts``: how often each label occurs; ``what``: the column's name, for the message, which says how to mend it.
    """
    for label in counts:
        parts = several(label, counts) or [part.strip() for part in re.split(r"[,;|\n]", label)]
        if len(parts) > 1:
            raise ValueError(f"{what} is {label!r}; expected one class in a cell: where several apply, count their "
                             f"votes in columns {what}:{parts[0] or 'awe'}, {what}:{parts[-1] or 'fear'} and so on")
        if re.fullmatch(r"#[A-Z/0]+[!?]|=.+", label):
            raise ValueError(f"{what} is {label!r}, a spreadsheet's formula or error; write the class, or leave the "
                             f"cell empty")
        if label[0] == '"' or label[-1] == '"':
            raise ValueError(f"{what} is {label!r}; remove the quotation mark, or the space before it")
    scores = [OUT_OF.sub("", label) for label in counts]
    if len(counts) > 2 and all(map(NUMBER.fullmatch, scores)):
        values = [float(label.replace(",", ".")) for label in scores]
        low, high = min(values), max(values)
        raise ValueError(f"{what} holds numbers ({len(counts)} different ones, {low:g} to {high:g}); call the column "
                         f"'{what}>{(low + high) / 2:g}' to have them read as scores, low or high about that middle; "
                         f"if each names a class, write words instead, such as level_{min(scores)}")
    if len(counts) > 2 and all(label.casefold() in BOOLEAN for label in counts):
        raise ValueError(f"{what} says yes and no in several ways ({', '.join(counts)}); use one word for each")
    if looks := _no_classes(what, counts, sum(counts.values())):
        raise ValueError(f"{what} {looks}; if it is no task, call the column '_{what}'")


def several(label: str, counts: Mapping[str, int]) -> list[str]:
    """The classes that a label names at once, such as 'awe / fear'; empty if it is one."""
    for parts in (TOGETHER.split(label), re.split(r"[\W_]+", label)):
        if len(parts) > 1 and all(counts.get(part, 0) >= counts[label] for part in parts):
            return parts
    return []


def _no_classes(name: str, counts: Mapping[str, int], rows: int) -> str:
    """What a column looks like that can't be a task; empty if it may be one."""
    *_, last = re.split(r"[_\W]+|(?<=[a-z])(?=[A-Z])", name)
    if last.casefold() in NO_TASK or name.casefold() in NO_TASK_ALONE:
        return "has the name of an identifier, a person, a remark or a time"
    if all(label.casefold() in PARTS for label in counts):
        return "holds parts of a split; if it is one, call the column 'split', and its parts train, validation and test"
    if hold_dates(counts):
        return "holds dates or times"
    if rows > 4 and len(counts) == rows or len(counts) > 10 and 2 * len(counts) > rows:
        return f"has {len(counts)} different values in {rows} rows"
    return ""


def hold_dates(labels: Iterable[str]) -> bool:
    """Whether all labels look like dates, years or times."""
    return all(re.search(r"\d{4}[-/]\d\d[-/]\d\d|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d{1,2}:\d\d|\b(19|20)\d{6}\b|"
                         r"^(19|20)\d\d$|\d{1,2}\.? ?[^\W\d]{3,9}\.? ?\d{4}|[^\W\d]{3,9}\.? \d{1,2},? \d{4}", label)
               for label in labels)


def _key(name: str) -> str:
    """Equal for spellings that one person may use for one thing: Awe, 'awe' and awe.; cat, cats and cat (2)."""
    if NUMBER.fullmatch(name):
        return f"{float(name.replace(',', '.')):g}"
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    plain = re.sub("[\u0300-\u036f'`\"\u2018-\u201f«»]", "", plain)  # accents and quotation marks
    seen = "".join("-" if unicodedata.category(c) == "Pd" else c for c in plain)
    words = re.sub(r"[\s_\-]+", " ", seen.strip(".,:;!?*"))
    return re.sub(r"( copy( \(?\d+\)?)?| \(\d+\)|(?<=[^\W\d]{2}[^\W\ds])s)$", "", words) or name


def _garbled(name: str) -> str:
    """What a name was before its UTF-8 was read as another encoding; empty if it was not."""
    try:
        before = name.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return ""
    return before if before != name else ""


def _scripts(name: str) -> set[str]:
    """Of Latin, Greek and Cyrillic, whose letters look alike, those in which a name's letters are written."""
    known = {unicodedata.name(c, "").partition(" ")[0] for word in name.split() for c in word if c.isalpha()}
    return known & {"LATIN", "GREEK", "CYRILLIC"}


def _one_edit(a: str, b: str) -> bool:
    """Whether one letter more, fewer or other, or two exchanged neighbours make one word of the other.

    Names of less than three letters are too short to tell, and those that differ in a digit are meant to.
    """
    if min(len(a), len(b)) < 3 or abs(len(a) - len(b)) > 1 or a == b:
        return False
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    changed = a[same:same + 1] + b[same:same + 1]
    if all(c.isdigit() for c in changed):
        return False
    rests = {(a[same + 1:], b[same:]), (a[same:], b[same + 1:]), (a[same + 1:], b[same + 1:])}
    swapped = a[same:same + 2] == b[same:same + 2][::-1] and a[same + 2:] == b[same + 2:]
    return swapped or any(x == y for x, y in rests)


def counted(labels) -> Counter:
    """How often each label occurs, those that say that nobody judged left out."""
    return Counter(label for label in labels if not is_no_label(label))
