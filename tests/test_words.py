"""The language of docstrings and READMEs: full sentences in the field's words."""

import ast
import pathlib
import re

import pytest

import rcnn_jax

pytestmark = pytest.mark.one_row

PACKAGE = pathlib.Path(rcnn_jax.__file__).parent
ROOT = pathlib.Path(__file__).parents[1]
# Turns of phrase that say nothing to a reader from the field, and what to write instead.
BANNED = {
    r"so manieth": "every n-th",
    r"is none of": "name what is allowed",
    r"that are none\b": "name what is allowed",
    r"\blikewise\b": "say it again",
    r"what stands for": "represents",
    r"stands for none": "is invalid",
    r"\bof the same kind as above\b": "say it again",
    r"\btold apart\b": "distinguished",
    r"see above": "say it again",
    r"whatever stands": "regardless of the values",
}
SECTIONS = {"Args", "Attributes", "Returns", "Yields", "Raises", "References", "Reference"}


def documented(tree, prefix=""):
    """Pairs (name, docstring) of a module's public classes, functions and methods."""
    if isinstance(tree, ast.Module) and ast.get_docstring(tree):
        yield "module", ast.get_docstring(tree)
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text and not node.name.startswith("_"):
            yield prefix + node.name, text
        if isinstance(node, ast.ClassDef):
            yield from documented(node, f"{prefix}{node.name}.")


def entries(text):
    """The entries of Args and Attributes: pairs (name, what is said of it)."""
    section, entry = "", None
    for line in text.split("\n"):
        title = re.fullmatch(r"(\w+):", line)
        if title:
            section, entry = title[1], None
            continue
        if section not in ("Args", "Attributes"):
            continue
        begin = re.fullmatch(r"    (\*{0,2}\w+): ?(.*)", line)
        if begin:
            if entry:
                yield entry
            entry = (begin[1], begin[2])
        elif entry and line.strip():
            entry = (entry[0], f"{entry[1]} {line.strip()}")
        elif not line.strip() and entry:
            yield entry
            entry = None
    if entry:
        yield entry


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("room", sorted({file.relative_to(PACKAGE).parts[0] for file in FILES}))
def test_docstrings_are_sentences(room):
    wrong = []
    for file in FILES:
        if file.relative_to(PACKAGE).parts[0] != room:
            continue
        for name, text in documented(ast.parse(file.read_text())):
            place = f"{file.relative_to(PACKAGE)}:{name}"
            for pattern, better in BANNED.items():
                if re.search(pattern, text, re.IGNORECASE):
                    wrong.append(f"{place}: {pattern!r}, better {better!r}")
            for argument, said in entries(text):
                if said[:1].islower():
                    wrong.append(f"{place}: the entry of {argument} begins in lower case: {said}")
                elif not re.search(r"[.:`)]$|\.\"$", said):
                    wrong.append(f"{place}: the entry of {argument} is no sentence: {said}")
                elif re.fullmatch(r"(See|Of|As in|The same|From) [^.;,:]{0,40}\.", said):
                    wrong.append(f"{place}: the entry of {argument} says nothing: {said}")
    assert not wrong, "\n".join(wrong)


def test_readmes_use_the_words_of_the_field():
    texts = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for folder in ("rcnn_jax", "configs", "launch", "tests"):
        texts += (ROOT / folder).rglob("README.md")
    wrong = [
        f"{file.relative_to(ROOT)}: {pattern!r}, better {better!r}"
        for file in texts
        for pattern, better in BANNED.items()
        if re.search(pattern, file.read_text(), re.IGNORECASE)
    ]
    assert len(texts) > 25
    assert not wrong, "\n".join(wrong)


def test_the_rules_see_what_they_are_for():
    text = "Does.\n\nArgs:\n    x: of it.\n    y: See `z`.\n    z: No sentence\n"
    assert [name for name, _ in entries(text)] == ["x", "y", "z"]
    assert re.search(next(iter(BANNED)), "every so manieth frame")
