"""A CSV as its cells by column; each fault is reported with the line of the file."""

import csv
import io
import math
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from . import inside
from .spelling import clean

RESERVED = ("path", "annotator", "group", "split")
"""Columns that are no tasks, in whatever case they are written."""
THOUSANDS = re.compile(r"[1-9]\d{0,2}([.,]\d{3})+")


@dataclass(frozen=True)
class Sheet:
    """The cells of a CSV by column, cleaned (paths are as they stand), and the line on which each row ends."""

    file: Path
    mark: str
    columns: dict[str, list[str]]
    lines: list[int]

    def fault(self, message: str, row: int | None = None) -> ValueError:
        """The message with the file, and the line of a row."""
        return ValueError(f"{self.file}{'' if row is None else f', line {self.lines[row]}'}: {message}")

    @cached_property
    def decimal_commas(self) -> bool:
        """Whether some number in the file is written as 0,5: then a point separates thousands, or is a mistake."""
        return self.mark != "," and any(re.fullmatch(r"[+-]?\d+,\d+", cell)
                                        for cells in self.columns.values() for cell in cells)

    def number(self, row: int, column: str, least: float = -math.inf) -> float:
        """A cell as a number; a comma is the decimal mark where it doesn't separate the cells."""
        cell = self.columns[column][row]
        parted = THOUSANDS.fullmatch(cell) and ("," in cell or self.decimal_commas)
        if parted or "," in cell and self.mark == ",":
            raise self.fault(f"{column} is {cell!r}; write numbers with a decimal point and nothing between thousands, "
                             f"as {re.sub('[,.]', '', cell)} or {re.sub('[,.]', '.', cell, count=1)}", row)
        try:
            number = math.nan if "_" in cell else float(cell.replace(",", "."))
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= least):
            raise self.fault(f"{column} is {cell!r}; expected a number{' of 0 or more' if least == 0 else ''}", row)
        return number


def load(file: Path) -> Sheet:
    """Read a CSV: UTF-8 with any number of byte order marks; commas, semicolons, tabs or bars, or what 'sep=' says.

    A ValueError says that it is not such a file, has no rows, or has a row that is not as long as the header.
    """
    try:
        text = file.read_bytes().decode("utf-8").lstrip("\ufeff")
        if "\0" in text:
            raise ValueError(f"{file}: holds NUL characters, so it is UTF-16 or damaged; save it as 'CSV UTF-8'")
        said = re.match(r'"?sep=(.)"?[ ,;\t]*(\r\n|\n|\r)', text, re.IGNORECASE)  # a spreadsheet's own line
        text, skipped = text[said.end():] if said else text, int(bool(said))
        first = text.lstrip().splitlines()[0] if text.strip() else ""
        mark = said[1] if said else max(",;\t|", key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        same: dict[str, str] = {}  # one object for all cells that are alike: a third of the memory of a long table
        rows = [(reader.line_num + skipped, [same.setdefault(cell, cell) for cell in row]) for row in reader
                if any(map(str.strip, row))]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a CSV in UTF-8 ({error}); save it as 'CSV UTF-8'") from error
    except csv.Error as error:
        raise ValueError(f"{file}: {_quote_fault(text, mark, skipped) or error}") from error
    if len(rows) < 2:
        raise ValueError(f"{file}: {'has a header but no rows' if rows else 'is empty'}; expected a header such as "
                         f"path,aesthetics,emotion and one row an image")
    names = _names(file, rows.pop(0)[1])
    for line, row in rows:
        if len(row) != len(names):
            cure = f"put a cell that holds {mark!r} in double quotes" if len(row) > len(names) else \
                "complete the row, or remove the line if it is none"
            raise ValueError(f"{file}, line {line}: {len(row)} cells for {len(names)} columns; {cure}")
    cells = [list(column) for column in zip(*(row for _, row in rows), strict=True)]
    sheet = Sheet(file, mark, {name: column if name == "path" else [clean(cell) for cell in column]
                               for name, column in zip(names, cells, strict=True)}, [line for line, _ in rows])
    _check_line_breaks(sheet, dict(zip(names, cells, strict=True)))
    return sheet


def _names(file: Path, header: list[str]) -> list[str]:
    names = [re.sub(r"\s*([:>])\s*", r"\1", clean(name)) for name in header]
    names = [name.casefold() if name.casefold() in RESERVED else name for name in names]
    seen: dict[str, str] = {}
    for number, name in enumerate(names):
        other = seen.setdefault(name.casefold(), name)
        if not name or name in names[:number] or other != name:
            fault = f"is a second {other!r}" if name == other else f"{name!r} differs from {other!r} in case only"
            raise ValueError(f"{file}: column {number + 1} of the header {fault if name else 'has no name'}; "
                             f"rename or remove it")
    if "path" not in names:
        raise ValueError(f"{file}: column 'path' is missing among {', '.join(names)}; call the column of the paths so")
    return names


def _quote_fault(text: str, mark: str, skipped: int) -> str:
    """Where the quotation mark stands that csv's strict reader stumbled over."""
    reader, line = csv.reader(io.StringIO(text, newline=""), delimiter=mark), 0
    for row in reader:
        begun, line = line + 1, reader.line_num
        try:
            list(csv.reader(text.splitlines(keepends=True)[begun - 1:line], delimiter=mark, strict=True))
        except csv.Error:
            return (f"line {begun + skipped}: a quotation mark that is not closed, or stands within a cell "
                    f"({row[0][:40]!r} ..); close it, or write it twice within a cell in quotes")
    return ""


def _check_line_breaks(sheet: Sheet, raw: dict[str, list[str]]) -> None:
    """A cell in quotes may hold line breaks; if it holds whole rows, a quotation mark was forgotten."""
    place = list(raw).index("path")
    for name, column in raw.items():
        for row, cell in enumerate(column):
            if "\n" not in cell.strip() and "\r" not in cell.strip():
                continue
            inner = [line.split(sheet.mark) for line in cell.strip().splitlines()[1:]]
            swallowed = [cells[place].strip(' "') for cells in inner if len(cells) > max(place, 1)]
            if name == "path" and file_named(sheet.file.parent, cell):
                continue
            if not name.startswith("_") or any(file_named(sheet.file.parent, path) for path in swallowed):
                raise sheet.fault(f"the cell {cell[:20]!r}.. of column {name!r} goes over {len(inner) + 1} lines; a "
                                  f"quotation mark before it is not closed: close it, or write it twice", row)


def file_named(folder: Path, name: str) -> Path | None:
    """The file that a cell names, however its accents are composed; None if there is none inside the folder."""
    for spell in (str, str.strip, partial(unicodedata.normalize, "NFC"), partial(unicodedata.normalize, "NFD"), clean):
        try:
            path = inside(folder, spell(name if spell is str else name.strip()))
        except ValueError:
            continue
        if path.is_file():
            return path
    return _composed_otherwise(folder, clean(name).replace("\\", "/"))


def _composed_otherwise(folder: Path, name: str) -> Path | None:
    """A file whose folders and name are each composed in their own way."""
    for part in name.split("/"):
        match = [entry for entry in _entries(folder) if clean(entry.name) == part]
        if len(match) != 1 or part in ("", ".", ".."):
            return None
        folder = match[0]
    return folder if folder.is_file() else None


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def hint(folder: Path, name: str) -> str:
    """What to do about a cell whose path names no file: another case or suffix, where that is all."""
    parent = (folder / name.strip().replace("\\", "/")).parent
    near = [entry.name for entry in _entries(parent) if entry.is_file() and
            entry.stem.casefold() == Path(name.strip().replace("\\", "/")).stem.casefold()]
    return f"; did you mean {near[0]!r}?" if near else "; correct the path or remove the row"
