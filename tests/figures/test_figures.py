"""Figures: what is measured, what is drawn of it, and the door that writes both."""

import json
import sys
from unittest import mock

import numpy as np
import pytest

from rcnn_jax import figures
from rcnn_jax.errors import UsageError
from rcnn_jax.figures import __main__ as door_of_figures
from rcnn_jax.figures import gradient_norms, hopfield_capacity
from rcnn_jax.models.hopfield import CAPACITY
from rcnn_jax.output import picture_style

pytestmark = pytest.mark.one_row

SIZES = {"steps": 60, "hidden": 16, "features": 4, "sequences": 1, "repeats": 3}


@pytest.fixture(scope="module")
def norms():
    return gradient_norms.measure(seed=0, **SIZES)


@pytest.fixture(scope="module")
def capacity():
    loads = (1 / 100, CAPACITY / 3, 3 * CAPACITY)
    return hopfield_capacity.measure(
        seed=0, units=(60, 100), loads=loads, networks=3, starts=8, sweeps=5
    )


def test_gradients_vanish_but_where_nothing_is_forgotten(norms):
    np.testing.assert_array_equal(norms["steps_back"], np.arange(60, 0, -1))
    networks = list(gradient_norms.networks(1))
    first = {name: norms[name][:, 0] for name in networks}
    assert all(values.shape == (3,) for values in first.values())
    assert (first["Elman"] < 1e-8).all()
    assert (first["GRU"] < 1e-6).all()
    ten_times = 10 * np.maximum(first["Elman"], first["GRU"]).max()
    assert (first["LSTM, forget bias 1"] > ten_times).all()
    assert (first["LSTM, forget bias 1"] < 1e-2).all()
    assert (first["LSTM, no forget gate"] > 1e-2).all()


def test_norms_are_those_of_a_unit_gradient_at_the_end(norms):
    """An orthogonal kernel and the slope of tanh make no gradient longer."""
    elman = norms["Elman"]
    assert (np.diff(elman, axis=1) > 0).all()
    assert (elman[:, -1] < 1).all()
    assert (elman[:, -1] > 0.1).all()
    assert len(set(elman[:, 0])) == 3
    for name in ("LSTM, forget bias 1", "LSTM, no forget gate"):
        parts = np.hypot(norms[f"{name}: hidden"], norms[f"{name}: memory"])
        np.testing.assert_allclose(norms[name], parts)


def test_the_seed_decides(norms):
    again, other = (gradient_norms.measure(seed=seed, **SIZES) for seed in (0, 1))
    np.testing.assert_array_equal(again["GRU"], norms["GRU"])
    assert (other["GRU"] != norms["GRU"]).all()


def test_patterns_are_recalled_below_the_capacity_and_lost_beyond(capacity):
    np.testing.assert_array_equal(capacity["patterns"], [[1, 3, 25], [1, 5, 41]])
    recalled, exactly, overlap = (capacity[k] for k in ("recalled", "exactly", "overlap"))
    assert recalled.shape == exactly.shape == overlap.shape == (2, 3, 3)
    # A network with a single memory stays there.
    np.testing.assert_array_equal([recalled[:, 0], exactly[:, 0], overlap[:, 0]], 1)
    assert recalled[:, 1].mean() > 0.9
    assert recalled[:, 2].mean() < 0.2
    assert overlap[:, 2].mean() < 0.8
    assert (exactly <= recalled).all()
    # Of the patterns recalled each overlaps by 0.95 and more, the others by less.
    assert (overlap <= recalled + (1 - recalled) * hopfield_capacity.RECALLED).all()
    assert (overlap >= recalled * hopfield_capacity.RECALLED - (1 - recalled)).all()
    shares = recalled[:, 1:] * np.minimum(capacity["patterns"][:, 1:, None], 8)
    np.testing.assert_allclose(shares, shares.round(), atol=1e-5)


def test_every_figure_is_drawn_with_names_and_units(norms, capacity):
    small = {"gradient_norms": norms, "hopfield_capacity": capacity}
    assert small.keys() == door_of_figures.known().keys()
    for name, measured in small.items():
        axes = mock.MagicMock()
        door_of_figures.find(name).draw(axes, measured)
        for said in (axes.set_xlabel, axes.set_ylabel, axes.set_title):
            assert len(said.call_args.args[0]) > 10
        axes.legend.assert_called_once()
        labels = [call.kwargs["label"] for call in axes.plot.mock_calls + axes.errorbar.mock_calls]
        wanted = {
            "gradient_norms": list(gradient_norms.networks(1)),
            "hopfield_capacity": ["N = 60 units", "N = 100 units"],
        }
        assert labels == wanted[name]
    assert len(picture_style.COLOURS) >= len(labels)


def test_pictures_of_matplotlib(norms, capacity):
    for module, measured in ((gradient_norms, norms), (hopfield_capacity, capacity)):
        content = picture_style.render(module.draw, measured)
        assert content.startswith(b"\x89PNG\r\n")
        assert len(content) > 10_000


FIGURE = '''"""A figure of mine."""
import numpy as np

def measure(*, seed=0, size=3):
    return {"line": np.arange(size) + seed, "hole": np.array([np.nan, 1.5])}

def draw(axes, measured):
    axes.plot(measured["line"])
'''


@pytest.fixture
def added(tmp_path, monkeypatch):
    """A file beside those of the package, and one that is no figure."""
    (tmp_path / "mine.py").write_text(FIGURE)
    (tmp_path / "helper.py").write_text("def draw(axes, measured): ...\n")
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    yield tmp_path
    for name in ("mine", "helper"):
        sys.modules.pop(f"{figures.__name__}.{name}", None)
        vars(figures).pop(name, None)


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_file_is_a_figure_without_being_registered(added, capsys, monkeypatch):
    assert list(door_of_figures.known()) == ["gradient_norms", "hopfield_capacity", "mine"]
    drawn = []
    monkeypatch.setattr(
        picture_style, "render", lambda draw, measured: drawn.append(measured) or b"png"
    )
    door_of_figures.make("mine", door_of_figures.find("mine"), added, 4)
    assert strict((added / "mine.json").read_text()) == {
        "figure": "mine",
        "seed": 4,
        "settings": {"size": 3},
        "measured": {"line": [4, 5, 6], "hole": [None, 1.5]},
    }
    assert (added / "mine.png").read_bytes() == b"png"
    np.testing.assert_array_equal(drawn[0]["line"], [4, 5, 6])
    assert capsys.readouterr().out.count("written to") == 2
    with pytest.raises(UsageError, match="no figure 'helper'"):
        door_of_figures.find("helper")
    with pytest.raises(UsageError, match=r"no figure 'gradient_norm', .*mean 'gradient_norms'"):
        door_of_figures.find("gradient_norm")
    with pytest.raises(UsageError, match="cannot be imported: no module 'nowhere'"):
        door_of_figures.find("nowhere.figure")
    with pytest.raises(UsageError, match=r"'json\.tool:measure': json\.tool has no measure"):
        door_of_figures.find("json.tool")


def test_the_door_without_matplotlib(door, tmp_path):
    """A figure of a fork, named by its import path; the numbers are written nevertheless."""
    (tmp_path / "fork").mkdir()
    blocked = "import sys\nsys.modules['matplotlib'] = None\n"
    (tmp_path / "fork" / "mine.py").write_text(FIGURE + blocked)
    result = door("figures", "fork.mine", "--output", "a/b", "fork.mine", "--seed=7")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["fork.mine.json"]
    found = strict((tmp_path / "a" / "b" / "fork.mine.json").read_text())
    assert (found["seed"], found["measured"]["line"]) == (7, [7, 8, 9])
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: a/b/fork.mine.png was not drawn (")
    assert line.endswith("pip install 'rcnn-jax[figures]'")
    assert result.stdout == "written to a/b/fork.mine.json\n"


def test_the_door_lists_figures_and_names_mistakes(door, tmp_path):
    result = door("figures")
    assert result.returncode == 0, result.stderr
    assert "hopfield_capacity  How many random patterns a Hopfield" in result.stdout
    result = door("figures", "hopfield", "gradient_norms", "--output=there")
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: there is no figure 'hopfield', ")
    assert not (tmp_path / "there").exists()
    (tmp_path / "file").write_text("")
    result = door("figures", "gradient_norms", "--output=file")
    assert result.returncode == 2
    assert result.stderr == "error: --output=file cannot be a folder (File exists).\n"
