"""What a config names is built with arguments that are there and of their type."""

import dataclasses
import importlib.util
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from rcnn_jax.configuration import importing, loading
from rcnn_jax.errors import UsageError


@dataclasses.dataclass
class Net:
    classes: int
    scale: float = 1.0
    norm: str | None = None
    sizes: Sequence[int] = (3, 3)
    pairs: tuple[tuple[str, float], ...] = ()
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    wide: bool = False
    remat: bool | str = False
    other: Any = None
    dtype: "str" = "float32"


def preset(classes: int, scale: float = 2.0, **attributes: Any) -> Net:
    return Net(classes=classes, scale=scale, **attributes)


def bare(classes, **attributes):
    return Net(classes, **attributes)


NAME = f"{__name__}:"


def build(name="Net", **keys):
    return importing.build({"name": NAME + name, "classes": 3} | keys, "config.model")


@pytest.mark.parametrize(
    "keys",
    [
        {"scale": 2},
        {"scale": 0.5, "norm": None},
        {"norm": "batch", "sizes": [5, 5]},
        {"sizes": (), "pairs": (("a", 1), ("b", 0.5))},
        {"wide": True, "remat": "chunks"},
        {"remat": True, "other": {"any": object}},
        {"dtype": "bfloat16"},
        {"counts": {"a": 1}},
    ],
)
def test_values_of_their_type_are_taken(keys):
    made = build(**keys)
    assert all(getattr(made, key) == value for key, value in keys.items())
    assert isinstance(made.scale, float)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes": "ten"}, "config.model.classes='ten': .*:Net takes a value of type int"),
        ({"classes": 2.0}, "classes=2.0"),
        ({"classes": True}, "classes=True"),
        ({"scale": "half"}, "scale='half'.*float"),
        ({"scale": False}, "scale=False"),
        ({"norm": 3}, r"norm=3.*str \| None"),
        ({"sizes": 3}, r"sizes=3.*Sequence\[int\]"),
        ({"sizes": "33"}, "sizes='33'"),
        ({"sizes": (3, "3")}, "sizes="),
        ({"sizes": (1.5,)}, r"sizes=\(1\.5,\): .*Sequence\[int\]"),
        ({"sizes": (3, True)}, r"sizes=\(3, True\)"),
        ({"sizes": "010"}, "sizes='010'"),
        ({"classes": "010"}, "classes='010'.*type int"),
        ({"pairs": (("a", "b"),)}, r"pairs=\(\('a', 'b'\),\)"),
        ({"pairs": (("a", True),)}, "pairs="),
        ({"pairs": (("a", 1, 2),)}, "pairs="),
        ({"pairs": (("a",),)}, "pairs="),
        ({"counts": {"a": 1.5}}, r"counts=\{'a': 1\.5\}.*Mapping\[str, int\]"),
        ({"wide": 1}, "wide=1.*bool"),
        ({"remat": 1.0}, "remat=1.0"),
        ({"dtype": None}, "dtype=None"),
        ({"size": 3}, "no argument 'size': did you mean 'sizes'"),
    ],
)
def test_others_are_refused_in_one_sentence(keys, message):
    with pytest.raises(UsageError, match=message):
        build(**keys)


def test_a_preset_takes_what_its_class_takes():
    assert build("preset", norm="layer") == Net(classes=3, scale=2.0, norm="layer")
    given = importing.build(
        {"name": NAME + "preset", "classes": 3}, "config.model", dtype="x", no=1
    )
    assert given.dtype == "x"
    with pytest.raises(UsageError, match="no argument 'nrom': did you mean 'norm'"):
        build("preset", nrom="layer")
    with pytest.raises(UsageError, match="scale='a'"):
        build("preset", scale="a")
    # Without an annotation nothing is known of what it hands on.
    with pytest.raises(UsageError, match="no argument 'norm'"):
        build("bare", norm="layer")


def raising(classes: int, dtype: str = "float32") -> Net:
    raise LookupError(f"no {classes}\nclasses")


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("raising", {}, r"config.model: .*:raising cannot be built: LookupError: no 3 classes \("),
        ("raising", {}, r"configuration/test_importing.py:\d+\)\.$"),
        ("NAME", {}, "is a str, neither a class nor a function"),
    ],
)
def test_an_error_while_building_names_its_place(name, keys, message):
    target = importing.resolve(NAME + name, "config.model.name")
    with pytest.raises(UsageError, match=message):
        importing.call(target, NAME + name, "config.model", keys, {"classes": 3})


def test_a_missing_argument_names_what_is_near():
    with pytest.raises(UsageError, match=r"without the argument 'classes', .*mean 'clases'"):
        importing.build({"name": NAME + "Net"}, "config.model", clases=3, dtype="float64")
    with pytest.raises(UsageError, match=r"config.model does not state and nothing offers\.$"):
        importing.build({"name": NAME + "Net"}, "config.model")


def test_what_compiled_programs_tell_apart_must_be_hashable():
    from rcnn_jax.layers.recurrent.cell import cell_by_name

    with pytest.raises(UsageError, match=r"cell: .*:Changing must be hashable.*frozen=True"):
        cell_by_name(NAME + "Changing", 3)


@dataclasses.dataclass
class Changing:
    """A cell that may change."""

    hidden: int
    output_features = 3

    def carry_features(self):
        return {}

    def weights(self, features):
        return features

    drive = step = weights


def test_what_has_moved_is_found(monkeypatch):
    moved = {
        "rcnn_jax.attic.nets": "rcnn_jax.cellar.nets",
        "rcnn_jax.cellar.nets": NAME[:-1],
        "rcnn_jax.attic.nets:Old": f"{NAME}Net",
        "rcnn_jax.ring": "rcnn_jax.ring",
    }
    monkeypatch.setattr(importing, "MOVED", moved)
    assert importing.resolve("rcnn_jax.attic.nets:Net", "config.model.name") is Net
    assert importing.resolve("rcnn_jax.attic.nets:Old", "config.model.name") is Net
    # A module may have become the folder of the same name.
    assert importing.current("rcnn_jax.attic.nets.more:Net") == "rcnn_jax.attic.nets.more:Net"
    assert importing.current("rcnn_jax.ring:Net") == "rcnn_jax.ring:Net"
    text = "rcnn_jax.attic.nets:Old(1, 'x:y')|flip"
    assert importing.with_current_paths({"a": [text, 3]}) == {"a": [f"{NAME}Net(1, 'x:y')|flip", 3]}


def test_what_has_moved_is_there():
    for old, new in importing.MOVED.items():
        module, _, name = new.partition(":")
        assert importing.current(old if ":" in old else f"{old}:x").startswith(module)
        assert importlib.util.find_spec(module), new
        if name:
            importing.resolve(new, "MOVED")


# What forks and configs may name for ever, by `MOVED` where it lies elsewhere.
STABLE = {
    "errors": "UserError UsageError did_you_mean nearest",
    "layers.rcl": "RCL",
    "models.captioner": "Captioner multimodal_rnn neuraltalk neuraltalk_rnn",
    "models.efficientnet_lite": "EfficientNetLite efficientnet_lite0",
    "models.encoder_decoder": "EncoderDecoder greedy",
    "models.fractional_max_pooling": "FractionalMaxPoolingNet fmp_cifar10 fmp_mnist",
    "models.fully_connected": "FullyConnected maxout_mnist",
    "models.grid_net": "GridNet",
    "models.hopfield": "Recall store energy recall capacity_curve",
    "models.maxout": "MaxoutNet maxout maxout_released_code probabilistic_maxout",
    "models.nin": "NIN nin nin_released_code",
    "models.rcnn": "RCNN rcnn rcnn_without_dropout wcnn recursive_rcnn depth_matched_cnn",
    "models.resnet": "ResNet resnet20 resnet32 resnet44 resnet56 resnet110",
    "models.sequence_classifier": "SequenceClassifier",
    "models.squeezenet": "SqueezeNet squeezenet squeezenet_released_code squeezenet_1_1",
    "models.tagger": "Tagger",
    "models.transcriber": "Transcriber grcnn_released_code",
    "models.vgg": "VGGFeatures VGG vgg11 vgg13 vgg16 vgg19",
    "tasks.base": "LossOutput BaseTask",
    "tasks.captioning": "Captioning",
    "tasks.classification": "Classification",
    "tasks.images": "ImageTask",
    "tasks.labelling": "SequenceLabelling",
    "tasks.multilabel": "MultiLabel",
    "tasks.regression": "Regression",
    "tasks.sequence_to_sequence": "SequenceToSequence",
    "tasks.summed": "SummedTask",
    "tasks.tagging": "Tagging",
    "tasks.transcription": "Transcription",
    "data.spec": "Feature DatasetSpec",
    "data.sources": "Source ArraySource RecordSource View Concatenation load_spec open_source",
    "data.samplers": "Sampler Shuffled ShuffledWithEpochs Sequential",
    "data.buckets": "Buckets",
    "data.pipeline": "DeviceSource Batches train_batches evaluation_batches",
    # Named by the shipped configs, and so by the workdirs of finished runs.
    "data.captions": "Captions",
    "data.dates": "DATES NUMBER_NAMES",
    "data.lags": "ADDING_50 ADDING_200 ADDING_400 COPY_50 COPY_100 COPY_200",
    "data.patches": "WhitenedKernel",
    "data.shapes.judge": "judge",
    "data.sequence_pairs": "SequencePairs",
    "data.transcripts": "Transcripts",
    "data.word_tags": "WordTags",
    # The same where they are now.
    "data.encoders.captions": "Captions",
    "data.encoders.padding": "Padded",
    "data.encoders.sequence_pairs": "SequencePairs",
    "data.encoders.transcripts": "Transcripts",
    "data.encoders.word_tags": "WordTags",
    "data.datasets.series.lags": "ADDING_50 ADDING_200 ADDING_400 COPY_50 COPY_100 COPY_200",
    "data.datasets.shapes.judge": "judge",
    "data.datasets.text.dates": "DATES NUMBER_NAMES",
    "layers.whitening": "WhitenedKernel",
}
COMMANDS = "train evaluate predict sweep iterations neighbours summary figures features report"


@pytest.mark.one_row
def test_stable_addresses_resolve():
    for module, names in STABLE.items():
        for name in names.split():
            importing.resolve(f"rcnn_jax.{module}:{name}", "a fork's import")
    for name in COMMANDS.split():
        spec = importlib.util.find_spec(f"rcnn_jax.{name}")
        assert spec is not None, name
        runs = f"rcnn_jax.{name}.__main__" if spec.submodule_search_locations else spec.name
        assert importlib.util.find_spec(runs) is not None, name


@pytest.mark.one_row
def test_what_shipped_configs_name_is_there_and_stable():
    for path in loading.shipped().values():
        for module, name in re.findall(r"rcnn_jax\.([\w.]+):(\w+)", path.read_text()):
            assert name in STABLE[module].split(), (path, module, name)
