"""Features of pictures: what a net says of each, whatever is damaged or stopped on the way."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import flat_backbone
from rcnn_jax.data.files.image_vectors import read
from rcnn_jax.data.files.photographs import Fit, read_photograph
from rcnn_jax.data.transforms import chain as transforms
from rcnn_jax.errors import UsageError, UserError
from rcnn_jax.features import extraction
from rcnn_jax.features.picture_lists import listed
from rcnn_jax.interop import backbones, weights

pytestmark = pytest.mark.one_row

COUNT = 9
MINE = flat_backbone.MINE


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of four pictures; random weights are made once."""
    make, random = extraction._variables, functools.cache(extraction._variables)
    monkeypatch.setattr(
        extraction, "_variables", lambda *given: (random if given[2] == "random" else make)(*given)
    )
    monkeypatch.setattr(extraction, "_PART", 4)


@pytest.fixture
def pictures(tmp_path):
    """Nine pictures of several sizes and colours."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (9 + number, 20 - number, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return listed([folder])


def extract(pictures, output, **options):
    return extraction.extract(
        "flat_backbone:MINE", "random", pictures, output, batch_size=2, **options
    )


@functools.cache
def one_by_one():
    """What the net says of a picture alone, by the steps that the door takes."""
    model = MINE.without_last_layer()
    shape = (1, *MINE.shape)
    variables = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(0), np.zeros(shape, np.float32)
    )
    chain, fit = transforms.build(MINE.preprocess), Fit(8, 9, "bicubic")

    @jax.jit
    def run(pixels):
        return model.apply(variables, chain({"image": pixels})["image"], train=False)

    return lambda picture: np.asarray(run(read_photograph(picture.path, fit)[None]))[0]


def test_every_picture_gets_its_own_features(tmp_path, pictures):
    assert extract(pictures, tmp_path / "f.npz") == []
    found = read(tmp_path / "f.npz")
    assert found.files == tuple(f"{n}.png" for n in range(COUNT))
    expected = np.stack([one_by_one()(picture) for picture in pictures])
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-4)
    assert len(np.unique(found.values.round(3), axis=0)) == COUNT
    assert found.about["backbone"] == "flat_backbone:MINE"
    assert found.about["preprocess"] == MINE.preprocess
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.npz", "pictures"]


class Stopped(BaseException):
    """A kill, as far as code can tell."""


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_a_stopped_job_goes_on_and_ends_with_the_same_bits(
    tmp_path, pictures, monkeypatch, capsys, stop_at
):
    extract(pictures, tmp_path / "unbroken.npz")
    compiled, seen = extraction._compiled, []

    def counted(*arguments):
        run = compiled(*arguments)

        def stopping(pixels):
            seen.append(len(seen))
            if len(seen) == stop_at:
                raise Stopped
            return run(pixels)

        return stopping

    monkeypatch.setattr(extraction, "_compiled", counted)
    with pytest.raises(Stopped):
        extract(pictures, tmp_path / "f.npz")
    assert not (tmp_path / "f.npz").exists()
    capsys.readouterr()
    extract(pictures, tmp_path / "f.npz")
    # Five batches in all; those of the parts of two that were complete are not computed again.
    complete = (stop_at - 1) // 2
    assert len(seen) == stop_at + 5 - 2 * complete
    assert capsys.readouterr().out.count("from before") == complete
    whole, resumed = read(tmp_path / "unbroken.npz"), read(tmp_path / "f.npz")
    np.testing.assert_array_equal(resumed.values, whole.values)
    assert (resumed.files, resumed.about) == (whole.files, whole.about)
    assert not (tmp_path / "f.npz.parts").exists()


def test_a_job_is_not_done_twice_and_never_mixed(tmp_path, pictures, monkeypatch, capsys):
    output = tmp_path / "f.npz"
    extract(pictures, output)
    before = output.read_bytes()
    assert extract(pictures, output) == []
    assert "holds these features already" in capsys.readouterr().out
    with pytest.raises(UsageError, match="made otherwise: --overwrite replaces it"):
        extract(pictures[1:], output)
    assert output.read_bytes() == before
    extract(pictures[1:], output, overwrite=True)
    assert len(read(output).values) == COUNT - 1
    monkeypatch.setattr(extraction, "_compiled", lambda *_: lambda pixels: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract(pictures, tmp_path / "g.npz")
    with pytest.raises(UserError, match=r"another job \(its pictures differ\)"):
        extract(pictures[1:], tmp_path / "g.npz")


def test_damaged_pictures_end_it_or_are_left_out(tmp_path, pictures):
    pictures[3].path.write_bytes(b"no picture")
    pictures[7].path.unlink()
    with pytest.raises(UserError, match=r"3\.png cannot be read.*; --damaged=skip leaves"):
        extract(pictures, tmp_path / "f.npz")
    assert (tmp_path / "f.npz.parts" / "job.json").exists()
    left_out = extract(pictures, tmp_path / "f.npz", skip=True)  # goes on from there
    assert left_out == extract(pictures, tmp_path / "g.npz", skip=True)
    assert len(left_out) == 2
    assert "3.png cannot be read as a picture" in left_out[0]
    assert "7.png: No such file" in left_out[1]
    found = read(tmp_path / "g.npz")
    assert found.files == tuple(f"{n}.png" for n in range(COUNT) if n not in (3, 7))
    np.testing.assert_allclose(found.values[-1], one_by_one()(pictures[8]), rtol=1e-4, atol=1e-4)
    assert found.about["damaged"] == left_out
    # The second time, too, it says what is missing.
    assert extract(pictures, tmp_path / "g.npz", skip=True) == left_out
    for picture in pictures:
        picture.path.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 9 pictures .*0\.png is empty\."):
        extract(pictures, tmp_path / "h.npz", skip=True)


def test_a_picture_that_was_mended_is_read_again(tmp_path, pictures, capsys):
    mended = pictures[6].path.read_bytes()
    pictures[6].path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"6\.png cannot be read"):
        extract(pictures, tmp_path / "f.npz")
    pictures[6].path.write_bytes(mended)
    Image.new("RGB", (30, 30), "blue").save(pictures[1].path)  # of a part that was complete
    capsys.readouterr()
    extract(pictures, tmp_path / "f.npz")
    assert "from before" not in capsys.readouterr().out
    found = read(tmp_path / "f.npz").values
    for place in (1, 6):
        expected = one_by_one()(pictures[place])
        np.testing.assert_allclose(found[place], expected, rtol=1e-4, atol=1e-4)


def test_parts_with_holes_do_not_pass_where_none_may_be(tmp_path, pictures, monkeypatch):
    pictures[0].path.write_bytes(b"no picture")
    monkeypatch.setattr("rcnn_jax.data.files.image_vectors.write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract(pictures, tmp_path / "f.npz", skip=True)
    with pytest.raises(UserError, match=r"0\.png cannot be read"):
        extract(pictures, tmp_path / "f.npz")


def test_a_mat_file_has_a_column_for_each_imgid(tmp_path, pictures):
    images = [{"filename": f"{n}.png", "imgid": COUNT - 1 - n} for n in range(COUNT)]
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"images": images}))
    extract(listed([path], tmp_path / "pictures"), tmp_path / "vgg_feats.mat")
    found = read(tmp_path / "vgg_feats.mat")
    expected = one_by_one()(pictures[COUNT - 1])
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="can leave none out"):
        extract(pictures, tmp_path / "f.mat", skip=True)
    path.write_text(json.dumps({"images": images[:-1]}))
    with pytest.raises(UsageError, match="do not count from 0 to 7"):
        extract(listed([path], tmp_path / "pictures"), tmp_path / "f.mat")


def test_weights_come_from_a_file(tmp_path, pictures):
    arrays = {"fc/kernel": np.full((192, 24), 0.01, "f4"), "fc/bias": np.zeros(24, "f4")}
    np.savez(tmp_path / "w.npz", **arrays)
    call = functools.partial(
        extraction.extract, "flat_backbone:MINE", pictures=pictures, batch_size=2
    )
    call(str(tmp_path / "w.npz"), output=tmp_path / "f.npz")
    found = read(tmp_path / "f.npz")
    assert np.ptp(found.values, axis=1).max() < 1e-3  # all maps are alike
    assert found.about["weights"] == "w.npz"
    assert len(found.about["weights_sha256"]) == 64
    np.savez(
        tmp_path / "w.npz",
        **arrays
        | {"fc/bias": np.full(24, 3e38, "f4"), "fc/kernel": np.full((192, 24), 3e38, "f4")},
    )
    with pytest.raises(UserError, match="not finite: the weights"):
        call(str(tmp_path / "w.npz"), output=tmp_path / "g.npz")
    with pytest.raises(UsageError, match="MINE expects those of a dense layer"):
        call(None, output=tmp_path / "g.npz")
    with pytest.raises(UserError, match="no weight file"):
        call("gone.npz", output=tmp_path / "g.npz")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no pictures are named"),
        (["--backbone=vgg", "--weights=random", "a.png"], "no backbone 'vgg': did you mean"),
        (["a.png"], "--weights=FILE is missing: squeezenet expects those of the released"),
        (["--weights=random", "--output=f.h5", "a.png"], "written to .npz or .mat"),
        (["--weights=random", "--output=no/f.npz", "a.png"], "there is no folder no"),
        (["--weights=random", "gone"], "no file or folder 'gone'"),
    ],
)
def test_the_door_says_a_mistake_in_one_sentence(door, tmp_path, arguments, says):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    result = door("features", *arguments)
    assert result.returncode in (1, 2)
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.glob("f*")] == []


def test_the_door_computes_and_counts_what_it_left_out(door, tmp_path):
    shutil.copy(flat_backbone.__file__, tmp_path)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    given = ("--backbone=flat_backbone:MINE", "--weights=random", "--damaged=skip")
    result = door("features", *given, "a.png", "b.png")
    assert result.returncode == 1, result.stderr
    assert "features.npz: features 1 x 24" in result.stdout
    assert "left out: b.png cannot be read as a picture" in result.stderr
    assert "1 of 2 pictures could not be read" in result.stderr
    assert read(tmp_path / "features.npz").files == ("a.png",)


def test_the_door_names_what_a_folder_holds_besides(door, tmp_path):
    shutil.copy(flat_backbone.__file__, tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("a.png", "b.jp2", "c.avif", "d.jfif"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / "folder" / name)
    for name in ("scan.cr2", "notes.txt", ".hidden"):
        (tmp_path / "folder" / name).write_bytes(b"x")
    given = ("--backbone=flat_backbone:MINE", "--weights=random", "folder")
    said = ["scan.cr2: .cr2 is not read", "1 file that is no picture: 1 .txt"]
    result = door("features", *given)
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines() == [f"left out: {sentence}" for sentence in said]
    found = read(tmp_path / "features.npz")
    assert found.files == ("a.png", "b.jp2", "c.avif", "d.jfif")
    assert found.about["left_out"] == said
    # The features are there already; a file that is no picture is no reason to worry.
    (tmp_path / "folder" / "scan.cr2").unlink()
    result = door("features", *given)
    assert (result.returncode, result.stderr) == (0, f"left out: {said[1]}\n")


RELEASED = "pretrained/squeezenet_v1.0_deep_compression/squeezenet_v1.0_deepcompressed.npz"


@pytest.mark.realdata
def test_squeezenet_names_three_photographs(real_data):
    backbone = backbones.find("squeezenet")
    model = backbone.make(classes=1000)
    batch = (3, *backbone.shape)
    variables = weights.variables(real_data / RELEASED, model, batch, backbone.kind)
    fit, chain = Fit(227, 227, "bicubic"), transforms.build(backbone.preprocess)
    names = ("test_bird.png", "test_cat.png", "test_hot_dog.jpg")
    pixels = np.stack([read_photograph(real_data / "pretrained" / name, fit) for name in names])
    logits = jax.jit(lambda v, x: model.apply(v, chain({"image": x})["image"], train=False))(
        variables, pixels
    )
    labels = (real_data / "pretrained" / "imagenet_labels_1001.txt").read_text().splitlines()[1:]
    answers = [labels[place] for place in np.argmax(logits, -1)]
    assert answers == ["chickadee", "tiger cat", "hotdog, hot dog, red hot"]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "stored", "below"),
    [
        ("coco_mini", "features_380.npz", "val2017"),
        ("flickr8k", "features_100.npz", "Images"),
    ],
)
def test_features_are_those_computed_elsewhere(real_data, tmp_path, folder, stored, below):
    """By another program from the same weights: mean of fire9, shorter side 227, bicubic."""
    theirs = read(real_data / folder / stored, "squeezenet10_fire9_pool")
    paths = sorted((real_data / folder / below).iterdir())[:16]
    extraction.extract(
        "squeezenet", str(real_data / RELEASED), listed(paths), tmp_path / "f.npz", batch_size=16
    )
    found = read(tmp_path / "f.npz")
    expected = theirs.values[[theirs.files.index(name) for name in found.files]]
    assert np.abs(found.values - expected).max() < 1e-3 * expected.max()
    cosine = (found.values * expected).sum(1)
    cosine /= np.linalg.norm(found.values, axis=1) * np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.99999
