"""A guess is recorded before the answer is shown, and a class's guesses are counted; a check meets a wrong answer."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from aesthemo_course import guesses as module
from aesthemo_course.__main__ import main
from aesthemo_course.check import check, same
from aesthemo_course.guesses import Guesses, pool_guesses


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would display: (data, metadata) in order."""
    collected = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata: collected.append((data, metadata)))
    return collected


def test_a_committed_guess_is_compared_with_the_answer(tmp_path, shown):
    lesson = Guesses("00_tour", tmp_path)
    lesson.ask("cost", "half", "nearly as many")
    lesson.commit("cost", "half")
    lesson.reveal("cost", "nearly as many", "253.8 of 268.6 million remain.")
    data, metadata = shown[-1]
    assert data["text/plain"].startswith("No: you said “half”, the results say “nearly as many”, because 253.8")
    assert "<details>" not in data["text/html"] and metadata["aesthemo"]["answer"] == "nearly as many"
    assert lesson.read()["00_tour", "cost"] == {
        "lesson": "00_tour", "question": "cost", "guess": "half", "answer": "nearly as many"}


def test_without_a_guess_the_answer_is_folded_and_nothing_is_recorded(tmp_path, shown):
    lesson = Guesses("00_tour", tmp_path)
    lesson.ask("cost", "half", "<all>")
    assert "&lt;all&gt;" in shown[0][0]["text/html"] and "widget-view" in " ".join(shown[0][0])
    lesson.reveal("cost", "<all>", "so.")
    assert shown[-1][0]["text/html"].startswith("<details><summary>The answer</summary>")
    assert "&lt;all&gt;" in shown[-1][0]["text/html"] and not lesson.file.exists()


def test_an_answer_must_be_one_of_the_choices(tmp_path, shown):
    lesson = Guesses("00_tour", tmp_path)
    lesson.ask("cost", "half", "all")
    with pytest.raises(ValueError, match="'none' is no choice of 'cost'"):
        lesson.commit("cost", "none")
    with pytest.raises(ValueError, match="expected one of half, all"):
        lesson.reveal("cost", "none", "so.")


def test_a_class_is_pooled_and_a_broken_file_is_reported(tmp_path, shown, capsys):
    for n, guess in enumerate(("half", "half", "all")):
        lesson = Guesses("00_tour", tmp_path / f"student {n} é")
        lesson.ask("cost", "half", "all")
        lesson.commit("cost", guess)
        if n:
            lesson.reveal("cost", "all", "so.")
    broken = {"a": "", "b": "x,y\n1,2\n", "c": ",".join(module.COLUMNS) + "\n" + "x" * 500 + ",b,c,d\n"}
    for name, text in broken.items():
        (tmp_path / f"guesses-{name}.csv").write_text(text, encoding="utf-8")
    table, notes = pool_guesses(tmp_path)
    assert table[["guess", "students", "answer"]].to_numpy().tolist() == [["half", 2, "all"], ["all", 1, "all"]]
    assert len(notes) == 3 and all("\n" not in note for note in notes)
    assert main(["guesses", str(tmp_path)]) == 0
    assert "1 all   <- the results" in capsys.readouterr().out


def test_no_file_is_one_clear_line(tmp_path, capsys):
    assert main(["guesses", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


# --- the check of an exercise


@pytest.mark.parametrize(("got", "said"), [
    (lambda: [1, 2], "ok: it"),
    (lambda: np.array([1.0, 2.0]), "ok: it"),
    (lambda: [2, 1], "not yet: it (got [2, 1], expected [1, 2]; you swapped them)"),
    (lambda: 1 / 0, "not yet: it (ZeroDivisionError: division by zero)"),
    (lambda: int("a\nb"), "not yet: it (ValueError: invalid literal for int() with base 10: 'a\\nb')"),
])
def test_a_check_is_one_line_and_meets_the_wrong_answer(got, said, capsys):
    assert check("it", got, [1, 2], [([2, 1], "you swapped them")]) is None
    assert capsys.readouterr().out == said + "\n"


def test_an_unwritten_exercise_is_said(capsys):
    def unwritten():
        raise NotImplementedError

    check("it", unwritten, 1)
    assert capsys.readouterr().out == "not yet: it (still to be written)\n"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
                    max_leaves=6))
def test_a_result_is_the_same_as_itself_and_not_as_another_type(value):
    assert same(json.loads(json.dumps(value)), value)
    assert not same(object(), value) and not same({"other": value}, value)
