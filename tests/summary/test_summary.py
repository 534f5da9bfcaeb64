"""The table of layers: what it counts, how it reads what is typed, and what it says of mistakes."""

import pathlib
import re
import shutil
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from rcnn_jax import models
from rcnn_jax.configuration import loading
from rcnn_jax.data.transforms.per_image import Fitted
from rcnn_jax.errors import UsageError
from rcnn_jax.output.tables import table
from rcnn_jax.summary import model_names
from rcnn_jax.summary.convolutions import convolution_table
from rcnn_jax.summary.layer_table import shape_text, summarize, total
from rcnn_jax.summary.listing import configured, list_models, parse_input, report
from rcnn_jax.summary.multiply_adds import multiply_adds
from rcnn_jax.training.parameters import parameter_table

pytestmark = pytest.mark.one_row

# Published, or counted by the tests of the models: 32x32 colour images, 10 classes.
TOTALS = {
    "rcnn": 672_202,
    "RCNN": 672_202,
    "rcnn_without_dropout": 672_202,
    "recursive_rcnn": 672_202,
    "wcnn": 601_354,
    "depth_matched_cnn": 76 * 96 + 4 * (9 * 4 * 96**2 + 96) + 970,
    "maxout": 16_247_830,
    "maxout_released_code": 16_247_830,
    "probabilistic_maxout": 16_247_830,
    "nin": 966_986,
    "nin_released_code": 966_986,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "fmp_cifar10": 79_247_530,
    "FullyConnected": 4_206_602,
    "Tagger": 181_510,
    "Transcriber": 1_146_090,
}


def image(*size):
    return jax.ShapeDtypeStruct((1, *size), jnp.float32)


def made(name, *overrides):
    return model_names.build(model_names.find(name), overrides)


def by_name(summary):
    return {"/".join(row.path): row for row in summary.rows}


@pytest.fixture(scope="module")
def summaries():
    built, found = {}, {}
    for name, path in model_names.known().items():
        built[name] = made(name)
        # Presets that only name the defaults of their class are traced once.
        twin = next((n for n in found if built[n] == built[name]), None)
        x = parse_input(model_names.example_input(path))
        found[name] = found[twin] if twin else summarize(built[name], x)
    return found


def test_every_public_module_and_preset_is_found():
    (folder,) = models.__path__
    written = {}
    for file in pathlib.Path(folder).glob("*.py"):
        text = file.read_text(encoding="utf-8")
        classes = re.findall(r"^class ([A-Z]\w*)\(nn\.Module\)", text, re.MULTILINE)
        functions = re.findall(r"^def ([a-z]\w*)\([^)]*\) -> (\w+):", text, re.MULTILINE)
        names = classes + [name for name, returned in functions if returned in classes]
        written |= {name: f"rcnn_jax.models.{file.stem}:{name}" for name in names}
    assert len(written) >= 21
    assert written.items() <= model_names.known().items()


def test_the_name_of_a_file_stands_for_its_only_module():
    assert model_names.find("resnet") == "rcnn_jax.models.resnet:ResNet"
    assert model_names.find("fully_connected") == "rcnn_jax.models.fully_connected:FullyConnected"
    assert model_names.find("maxout") == "rcnn_jax.models.maxout:maxout"  # a preset goes first


def test_two_models_of_one_name_are_refused(monkeypatch):
    twin = types.ModuleType("rcnn_jax.models.twin")
    exec("import flax.linen as nn\nclass RCNN(nn.Module):\n    pass\n", twin.__dict__)
    monkeypatch.setitem(sys.modules, twin.__name__, twin)
    listed = [types.SimpleNamespace(name=name) for name in ("rcnn", "twin")]
    monkeypatch.setattr(model_names.pkgutil, "iter_modules", lambda path: listed)
    with pytest.raises(ValueError, match=r"two models are called RCNN: rcnn_jax.models.rcnn:RCNN"):
        model_names.known()


def test_totals_are_the_known_ones(summaries):
    assert {name: summaries[name].parameters for name in TOTALS} == TOTALS
    norm = sum(row.parameters for row in summaries["resnet110"].rows if row.kind == "BatchNorm")
    assert summaries["resnet110"].parameters - norm == 1_719_866
    assert summaries["resnet110"].statistics == {"batch_stats": norm}
    assert summaries["fmp_cifar10"].kernels == 79_230_720


def test_rows_add_up_to_the_total_of_every_model(summaries):
    for name, found in summaries.items():
        assert len(by_name(found)) == len(found.rows), name
        assert sum(row.parameters for row in found.rows) == found.parameters > 0, name
        (output,) = found.output
        last = 512 if name == "VGGFeatures" else 10  # maps, not classes
        assert (output[0], output[-1]) == (1, last), name  # in between, a sequence has its time


def test_layers_of_the_net(summaries):
    rows = by_name(summaries["rcnn"])
    assert list(rows) == [
        "conv", "rcl1", "dropout1", "rcl2", "dropout2", "rcl3", "dropout3", "rcl4",
        "head_bias", "head_kernel",
    ]  # fmt: skip
    sides = {"conv": 32, "rcl1": 16, "rcl2": 16, "dropout2": 8, "rcl3": 8, "rcl4": 8}
    assert {n: rows[n].output for n in sides} == {n: ((1, s, s, 96),) for n, s in sides.items()}
    assert [rows[name].kind for name in ("conv", "rcl1", "dropout1")] == [
        "RCL",
        "RCL x4",
        "Dropout",
    ]
    assert rows["rcl1"].parameters == 2 * 9 * 96**2 + 96
    assert (rows["head_kernel"].kind, rows["head_kernel"].parameters) == ("parameter", 960)
    assert by_name(summaries["wcnn"])["rcl1"].kind == "RCL"
    assert by_name(summaries["fmp_cifar10"])["conv13"].output == ((1, 1, 1, 2080),)
    assert by_name(summaries["nin"])["conv2_3"].output == ((1, 16, 16, 192),)


def test_parts_of_layers_have_rows_where_asked():
    model = made("rcnn", ("model.norm", "batch"), ("model.features", "16"))
    one, two, three = (summarize(model, image(8, 8, 3), depth) for depth in (1, 2, 3))
    assert by_name(one)["rcl1"].parameters == 18 * 16**2 + 4 * 2 * 16
    rows = by_name(two)
    assert rows["rcl1"].parameters == 18 * 16**2
    assert rows["rcl1/norm"].parameters == 4 * 2 * 16
    assert list(rows)[2:5] == ["rcl1", "rcl1/norm", "dropout1"]
    assert sum(row.parameters for row in two.rows) == one.parameters == two.parameters
    assert three == two
    assert one.statistics == {"batch_stats": 2 * (1 + 4 * 4) * 16}


class Gain(nn.Module):
    def setup(self):
        self.gain = self.param("gain", nn.initializers.ones, (7,))
        self.unused = nn.Dense(2)

    def scaled(self, x):
        return x * self.gain[None, None]


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        offset = self.param("offset", nn.initializers.zeros, (1,), jnp.bfloat16)
        return Gain(name="gain").scaled(nn.Dense(7, name="dense")(x)) + offset[None, None]


class Words(nn.Module):
    """Integers in, no `train`, layers inside layers, one layer twice, two outputs."""

    @nn.compact
    def __call__(self, words):
        x = nn.Embed(50, 5, name="embed")(words)
        h = nn.RNN(nn.LSTMCell(6), name="lstm")(x)
        block = Block(name="block")
        y = block(h)
        return block(jnp.pad(y, ((0, 0), (0, 0), (0, 0)))[..., :6]), words


def test_any_module_can_be_looked_at():
    words = parse_input("20:int")
    assert (words.shape, words.dtype) == ((1, 20), jnp.int32)
    one, three = summarize(Words(), words), summarize(Words(), words, 3)
    lstm = 4 * (5 * 6 + 6 * 6 + 6)
    held = {name: row.parameters for name, row in by_name(one).items()}
    # The cell is made by the net and handed to the loop: it is a layer beside it.
    assert held == {"embed": 250, "lstm": 0, "LSTMCell_0": lstm, "block": 1 + 49 + 7}
    assert one.output == ((1, 20, 7), (1, 20))
    assert by_name(one)["lstm"].output == ((1, 20, 6),)
    rows = by_name(three)
    assert rows["block"].parameters == 1
    assert rows["block/gain"].parameters == 7
    assert rows["block/gain"].output == ((1, 20, 7),)  # of the method that was called
    assert sum(row.parameters for row in three.rows) == one.parameters == 250 + lstm + 57
    assert one.kernels == 250 + 4 * (5 * 6 + 6 * 6) + 42
    assert one.megabytes * 2**20 == 4 * (one.parameters - 1) + 2
    # The embedding is looked up; the loop over time counts once a step; the block runs twice.
    assert one.multiply_adds == 20 * (4 * (5 * 6 + 6 * 6) + 2 * 6 * 7)


class Tree(nn.Module):
    """Holds a tree of arrays under one name, which is no layer."""

    @nn.compact
    def __call__(self, x):
        tree = self.param("tree", lambda key: {"a": jnp.ones(3), "b": {"c": jnp.ones(4)}})
        return nn.Dense(2, name="head")(x) + tree["a"].sum() + tree["b"]["c"].sum()


@pytest.mark.parametrize(
    ("depth", "held"),
    [
        (1, {"head": 8, "tree": 7}),
        (2, {"head": 8, "tree": 3, "tree/b": 4}),
        (3, {"head": 8, "tree": 3, "tree/b": 4}),
    ],
)
def test_parameters_outside_of_layers_are_counted(depth, held):
    found = summarize(Tree(), image(3), depth)
    assert {name: row.parameters for name, row in by_name(found).items()} == held
    assert (by_name(found)["tree"].kind, found.parameters) == ("parameters", 15)


def test_multiply_adds_of_a_net_by_hand(summaries):
    pixels = 2 * 16**2 + 2 * 8**2
    rcl = pixels * (1 + 3) * 9 * 96**2
    assert summaries["rcnn"].multiply_adds == 32**2 * 75 * 96 + rcl + 960


def product(x, w):
    return x @ w


def five_products(x, w):
    return jax.lax.scan(lambda x, _: (x @ w, None), x, length=5)[0]


def one_or_two_products(x, w):
    return jax.lax.cond(x[0, 0] > 0, lambda x: x @ w, lambda x: x @ w @ w, x)


def products_until_large(x, w):
    return jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ w, x)


def sums_until_large(x):
    return jax.lax.while_loop(lambda x: x[0] < 9, lambda x: x + 1, x)


def grouped_convolution(x):
    layer = nn.Conv(6, (3, 3), strides=2, padding=1, feature_group_count=2)
    return layer.init_with_output(jax.random.key(0), x)[0]


def channels_first(x, w):
    return jax.lax.conv(x, w, (1, 1), "SAME")


@pytest.mark.parametrize(
    ("function", "shapes", "count"),
    [
        (product, [(2, 3), (3, 5)], 30),
        (lambda x, y: jnp.einsum("bij,bkj->bik", x, y), [(7, 2, 3), (7, 5, 3)], 210),
        (grouped_convolution, [(1, 8, 8, 4)], 16 * 6 * 9 * 2),
        (channels_first, [(1, 4, 5, 5), (6, 4, 3, 3)], 25 * 6 * 4 * 9),
        (jax.jit(five_products), [(4, 4), (4, 4)], 5 * 64),
        (jax.checkpoint(five_products), [(4, 4), (4, 4)], 5 * 64),
        (one_or_two_products, [(4, 4), (4, 4)], 2 * 64),
        # How often a loop runs that ends on a condition, no one knows.
        (products_until_large, [(4, 4), (4, 4)], None),
        (jax.jit(products_until_large), [(4, 4), (4, 4)], None),
        (sums_until_large, [(2,)], 0),
    ],
)
def test_multiply_adds_of_programs(function, shapes, count):
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    assert multiply_adds(jax.make_jaxpr(function)(*arrays).jaxpr) == count


def test_nothing_is_made():
    before = len(jax.live_arrays())
    found = summarize(made("fmp_cifar10"), image(32, 32, 3))
    assert total(made("fmp_cifar10"), image(32, 32, 3)) == found.parameters
    assert len(jax.live_arrays()) <= before
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(found.params))


def test_attributes_as_typed_reach_the_model():
    k = 64
    typed = (("model.features", "64"), ("model.norm", "none"), ("model.classes", "3"))
    model = made("wcnn", *typed)
    assert (model.steps, model.norm, model.classes) == (0, "none", 3)
    assert total(model, image(32, 32, 3)) == 76 * k + 4 * (9 * k**2 + k) + k * 3 + 3
    assert made("resnet", ("model.depth", "32")).depth == 32
    assert made("rcnn", ("model.gamma", "1"), ("model.pool_strides", "[1, 2]")) == made(
        "rcnn", ("model.pool_strides", "(1, 2)")
    )


@pytest.fixture
def fork(monkeypatch):
    """A module of somebody else's: a model of words, a function that makes none, a transform."""

    class Shrink(Fitted):
        name = "shrink"
        asset_names = ("to",)

        def fit(self, blocks):
            raise AssertionError("data are read")

        def apply(self, image):
            return image[:4]

    module = types.ModuleType("fork_of_mine")
    vars(module).update(Words=Words, Shrink=Shrink, number=lambda: 3, EXAMPLE_INPUT="20:int")
    monkeypatch.setitem(sys.modules, "fork_of_mine", module)
    monkeypatch.setattr(Words, "__module__", "fork_of_mine")


def test_a_forks_model_is_shown_with_the_input_it_names(fork):
    text = report(model="fork_of_mine:Words")
    assert text.startswith("fork_of_mine:Words  [1, 20] -> [1, 20, 7] [1, 20]\n")
    assert "[1, 9, 7]" in report(model="fork_of_mine:Words", given_input="9:int")


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ("rcnn_cifar10:paper", (24, 24, 3)),
        ("rcnn_digits", (16, 16, 1)),
        ("nin_cifar10", (32, 32, 3)),
    ],
)
def test_the_input_of_a_config_is_what_its_transforms_give(config, size):
    _, call, _ = configured(loading.load(config))
    (x,) = call.arrays
    assert (x.shape, x.dtype) == ((1, *size), jnp.float32)


def test_the_model_of_a_config_is_the_one_it_trains():
    text = report(config="rcnn_cifar10", overrides=[("model.features", "32"), ("seed", "3")])
    assert text.startswith("rcnn_cifar10: rcnn_jax.models.rcnn:RCNN  [1, 24, 24, 3] -> [1, 10]\n")
    k = 32
    assert re.search(rf"^batch statistics +{2 * (1 + 4 * 4) * k:,}$", text, re.MULTILINE)
    count = 75 * k + 72 * k**2 + 2 * 17 * k + 10 * k + 10
    assert re.search(rf"^parameters +{count:,}  ", text, re.MULTILINE)
    assert "[1, 32, 32, 3] ->" in report(config="rcnn_cifar10", given_input="32x32x3")


@pytest.mark.parametrize(
    ("example", "head"),
    [
        ("clips", r"parts:ConvLSTM  \[1, \d+, 12, 12, 1\] \[1\] -> \[1, 4\]"),
        ("scenes", r"parts:SceneRCNN  \[1, 16, 16, 3\] -> \[1, 16, 16, 3\]"),
        ("towers", r"parts:Towers  \[1, 64, 64, 3\] \[1, \d+\] -> \[1, 8\] \[1, 8\]"),
    ],
)
def test_a_model_is_shown_as_the_task_of_its_config_calls_it(door, tmp_path, example, head):
    """Clips are padded by an encoder; crops take label maps along; towers read two features."""
    for file in (pathlib.Path(__file__).parents[1] / "examples" / example).glob("*.py"):
        shutil.copy(file, tmp_path)
    result = door("summary", "--config=experiment.py")
    assert result.returncode == 0, result.stderr
    assert re.match(f"experiment.py: {head}", result.stdout)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"model": "rnn"}, r"--model=rnn is no model of this package.*did you mean 'rcnn'\?"),
        ({"model": "zebra"}, r"allowed: 'Captioner', .*'wcnn'"),
        ({"model": "nowhere:Net"}, "--model 'nowhere:Net' cannot be imported.*PYTHONPATH"),
        ({"model": "rcnn_jax.models.rcnn:RCNM"}, "did you mean 'RCNN'"),
        ({"model": "os:sep"}, "--model=os:sep is str '/', neither a Linen module"),
        ({"model": "rcnn_jax.errors:UserError"}, "neither a Linen module nor a function"),
        ({"model": "fork_of_mine:number"}, "gives a int, not a Linen module"),
        ({"model": "rcnn", "given_input": "32,32,3"}, "--input=32,32,3: .*HxWxC"),
        ({"model": "rcnn", "given_input": "0x32x3"}, "--input=0x32x3: .*at least 1"),
        ({"model": "rcnn", "given_input": "32x-2x3"}, "--input=32x-2x3"),
        ({"model": "rcnn", "given_input": "32x32"}, r"input \[1, 32, 32\]: RCNN takes images"),
        ({"model": "maxout", "given_input": "2x2x3"}, r"layer 'conv2': .*window \(8, 8\)"),
        ({"model": "rcnn", "classes": 0}, "--classes=0: must be at least 1"),
        ({"config": "rcnn_digits", "classes": 3}, "--classes=3: set --config.model.classes"),
        ({"model": "rcnn", "depth": -1}, "--depth=-1 must be at least 1"),
        ({"model": "rcnn", "config": "rcnn_digits"}, "--model=rcnn and --config=rcnn_digits"),
        ({"given_input": "32x32x3"}, "--model=NAME or --config=FILE is missing"),
        ({"overrides": [("model.features", "3")]}, "--model=NAME or --config=FILE is missing"),
        ({"config": "nothing.py"}, "no file 'nothing.py'"),
        ({"config": "rcnn_digits:huge"}, "no variant 'huge'"),
        (
            {"config": "rcnn_digits", "overrides": [("data.augment", "random_crop(24)")]},
            "24x24 needs images at least as large, got 16x16",
        ),
        (
            {"config": "rcnn_digits", "overrides": [("data.augment", "flop")]},
            "no transform 'flop'.*did you mean 'flip'",
        ),
        (
            {"config": "rcnn_digits", "overrides": [("data.preprocess", "fork_of_mine:Shrink")]},
            "transform 'shrink' must be fitted.*give it by --input",
        ),
        ({"config": "rcnn_digits", "overrides": [("data.name", "tfds:mnist")]}, "--input"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_mistake_ends_in_one_sentence(fork, request_, says):
    with pytest.raises(UsageError, match=says) as caught:
        report(**request_)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("model.feature", "8", r"no argument 'feature': did you mean 'features'\?"),
        ("model.norms", "batch", r"no argument 'norms': did you mean 'norm'\?"),
        ("model.features", "wide", "model.features=.wide.: .* takes a value of type int"),
        ("model.dropout", "half", "model.dropout=.half.: .* takes a value of type float"),
        (
            "model.features",
            "-8",
            "at least 1 feature map, got features=-8",
        ),
        (
            "model.features",
            "0",
            "at least 1 feature map, got features=0",
        ),
        ("model.kernel_size", "(3, -3)", r"layer 'rcl1': kernel_size .* got \(3, -3\)"),
        ("model.norm", "bach", 'norm must be one of .* got "bach"'),
        ("model.name", "nin", "only keys of the model"),
        ("modle.features", "8", "only keys of the model"),
        ("lr", "0.1", "only keys of the model"),
    ],
)
def test_a_wrong_attribute_is_named(key, value, says):
    with pytest.raises(UsageError, match=says) as caught:
        report(model="rcnn", overrides=[(key, value)])
    assert "\n" not in str(caught.value)


def test_text_of_a_table():
    text = report(model="rcnn")
    head, rows, foot = text.split("\n\n")
    assert head == "rcnn_jax.models.rcnn:rcnn  [1, 32, 32, 3] -> [1, 10]"
    assert "rcl1         RCL x4     [1, 16, 16, 96]     165,984\n" in rows
    numbers = re.findall(r"(?:\]|parameter) +([\d,]+)$", rows, re.MULTILINE)
    assert len(numbers) == 10
    assert sum(int(n.replace(",", "")) for n in numbers) == 672_202
    assert "parameters                672,202  2.56 MB (of 2^20 bytes)" in foot
    assert "kernels                 671,712" in foot
    assert "biases and affines          490" in foot
    assert "219,710,400  219.7 M; forward, convolutions and products" in foot
    assert "parts of its own" in report(model="rcnn", depth=2)
    arrays = report(model="rcnn", parameters=True)
    assert "rcl1/recurrent_kernel  3x3x96x96  float32  82,944" in arrays
    assert arrays.endswith("total 672,202 parameters, 2.56 MB (1 MB = 2^20 bytes)")


def test_everything_fits_a_terminal_of_80_columns(fork, monkeypatch):
    paths = model_names.known()
    some = {name: paths[name] for name in ("rcnn", "fmp_mnist", "nin_released_code")}
    some["Words"] = "fork_of_mine:Words"
    monkeypatch.setattr(model_names, "known", lambda: some)
    listed = list_models(80)
    assert re.search(r"^rcnn +672,202  RCNN-K of the paper", listed, re.MULTILINE)
    assert re.search(r"^Words +\d+  Integers in", listed, re.MULTILINE)
    assert "Input 20:int." in " ".join(listed.split())
    layers = report(model="rcnn_jax.models.rcnn:rcnn", depth=3)
    for line in "\n".join([listed, convolution_table(), layers]).splitlines():
        assert len(line) <= 80 or line.startswith("    python -m"), line


def test_a_model_that_needs_more_is_listed_without_a_number(monkeypatch):
    monkeypatch.setattr(model_names, "known", lambda: {"dense": "flax.linen:Dense"})
    monkeypatch.setattr(model_names, "example_input", lambda path: "32x32x3")
    assert re.search(r"^dense +A linear transformation", list_models(80), re.MULTILINE)


def test_parameters_and_megabytes():
    shape = jax.ShapeDtypeStruct
    params = {"a": {"w": shape((134_260_544,), jnp.float32)}, "b": shape((), jnp.bfloat16)}
    text = parameter_table(params)
    assert "a/w        134260544  float32   134,260,544" in text
    assert "b          scalar     bfloat16            1" in text
    assert text.endswith("total 134,260,545 parameters, 512.16 MB")


def test_numbers_of_a_table_stand_to_the_right():
    text = table([["x", "1,000", 0.5, ""], ["yy", "", 12, "7.25 %"]], ["name", "n", "v", "p"])
    assert text.splitlines() == [
        "name      n    v       p",
        "----  -----  ---  ------",
        "x     1,000  0.5",
        "yy            12  7.25 %",
    ]
    assert shape_text((1, 2), (3,), (4,)) == "[1, 2] [3] ..."


def test_the_door(door):
    result = door("summary", "--config=rcnn_digits:paper", "--depth=2", "--input=9x9x3")
    assert result.returncode == 0, result.stderr
    assert "rcnn_digits:paper: rcnn_jax.models.rcnn:RCNN  [1, 9, 9, 3] -> [1, 10]" in result.stdout
    assert "rcl4/norm" in result.stdout
    assert result.stderr == ""


def test_the_door_says_a_mistake_in_one_line(door):
    result = door("summary", "--model=rcnn", "--config.model.features=-8", "--input=32x32x3")
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: RCNN on an input [1, 32, 32, 3], layer 'conv': ")
    assert line.endswith("at least 1 feature map, got features=-8.")
