"""What must hold of the tests themselves, so that one pytest collects all of them."""

import collections
import pathlib

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
