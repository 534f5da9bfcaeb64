"""Opening data sets, and sources made of sources."""

import dataclasses
import textwrap

import numpy as np
import pytest

from rcnn_jax.data import catalog, sources
from rcnn_jax.data.columns import LazyColumn
from rcnn_jax.data.spec import DatasetSpec, Feature
from rcnn_jax.errors import UsageError

FEATURES = {"image": Feature((2,), "uint8"), "label": Feature((), "int32", classes=3)}


def make_spec(**columns):
    return DatasetSpec(
        name="mine",
        version="1.0.0",
        features=FEATURES,
        splits={"train": 3},
        files=lambda root, split: [],
        read=lambda root, split: {
            "image": np.zeros((3, 2), np.uint8), "label": np.arange(3, dtype=np.int32), **columns
        },
    )  # fmt: skip


def examples_equal(source, expected):
    """One by one, and gathered in another order."""
    assert [int(source[i]["label"]) for i in range(len(source))] == expected
    order = np.random.default_rng(0).integers(0, len(source), 50)
    gathered = source.gather(order)
    assert gathered["label"].tolist() == [expected[i] for i in order]
    for row, i in enumerate(order):
        np.testing.assert_array_equal(gathered["image"][row], source[int(i)]["image"])
        assert gathered["image"].dtype == source[int(i)]["image"].dtype


def test_array_views_and_concatenations_agree(counting):
    examples_equal(counting, list(range(23)))
    view = sources.View(counting, np.array([5, 3, 3, 22]))
    examples_equal(view, [5, 3, 3, 22])
    both = sources.Concatenation((view, sources.View(counting, np.array([0])), counting))
    examples_equal(both, [5, 3, 3, 22, 0, *range(23)])
    assert all(isinstance(s, sources.Source) for s in (counting, view, both))
    assert both.features == counting.features


@pytest.mark.parametrize("index", [-1, 23])
def test_an_index_outside_is_an_error_everywhere(counting, index):
    view = sources.View(counting, np.arange(23))
    for source in (counting, view, sources.Concatenation((view,))):
        with pytest.raises(IndexError, match=f"example {index} of a source with 23"):
            source[index]
        with pytest.raises(IndexError, match=f"example {index} of a source with 23"):
            source.gather(np.array([0, index]))
    with pytest.raises(IndexError, match="of a source with 23"):
        sources.View(counting, np.array([index]))


def test_lazy_columns_make_only_what_is_asked_for():
    made = []

    class Squares:
        def __len__(self):
            return 1000

        def __getitem__(self, index):
            made.append(index)
            return np.full(2, index**2, np.int32)

    source = sources.ArraySource({"x": Squares()}, {"x": Feature((2,), "int32")})
    np.testing.assert_array_equal(source.gather(np.array([3, 7]))["x"], [[9, 9], [49, 49]])
    assert made == [3, 7]


def test_examples_of_different_shape_do_not_stack():
    source = sources.ArraySource(
        {"x": [np.zeros(2), np.zeros(3)]}, {"x": Feature((None,), "float64")}
    )
    assert source[1]["x"].shape == (3,)
    with pytest.raises(ValueError, match="feature 'x' differs in shape between examples"):
        source.gather(np.array([0, 1]))


@pytest.mark.parametrize("residency", sources.RESIDENCIES)
def test_some_features_alone(residency):
    for split in ("test", "test[:3]+validation[:2]"):
        every = catalog.open_source("digits", split, residency=residency)
        one = catalog.open_source("digits", split, residency=residency, features=("label",))
        assert {"image", "label"} <= set(every.features)
        assert set(one.features) == {"label"}
        rows = np.arange(4)
        batch = one.gather(rows)
        assert set(batch) == {"label"} == set(one[0])
        np.testing.assert_array_equal(batch["label"], every.gather(rows)["label"])


def test_a_feature_that_is_none():
    with pytest.raises(ValueError, match="'digits' has no feature 'lable': did you mean 'label'"):
        catalog.open_source("digits", "test", residency="memory", features=("image", "lable"))


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"equally long, got \{'a': 2, 'b': 3\}"):
        sources.ArraySource({"a": np.zeros(2), "b": np.zeros(3)})


def test_splits_select_and_join():
    opened = catalog.open_source("digits", "test[-3:]+validation[:2]", residency="memory")
    whole = {
        s: catalog.open_source("digits", s, residency="memory") for s in ("test", "validation")
    }
    ids = [whole["test"][i]["id"] for i in (357, 358, 359)]
    ids += [whole["validation"][i]["id"] for i in (0, 1)]
    assert [opened[i]["id"] for i in range(len(opened))] == ids


def test_every_shipped_name_leads_to_a_spec_of_that_name():
    for name, path in catalog.SHIPPED.items():
        assert catalog.load_spec(name).name == name
        assert catalog.load_spec(path) is catalog.load_spec(name)


def test_an_unknown_data_set_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"no data set 'cifar_10'.*did you mean 'cifar10'\?"):
        catalog.open_source("cifar_10", "train", residency="memory")


def test_what_a_path_follows_may_be_mistyped(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"'karpaty:x'.*karpathy:PATH.*did you mean 'karpathy'"):
        catalog.load_spec("karpaty:x")
    with pytest.raises(ValueError, match=r"'captioned:': PATH is needed in lines:PATH"):
        catalog.load_spec("captioned:")
    # A fork's own module may be called almost as one of them.
    (tmp_path / "recording.py").write_text(
        "from rcnn_jax.data.datasets.images.digits import DIGITS as MINE\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert catalog.load_spec("recording:MINE").name == "digits"
    with pytest.raises(UsageError, match=r"no module 'lined'"):
        catalog.load_spec("lined.pages:MINE")


def test_an_unknown_residency_lists_the_known():
    with pytest.raises(ValueError, match="residency 'ram' is not one of stream, memory, device"):
        catalog.open_source("digits", "train", residency="ram")


@pytest.fixture
def fork(tmp_path, monkeypatch):
    """A module outside the package with a data set of its own."""
    (tmp_path / "fork_of_mine.py").write_text(
        textwrap.dedent(
            """
            import numpy as np
            from rcnn_jax.data.spec import DatasetSpec, Feature

            NUMBER = 3
            MINE = DatasetSpec(
                name="mine", version="1.0.0", features={"x": Feature((2,), "float32")},
                splits={"train": None}, files=lambda root, split: [],
                read=lambda root, split: {"x": np.arange(8, dtype=np.float32).reshape(4, 2)},
            )
            """
        )
    )
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("residency", sources.RESIDENCIES)
def test_a_fork_names_its_data_set_by_import_path(fork, residency):
    source = catalog.open_source("fork_of_mine:MINE", "train[1:]", residency=residency)
    assert source[2]["x"].tolist() == [6, 7]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("fork_of_mine:MIEN", "fork_of_mine has no MIEN; did you mean 'MINE'"),
        ("fork_of_mine:NUMBER", "is a int, not a DatasetSpec"),
        ("nobody.has.this:MINE", "no module 'nobody' was found.*PYTHONPATH"),
        ("needs_more:MINE", "No module named 'not_installed_anywhere'"),
        ("fork_of_mine:", "is no import path like"),
    ],
)
def test_a_fork_that_cannot_be_used_is_one_sentence(fork, path, says):
    with pytest.raises(ValueError, match=says) as error:
        catalog.load_spec(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"extra": np.zeros(3)}, r"returned the features \['extra', 'image', 'label'\]"),
        ({"image": np.zeros((4, 2), np.uint8)}, r"split 'train' has .*'image': 4"),
        ({"image": np.zeros((3, 2), np.int32)}, r"is int32\[2\], the spec says uint8\[2\]"),
        ({"image": np.zeros((3, 5), np.uint8)}, r"is uint8\[5\], the spec says uint8\[2\]"),
        ({"label": np.array([0, 1, 3], np.int32)}, "holds 3, allowed are 0 to 2"),
        ({"label": np.array([0, -1, 2], np.int32)}, "holds -1, allowed are 0 to 2"),
    ],
)
def test_a_reader_is_held_to_its_spec(tmp_path, columns, says):
    with pytest.raises(ValueError, match=says):
        make_spec(**columns).columns(tmp_path, "train")


class Lazy:
    """A column that makes its examples, as those do that are read from files."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]


LABELS = [np.int32(0), np.int32(2), np.int32(3)]


def test_a_list_of_labels_is_checked_before_it_is_used(tmp_path):
    with pytest.raises(ValueError, match=r"split 'train' holds 3, allowed are 0 to 2 \(example 2"):
        make_spec(label=LABELS).columns(tmp_path, "train")


@pytest.mark.parametrize("residency", sources.RESIDENCIES)
def test_a_lazy_label_out_of_range_is_named_when_it_is_read(tmp_path, monkeypatch, residency):
    monkeypatch.setattr(catalog, "load_spec", lambda name: make_spec(label=Lazy(LABELS)))
    says = r"mine: feature 'label' of split 'train' holds 3, allowed are 0 to 2 \(example 2\)"
    if residency == "stream":
        with pytest.raises(ValueError, match=says):
            catalog.open_source("mine", "train", tmp_path, residency=residency)
        return
    source = catalog.open_source("mine", "train[1:]", tmp_path, residency=residency)
    assert source[0]["label"] == 2
    with pytest.raises(ValueError, match=says):
        source.gather(np.arange(2))  # as device residency does with all of them
    with pytest.raises(ValueError, match=says):
        source[1]


def test_a_lazy_example_of_another_shape_is_named_when_it_is_read(tmp_path):
    images = [np.zeros(2, np.uint8), np.zeros(2, np.uint8), np.zeros(3, np.uint8)]
    column = make_spec(image=Lazy(images)).columns(tmp_path, "train")["image"]
    assert column[1].shape == (2,)
    with pytest.raises(ValueError, match=r"uint8\[3\], the spec says uint8\[2\] \(example 2\)"):
        column[2]


def test_classes_are_integers():
    with pytest.raises(ValueError, match="a feature of float32 cannot have classes"):
        Feature((), "float32", classes=3)


def test_a_reader_that_returns_no_mapping(tmp_path):
    spec = dataclasses.replace(make_spec(), read=lambda root, split: None)
    with pytest.raises(ValueError, match="reader of split 'train' returned NoneType"):
        spec.columns(tmp_path, "train")


def test_examples_that_do_not_stack_are_named_before_the_start(tmp_path, monkeypatch):
    features = {"x": Feature((None,), "float32")}
    spec = dataclasses.replace(
        make_spec(),
        features=features,
        read=lambda root, split: {"x": [np.zeros(n, np.float32) for n in (2, 2, 5)]},
    )
    monkeypatch.setattr(catalog, "load_spec", lambda name: spec)
    says = r"example 1 of mine split 'train' has \[2\], example 2 has \[5\]; an encoder"
    for residency in ("memory", "stream"):
        source = catalog.open_source("mine", "train", tmp_path, residency=residency)
        sources.check_stacking(source, np.array([0, 1, -1]))
        with pytest.raises(ValueError, match=says):
            sources.check_stacking(source, np.array([1, 2, -1]))


def test_a_feature_cannot_be_called_mask():
    with pytest.raises(ValueError, match="mine: a feature cannot be called 'mask'"):
        dataclasses.replace(make_spec(), features={"mask": Feature((), "int32")})


def test_a_reader_that_lost_examples_is_caught(tmp_path):
    with pytest.raises(ValueError, match="the spec says 4"):
        dataclasses.replace(make_spec(), splits={"train": 4}).columns(tmp_path, "train")


def test_names_of_the_entries_of_a_vector():
    assert Feature((2,), "uint8", entries=("cat", "dog")).entries == ("cat", "dog")
    for shape in ((3,), (), (2, 2)):
        with pytest.raises(ValueError, match=r"shape \[.*\] cannot have 2 entries"):
            Feature(shape, "uint8", entries=("cat", "dog"))


class Plain:
    """A source of a fork that says nothing of selecting."""

    def __init__(self, source):
        self._source, self.features = source, source.features

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        return self._source[index]

    def gather(self, indices):
        return self._source.gather(indices)


@pytest.mark.parametrize("whole", ["array", "view", "joined", "plain"])
def test_some_features_are_read_without_the_others(whole):
    read = []

    def picture(index):
        read.append(index)
        return np.full((2, 2), index, np.uint8)

    array = sources.ArraySource(
        {
            "image": LazyColumn(6, picture),
            "label": np.arange(6, dtype=np.int32),
            "mask": np.array([1, 1, 0, 1, 1, 1], np.float32),
        },
        {"image": Feature((2, 2), "uint8"), "label": Feature((), "int32", 6)},
    )
    view = sources.View(array, np.array([5, 2, 1]))
    source = {
        "array": array,
        "view": view,
        "joined": sources.Concatenation((view, array)),
        "plain": Plain(array),
    }[whole]
    some = sources.select(source, ["label"])
    assert set(some.features) == {"label"}
    assert len(some) == len(source)
    for index in range(len(source)):
        assert set(some[index]) == {"label", "mask"}
        assert some[index]["label"] == source[index]["label"]
    rows = np.array([2, 0, 1])
    assert set(some.gather(rows)) == {"label", "mask"}
    for name, values in some.gather(rows).items():
        np.testing.assert_array_equal(values, source.gather(rows)[name])
    if whole != "plain":
        read.clear()
        some.gather(rows)
        assert not read
