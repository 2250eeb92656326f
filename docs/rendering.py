"""Executed lessons as Markdown with pictures, which GitHub shows: ``notebooks/rendered``, by ``docs/book.py --render``.

Each page names the hash of the notebook that it was made from, so that a test finds a stale one. The answers that the
lessons reveal are kept in ``answers.json``, and the teacher's page repeats them.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from base64 import b64decode
from pathlib import Path

import nbformat
from PIL import Image
from PIL.PngImagePlugin import PngInfo

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = PROJECT / "notebooks" / "rendered"
TEACHING = PROJECT / "docs" / "teaching.md"
WIDTH, COLOURS, LONGEST = 860, 96, 3_000
SITE = 736
"""Pixels: how wide the site's text is on a laptop; wider pictures are shown smaller, and so is their type."""
WIDGET = "application/vnd.jupyter.widget-view+json"


def source_hash(notebook: Path) -> str:
    """The hash of what a lesson says and does: its cells' kinds and sources."""
    cells = nbformat.read(notebook, as_version=4).cells
    return hashlib.sha256("\0".join(f"{cell.cell_type}\0{cell.source}" for cell in cells).encode()).hexdigest()


def render(executed: Path, origin: Path, folder: Path = FOLDER) -> dict[str, str]:
    """Write the page of one lesson.

    Args:
        executed: the executed copy.
        origin: the notebook that it was made from.
        folder: of all pages; the pictures are put into a folder with the lesson's name.

    Returns:
        the revealed answer to each question.
    """
    pictures, answers, parts = folder / origin.stem, {}, [f"<!-- made from {source_hash(origin)} -->"]
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    for cell in nbformat.read(executed, as_version=4).cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            continue
        if cell.cell_type == "markdown":
            parts.append(re.sub(r"\]\((?:\.\./)", "](../../", cell.source))
            continue
        code = f"```python\n{cell.source}\n```"
        parts.append(f"<details><summary>Set-up</summary>\n\n{code}\n\n</details>" if "hide-input" in tags else code)
        shown = [_output(output, pictures, answers) for output in cell.outputs]
        text = "\n\n".join(part for part in shown if part)
        text = text.replace("\n```\n\n```text\n", "\n")  # printed in several goes
        if "hide-output" in tags and text:
            text = f"<details><summary>Show the result</summary>\n\n{text}\n\n</details>"
        parts.append(text)
    page = "\n\n".join(part for part in parts if part) + "\n"
    for place in (PROJECT, executed.resolve().parent):  # no folder of this machine
        page = page.replace(f"{place}/", "")
    (folder / f"{origin.stem}.md").write_text(page, encoding="utf-8", newline="\n")
    return answers


def _output(output, pictures: Path, answers: dict[str, str]) -> str:
    """One output as Markdown; a picture is written to its own file, a revealed answer is remembered."""
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()[:LONGEST]}\n```"
    data, noted = output.get("data", {}), output.get("metadata", {}).get("aesthemo", {})
    if "answer" in noted:
        answers[noted["question"]] = noted["answer"]
    if "image/png" in data:
        name = f"{len(list(pictures.iterdir())):02}.png"
        _shrink(b64decode(data["image/png"]), pictures / name)
        alt = output.metadata.get("image/png", {}).get("alt", "").replace("]", ")").replace("[", "(")
        return f"![{alt}]({pictures.name}/{name})"
    if "text/markdown" in data:
        return data["text/markdown"]
    if "text/html" in data and ("<table" in data["text/html"] or "aesthemo" in output.get("metadata", {})):
        return _plain_html(data["text/html"])
    if WIDGET in data or "text/plain" not in data:
        return "*Here the notebook has something to move or click; it needs a kernel.*"
    return f"```text\n{data['text/plain'][:LONGEST]}\n```"


def type_size(picture: Image.Image) -> float:
    """The smallest type of a picture that ``plots.png`` drew, in points, as the site shows it; 0 if unknown."""
    pixels = float(picture.info.get("Type", 0)) * picture.info.get("dpi", (72, 72))[0] / 72
    return 0.75 * pixels * min(1, SITE / picture.width)


def _shrink(png: bytes, path: Path) -> None:
    """Save a picture at most ``WIDTH`` pixels wide and with few colours: a small file, which notes its type size."""
    picture, notes = Image.open(io.BytesIO(png)), PngInfo()
    notes.add_text("Type", f"{type_size(picture):.1f}")
    image = picture.convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True, pnginfo=notes)


def _plain_html(text: str) -> str:
    text = re.sub(r"<style.*?</style>|</?div[^>]*>", "", text, flags=re.DOTALL)
    text = re.sub(r'<(table|thead|tbody|tr|th|td)[^>]*?((?: (?:row|col)span="\d+")*)>', r"<\1\2>", text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def note_answers(answers: dict[str, dict[str, str]], folder: Path = FOLDER, teaching: Path = TEACHING) -> None:
    """Keep the answers of some lessons in ``answers.json``, and put them into the teacher's page."""
    file = folder / "answers.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    known |= answers
    file.write_text(json.dumps(known, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    text = teaching.read_text(encoding="utf-8")
    for lesson, shown in answers.items():
        start = text.find(f"### {lesson}\n")
        if start < 0:
            continue
        end = (text + "\n### ").find("\n### ", start + 4)
        part = text[start:end]
        for question, answer in shown.items():
            part = re.sub(rf"(- \*{re.escape(question)}\*\n  - \*\*Expected\.\*\* )\*[^*]*\*",
                          lambda match, a=answer: f"{match[1]}*{a}*", part)
        text = text[:start] + part + text[end:]
    teaching.write_text(text, encoding="utf-8", newline="\n")


def write_index(titles: dict[str, str], folder: Path = FOLDER) -> None:
    """The list of the rendered lessons."""
    lines = ["# The lessons, executed", "", "Each page is a lesson with its results, made with preset `teach`, the "
             "bundled network and the repository's runs by `python docs/book.py --render`. To work with a lesson, open "
             "its notebook.", ""]
    lines += [f"- [{title}]({name}.md)" for name, title in titles.items()]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
