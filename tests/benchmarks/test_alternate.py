"""The harness of the measurements, without measuring: arithmetic, rows, results, dead workers."""

import ast
import json
import math
import pathlib
import re
import subprocess
import sys

import alternate
import machine
import numpy as np
import pytest
import row as row_lib
from row import Row, Side, Target

import figures
import report
from rcnn_jax.errors import UsageError, UserError

HERE = pathlib.Path(__file__).parent
ROWS = row_lib.discover()


def test_ratio_is_of_rounds_and_not_of_medians():
    # The machine gets slower and slower; what ran within a round stays comparable.
    found = figures.ratio([1, 2, 4, 8, 16], [2, 4, 8, 16, 64])
    assert found == {"ratio": 0.5, "first_quartile": 0.5, "third_quartile": 0.5}
    assert figures.quartiles([4, 1, 3, 2, 5]) == (2, 3, 4)
    assert figures.quartiles([7.0]) == (7, 7, 7)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.8, "aim"), (0.81, "must"), (1.0, "must"), (1.01, "missed")]
)
def test_target_is_held_against_the_fastest_side(value, expected):
    target = Target(("slow", "fast", "gone"), must=1.0, aim=0.8)
    ratios = [
        {"ours": "ours", "other": "slow", "ratio": 0.1},
        {"ours": "ours", "other": "fast", "ratio": value},
    ]
    found = figures.judge([target], ratios, {"ours": 1.0, "slow": 10.0, "fast": 1 / value})
    bounds = {"must": 1.0, "aim": 0.8}
    assert found == [{"ours": "ours", "other": "fast", "reached": expected, **bounds}]


def test_target_without_its_sides_is_not_reached():
    (found,) = figures.judge([Target(("gone",), 1.0, 0.8)], [], {"ours": 1.0})
    assert found["reached"] is None


def test_disturbance():
    # Two cores busy for ten seconds, 17 s of that our own.
    assert figures.disturbance(busy=20, own=17, seconds=10) == pytest.approx(0.3)
    assert figures.disturbance(busy=20, own=20.01, seconds=10) == 0


def test_rounds_that_disagree_are_unsteady():
    assert figures.unsteady(1.0, first_quartile=0.9, third_quartile=1.11)
    assert not figures.unsteady(1.0, first_quartile=0.9, third_quartile=1.09)
    # Relative to the median, and not to 1.
    assert figures.unsteady(0.25, first_quartile=0.22, third_quartile=0.28)


def test_distance_of_answers():
    one = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    other = {"a": np.array([3.0, 0.03]), "b": np.array([[4.04]])}
    assert figures.relative_distance(one, one) == 0
    assert figures.relative_distance(one, other) == pytest.approx(0.05 / 5)
    assert figures.relative_distance(one, {**one, "b": np.array([[np.nan]])}) == math.inf
    with pytest.raises(ValueError, match="cannot be the same"):
        figures.relative_distance(one, {**one, "b": np.array([4.0])})


def test_fit_of_a_line_and_of_a_power():
    line = figures.fit([0, 1, 2, 3], [2.0, 5.0, 8.0, 11.0])
    assert line["slope"] == pytest.approx(3)
    assert line["intercept"] == pytest.approx(2)
    assert line["deviation"] == pytest.approx(0, abs=1e-9)
    assert line["exponent"] == pytest.approx(1)
    power = figures.fit([1, 2, 4], [3.0, 12.0, 48.0])
    assert power["exponent"] == pytest.approx(2)
    assert power["deviation"] > 0.1


def test_rows_are_found_without_what_they_measure(tmp_path):
    code = "import sys, row; row.discover(); print(*{'jax', 'torch', 'flax'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
    (tmp_path / "mine.py").write_text("from row import Row\nROWS = [Row('mine', 'about', ())]\n")
    assert list(row_lib.discover(tmp_path)) == ["mine"]
    (tmp_path / "other.py").write_text((tmp_path / "mine.py").read_text())
    with pytest.raises(ValueError, match="two rows called 'mine'"):
        row_lib.discover(tmp_path)


@pytest.mark.parametrize("name", ROWS)
def test_functions_of_a_row_exist_and_take_its_arguments(name):
    row = ROWS[name]
    for side in row.sides:
        module, _, function = side.set_up.partition(":")
        tree = ast.parse((HERE / f"{module}.py").read_text())
        found = {n.name: n.args for n in tree.body if isinstance(n, ast.FunctionDef)}
        takes = {argument.arg for argument in found[function].kwonlyargs}
        required = {
            argument.arg
            for argument, default in zip(
                found[function].kwonlyargs, found[function].kw_defaults, strict=True
            )
            if default is None
        }
        tiny = row.quick if side.quick is None else side.quick
        given = {*side.arguments, *row.points[0]}
        assert required <= given
        if not found[function].kwarg:
            assert given | set(tiny) <= takes


def test_selection_of_rows():
    rows = {name: Row(name, "", (), usual=name != "c") for name in ("aa", "abcd", "c")}
    assert [row.name for row in row_lib.select([], rows)] == ["aa", "abcd"]
    assert [row.name for row in row_lib.select(["c", "a*", "aa"], rows)] == ["aa", "abcd", "c"]
    with pytest.raises(UsageError, match="there is no row 'abd': did you mean 'abcd'"):
        row_lib.select(["abd"], rows)


def test_unknown_row_ends_the_command_in_one_sentence():
    done = subprocess.run(
        [sys.executable, HERE / "run.py", "rcnn_train_lrn_128"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "did you mean 'rcnn_train_lrn_128_32'?" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A row of sides of every fate; and the order in which two of them worked."""
    log = tmp_path_factory.mktemp("row") / "log"

    def side(name, **arguments):
        given = {"name": name, "log": str(log), **arguments}
        return Side(name, "made_up_side:square", given, ours=name == "o")

    sides = (
        side("o"),
        side("t"),
        side("d", off=0.1),
        Side("absent", "made_up_side:absent"),
        Side("missing", "made_up_side:absent", imports=("no_such_library",)),
        Side("wrong", "made_up_side:wrong"),
        Side("killed", "made_up_side:killed", {"after": 6}),
    )
    row = Row("made_up", "about", sides, targets=(Target(("t",), 1e9, 1e-9),))
    said = []
    found = alternate.measure(row, rounds=4, window=0.0, limit=30.0, say=said.append)
    return found, log.read_text()


def test_sides_take_turns_in_alternating_order(measured):
    found, log = measured
    # Before that, each side is called until it is warm: once and four times.
    # In a turn it is called once more than it is timed.
    assert log == "ooooo" + "ttttt" + "ddddd" + "oottttoo" * 2
    (point,) = found["points"]
    (ratio,) = point["ratios"]
    rounds = [point["sides"][name]["rounds"] for name in ("o", "t")]
    assert len(rounds[0]) == 4
    assert (ratio["ours"], ratio["other"]) == ("o", "t")
    assert ratio["ratio"] == np.median(np.divide(*rounds))
    assert point["targets"][0]["reached"] == "must"
    off = 0.1 * math.sqrt(3) / math.sqrt(1 + 16 + 81)
    assert point["same_function"] == {"t": {"squares": 0}, "d": {"squares": pytest.approx(off)}}
    assert point["sides"]["o"]["per_s"] == pytest.approx(6 / np.median(rounds[0]))


def test_what_cannot_be_measured_says_why_and_loses_nothing_else(measured):
    sides = measured[0]["points"][0]["sides"]
    states = {name: side["state"] for name, side in sides.items()}
    assert states == {
        "o": "measured", "t": "measured", "d": "differs", "absent": "absent", "missing": "absent",
        "wrong": "failed", "killed": "failed",
    }  # fmt: skip
    assert "its squares is another" in sides["d"]["message"]
    assert sides["absent"]["message"] == "this machine has no such thing"
    assert sides["missing"]["message"].startswith("no_such_library is not installed: pip")
    assert sides["wrong"]["message"] == "RuntimeError: the reason in two lines"
    assert "ended by SIGKILL" in sides["killed"]["message"]


def test_compilation_is_the_first_call_of_a_new_process(tmp_path):
    log, caches = tmp_path / "log", tmp_path / "caches"
    sides = (
        Side("o", "made_up_side:square", {"name": "o", "log": str(log)}, ours=True),
        Side("t", "made_up_side:cached", {"log": str(caches)}),
    )
    found = alternate.measure(Row("made_up", "", sides, compares="compile"), rounds=2)
    assert log.read_text() == "o" * 10
    # Nothing was compiled before.
    assert len(set(caches.read_text().split())) == 2
    assert len(found["points"][0]["sides"]["t"]["rounds"]) == 2


@pytest.mark.parametrize(("others", "disturbed"), [(0.06, True), (0.04, False), (None, False)])
def test_disturbed_rows_are_marked_in_file_and_table(tmp_path, monkeypatch, others, disturbed):
    monkeypatch.setattr(machine.Load, "others", others)
    side = Side("o", "made_up_side:square", {"name": "o", "log": str(tmp_path / "log")}, ours=True)
    points = tuple({"order": order} for order in (1, 2, 4))
    row = Row("made_up", "", (side,), points=points, compares="rate")
    found = alternate.measure(row, rounds=1, window=0.0, allowed_load=0.05)
    assert [point["disturbed"] for point in found["points"]] == [disturbed] * 3
    assert [point["others_cores"] for point in found["points"]] == [others] * 3
    rows = {"made_up": found}
    for text in (report.terminal(rows), report.markdown(rows)):
        assert ("by 0.06 cores" in text) == disturbed
        assert "made_up, order = 4" in text
        assert "made_up, o: seconds grows as the power" in text
    assert {fit["of"] for fit in found["fits"]} >= {"seconds"}


@pytest.mark.parametrize(("third_quartile", "unsteady"), [(1.25, True), (1.05, False)])
def test_unsteady_ratios_are_marked_in_the_table(measured, third_quartile, unsteady):
    row = json.loads(json.dumps(measured[0]))
    (point,) = row["points"]
    point["ratios"][0] |= {"ratio": 1.0, "first_quartile": 0.99, "third_quartile": third_quartile}
    point |= {"disturbed": True, "others_cores": 0.5}
    for text in (report.terminal({"made_up": row}), report.markdown({"made_up": row})):
        assert ("by 0.50 cores, unsteady" in text) == unsteady
        # Of the line of this ratio alone, not of ours, which has none.
        assert text.count("unsteady") == unsteady


def test_results_of_other_rows_stay(tmp_path, measured):
    path = tmp_path / "results" / "cpu.json"
    report.merge(path, "b", {**measured[0], "note": 1})
    report.merge(path, "a", measured[0])
    report.merge(path, "b", {**measured[0], "note": math.nan})
    rows = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))["rows"]
    assert list(rows) == ["a", "b"]
    assert rows["a"]["points"] == json.loads(json.dumps(measured[0]["points"]))
    assert rows["b"]["note"] is None
    assert report.load(path) == rows
    text = report.markdown(rows)
    assert "| a | o |" in text
    assert "killed: failed: its process was ended by SIGKILL" in text
    assert text.count("cores of") == 1
    path.write_text("[]")
    with pytest.raises(UserError, match="holds no results"):
        report.load(path)


def test_step_that_is_measured_is_that_of_the_config():
    import jax_rcnn

    from rcnn_jax.configuration import loading
    from rcnn_jax.experiment import task

    changes = [*jax_rcnn.PLAIN.items(), ("batch_size", "16"), ("precision", "bfloat16")]
    config = loading.load("rcnn_cifar10", changes)
    assert jax_rcnn.task("bfloat16") == task.build_task(config, {})
    own = jax_rcnn.config(16)
    for key in ("optimizer", "schedule", "sampler"):
        assert vars(getattr(own, key)) == config[key].to_dict()
    for key in ("batch_size", "best_mode", "ema_decay", "seed"):
        assert getattr(own, key) == config[key]


def test_a_row_on_a_gpu_shares_the_card_and_takes_no_flags_of_a_cpu(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_something")
    monkeypatch.setenv("RCNN_JAX_WINOGRAD", "0")
    env = machine.environment("gpu")
    assert (env["JAX_PLATFORMS"], env["XLA_PYTHON_CLIENT_PREALLOCATE"]) == ("cuda", "false")
    assert not {"XLA_FLAGS", "RCNN_JAX_WINOGRAD"} & env.keys()
    assert machine.environment()["JAX_PLATFORMS"] == "cpu"
    for platforms, device in (("cuda", "cuda"), ("cpu", "cpu"), ("", "cpu")):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        assert machine.device() == device


@pytest.mark.parametrize(("tolerance", "state"), [(0.02, "measured"), (0.01, "differs")])
def test_a_row_may_state_its_own_tolerance(tmp_path, tolerance, state):
    # The two answers are apart by a relative 0.0175.
    given = {"name": "o", "log": str(tmp_path / "log")}
    sides = (
        Side("o", "made_up_side:square", given, ours=True),
        Side("t", "made_up_side:square", {**given, "off": 0.1}),
    )
    row = Row("made_up", "", sides, tolerance=tolerance)
    found = alternate.measure(row, rounds=1, window=0.0, limit=30.0)
    assert found["points"][0]["sides"]["t"]["state"] == state


def test_an_answer_of_another_shape_is_another_answer(tmp_path):
    given = {"log": str(tmp_path / "log")}
    sides = (
        Side("o", "made_up_side:square", {**given, "name": "o"}, ours=True),
        Side("longer", "made_up_side:square", {**given, "name": "longer", "order": 4}),
        Side("t", "made_up_side:square", {**given, "name": "t"}),
    )
    found = alternate.measure(Row("made_up", "", sides), rounds=1, window=0.0, limit=30.0)
    states = {name: side["state"] for name, side in found["points"][0]["sides"].items()}
    assert states == {"o": "measured", "longer": "differs", "t": "measured"}
    message = found["points"][0]["sides"]["longer"]["message"]
    assert re.search(r"its squares: answers of shapes .*\(3,\).* and .*\(4,\)", message)


def test_the_filter_is_compared_with_direct_convolutions():
    sides = [row.sides for name, row in ROWS.items() if name.startswith("rcnn_winograd")]
    assert len(sides) == 2
    assert all([side.ours for side in pair] == [True, False] for pair in sides)


def test_rows_that_are_there_and_rows_for_which_no_time_is_left(tmp_path, measured):
    failed = {"quick": False, "points": [{"sides": {"o": {"state": "failed"}}}]}
    rows = {"a": measured[0], "b": failed}
    assert report.has(rows, "a", quick=False)
    assert not report.has(rows, "a", quick=True)
    assert not report.has(rows, "b", quick=False)
    assert not report.has(rows, "c", quick=False)
    path = tmp_path / "rows.json"
    report.merge(path, "gemm", measured[0])
    done = subprocess.run(
        [sys.executable, HERE / "run.py", "gemm", "cost_T", "--missing", "--minutes=0",
         f"--output={path}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == "no time is left for cost_T"
