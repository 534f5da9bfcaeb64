"""An error inside a fork's code is said with its file and line."""

import importlib
import json
import sys

import pytest

from rcnn_jax.configuration import importing
from rcnn_jax.errors import UsageError, describe, fork_location


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
