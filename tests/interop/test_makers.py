"""Whose weights a file holds decides its pixels: another maker's are refused, by name or value."""

import hashlib
import pathlib
import re
import types

import numpy as np
import pytest

from interop.vgg_states import torch_state
from rcnn_jax.errors import UsageError, UserError
from rcnn_jax.features import extraction
from rcnn_jax.interop import backbones, makers, weights
from rcnn_jax.interop.backbone_names import MAKERS, NAMES

pytestmark = pytest.mark.one_row

ROOT = pathlib.Path(__file__).parents[2]
VGG16_CAFFE = (0.73429835, 0.093403675, 0.06775674, 0.8862966, 0.25994542, 0.66426694, -0.01582893)
VGG16_CAFFE += (0.3249065, 0.68600726, 0.062479325)
VGG16_TORCHVISION = (0.4034, 0.3778, 0.4644, -0.3228, 0.3940, -0.3953, 0.3951, -0.5496, 0.2693)
BLUE, RED = 0.42947057, 0.4800154


def named(kind, naming=0):
    """Arrays of no size by the names of a scheme; makers are judged by names."""
    return {name: np.zeros((8, 3, 1, 1)) for name in NAMES[kind][naming]}


def vgg16(bias=None, corner=None, dtype=np.float32):
    """A narrow VGG16 by torchvision's names, whose first layer begins with published values."""
    state = torch_state(16, width=12)
    if bias is not None:
        state["features.0.bias"][: len(bias)] = bias
    if corner is not None:
        state["features.0.weight"][0, 0, 0, 0] = corner
    return {name: array.astype(dtype) for name, array in state.items()}


def check(arrays, name, said=None, path="w.pth"):
    backbone = backbones.find(name)
    fit = weights.fitting(arrays, (backbone.kind,))
    makers.check(pathlib.Path(path), arrays, fit, name, backbone, said)


def test_every_scheme_and_every_backbone_has_makers():
    assert {kind: len(schemes) for kind, schemes in NAMES.items()} == {
        kind: len(owners) for kind, owners in MAKERS.items()
    }
    for backbone in backbones.BACKBONES.values():
        assert any(backbone.maker in owners for owners in MAKERS[backbone.kind])


@pytest.mark.parametrize(
    ("arrays", "name", "right"),
    [
        (named("squeezenet"), "squeezenet", "squeezenet_torchvision"),
        (named("squeezenet", 1), "squeezenet_torchvision", "squeezenet"),
        (named("squeezenet_1_1"), "squeezenet", "squeezenet_1_1_torchvision"),
        (named("vgg16", 1), "vgg16_torchvision", "vgg16"),
        (named("vgg19", 2), "vgg19_torchvision", "vgg19"),
        (named("vgg16", 3), "vgg16", "vgg16_torchvision"),
        (named("vgg19"), "vgg16", "vgg19_torchvision"),
        (named("vgg16", 1), "vgg19", "vgg16"),
        (named("vgg13"), "vgg11_torchvision", "vgg13_torchvision"),
        (named("squeezenet", 1), "vgg16", "squeezenet"),
        (named("efficientnet_lite0"), "squeezenet", "efficientnet_lite0"),
        (vgg16(VGG16_TORCHVISION), "vgg16", "vgg16_torchvision"),
        (vgg16(VGG16_TORCHVISION, dtype=np.float16), "vgg16", "vgg16_torchvision"),
        (vgg16(VGG16_CAFFE, BLUE), "vgg16_torchvision", "vgg16"),
        (vgg16(VGG16_CAFFE, BLUE, np.float16), "vgg16_torchvision", "vgg16"),
    ],
)
def test_weights_of_another_are_refused_with_the_backbone_that_takes_them(arrays, name, right):
    with pytest.raises(UserError, match=rf"'w\.pth'.*--backbone={right}( or |\.$)"):
        check(arrays, name)
    # Whatever is said of it.
    with pytest.raises(UserError, match=r"contradicts|holds the weights of"):
        check(arrays, name, backbones.find(name).maker)
    check(arrays, right)


@pytest.mark.parametrize(
    ("arrays", "name"),
    [
        (named("squeezenet"), "squeezenet_torchvision"),
        (named("squeezenet", 1), "squeezenet"),
        (named("vgg16", 1), "vgg16"),
        (named("vgg16", 2), "vgg16"),
        (named("vgg11"), "vgg11_torchvision"),
        (named("vgg16", 3), "vgg16_torchvision"),
        (named("efficientnet_lite0"), "efficientnet_lite0"),
        (vgg16(), "vgg16_torchvision"),
    ],
)
def test_weights_of_its_own_maker_are_taken(arrays, name):
    check(arrays, name)
    check(arrays, name, backbones.find(name).maker)
    check({f"model.{key}": array for key, array in arrays.items()}, name)


def test_names_that_two_makers_use_need_more(tmp_path):
    """Here torchvision's names, which conversions of the authors' weights have too."""
    path = tmp_path / "vgg16.pth"
    path.write_bytes(b"content")
    says = r"nothing in .*vgg16\.pth.*--backbone=vgg16_torchvision if .*--weights_from=caffe if"
    with pytest.raises(UserError, match=says):
        check(vgg16(), "vgg16", path=path)
    check(vgg16(), "vgg16", "caffe", path)
    with pytest.raises(UserError, match=r"those of torchvision, .*=vgg16_torchvision"):
        check(vgg16(), "vgg16", "torchvision", path)
    with pytest.raises(UserError, match=r"Caffe\), .* pixels than --backbone=vgg16_torchvision"):
        check(vgg16(), "vgg16_torchvision", "caffe", path)
    with pytest.raises(UsageError, match=r"weights_from=keras: .* come from caffe or torchvision"):
        check(vgg16(), "vgg16", "keras", path)


def test_the_hash_in_a_name_decides(tmp_path):
    check(vgg16(), "vgg16", path="models/vgg16-00b39a1b.pth")
    check(vgg16(), "vgg16_torchvision", path="vgg16-397923af.safetensors")
    for name, path in (
        ("vgg16", "vgg16-397923af.pth"),
        ("vgg16_torchvision", "vgg16-00b39a1b.pth"),
    ):
        with pytest.raises(UserError, match="its name has the hash of a released file"):
            check(vgg16(), name, path=path)
        with pytest.raises(UserError, match=r"weights_from=.* contradicts"):
            check(vgg16(), name, backbones.find(name).maker, path)
    # What is in the file counts more than its name.
    check(vgg16(VGG16_CAFFE, BLUE), "vgg16", path="vgg16-397923af.pth")
    assert makers.of_name("squeezenet1_0-b66bff10.pth") == "torchvision"
    assert makers.of_name("vgg16-397923af" + "0" * 56 + ".pth") == "torchvision"
    assert makers.of_name("vgg16-397923afe.pth") == "torchvision"
    assert makers.of_name("x397923af.pth") == makers.of_name("vgg16-12345678.pth") == ""


def test_the_hash_of_the_content_decides_at_last(tmp_path, monkeypatch):
    path = tmp_path / "lite0.pth"
    path.write_bytes(b"content")
    arrays = named("efficientnet_lite0", 1)
    says = r"timm and .* \(TensorFlow\) by these names: --weights_from=tensorflow if"
    with pytest.raises(UserError, match=says):
        check(arrays, "efficientnet_lite0", path=path)
    check(arrays, "efficientnet_lite0", "tensorflow", path)
    digest = hashlib.sha256(b"content").hexdigest()[:8]
    monkeypatch.setitem(makers._HASHES, digest, "tensorflow")
    check(arrays, "efficientnet_lite0", path=path)
    monkeypatch.setitem(makers._HASHES, digest, "timm")
    with pytest.raises(UserError, match=r"those of timm .*there is no backbone that takes"):
        check(arrays, "efficientnet_lite0", path=path)


def test_filters_for_red_first_are_seen(tmp_path):
    """The authors' biases with filters that were turned around: there is no backbone for them."""
    path = tmp_path / "w.pth"
    path.write_bytes(b"content")
    for name in ("vgg16", "vgg16_torchvision"):
        with pytest.raises(UserError, match=r"with red first .*no backbone that takes them"):
            check(vgg16(VGG16_CAFFE, RED), name)
    # Filters of another size, for pixels up to 1, are nobody's that is known.
    with pytest.raises(UserError, match="nothing in"):
        check(vgg16(VGG16_CAFFE, 255 * BLUE), "vgg16", path=path)


def test_our_own_names_say_nothing(tmp_path):
    path = tmp_path / "w.npz"
    path.write_bytes(b"content")
    own = {"conv1/kernel": np.zeros((7, 7, 3, 96)), "conv1/bias": np.zeros(96)}
    for name, maker in (("squeezenet", "caffe"), ("squeezenet_torchvision", "torchvision")):
        with pytest.raises(UserError, match=f"nothing in .*--weights_from={maker}"):
            check(own, name, path=path)
        check(own, name, maker, path)
    check({"stem/kernel": np.zeros((3, 3, 3, 32))}, "efficientnet_lite0", path=path)


def test_a_backbone_of_a_fork_takes_what_fits():
    fork = backbones.Backbone(
        make=backbones.find("squeezenet").make, kind="mine", features=1, layer="", preprocess="",
        size=8, shorter=8, filter="bilinear", weights="",
    )  # fmt: skip
    found = named("squeezenet")
    given = (pathlib.Path("w.pth"), found, weights.fitting(found, ("mine",)), "my_fork:MINE", fork)
    makers.check(*given)
    with pytest.raises(UsageError, match="weights for my_fork:MINE come from nothing"):
        makers.check(*given, "caffe")


@pytest.mark.parametrize(
    ("kind", "naming", "preprocess", "doubted"),
    [
        ("squeezenet", 1, "reverse_channels|normalize((104, 117, 123))", False),
        ("squeezenet", 1, "flip|reverse_channels|normalize((104, 117, 123))|random_crop(9)", False),
        ("squeezenet", 1, "normalize((123, 117, 104))", True),
        ("squeezenet", 1, "to_float(255)", True),
        ("squeezenet", 0, "reverse_channels|normalize((104, 117, 123))", True),
        ("squeezenet", 0, backbones._TORCHVISION_PIXELS, False),
        ("squeezenet", 0, "normalize((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))", False),
        ("squeezenet", 0, "reverse_channels|" + backbones._TORCHVISION_PIXELS, True),
        ("squeezenet", 0, "", True),
        ("squeezenet", 0, "standardize", False),  # fitted, so that it cannot be known here
        ("vgg16", 0, backbones._VGG_PIXELS, False),  # may be a conversion
        ("vgg16", 0, backbones._TORCHVISION_PIXELS, False),
        ("vgg16", 0, "to_float(255)|normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))", True),
        ("efficientnet_lite0", 0, "normalize((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))", False),
        ("efficientnet_lite0", 0, "to_float(255)", True),
    ],
)  # fmt: skip
def test_a_run_that_starts_from_weights_for_other_pixels_is_told(kind, naming, preprocess, doubted):
    found = named(kind, naming)
    doubt = makers.doubt(pathlib.Path("w.pth"), found, weights.fitting(found), preprocess)
    assert (doubt is not None) == doubted
    if doubt is not None:
        assert doubt.startswith("the weights in 'w.pth' were trained by ")
        assert f"config.data.preprocess={preprocess!r} makes others" in doubt


def test_weights_of_no_known_network_are_not_doubted():
    found = {"fc/kernel": np.zeros((3, 3))}
    fit = weights.fitting(found)
    assert makers.doubt(pathlib.Path("w.npz"), found, fit, "to_float(16)") is None


def test_the_commands_in_docstrings_and_readmes_name_weights_of_the_backbone():
    """What people copy must be right: by the hash in the name of the file."""
    count = 0
    files = [ROOT / "README.md"]
    for folder in ("rcnn_jax", "configs"):
        files += [*(ROOT / folder).rglob("*.md"), *(ROOT / folder).rglob("*.py")]
    for file in files:
        for name, path in re.findall(r"--backbone=(\S+)\s+--weights=([\w./-]+)", file.read_text()):
            if not weights.is_weight_file(path):
                assert path in ("FILE", "random"), f"{file}: {path}"
                continue
            count += 1
            assert makers.of_name(path) == backbones.find(name).maker, f"{file}: {name} {path}"
    assert count >= 3


def test_the_door_refuses_before_it_computes(tmp_path):
    """Through `extract`, as `python -m rcnn_jax.features` calls it."""
    picture = types.SimpleNamespace(name="a.png", number=None, path=tmp_path / "a.png")
    np.savez(tmp_path / "w.npz", **named("squeezenet"))
    with pytest.raises(UserError, match=r"torchvision .*--backbone=squeezenet_torchvision\."):
        extraction.extract("squeezenet", str(tmp_path / "w.npz"), [picture], tmp_path / "f.npz")
    with pytest.raises(UserError, match=r"weights_from=caffe contradicts .*'features\.0\.weight'"):
        extraction.extract(
            "squeezenet", str(tmp_path / "w.npz"), [picture], tmp_path / "f.npz",
            weights_from="caffe",
        )  # fmt: skip


@pytest.mark.realdata
def test_the_released_arrays_are_refused_by_torchvisions_backbone(real_data):
    path = real_data / "pretrained/squeezenet_v1.0_deep_compression"
    path /= "squeezenet_v1.0_deepcompressed.npz"
    arrays = weights.read(path)
    check(arrays, "squeezenet", path=path)
    with pytest.raises(UserError, match=r"'conv1/w'.*--backbone=squeezenet\."):
        check(arrays, "squeezenet_torchvision", path=path)
