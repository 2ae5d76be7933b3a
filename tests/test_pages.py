"""The pages beside the lessons: a glossary that leads to lessons, and references for what is cited."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "notebooks"
LESSONS = sorted(FOLDER.glob("*.ipynb"))
GLOSSARY = (FOLDER / "GLOSSARY.md").read_text(encoding="utf-8")
REFERENCES = (FOLDER / "REFERENCES.md").read_text(encoding="utf-8")
# "- **term**: what it is. ([01](01_cameras.ipynb))", where the last part may be missing.
ENTRY = re.compile(r"- \*\*([^*]+)\*\*: .*?\.(?: \(\[(\d\d)\]\(([^)]+)\)\))?$")
ENTRIES = [line for line in GLOSSARY.splitlines() if line.startswith("- ")]
# "Li et al.", "Efros and Freeman (2001)", "Coughlan and Yuille, ICCV 1999".
CITED = re.compile(
    r"([A-Z][^\W\d_]+) (?:et al\.|and [A-Z][^\W\d_]+[,(\s]+(?:[A-Z]+ )?(?:19|20)\d\d)"
)


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def text(path: Path) -> str:
    """All that a person wrote in a lesson or a program."""
    if path.suffix == ".ipynb":
        return "\n".join("".join(cell["source"]) for cell in cells(path))
    return path.read_text(encoding="utf-8")


def plain(name: str) -> str:
    """Without accents: Nuñez is Nunez."""
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


@pytest.mark.parametrize("line", ENTRIES)
def test_a_term_leads_to_a_lesson_that_uses_it(line):
    entry = ENTRY.fullmatch(line)
    assert entry, line
    term, number, name = entry.groups()
    if name:
        assert name.startswith(number)
        assert (FOLDER / name).is_file()
        assert term.lower() in text(FOLDER / name).lower()


def test_the_glossary_is_in_order_and_names_no_term_twice():
    terms = [ENTRY.fullmatch(line)[1].lower() for line in ENTRIES]
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_last_cell_of_a_lesson_links_to_both_pages(path):
    last = "".join(cells(path)[-1]["source"])
    assert "](GLOSSARY.md)" in last
    assert "](REFERENCES.md)" in last


def test_whoever_is_cited_is_in_the_references():
    sources = [*LESSONS, *REPOSITORY.glob("vmemkit/**/*.py"), *REPOSITORY.glob("data/*.py")]
    cited = {name for path in sources for name in CITED.findall(" ".join(text(path).split()))}
    assert {"Li", "Karras", "Efros", "Nemhauser"} <= cited
    assert [name for name in sorted(cited) if plain(name) not in plain(REFERENCES)] == []


def test_copies_of_the_lessons_have_hints_for_widgets_and_keep_what_a_reader_wrote(tmp_path):
    def copy() -> None:
        script = str(FOLDER / "lessons.py")
        subprocess.run([sys.executable, script, str(tmp_path / "new")], check=True)

    copy()
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {path.name for path in (*LESSONS, *FOLDER.glob("*.md"))}
    explorer = tmp_path / "new" / "06_explorer.ipynb"
    assert "widget-view" in (FOLDER / explorer.name).read_text(encoding="utf-8")
    assert "widget-view" not in explorer.read_text(encoding="utf-8")
    outputs = [output for cell in cells(explorer) for output in cell.get("outputs", [])]
    data = [output.get("data", {}) for output in outputs]
    hints = ["".join(bundle.get("text/markdown", "")) for bundle in data]
    assert sum("run the cells" in hint for hint in hints) == 2  # the Explorer and the room's box
    assert sum("image/jpeg" in bundle for bundle in data) >= 3
    explorer.write_text("mine")
    copy()
    assert explorer.read_text() == "mine"
