"""An error inside a fork's code is said with its file and line."""

import importlib
import json
import pathlib
import sys

import pytest

from rcnn_jax.configuration import importing
from rcnn_jax.errors import UsageError, about_file, describe, fork_location, shortened


@pytest.fixture
def fork(tmp_path, monkeypatch):
    """Writes modules of a fork into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str, folder: str = ""):
        file = tmp_path / folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        sys.modules.pop(name, None)
        return file

    return write


@pytest.mark.one_row
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n\ny = 1 / 0\n", r"ZeroDivisionError: division by zero \(broken_fork.py:3\)"),
        ("import json\njson.loads('{')\n", r"JSONDecodeError: .* \(broken_fork.py:2\)"),
        ("x = 1\nif x\n", r"SyntaxError: .* \(broken_fork.py:2\)"),
        ("import rcnn_jax.no_such_room\n", r"ModuleNotFoundError: .* \(broken_fork.py:1\)"),
    ],
)
def test_an_error_in_a_module_names_file_and_line(fork, text, says):
    fork("broken_fork", text)
    with pytest.raises(UsageError, match=says):
        importing.resolve("broken_fork:Mine", "config.model.name")


@pytest.mark.one_row
def test_where_an_error_was_raised(fork, tmp_path):
    def caught(path: str = "") -> str:
        try:
            importlib.import_module("installed_fork")
        except ValueError as error:
            return fork_location(error, path)
        return "nothing"

    sys.path.append(str(tmp_path / "site-packages"))
    try:
        fork("installed_fork", "raise ValueError('no')\n", "site-packages")
        # This test's file is no library: it stands where nothing nearer is of a fork.
        assert caught().startswith(f"{__file__}:")
        assert caught("installed_fork.parts:Mine") == "site-packages/installed_fork.py:1"
    finally:
        sys.path.pop()
    with pytest.raises(json.JSONDecodeError) as found:
        json.loads("{")
    error = found.value
    assert fork_location(error).startswith(f"{__file__}:")
    error.__traceback__ = error.__traceback__.tb_next
    assert fork_location(error) == ""
    assert describe(error) == f"JSONDecodeError: {error}"
    raised = RuntimeError("two\nlines.")
    raised.__cause__ = found.value.with_traceback(found.tb)
    assert describe(raised).startswith(f"RuntimeError: two lines ({__file__}:")


@pytest.mark.one_row
@pytest.mark.parametrize(
    ("file", "error", "says"),
    [
        ("i", IsADirectoryError(21, "Is a directory"), "i: Is a directory"),
        ("i", ValueError("its pixels are missing"), "i: its pixels are missing"),
        ("a", ValueError("a wav file was expected"), "a: a wav file was expected"),
        ("16", ValueError("it has 16 bits"), "16: it has 16 bits"),
        ("a", ValueError("a: no picture"), "a: no picture"),
        ("a.png", ValueError("a.png is empty."), "a.png is empty"),
        ("a.png", ValueError("'a.png' is empty"), "'a.png' is empty"),
        ("a.png", ValueError("x/a.png is\nempty"), "a.png: x/a.png is empty"),
        ("a.png", ValueError("a.png.txt is empty"), "a.png: a.png.txt is empty"),
        ("a.png", OSError("image file is truncated"), "a.png: image file is truncated"),
        ("p q/a.png", ValueError("p q/a.png:3: x"), "p q/a.png:3: x"),
        (
            "/d/a.png",
            PermissionError(13, "Permission denied", "/d/a.png"),
            "/d/a.png: Permission d",
        ),
    ],
)
def test_a_file_is_named_once_and_as_a_whole(file, error, says):
    assert about_file(pathlib.Path(file), error).startswith(says)


@pytest.mark.one_row
def test_long_lists_of_names_are_short():
    names = [f"params/layer{number}" for number in range(1000)]
    assert shortened(names, 2) == "params/layer0, params/layer1 and 998 more"
    assert shortened(names[:3], 2) == "params/layer0, params/layer1, params/layer2"
    assert shortened([]) == ""
