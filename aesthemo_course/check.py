"""Checks that the exercises print; they never raise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def check(
    what: str, got: Callable[[], object], expected: object = True, hints: Sequence[tuple[object, str]] = (),
) -> None:
    """Print in one line whether an exercise's result is the expected one; nothing that the student wrote can raise.

    Args:
        what: what is checked.
        got: returns the student's result.
        expected: the right result; numbers are compared with a tolerance, NaN equals NaN.
        hints: pairs of a typical wrong result and what the student did to get it.
    """
    try:
        result = got()
    except NotImplementedError:
        return print(f"not yet: {what} (still to be written)")
    except Exception as fault:  # whatever a student's code can raise
        return print(f"not yet: {what} ({' '.join(f'{type(fault).__name__}: {fault}'.split())[:120]})")
    if same(result, expected):
        return print(f"ok: {what}")
    hint = next((text for wrong, text in hints if same(result, wrong)), "")
    print(f"not yet: {what} (got {_short(result)}, expected {_short(expected)}{'; ' if hint else ''}{hint})")


def same(a: object, b: object) -> bool:
    """Whether two results are equal: the same structure, numbers within rounding."""
    try:
        a, b = (value.tolist() if hasattr(value, "tolist") else value for value in (a, b))
        if isinstance(b, dict):
            return isinstance(a, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in b)
        if isinstance(b, tuple | list):
            return isinstance(a, tuple | list) and len(a) == len(b) and all(map(same, a, b))
        if isinstance(b, str | None | bool):
            return type(a) is type(b) and a == b
        left, right = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        return left.shape == right.shape and bool(np.allclose(left, right, atol=1e-6, equal_nan=True))
    except Exception:  # a result of any type
        return False


def _short(value: object) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a repr of the student's own
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
