"""Dark ink or bright ink: decided once by the training split, and kept for all that comes later."""

import numpy as np
import pytest
from PIL import Image

from rcnn_jax.data import assets as assets_lib
from rcnn_jax.data import catalog
from rcnn_jax.data.encoders.transcripts import Transcripts
from rcnn_jax.data.sources import ArraySource
from rcnn_jax.data.spec import Feature

pytestmark = pytest.mark.one_row

INK = np.zeros((8, 24), np.uint8)
INK[2:6, 3:21:3] = 200
DARK, DIM, BRIGHT = 255 - INK, (115 - INK * 0.3).astype(np.uint8), INK
# All three signs mislead: bold letters that touch the border.
BOLD = np.full((8, 24), 250, np.uint8)
BOLD[:, 2:20] = 20


def folder(root, train, test=()):
    for split, pictures in (("train", train), ("test", test)):
        place = root / "mine" / split
        place.mkdir(parents=True)
        for number, grey in enumerate(pictures):
            Image.fromarray(grey).save(place / f"{number:02d}.png")
            (place / f"{number:02d}.txt").write_text("ab")
    return root


def opened(root, split="train", residency="memory"):
    return catalog.open_source("lines:mine", split, root, residency=residency)


def read_like(root, source, assets=None, **arguments):
    """The pictures of a source as a run that was trained on `root` reads them."""
    encoder = Transcripts(**arguments)
    assets = encoder.fit(opened(root)) if assets is None else assets
    return encoder.bind(assets, [source]).wrap(source).in_memory().columns["image"][..., 0]


def files(root, *pictures):
    """The source that `predict` makes of files."""
    spec, examples = catalog.load_spec("lines:mine"), []
    for number, grey in enumerate(pictures):
        Image.fromarray(grey).save(root / f"{number}.png")
        examples.append(spec.read_file(root / f"{number}.png"))
    columns = {name: [e[name] for e in examples] for name in examples[0]}
    return ArraySource(columns, {name: spec.features[name] for name in columns})


@pytest.mark.parametrize(
    ("kind", "dark", "residency"),
    [(DARK, True, "memory"), (DIM, True, "stream"), (BRIGHT, False, "memory")],
)
def test_the_training_split_decides_for_every_picture(tmp_path, kind, dark, residency, capsys):
    bold = BOLD if dark else 255 - BOLD
    root = folder(tmp_path, [kind, kind, bold, kind], [bold, kind])
    encoder = Transcripts()
    assets = encoder.fit(opened(root, residency=residency))
    assert assets["dark_ink"].shape == ()
    assert assets["dark_ink"] == dark
    assets_lib.save(tmp_path / "assets", assets)
    assets = assets_lib.load(tmp_path / "assets")
    for split, pictures in (("train", [kind, kind, bold, kind]), ("test", [bold, kind])):
        source = opened(root, split, residency)
        expected = np.stack([255 - grey if dark else grey for grey in pictures])
        np.testing.assert_array_equal(read_like(root, source, assets), expected)
    source = files(tmp_path, bold, kind, kind)
    expected = np.stack([255 - grey if dark else grey for grey in (bold, kind, kind)])
    np.testing.assert_array_equal(read_like(root, source, assets), expected)
    assert capsys.readouterr().err == ""


def test_the_majority_of_a_mixed_set_wins_and_is_said(tmp_path, capsys):
    root = folder(tmp_path, [DARK, BRIGHT, DIM, DARK], [BRIGHT, DIM])
    found = read_like(root, opened(root))
    np.testing.assert_array_equal(found, 255 - np.stack([DARK, BRIGHT, DIM, DARK]))
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("warning: 1 of 4 pictures of a split look like bright ink on dark, and")
    assert "all are read as dark ink on bright" in told
    assert "--config.encoder.polarity=each decides for each" in told
    assert "train/01.txt" in told
    # Of files to predict for, it is said, too.
    read_like(root, files(tmp_path, BRIGHT))
    assert "1 of 1 pictures of a split look like bright" in capsys.readouterr().err


def test_a_polarity_of_the_users_own(tmp_path, capsys):
    mixed = [DARK, BRIGHT, DIM, BRIGHT]
    root = folder(tmp_path, mixed)
    each = np.stack([255 - DARK, BRIGHT, 255 - DIM, BRIGHT])
    np.testing.assert_array_equal(read_like(root, opened(root), polarity="each"), each)
    assert capsys.readouterr().err == ""
    np.testing.assert_array_equal(
        read_like(root, opened(root), polarity="bright_ink"), np.stack(mixed)
    )
    assert "2 of 4 pictures of a split look like dark ink on bright" in capsys.readouterr().err
    np.testing.assert_array_equal(
        read_like(root, opened(root), polarity="dark_ink"), 255 - np.stack(mixed)
    )
    assert "dark_ink" not in Transcripts(polarity="each").fit(opened(root))
    with pytest.raises(ValueError, match="polarity is one of fitted, dark_ink, bright_ink, each"):
        Transcripts(polarity="dark")


def test_an_older_run_goes_by_the_mean_of_each_picture_and_says_so(tmp_path, capsys):
    root = folder(tmp_path, [DARK, DIM, BRIGHT], [DARK, BOLD])
    assets = Transcripts().fit(opened(root))
    del assets["dark_ink"]
    found = read_like(root, opened(root), assets)
    np.testing.assert_array_equal(found, np.stack([255 - DARK, DIM, BRIGHT]))
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("warning: this run is older than the polarity of data sets: each ")
    np.testing.assert_array_equal(
        read_like(root, opened(root, "test"), assets), np.stack([255 - DARK, BOLD])
    )


def test_pictures_of_which_nothing_is_said_stay_as_they_are(capsys):
    """Data sets that are composed, those of forks, and arrays that are handed over."""
    features = {"image": Feature((None, None, 1), "uint8"), "text": Feature((None,), "uint8")}
    text = np.frombuffer(b"ab", np.uint8)
    pictures = [DARK[..., None], BRIGHT[..., None]]
    source = ArraySource({"image": pictures, "text": [text, text]}, features)
    encoder = Transcripts()
    assets = encoder.fit(source)
    assert sorted(assets) == ["alphabet", "line_height"]
    found = encoder.bind(assets, [source]).wrap(source).in_memory().columns["image"]
    np.testing.assert_array_equal(found, np.stack(pictures))
    assert capsys.readouterr().err == ""
    each = Transcripts(polarity="each")
    found = each.bind(each.fit(source)).wrap(source).in_memory().columns["image"]
    np.testing.assert_array_equal(found[..., 0], [255 - DARK, BRIGHT])
