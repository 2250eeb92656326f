"""Put into CONTRIBUTING.md how much of each package the tests run through.

    python run.py test ARGS="--cov --cov-report=json:out/coverage.json"
    python .ci/coverage.py
"""

import json
import re
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def table(report: dict) -> str:
    """Markdown, a row a package, from coverage's JSON report."""
    lines, run = Counter(), Counter()
    for path, file in report["files"].items():
        package = re.split(r"[/\\]", path)[0]
        for name in (f"`{package}`", "all"):
            lines[name] += file["summary"]["num_statements"]
            run[name] += file["summary"]["covered_lines"]
    rows = [f"| {name} | {lines[name]:,} | {100 * run[name] / lines[name]:.1f} % |" for name in sorted(lines)]
    return "\n".join(["| package | statements | run by the tests |", "|---|---|---|", *rows])


def main() -> None:
    page = PROJECT / "CONTRIBUTING.md"
    shown = table(json.loads((PROJECT / "out" / "coverage.json").read_text(encoding="utf-8")))
    text = re.sub(r"(?s)(<!-- coverage -->\n).*?(<!-- end of coverage -->)", rf"\1{shown}\n\2",
                  page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8", newline="\n")
    print(shown)


if __name__ == "__main__":
    main()
