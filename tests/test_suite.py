"""What must hold of the tests themselves, so that one pytest collects all of them."""

import collections
import pathlib
import re

import rcnn_jax

HERE = pathlib.Path(__file__).parent


def test_no_two_modules_outside_packages_have_one_name():
    """Pytest imports them by bare name: of two, it would take one for the other."""
    places = collections.defaultdict(list)
    for file in HERE.rglob("*.py"):
        copied = file.parent.parent == HERE / "examples"  # Imported only by what runs a copy.
        if not copied and file.name != "conftest.py" and not (file.parent / "__init__.py").exists():
            places[file.name].append(str(file.relative_to(HERE)))
    assert len(places) > 30
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_no_module_imports_a_conftest():
    """There are several, and which one a name means depends on what was collected before."""
    texts = {file: file.read_text().splitlines() for file in HERE.rglob("*.py")}
    starts = ("from conftest ", "import conftest")
    assert not [file for file, text in texts.items() for line in text if line.startswith(starts)]


def test_every_folder_of_more_than_three_files_says_what_it_is_for():
    package = pathlib.Path(rcnn_jax.__file__).parent
    folders = [file.parent for file in package.rglob("__init__.py") if file.parent != package]
    full = [folder for folder in folders if len(list(folder.glob("*.py"))) > 3]
    assert len(full) > 20
    for folder in full:
        title, empty, rule, *_ = (folder / "README.md").read_text().split("\n")
        assert title == f"# {folder.name}"
        assert not empty
        assert len(rule) > 30, folder
    stray = [file.name for file in package.glob("*.py") if not file.name.startswith("__")]
    doors = {"train", "check", "evaluate", "predict", "iterations", "neighbours", "sweep"}
    assert {pathlib.Path(name).stem for name in stray} == doors | {"errors"}


def test_every_file_and_module_that_a_text_names_is_there():
    root = HERE.parent
    texts = [root / "README.md"]
    for folder in ("rcnn_jax", "configs", "launch"):
        texts += [file for ending in ("md", "py") for file in (root / folder).rglob(f"*.{ending}")]
    files = {f"/{file.relative_to(root).as_posix()}" for file in root.rglob("*.py")}
    missing = set()
    for text in texts:
        if text.name == "moved.py":
            continue  # What it names had another address.
        content = text.read_text()
        for name in re.findall(r"`([\w/]+\.py)`", content):
            if not any(file.endswith(f"/{name}") for file in files):
                missing.add((text.name, name))
        for name in re.findall(r"\brcnn_jax(?:\.[a-z]\w*)+", content):
            if not is_there(name.split(".")):
                missing.add((text.name, name))
    assert not missing


def is_there(parts):
    """Whether the longest importable beginning of a dotted name has the rest of it."""
    folder = pathlib.Path(rcnn_jax.__file__).parent
    for part in parts[1:]:
        if (folder / part).is_dir():
            folder /= part
        elif (folder / f"{part}.py").is_file():
            return True  # A name inside of it.
        else:
            return part in (folder / "__init__.py").read_text()
    return True
