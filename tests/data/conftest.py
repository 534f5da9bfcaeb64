"""Small stand-ins for the original files, and CIFAR-10's real ones rebuilt once a session."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.ndimage

from rcnn_jax.data import sources


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or fills the user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def cifar10_root(real_data, tmp_path_factory) -> pathlib.Path:
    """A data root with CIFAR-10's binary files, made from the compact form (about 5 s, 179 MB)."""
    folder = real_data / "cifar10"
    if (folder / "cifar-10-batches-bin").is_dir():
        return real_data
    out = tmp_path_factory.mktemp("cifar10") / "cifar-10-batches-bin"
    subprocess.run([sys.executable, str(folder / "rebuild.py"), str(out)], check=True)
    return out.parent


@pytest.fixture
def counting() -> sources.ArraySource:
    """23 examples that say who they are."""
    return sources.ArraySource(
        {
            "image": np.arange(23 * 8, dtype=np.uint8).reshape(23, 4, 2, 1),
            "label": np.arange(23, dtype=np.int32),
        }
    )


@pytest.fixture
def photographs():
    """Correlated and unevenly lit, as photographs are: whitening has something to do."""
    rng = np.random.default_rng(0)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(300, 6, 6, 3)), (0, 1, 1, 0))
    images = 120 + 300 * smooth + rng.normal(0, 20, (300, 1, 1, 1))
    return sources.ArraySource({"image": np.clip(images, 0, 255).astype(np.uint8)})


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> pathlib.Path:
    """12 examples in two record files, as TFDS leaves them; `root` is a copy to be changed."""
    from data.records import prepared as records  # imports TFDS, which most tests here do without

    root = tmp_path_factory.mktemp("published")
    records.publish(records.SPEC, root, shards=2)
    return root


@pytest.fixture
def root(published, tmp_path) -> pathlib.Path:
    """A data root of one test's own, with the published data set."""
    return shutil.copytree(published, tmp_path / "root")
