"""Plausible wrong answers fail the visible checks of the exercises, and most are met with a hint."""

import contextlib
import importlib.util
import io
import textwrap
from pathlib import Path

import nbformat
import pytest

PROJECT = Path(__file__).resolve().parents[2]
loader = importlib.util.spec_from_file_location("course_build", PROJECT / "course" / "build.py")
course = importlib.util.module_from_spec(loader)
loader.loader.exec_module(course)

WRONG = {
    "ex01-change": [
        "return np.where(consensus_share(votes) > share, consensus(votes), -1)",
        "return consensus(votes)",
        "return np.where(votes.max(axis=1) >= share * votes.sum(axis=1), votes.argmax(axis=1), -1)",
    ],
    "ex01-build": [
        """above = table["value"] - table.groupby("image")["value"].transform("mean")
        return above.groupby(table["annotator"]).mean()""",
        'return table.groupby("annotator")["value"].mean() - table["value"].mean()',
        """group, value = table.groupby("image")["value"], table["value"]
        others = (group.transform("sum") - value) / (group.transform("size") - 1).clip(1)
        return (value - others).groupby(table["annotator"]).mean()""",
    ],
    "ex02-change": [
        "return sum(2 * (2 * k * k + k) for k in channels)",
        "return sum(branches * branches * k * k for k in channels)",
        "return sum(branches * k * k + k for k in channels)",
    ],
    "ex02-build": [
        "return x_1, x_2",
        "return 0.9 * x_1 + 0.1 * x_2, 0.1 * x_1 + 0.9 * x_2",
        "own, other = self.shares.mean(-1)[0]\nreturn own * x_1 + other * x_2, other * x_1 + own * x_2",
    ],
    "ex03-change": [
        "return nn.functional.cross_entropy(logits, votes / votes.sum(dim=1, keepdim=True).clamp(min=1))",
        "return nn.functional.cross_entropy(logits[votes.sum(1) > 0], votes[votes.sum(1) > 0].argmax(1))",
        "return -((votes / votes.sum(1, keepdim=True)) * logits.log_softmax(1)).sum(1).mean()",
    ],
    "ex03-build": [
        """for factor, weights in groups:
            for w in weights:
                w.sub_(rate * factor * (w.grad + decay * w))
                w.grad = None""",
        """for factor, weights in groups:
            for w in weights:
                v = velocity.setdefault(id(w), torch.zeros_like(w))
                v.mul_(momentum).add_(w.grad + decay * w)
                w.sub_(rate * v)
                w.grad = None""",
        """for factor, weights in groups:
            for w in weights:
                v = velocity.setdefault(id(w), torch.zeros_like(w))
                v.mul_(momentum).add_(w.grad)
                w.sub_(rate * factor * v)
                w.grad = None""",
    ],
    "ex04-change": [
        """return next((n for n in range(2, most + 1)
                     if 1.96 * scatter * math.sqrt(1 / n + rho) < abs(difference)), None)""",
        """return next((n for n in range(2, most + 1)
                     if stats.t.ppf(0.95, n - 1) * scatter * math.sqrt(1 / n + rho) < abs(difference)), None)""",
        """return next((n for n in range(2, most + 1)
                     if stats.t.ppf(0.975, n - 1) * scatter / math.sqrt(n) < abs(difference)), None)""",
    ],
    "ex04-build": [
        "return 1",
        """signs = np.array(list(product((1, -1), repeat=len(differences))))
        means = signs @ np.asarray(differences) / len(differences)
        return float((means >= np.mean(differences) - 1e-12).mean())""",
        "return float(stats.ttest_1samp(differences, 0).pvalue)",
    ],
    "ex05-change": [
        "confusion = np.asarray(confusion, dtype=float)\nreturn confusion.diagonal() / confusion.sum(axis=1)",
        "confusion = np.asarray(confusion, float)\nreturn np.full(len(confusion), confusion.trace() / confusion.sum())",
        "confusion = np.asarray(confusion, float)\nreturn confusion.diagonal() / np.maximum(confusion.sum(axis=0), 1)",
    ],
    "ex05-build": [
        "return 1, 1, 1",
        """right_a, right_b = np.asarray(a) == np.asarray(truth), np.asarray(b) == np.asarray(truth)
        only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
        n, k = only_a + only_b, min(only_a, only_b)
        return only_a, only_b, sum(math.comb(n, j) for j in range(k + 1)) / 2**n""",
        """right_a, right_b = np.asarray(a) == np.asarray(truth), np.asarray(b) == np.asarray(truth)
        n, k = len(right_a), int(min(right_a.sum(), right_b.sum()))
        p = min(1.0, 2 * sum(math.comb(n, j) for j in range(k + 1)) / 2**n)
        return int(right_a.sum()), int(right_b.sum()), p""",
    ],
    "ex06-build": [
        "return {p: value({p}) - value(set()) for p in players}",
        "return {p: value(set(players)) - value(set(players) - {p}) for p in players}",
        """found = {}
        for p in players:
            others = [q for q in players if q != p]
            parts = [value({*s, p}) - value(set(s)) for n in range(len(players)) for s in combinations(others, n)]
            found[p] = sum(parts) / len(parts)
        return found""",
    ],
    "ex06-change": [
        "found = shapley(value, players)\nreturn found, value(set(players)) - value(set()) - sum(found.values())",
        """found = {p: value(set(players)) - value(set(players) - {p}) for p in players}
        return found, value(set(players)) - value(set()) - sum(found.values())""",
        """found = {}
        for p in players:
            others = [q for q in players if q != p]
            parts = [value({*s, p}) - value(set(s)) for n in range(len(players)) for s in combinations(others, n)]
            found[p] = sum(parts) / 2 ** (len(players) - 1)
        return found, sum(found.values()) - value(set(players)) + value(set())""",
    ],
    "ex08-change": [
        """difference = np.asarray(trained) - np.asarray(null)
        half = stats.t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference))
        return difference.mean(), half""",
        "return np.mean(trained) - np.mean(null), 0.0",
        """difference = np.asarray(trained) - np.asarray(null)
        means = np.array([difference[np.asarray(groups) == name].mean() for name in np.unique(groups)])
        return means.mean(), 1.959964 * means.std(ddof=1) / np.sqrt(len(means))""",
    ],
    "ex08-build": [
        "return float(np.trapezoid(np.asarray(by_map) - at_random, np.linspace(0, 1, len(by_map))))",
        "return float(np.trapezoid(np.asarray(at_random) - by_map))",
        "return float((np.asarray(at_random) - by_map).mean())",
    ],
    "ex09-change": [
        """h = np.asarray(gain) - part * np.asarray(oracle)
        half = stats.t.ppf(0.975, len(h) - 1) * h.std(ddof=1) / np.sqrt(len(h))
        return float((np.asarray(gain) / oracle).mean()), float(h.mean() - half)""",
        """h = np.asarray(gain) - part * np.asarray(oracle)
        return float(np.mean(gain) / np.mean(oracle)), float(h.mean() - 1.959964 * h.std(ddof=1) / np.sqrt(len(h)))""",
        """h = np.asarray(gain) - np.asarray(oracle) / 2
        half = stats.t.ppf(0.975, len(h) - 1) * h.std(ddof=1) / np.sqrt(len(h))
        return float(np.mean(gain) / np.mean(oracle)), float(h.mean() - half)""",
    ],
    "ex09-build": [
        "return dice.permutation(labels)",
        """shuffled = labels
        for rows in parts:
            shuffled[rows] = labels[dice.permutation(rows)]
        return shuffled""",
        """shuffled = np.array(labels)
        for rows in parts:
            shuffled[rows] = dice.choice(np.asarray(labels)[rows], len(rows))
        return shuffled""",
    ],
    "ex10-change": [
        "return np.asarray(p) <= level / len(p)",
        """order = np.argsort(p)
        accepted = np.zeros(len(p), dtype=bool)
        accepted[order] = np.cumprod(np.asarray(p)[order] <= level / np.arange(len(p), 0, -1))
        return accepted""",
        """order = np.argsort(p)
        accepted = np.zeros(len(p), dtype=bool)
        accepted[order] = np.cumprod(np.asarray(p)[order] <= level * np.arange(1, len(p) + 1) / len(p))
        return accepted""",
    ],
    "ex10-build": [
        "return max(validation) - np.mean(validation), max(test) - np.mean(test)",
        "kept = np.argmax(validation)\nreturn validation[kept], test[kept]",
        """kept = np.argmax(validation)
        return validation[kept] - sorted(validation)[-2], test[kept] - max(test)""",
    ],
    "ex11-change": [
        """return next((n for n in range(1, most + 1, 2)
                     if stats.binom.sf(n // 2 + 1, n, max(q, 1 - q)) >= sure), None)""",
        """return next((n for n in range(1, most + 1, 2) if stats.binom.sf(n // 2, n, q) >= sure), None)""",
        """return next((n for n in range(1, most + 1, 2) if stats.binom.sf(n // 2, n, max(q, 1 - q)) > sure), None)""",
    ],
    "ex11-build": [
        """votes, z = np.asarray(votes, float), np.asarray(logits, float)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        q = np.eye(votes.shape[1])[votes.argmax(axis=1)]
        return z - rate * (p - q) / len(z)""",
        """votes, z = np.asarray(votes, float), np.asarray(logits, float)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        q = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)
        return z + rate * (p - q) * (votes.sum(axis=1, keepdims=True) > 0) / (votes.sum(axis=1) > 0).sum()""",
        """votes, z = np.asarray(votes, float), np.asarray(logits, float)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        q = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)
        return z - rate * (p - q) * (votes.sum(axis=1, keepdims=True) > 0) / len(z)""",
    ],
    "ex12-change": [
        "return float(np.mean(relevant[:k]))",
        """precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
        return float((precision * relevant)[:k].sum() / len(relevant[:k]))""",
        """precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
        return float((precision * relevant)[:k].sum() / max(np.sum(relevant), 1))""",
    ],
    "ex12-build": [
        "return float(np.mean([tuple(row) not in {tuple(one) for one in shown} for row in answers]))",
        """pairs = list(combinations(range(len(answers[0])), 2))
        return float(np.mean([(row[j], row[k]) not in {(one[j], one[k]) for one in shown}
                              for row in answers for j, k in pairs]))""",
        """return float(np.mean([any((row[0], row[k]) not in {(one[0], one[k]) for one in shown}
                                  for k in range(1, len(row))) for row in answers]))""",
    ],
    "ex13-change": [
        """answers = ballots.groupby("annotator")["value"].nunique()
        return sorted(answers.index[answers == 1])""",
        """answers = ballots.groupby(["annotator", "task"])["value"].nunique().groupby("annotator").min()
        photographs = ballots.groupby("annotator")["image"].nunique()
        return sorted(name for name in answers.index if answers[name] == 1 and photographs[name] >= least)""",
        """answers = ballots.groupby(["annotator", "task"])["value"].nunique().groupby("annotator").max()
        return sorted(answers.index[answers == 1])""",
    ],
    "ex13-build": [
        "return runs.drop_duplicates()",
        'return runs.drop_duplicates(["method", "split", "seed"], keep="last")',
        'return runs.drop_duplicates("auc")',
    ],
}


def said(exercise: str, answers: dict[str, str]) -> list[str]:
    """What the visible checks print when these cells hold these answers and all others the solution."""
    (path,) = [path for path in course.sources() if path.stem.startswith(exercise[:4])]
    names, printed = {}, io.StringIO()
    for cell in nbformat.read(path, as_version=4).cells:
        role = cell.metadata.get("nbgrader", {})
        if cell.cell_type != "code" or role.get("grade"):
            continue
        source, answer = cell.source + "\n", answers.get(role.get("grade_id", ""))
        if answer:
            first, _, rest = answer.partition("\n")  # as written here: the first line has lost its indentation
            rest = textwrap.dedent(rest)
            body = f"{first}\n{textwrap.indent(rest, '    ') if first.endswith(':') else rest}".strip()
            source = course.region("SOLUTION").sub(lambda match, b=body: textwrap.indent(b, match[1]) + "\n", source)
        with contextlib.redirect_stdout(printed):
            exec(compile(source, cell.id, "exec"), names)
    return printed.getvalue().splitlines()


def test_the_solutions_pass_every_visible_check():
    for path in course.sources():
        lines = said(path.stem, {})
        assert lines and all(line.startswith("ok: ") for line in lines), "\n".join(lines)


def test_each_exercise_has_three_wrong_answers():
    ids = {cell.metadata["nbgrader"]["grade_id"] for path in course.sources()
           for cell in nbformat.read(path, as_version=4).cells
           if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution")}
    assert ids == set(WRONG) and all(len(answers) == 3 for answers in WRONG.values())


@pytest.mark.parametrize("exercise", WRONG)
def test_a_wrong_answer_fails_a_visible_check(exercise):
    hinted = 0
    for answer in WRONG[exercise]:
        failed = [line for line in said(exercise, {exercise: answer}) if line.startswith("not yet: ")]
        assert failed, answer
        hinted += any("; " in line for line in failed)
    assert hinted, "at least one of them is met with a hint"
