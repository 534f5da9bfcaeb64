"""Messages about data, keys and files that are named wrongly: what it is, and the way out.

Each is one sentence. Those about folders and lists of lines are in `data/datasets/lines`.
"""

import pathlib

import pytest
from ml_collections import ConfigDict

from rcnn_jax import predict
from rcnn_jax.configuration import loading
from rcnn_jax.data import catalog
from rcnn_jax.errors import UsageError
from rcnn_jax.experiment import file_examples, task

pytestmark = pytest.mark.one_row

BINARY = "and the binary version is read, cifar-10-binary.tar.gz"
IDX = "and the original idx files are read"
INTENTS = "AddToPlaylist, BookRestaurant, GetWeather, PlayMusic, RateBook, SearchCreativeWork, "
OWN = "sentences of your own need a SlotFiles of rcnn_jax.data.datasets.text.slots"


def one_sentence(error, *parts):
    message = str(error.value)
    for part in parts:
        assert part in message, message
    assert "\n" not in message
    assert len(message) < 1000, message


@pytest.mark.parametrize("name", ["imagefolder:pets", "folder:a/b", "csv:labels", "parquet:x.y"])
def test_a_kind_of_path_that_does_not_exist(name):
    with pytest.raises(ValueError, match="there is no kind") as error:
        catalog.load_spec(name)
    kinds = [f"{kind}:PATH" for kind in catalog.OF_PATHS]
    one_sentence(error, repr(name), *kinds, "tfds:NAME", "'my_fork.module:Name'", "PYTHONPATH")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("line:pages", ["'line:pages'", "did you mean 'lines'?"]),
        ("Recordings:x", ["'Recordings'", "did you mean 'recordings'?"]),
        ("tdfs:mnist", ["tfds:NAME", "did you mean 'tfds'?"]),
        ("lines", ["'lines'", "PATH is needed in lines:PATH"]),
        ("lines:", ["'lines:'", "PATH is needed in lines:PATH"]),
        ("line", ["'line'", "did you mean 'lines'?"]),
        ("/data/pages", ["'/data/pages'", "lines:PATH, recordings:PATH"]),
    ],
)
def test_a_name_that_is_nearly_one(name, parts):
    with pytest.raises(ValueError, match="data set") as error:
        catalog.load_spec(name)
    one_sentence(error, *parts)


# name of the data set: (folder that is named, files, parts of the message)
FORMS = {
    "cifar10, python": (
        "cifar10", "", {"cifar-10-batches-py/data_batch_1": b""},
        ["{}/cifar-10-batches-py is there", "the python version", BINARY],
    ),
    "cifar10, python archive": (
        "cifar10", "", {"cifar10/cifar-10-python.tar.gz": b""},
        ["{}/cifar10/cifar-10-python.tar.gz is there", "the python version", BINARY],
    ),
    "cifar10, Keras": (
        "cifar10", "", {"cifar-10-batches-py.tar.gz": b""},
        ["{}/cifar-10-batches-py.tar.gz is there", "the python version", BINARY],
    ),
    "cifar10, inside": (
        "cifar10", "cifar-10-batches-py", {"cifar-10-batches-py/batches.meta": b""},
        ["/cifar-10-batches-py is there", "the python version", BINARY],
    ),
    "cifar10, MATLAB": (
        "cifar10", "", {"cifar-10-batches-mat/data_batch_1.mat": b""},
        ["{}/cifar-10-batches-mat is there", "the MATLAB version", BINARY],
    ),
    "cifar100, python": (
        "cifar100", "", {"cifar-100-python/train": b""},
        ["{}/cifar-100-python is there", "the python version", "cifar-100-binary.tar.gz"],
    ),
    "cifar10, nothing": ("cifar10", "", {}, ["data_batch_1.bin", "{}", "www.cs.toronto.edu"]),
    "mnist, Keras": ("mnist", "", {"mnist.npz": b""}, ["{}/mnist.npz is there", "Keras", IDX]),
    "mnist, csv": (
        "mnist", "", {"mnist/mnist_train.csv": b""},
        ["{}/mnist/mnist_train.csv is there", "a csv table", IDX],
    ),
    "svhn, format 1": (
        "svhn", "", {"svhn/train.tar.gz": b""},
        ["{}/svhn/train.tar.gz is there", "format 1", "train_32x32.mat"],
    ),
    "svhn, MATLAB 7.3": (
        "svhn", "", {"train_32x32.mat": b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(200)},
        ["{}/train_32x32.mat", "MATLAB 7.3", "HDF5", "save('train_32x32.mat', 'X', 'y', '-v7')"],
    ),
    "own sentences": (
        "snips", "",
        {
            "snips/train/seq.in": b"a\n", "snips/train/seq.out": b"O\n",
            "snips/train/label": b"Ask\n",
        },
        ["{}/snips/train/seq.in has 1 sentences", "snips has 13,084 in 'train'", OWN],
    ),
    "own intents": (
        "snips", "", {
            "snips/test/seq.in": b"a\n" * 700, "snips/test/seq.out": b"O\n" * 700,
            "snips/test/label": b"Ask\n" * 700,
        },
        ["{}/snips/test/label:1: 'Ask'", "none of the 7 intents of snips", INTENTS, OWN],
    ),
    "IOBES": (
        "snips", "", {
            "snips/test/seq.in": b"a\n" * 700, "snips/test/seq.out": b"S-artist\n" * 700,
            "snips/test/label": b"PlayMusic\n" * 700,
        },
        ["{}/snips/test/seq.out:1: 'S-artist' is no tag", "'B-type'", "write B- for the S-"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_data_set_in_another_form_is_named(tmp_path, form):
    name, folder, files, parts = FORMS[form]
    root = tmp_path / "data"
    root.mkdir()
    for file, content in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    split = "test" if any("/test/" in file for file in files) else "train"
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        catalog.open_source(name, split, root / folder, residency="memory")
    one_sentence(error, *(part.format(root) for part in parts))


def test_the_folder_of_torchvision_is_found_by_its_name(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (raw / file).write_bytes(b"")
    files = catalog.load_spec("mnist").files
    for folder in (tmp_path, tmp_path / "MNIST", raw):
        assert [path.parent.resolve() for path in files(folder, "train")] == [raw, raw]
    with pytest.raises(FileNotFoundError, match="fashion_mnist"):
        catalog.load_spec("fashion_mnist").files(tmp_path / "MNIST", "train")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("optim.name", "did you mean 'optimizer.name'?"),
        ("optim.nme", "did you mean 'optimizer.name'?"),
        ("optim.options.b1", "did you mean 'optimizer.options.b1'?"),
        ("optimizer.optoins.b1", "did you mean 'optimizer.options.b1'?"),
        ("modle.features", "did you mean 'model.features'?"),
        ("extras.a.b", "did you mean 'extra.a.b'?"),
        ("dta.name", "did you mean 'data.name'?"),
        ("train.batch_size", "did you mean 'batch_size'?"),
        ("optim.lr", "did you mean 'schedule.value'?"),
        ("optim", "did you mean the section 'optimizer', as in 'optimizer."),
        ("optimizer.name.x", "'optimizer.name' is the value 'sgd' and has no keys"),
        ("optimizer..name", "a key is a name, or names with dots between them"),
        ("optimizer.", "a key is a name, or names with dots between them"),
        ("optimizer", "is a section; set one of its keys: "),
        ("zzz.qqq", "the keys are accumulate, "),
    ],
)
def test_an_unknown_key_of_a_config(key, meant):
    with pytest.raises(UsageError) as error:
        loading.load("rcnn_digits", [(key, "x")])
    one_sentence(error, f"--config.{key}=x: ", meant)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("c.optim.name = 'adam'", "line 5 reads 'optim', .* did you mean 'optimizer'?"),
        ("c.optimizer.name = 'adam'", "line 5 reads 'optimizer', .* config.optimizer = {...} adds"),
        ("c['model']['name'] = ''", "line 5 reads 'model', .* config.model = {...} adds it"),
        ("c.data.nam.e = ''", "line 5 reads 'nam', .* did you mean 'name'?"),
        ("c.lock(); c.optim = 3", "line 5 sets 'optim', .* did you mean 'optimizer'?"),
        ("c.data.lock(); c.data.nam = 3", "line 5 sets 'nam', .* did you mean 'name'?"),
        ("c.lock(); c.zz = 3", "line 5 sets 'zz', which the config does not have: it has data."),
        ("c.data.name = 3", "line 5 sets 'name' to 3 of type int, and its type was str."),
        ("c.data = FrozenConfigDict({'a': 1}); c.data.a = 2", "line 5 "),
        ("raise ValueError('two\\nlines.')", "line 5 raises ValueError: two lines."),
    ],
)
def test_a_line_of_a_config_file(tmp_path, line, says):
    """The library's own messages list the whole config over many lines."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from ml_collections import ConfigDict, FrozenConfigDict\n\ndef get_config():\n"
        f"    c = ConfigDict({{'data': {{'name': 'digits'}}}})\n    {line}\n    return c\n"
    )
    with pytest.raises(UsageError) as error:
        loading.load(str(file))
    start, _, end = says.partition(" .* ")
    one_sentence(error, f"--config={file}: ", start, end)
    assert "Other fields" not in str(error.value)
    assert "Did you mean" not in str(error.value)


def test_a_section_that_is_none(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def get_config():\n    return {'optimizer': 3}\n")
    with pytest.raises(UsageError) as error:
        loading.load(str(file))
    one_sentence(error, f"{file}: optimizer is a section of keys, such as ", "not 3 of type int")
    config = loading.load("rcnn_digits", [("metrics.mine", "3")])
    with pytest.raises(UsageError) as error:
        task.build_metrics(config)
    one_sentence(error, "config.metrics.mine must be a section", "--config.metrics.mine.name=")


def test_a_folder_where_files_are_needed(tmp_path):
    for name in ("a.png", "b.png", "notes.txt", ".hidden"):
        (tmp_path / "i" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "i" / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    says = f"{tmp_path / 'i'} is a folder, name its files, as in {tmp_path / 'i'}/*.png"
    with pytest.raises(UsageError) as error:
        predict.main(["predict", str(tmp_path / "i"), str(tmp_path / "empty")])
    one_sentence(error, f"{says}.")
    config = ConfigDict({"data": {"name": "digits"}, "task": {}})
    _, read = file_examples.reader(config, pathlib.Path("no run"))
    with pytest.raises(ValueError, match="is a folder") as error:
        read(tmp_path / "i")
    one_sentence(error, says)
    with pytest.raises(ValueError, match="empty is a folder without files"):
        read(tmp_path / "empty")
