"""Predict, commit, reveal: a reader's guesses in a lesson, and those of a class counted together.

``ask`` shows the choices and records the one that is committed; ``reveal`` shows it next to the computed answer. In a
notebook without a kernel (the site, an executed copy) the answer is a folded paragraph.
"""

from __future__ import annotations

import csv
import html
from pathlib import Path

import pandas as pd

from aesthemo_lib.files import atomic

COLUMNS = ("lesson", "question", "guess", "answer")
LONGEST = 120


class Guesses:
    """The guesses of one reader in one lesson.

    Args:
        lesson: the lesson's name, such as '00_tour'.
        out: the folder of runs; the guesses of all lessons are kept there in ``guesses.csv``.
    """

    def __init__(self, lesson: str, out: Path | str):
        self.lesson, self.file = lesson, Path(out) / "guesses.csv"
        self._choices: dict[str, tuple[str, ...]] = {}

    def ask(self, question: str, *choices: str) -> None:
        """Show the choices of a question; a click on *Commit* records one of them, once.

        Args:
            question: a short name, unique in the lesson.
            choices: two to five answers.
        """
        from IPython.display import display
        from ipywidgets import HTML, Button, HBox, RadioButtons

        self._choices[question] = choices
        options = RadioButtons(options=choices, value=None, layout={"width": "max-content"})
        button, said = Button(description="Commit", button_style="primary"), HTML()

        def commit(_) -> None:
            if options.value is None:
                said.value = "Choose an answer first."
                return
            self.commit(question, options.value)
            options.disabled = button.disabled = True
            said.value = "Recorded. Run the next cell."

        button.on_click(commit)
        listed = "".join(f"<li>{html.escape(choice)}</li>" for choice in choices)
        view = HBox([options, button, said])._repr_mimebundle_()
        view = view[0] if isinstance(view, tuple) else view
        text = "Choices: " + "; ".join(choices)
        display(view | {"text/html": f"<ul>{listed}</ul>", "text/plain": text}, raw=True,
                metadata={"aesthemo": {"question": question, "choices": list(choices)}})

    def commit(self, question: str, guess: str) -> None:
        """Record a guess as a click would.

        Raises:
            ValueError: it is none of the question's choices.
        """
        if guess not in self._choices[question]:
            raise ValueError(f"{guess!r} is no choice of {question!r}; choose one of "
                             f"{', '.join(self._choices[question])}")
        self._write(question, guess, "")

    def reveal(self, question: str, answer: str, because: str) -> None:
        """Show the computed answer next to the guess; folded if no guess was committed.

        Args:
            question: as in ``ask``.
            answer: the one of its choices that the results on view give.
            because: one sentence with the numbers behind it.

        Raises:
            ValueError: the answer is none of the question's choices.
        """
        from IPython.display import display

        if answer not in self._choices[question]:
            raise ValueError(f"{answer!r} is no choice of {question!r}; expected one of "
                             f"{', '.join(self._choices[question])}")
        guess = self.read().get((self.lesson, question), {}).get("guess", "")
        if guess:
            self._write(question, guess, answer)
        right = "Yes" if guess == answer else "No"
        text = (f"{right}: you said “{guess}”, the results say “{answer}”, because {because}" if guess
                else f"The results say “{answer}”, because {because}")
        shown = html.escape(text, quote=False)
        display({"text/html": f"<p><strong>{shown}</strong></p>" if guess else
                 f"<details><summary>The answer</summary><p>{shown}</p></details>", "text/plain": text}, raw=True,
                metadata={"aesthemo": {"question": question, "answer": answer}})

    def read(self) -> dict[tuple[str, str], dict[str, str]]:
        """All recorded guesses, by lesson and question."""
        if not self.file.exists():
            return {}
        return {(row["lesson"], row["question"]): row for row in _rows(self.file)}

    def _write(self, question: str, guess: str, answer: str) -> None:
        rows = self.read()
        rows[self.lesson, question] = dict(zip(COLUMNS, (self.lesson, question, guess, answer), strict=True))
        with atomic(self.file) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows.values())


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        rows = list(reader)
    if tuple(reader.fieldnames or ()) != COLUMNS or any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path.name}: expected the columns {','.join(COLUMNS)}, as a lesson writes them")
    if any(len(value) > LONGEST for row in rows for value in row.values()):
        raise ValueError(f"{path.name}: a value has more than {LONGEST} characters; no lesson writes one that long")
    return rows


def pool_guesses(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The guesses of a class, counted.

    Args:
        folder: where each student's ``guesses.csv`` lies, under any name that contains 'guesses'.

    Returns:
        a row for each lesson, question and guess with its count and the answer that was revealed ('' if none was),
        and one line for each file that was left out.

    Raises:
        ValueError: there is no usable file.
    """
    rows, notes = [], []
    for path in sorted(Path(folder).rglob("*guesses*.csv")):
        try:
            rows += _rows(path)
        except (ValueError, OSError, csv.Error) as fault:
            notes.append(f"left out {path.name!r}: {' '.join(str(fault).split())[:160]}")
    if not rows:
        raise ValueError(f"{folder}: no usable guesses.csv below it. {' '.join(notes[:3])}".strip())
    table = pd.DataFrame(rows)
    answers = table[table["answer"] != ""].groupby(["lesson", "question"])["answer"].agg(lambda a: a.mode()[0])
    counts = table.groupby(["lesson", "question", "guess"]).size().rename("students").reset_index()
    answered = counts.join(answers, on=["lesson", "question"]).fillna({"answer": ""})
    return answered.sort_values(["lesson", "question", "students"], ascending=[True, True, False],
                                ignore_index=True), notes
