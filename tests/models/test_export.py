"""Models can be exported for any number of rows, with their gradients."""

import pathlib

import pytest


@pytest.mark.one_row
def test_one_program_for_any_number_of_rows_has_values_and_gradients(door):
    script = pathlib.Path(__file__).with_name("exported_programs.py")
    result = door(script)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("the same:") == 9
