"""Each example is a folder that can be copied: it becomes the working directory of a test."""

import pathlib
import shutil

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def example(request, tmp_path):
    """The folder named as the test module, copied: `test_clips.py` works in a copy of `clips/`."""
    folder = HERE / request.module.__name__.rpartition("test_")[2]
    for file in folder.glob("*.py"):
        shutil.copy(file, tmp_path)
    return tmp_path
