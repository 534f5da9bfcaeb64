"""Pages: what files say is on them, told apart from markup, and curves are where they were."""

import base64
import html.parser
import json
import math
import random
import re
import sys
import xml.etree.ElementTree as ElementTree
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from rcnn_jax.data.sources import ArraySource
from rcnn_jax.data.spec import Feature
from rcnn_jax.output.picture_style import COLOURS
from rcnn_jax.report import chart, gallery, matrix, page, sweep_page
from rcnn_jax.report.markup import element, escaped, table

EVIL = "</td><script>alert('x')</script>&amp; \"\x00\ud800\u202e"
SAFE = "</td><script>alert('x')</script>&amp; \"\ufffd\ufffd\u202e"
CONFIG = {
    "task": {"name": "rcnn_jax.tasks.captioning:Captioning"},
    "model": {"name": "my_fork:Net", "classes": 3},
    "data": {"name": "captioned:pictures", "train": "train"},
    "batch_size": 12, "epochs": 2.0, "steps": 0, "seed": 7, "best_metric": "cider_d",
    "best_mode": "max", "schedule": {"name": "cosine", "value": 0.01}, "extra": {"note": EVIL},
}  # fmt: skip
# (step, loss, error): an evaluation after every second line, whose loss is half of the mean before.
LINES = [(10, 900.0, 0.5), (20, None, 0.25), (30, 7.0, 0.75), (40, 0.5, 0.125), (50, None, 1.0)]


def write(folder, **files):
    """JSON files; a text is written as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        name = name if name.endswith("jsonl") else f"{name}.json"
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("_jsonl", ".jsonl")).write_text(text, encoding="utf-8")
    return folder


def metrics(lines=LINES):
    entries = []
    for step, loss, error in lines:
        entries.append({"step": step, "epoch": step / 10, "loss": loss, "error": error})
        if step % 20 == 0:
            own = {"cider_d": step / 100, "error": error / 2}
            entries.append({"step": step, "epoch": step / 10, "split": "validation"} | own)
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def evaluation(**details):
    return {"step": 40, "split": "test", "n": 9, "metrics": {"cider_d": 0.5, "error": 0.0625,
            "f1": None}, "details": details}  # fmt: skip


class Balanced(html.parser.HTMLParser):
    """Fails where an HTML parser would close elements in another place than was written."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        # Elsewhere HTML takes no notice of the slash.
        assert tag in ("meta", "img") or "svg" in self.open

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    """The page as a tree, the same to a strict parser and to one of HTML; it loads nothing."""
    text.encode()
    balanced = Balanced()
    balanced.feed(text)
    assert balanced.open == []
    tree = ElementTree.fromstring(text)
    for node in tree.iter():
        assert node.tag not in ("script", "link", "iframe", "object", "base", "a")
        for name, value in node.attrib.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value.startswith("data:image/png;base64,")
            assert "url(" not in value
    style = "".join(node.text for node in tree.iter("style"))
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search("https?:", text)
    return tree


def said(node):
    return "".join(node.itertext())


def figures(tree):
    return {said(node.find("figcaption")): node for node in tree.iter("figure")
            if node.find("figcaption") is not None}  # fmt: skip


def curves(figure, log=False):
    """Points of each curve, in runs, read off the ticks as a person would; `log`: logarithms."""
    svg = figure.find("svg")
    places = {"end": ("y", 4.0, []), "middle": ("x", 0.0, [])}
    for node in svg.findall("text"):
        try:
            value = float(said(node).replace(",", "").removesuffix(" %"))
        except ValueError:
            continue
        bottom = float(node.get("y")) > 220
        name, shift, ticks = places["middle" if bottom else "end"]
        value = math.log10(value) if log and not bottom else value
        if not (bottom and node.get("text-anchor") == "end"):
            ticks.append((float(node.get(name)) - shift, value))
    (xs, x_values), (ys, y_values) = (
        zip(*places[side][2], strict=True) for side in ("middle", "end")
    )
    assert len(y_values) >= 2
    across, up = np.polyfit(xs, x_values, 1), np.polyfit(ys, y_values, 1)
    return [
        [
            [
                (np.polyval(across, x), np.polyval(up, y))
                for x, y in (map(float, point.split()) for point in run.split("L"))
            ]
            for run in path.get("d").split("M")[1:]
        ]
        for path in svg.iter("path")
        if path.get("class") == "curve"
    ]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    rows = [
        {"example": 3, "file": "a&b.png", "caption": EVIL, "references": ["one <b>", "two"],
         "cider_d": 1.23456, "held_out": True, "rare": False},
        {"example": 0, "file": "", "caption": "", "references": [], "cider_d": None},
    ]  # fmt: skip
    details = {
        "captions": rows,
        "words": [{"word": EVIL, "times": n, "share": n / 7, "error": 0.5} for n in range(70)],
        "confusion": [[8, 2, 0], [0, 0, 0], [1, 0, 3]],
        "empty": [], "odd": {"a": 1.5, "b": None}, "odder": ["x", [1, "y"]],
    }  # fmt: skip
    folder = write(
        tmp_path / "my run", config=CONFIG, metrics_jsonl=metrics(),
        evaluation=evaluation(**details),
    )  # fmt: skip
    place = gallery.folder(folder, "test")
    place.mkdir(parents=True)
    Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5)).save(place / "3.png")
    return folder


def test_all_that_was_found_is_on_a_page_that_loads_nothing(run):
    text = page.make(run)
    tree = parsed(text)
    whole = said(tree.find("body"))
    assert whole.count(SAFE) == 51  # the caption, and fifty of the rows
    assert SAFE[:38] + '\\"\\u0000\ufffd' in whole  # the config, as JSON
    for part in ("my run", "my_fork:Net(classes=3)", "captioned:pictures", "examples a step12",
                 "cosine, 0.01", "2.0 epochs", "50 steps, 5.0 epochs", "9 examples of test",
                 "The first 50 of 70", "6.25 %"):  # fmt: skip
        assert part in whole
    assert page.make(run) == text  # nothing of the time or the machine


def test_the_best_and_the_last_evaluation_are_those_of_the_metric(run):
    tree = parsed(page.make(run))
    rows = [[said(cell) for cell in row] for row in tree.iter("tr")]
    assert ["best", "40", "0.4", "6.25 %"] in rows
    assert ["last", "40", "0.4", "6.25 %"] in rows
    lower = json.dumps(CONFIG | {"best_mode": "min"})
    write(run, config=lower)
    rows = [[said(cell) for cell in row] for row in parsed(page.make(run)).iter("tr")]
    assert ["best", "20", "0.2", "12.50 %"] in rows


def test_curves_go_through_what_was_measured_and_break_where_it_was_no_number(run):
    drawn = figures(parsed(page.make(run)))
    assert list(drawn)[:3] == ["cider_d", "loss", "error"]
    training, validation = curves(drawn["error"])
    expected = [(step, 100 * error) for step, _, error in LINES]
    np.testing.assert_allclose(training, [expected], atol=0.4)
    np.testing.assert_allclose(validation, [[(20, 12.5), (40, 6.25)]], atol=0.4)
    assert [said(entry) for entry in drawn["error"].find("div")] == ["training", "validation"]
    (loss,) = curves(drawn["loss"], log=True)
    logs = [[(10, math.log10(900))], [(30, math.log10(7)), (40, math.log10(0.5))]]
    assert [len(own) for own in loss] == [1, 2]
    for own, expected in zip(loss, logs, strict=True):
        np.testing.assert_allclose(own, expected, atol=0.02)
    # Alone between gaps it is seen as a dot.
    (dot,) = drawn["loss"].iter("circle")
    assert said(dot) == "training, step 10: 900"
    assert len(list(drawn["error"].iter("circle"))) == 2


@pytest.mark.parametrize(
    "end", ['{"step": 60, "loss": 0.', "\x00\x00\x00", "[1]", "17", '{"loss": 1}', "nan",
            '{"step": null}', '{"step": 1e999}', "[" * 100_000]
)  # fmt: skip
def test_half_a_line_is_left_out_and_counted(run, end):
    (run / "metrics.jsonl").write_text("{" + "\n" + metrics() + end)
    tree = parsed(page.make(run))
    assert "Without 2 lines of metrics.jsonl" in said(tree)
    assert len(curves(figures(tree)["error"])[0][0]) == 5
    (run / "metrics.jsonl").write_text(metrics())
    assert "Without" not in said(parsed(page.make(run)))


def test_a_step_that_was_taken_again_counts_once(run):
    again = [(40, 0.25, 0.5), (30, 5.0, 0.5), (25, 5.0, 0.0)]
    (run / "metrics.jsonl").write_text(metrics() + metrics(again))
    training, _ = curves(figures(parsed(page.make(run)))["error"])
    expected = [(10, 50), (20, 25), (25, 0), (30, 50), (40, 50), (50, 100)]
    np.testing.assert_allclose(training, [expected], atol=0.4)


def test_what_is_missing_is_left_out_with_a_sentence(tmp_path):
    assert page.make(tmp_path) == ""
    told = said(parsed(page.make(write(tmp_path / "a", config=CONFIG))))
    assert f"python -m rcnn_jax.evaluate --workdir={tmp_path / 'a'}" in told
    assert "There are no curves yet" in told
    assert "None" not in said(parsed(page.make(write(tmp_path / "seed", config={"seed": 3}))))
    told = said(parsed(page.make(write(tmp_path / "b", metrics_jsonl=metrics()))))
    assert "The folder holds no config.json" in told
    whole = write(tmp_path / "c", config='{"seed": ', evaluation="[]", iterations={"n": 3},
                  evaluation_train={"metrics": 3})  # fmt: skip
    told = said(parsed(page.make(whole)))
    for name in ("config.json cannot be read", "evaluation.json cannot be read",
                 "iterations.json has no rows",
                 "evaluation_train.json is no evaluation"):  # fmt: skip
        assert name in told
    nothing = "".join(f'{{"step": {step}, "loss": NaN, "error": null}}\n' for step in (1, 2))
    told = said(parsed(page.make(write(tmp_path / "d", metrics_jsonl=nothing))))
    assert told.count("No value is a number.") == 2


ODD = [None, True, -1, 1e308, math.nan, 10**400, "", "\ud800", [], [[]], {}, {"a": [1]}, [None],
       [{"example": 1}], [{"example": -1}], [[1, 2], [3, 4]]]  # fmt: skip


def mutated(value, rng):
    if rng.random() < 0.08:
        return rng.choice(ODD)
    if isinstance(value, dict):
        names = {name: rng.choice(("", "\x00", "example")) for name in value}
        return {names[k] if rng.random() < 0.03 else k: mutated(v, rng) for k, v in value.items()}
    return [mutated(item, rng) for item in value] if isinstance(value, list) else value


def test_whatever_files_hold_there_is_a_page(run):
    """Files are also written by hand, by forks, and by later versions."""
    rng = random.Random(0)
    rows = [{"iterations": t, "error": 0.5, "error_anytime": 0.1} for t in range(3)]
    measured = {"step": 1, "n": 2, "metrics": {"error": 0.5}}
    sweep = [{"variant": "a", "seed": n, "seconds": 1.0, "test": measured} for n in range(3)]
    lines = [json.loads(line) for line in metrics().splitlines()]
    files = {
        "config": CONFIG,
        "evaluation": json.loads((run / "evaluation.json").read_text()),
        "iterations": {"n": 3, "trained": 2, "iterations": rows},
        "sweep": {"runs": sweep},
    }
    (run / "a" / "0").mkdir(parents=True)
    for _ in range(40):
        text = "".join(json.dumps(mutated(line, rng)) + "\n" for line in lines)
        write(run, metrics_jsonl=text, **{name: mutated(own, rng) for name, own in files.items()})
        write(run / "a" / "0", metrics_jsonl=text)
        parsed(page.make(run))
        parsed(sweep_page.make(run))


def test_examples_are_shown_with_their_pictures(run):
    tree = parsed(page.make(run))
    first, second = (node for node in tree.iter("div") if node.get("class") == "card")
    picture = first.find("img")
    content = base64.b64decode(picture.get("src").partition(",")[2])
    assert content == (gallery.folder(run, "test") / "3.png").read_bytes()
    # 32 times as large, each pixel a square.
    assert [picture.get(name) for name in ("width", "height", "class")] == ["160", "128", "small"]
    lines = [said(node) for node in first.iter() if node.tag in ("p", "li")]
    assert lines == ["#3 a&b.png", SAFE, "references", "one <b>", "two", "cider_d 1.235",
                     "held_out"]  # fmt: skip
    assert second.find("img") is None
    assert [said(node) for node in second.iter("p")] == ["#0", "(nothing)"]
    # A file that is no picture is none of the page.
    (gallery.folder(run, "test") / "3.png").write_text("<svg/>")
    assert list(parsed(page.make(run)).iter("img")) == []


def test_a_confusion_matrix_is_shaded_by_the_share_of_its_row(run):
    tree = parsed(page.make(run))
    (drawn,) = (node for node in tree.iter("table") if node.get("class") == "matrix")
    rows = [[(said(cell), cell.get("style") or "") for cell in row.iter("td")]
            for row in drawn.find("tbody")]  # fmt: skip
    assert [[text for text, _ in row] for row in rows] == [["8", "2", ""], ["", "", ""],
                                                           ["1", "", "3"]]  # fmt: skip
    shades = [re.findall(r"rgba\((.*), (.*)\)", style) for _, style in rows[0][:2]]
    assert shades == [[("0, 114, 178", "0.48")], [("213, 94, 0", "0.18")]]
    assert rows[0][2][1] == rows[1][0][1] == ""

    large = np.diag(np.full(40, 9))
    large[3, 7] = large[39, 0] = 1
    tree = ElementTree.fromstring(element("div", matrix.draw(large.tolist())))
    cells = {path.get("fill"): re.findall(r"M(\d+) (\d+)h4v4h-4z", path.get("d"))
             for path in tree.iter("path") if path.get("fill")}  # fmt: skip
    others = {place for fill, own in cells.items() if "213, 94" in fill for place in own}
    assert others == {("28", "12"), ("0", "156")}
    assert sum(map(len, cells.values())) == 42
    for value in ([[1, 2], [3]], [[1, -1]], [["1"]], [[True]], [], [[]], 3):
        assert not matrix.is_matrix(value)


def test_iterations_have_a_curve_for_each_way_to_answer(tmp_path):
    rows = [{"iterations": t, "error": 0.5 / (t + 1), "error_anytime": 0.25, "loss": None}
            for t in range(4)]  # fmt: skip
    found = {"step": 3, "split": "validation", "n": 8, "trained": 2, "note": "", "iterations": rows}
    tree = parsed(page.make(write(tmp_path, iterations=found)))
    plain, anytime = curves(figures(tree)["error"])
    np.testing.assert_allclose(plain, [[(t, 50 / (t + 1)) for t in range(4)]], atol=0.3)
    np.testing.assert_allclose(anytime, [[(t, 25) for t in range(4)]], atol=0.3)
    names = [said(entry) for entry in figures(tree)["error"].find("div")]
    assert names == ["statistics of training", "answer on the way"]


@pytest.mark.parametrize(
    "values",
    [(0.0, 1.0), (3.0, 3.0), (0.0, 0.0), (-5e-9, 7e-9), (1e300, -1e300), (20.0, 983.0),
     (5e-324, 0.0), (1.0, 1.0 + 1e-15), (98.7, 99.2), (1e-6, 3.0), (5e-324, 1e299), (0.003, 0.3),
     (-1e-300, 1e-310)],
)  # fmt: skip
def test_axes_have_a_few_round_numbers(values):
    axis = chart.value_axis(values)
    shares = [axis.share(value) for value in values]
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in shares)
    assert (shares[0] < shares[1]) == (values[0] < values[1]) or np.isclose(*shares)
    assert 2 <= len(axis.ticks) <= 9
    assert all(axis.low - 1e-9 <= tick <= axis.high * (1 + 1e-9) + 1e-9 for tick in axis.ticks)
    assert axis.logarithmic == (min(values) > 0 and max(values) / min(values) >= 99.9)
    if axis.logarithmic:
        assert all(re.match("[125].000000e", f"{tick:.6e}") for tick in axis.ticks)
    else:
        (step,) = {f"{b - a:.6e}" for a, b in zip(axis.ticks, axis.ticks[1:], strict=False)}
        assert re.match("[125].000000e", step)
    assert len({chart.label(tick) for tick in axis.ticks}) == len(axis.ticks)


def test_labels_are_written_as_people_write_them():
    values = (0.0, 0.1 + 0.2, 20_000, 1e-5, 2.5e8, -3.0, 0.0025)
    assert [chart.label(v) for v in values] == ["0", "0.3", "20,000", "1e-5", "2.5e8", "-3",
                                                "0.0025"]  # fmt: skip
    assert chart.label(0.125, percent=True) == "12.5 %"


def test_a_sweep_has_means_deviations_and_a_colour_for_each_variant(tmp_path):
    errors = {"base": (0.10, 0.12, 0.17), EVIL[:12].replace("/", ""): (0.5, None, 0.75)}
    runs = []
    for variant, own in errors.items():
        for seed, error in enumerate(own):
            measured = {"step": 9, "n": 4, "metrics": {"error": error, "loss": 2.0}}
            runs.append({"variant": variant, "seed": seed, "config": "nets", "seconds": 3.0 + seed,
                         "starts": 1, "test": measured, "train": None})  # fmt: skip
            write(tmp_path / "sweep" / variant / str(seed), metrics_jsonl=metrics())
    write(tmp_path / "outside" / "0", metrics_jsonl=metrics())
    runs.append({"variant": "../outside", "seed": 0, "test": None})
    tree = parsed(sweep_page.make(write(tmp_path / "sweep", sweep={"step": "best", "runs": runs})))
    rows = [[said(cell) for cell in row] for row in tree.iter("tr")]
    other = EVIL[:12].replace("/", "")
    assert ["base", "3", "13.00 % ± 3.61 %", "2 ± 0", "4"] in rows
    assert [other, "3", "62.50 % ± 17.68 % (2 of 3)", "2 ± 0", "4"] in rows
    assert ["../outside", "0", "", "", ""] in rows
    assert ["../outside", "0", "0", "its folder is not there"] in rows
    drawn = figures(tree)
    assert list(drawn) == ["validation cider_d", "validation error", "training loss"]
    assert len(curves(drawn["validation error"])) == 6
    groups = [node.get("class") for node in drawn["validation error"].iter("g")]
    assert groups == ["c0"] * 3 + ["c1"] * 3
    assert [said(entry) for entry in drawn["validation error"].find("div")] == ["base", other]
    for content in ("{", {"runs": 3}, {"runs": []}):
        assert "sweep.json" in said(parsed(sweep_page.make(write(tmp_path / "x", sweep=content))))


def test_more_curves_than_colours_are_told_apart_by_dashes():
    series = [chart.Series(str(n), [(0, n), (1, n)], n) for n in range(2 * len(COLOURS))]
    tree = ElementTree.fromstring(chart.line_chart("many", series, "step"))
    styles = {(group.get("class"), group.find("path").get("stroke-dasharray"))
              for group in tree.iter("g")}  # fmt: skip
    assert len(styles) == len(series)


def test_text_is_escaped_once():
    assert escaped(escaped("a<b")) == "a&lt;b"
    assert table(["a", "b"], [[escaped("<"), "<"]]).count("&lt;") == 2
    assert element("p", "&", title='"') == '<p title="&quot;">&amp;</p>'


def naming(*numbers):
    return {"lines": [{"example": number} for number in numbers], "confusion": [[1]]}


def source(images, dtype="uint8", **columns):
    shape = (None, None, None)
    return lambda: ArraySource({"image": images, **columns}, {"image": Feature(shape, dtype)})


def pictures(folder, split="test"):
    return {int(file.stem): np.asarray(Image.open(file))
            for file in gallery.folder(folder, split).glob("*")}  # fmt: skip


def test_pictures_are_those_of_the_data_and_replace_earlier_ones(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape).astype(np.uint8) for shape in
              ((4, 6, 1), (5, 5, 3), (900, 600, 3), (40, 1600, 1), (3, 3, 2),
               (2, 2, 1))]  # fmt: skip
    readable = np.array([1, 1, 1, 1, 1, 0], np.float32)
    opened = source(images, mask=readable)
    assert gallery.save(tmp_path, "test", naming(3, 0, 1, 2, 4, 5, 6), opened) == 4
    found = pictures(tmp_path)
    assert set(found) == {0, 1, 2, 3}
    np.testing.assert_array_equal(found[0], images[0][..., 0])
    np.testing.assert_array_equal(found[1], images[1])
    assert found[2].shape == (313, 209, 3)
    assert found[3].shape == (25, 1024)
    assert gallery.read(tmp_path, "test", 3)[1:] == (1024, 25)

    assert gallery.save(tmp_path, "a/b[:5]", naming(0), opened) == 1
    (gallery.folder(tmp_path, "test") / "mine.png").write_bytes(b"")
    assert gallery.save(tmp_path, "test", naming(1), opened) == 1
    names = {file.name for file in gallery.folder(tmp_path, "test").iterdir()}
    assert names == {"1.png", "mine.png"}
    assert set(pictures(tmp_path, "a/b[:5]")) == {0}
    folders = {gallery.folder(tmp_path, split) for split in ("a/b", "a_b", "a%2Fb", "a", "../a")}
    assert len(folders) == 5
    assert {folder.parent for folder in folders} == {tmp_path / "gallery"}
    assert gallery.save(tmp_path, "test", {}, opened) == 0
    assert gallery.read(tmp_path, "test", 1) is None
    assert (
        gallery.save(tmp_path, "test", naming(*range(100)), source(np.zeros((90, 2, 2, 1)))) == 64
    )


def test_counts_and_shares_become_shades(tmp_path):
    dots = np.array([0, 8, 16], np.uint8).reshape(1, 1, 3, 1)
    gallery.save(tmp_path, "test", naming(0, 1), source(np.concatenate([dots, dots // 2])))
    assert [pictures(tmp_path)[n].tolist() for n in (0, 1)] == [[[0, 128, 255]], [[0, 64, 128]]]
    shares = np.array([[0, 0.5, 1], [-1, 0, 3], [np.nan, 0.2, np.inf]], np.float32)
    gallery.save(tmp_path, "test", naming(0, 1, 2), source(shares.reshape(3, 1, 3, 1), "float32"))
    found = pictures(tmp_path)
    assert [found[n].tolist() for n in range(3)] == [[[0, 128, 255]], [[0, 64, 255]],
                                                     [[0, 51, 255]]]  # fmt: skip


def test_without_pillow_nothing_is_read_and_nothing_changes(tmp_path):
    gallery.save(tmp_path, "test", naming(0), source(np.ones((2, 3, 3, 1))))
    before = pictures(tmp_path)[0]
    with mock.patch.dict(sys.modules, {"PIL": None}), pytest.raises(ImportError):
        gallery.save(tmp_path, "test", naming(1), mock.Mock(side_effect=AssertionError))
    np.testing.assert_array_equal(pictures(tmp_path)[0], before)
