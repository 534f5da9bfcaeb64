"""`launch/local.py` before it starts anything: mistakes, and who gets which GPUs."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"


@pytest.fixture
def local(monkeypatch):
    """The launcher as a module."""
    monkeypatch.syspath_prepend(str(LAUNCH))
    import local

    return local


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "--processes"),
        (["--processes=0", "--", "true"], "'0'"),
        (["--processes=two", "--", "true"], "'two'"),
        (["--processes=2"], "no command"),
        (["--processes=2", "--"], "no command"),
        (["--processes=2", "--devices_per_process=-1", "--", "true"], "'-1'"),
        (["--processes=2", "--grace=nan", "--", "true"], "'nan'"),
        (["--processes=2", "--platform=tpu", "--", "true"], "'tpu'"),
        (["--processes=2", "--device=2", "--", "true"], "--device=2"),
        (["--processes=2", "true"], "true; the command stands behind --"),
    ],
)
def test_a_mistake_is_one_sentence(local, capfd, argv, named):
    assert local.main(argv) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert named in err


@pytest.mark.parametrize(("command", "why"), [("./nosuch", "No such file"), ("./", "Permission")])
def test_a_command_that_cannot_be_started(tmp_path, command, why):
    result = subprocess.run(
        [sys.executable, LAUNCH / "local.py", "--processes=2", "--platform=cpu", "--", command],
        capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert re.fullmatch(rf"local\.py: cannot start '{command}': {why}.*\n", result.stderr)


@pytest.fixture
def four_gpus(tmp_path, monkeypatch):
    """A `nvidia-smi` that lists four GPUs, one of them in two slices."""
    listing = "".join(f"GPU {i}: NVIDIA (UUID: GPU-{i})\\n" for i in range(4))
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{listing}  MIG 1g.5gb Device 0: (UUID: MIG-0)\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("flags", "outer", "gpus"),
    [
        (["--processes=4"], {}, ["0", "1", "2", "3"]),
        (["--processes=2"], {}, ["0", "1"]),
        (["--processes=2", "--devices_per_process=2"], {}, ["0,1", "2,3"]),
        (["--processes=2"], {"CUDA_VISIBLE_DEVICES": "3, 1,0"}, ["3", "1"]),
        (["--processes=1"], {"CUDA_VISIBLE_DEVICES": "GPU-2"}, ["GPU-2"]),
        (["--processes=2"], {"JAX_PLATFORMS": "cuda,cpu"}, ["0", "1"]),
        (["--processes=2"], {"JAX_PLATFORMS": "cpu"}, None),
        (["--processes=2"], {"CUDA_VISIBLE_DEVICES": ""}, None),
        (["--processes=2"], {"CUDA_VISIBLE_DEVICES": "-1"}, None),
        (["--processes=2", "--platform=cpu"], {}, None),
    ],
)
def test_gpus_are_dealt_out(local, flags, outer, gpus):
    arguments, _ = local.parse([*flags, "--", "true"])
    environments = local.process_environments(arguments, outer)
    if gpus is None:
        unchanged = outer.get("CUDA_VISIBLE_DEVICES")
        assert all(e.get("CUDA_VISIBLE_DEVICES") == unchanged for e in environments)
        assert not any("JAX_LOCAL_DEVICE_IDS" in e for e in environments)
    else:
        assert [e["CUDA_VISIBLE_DEVICES"] for e in environments] == gpus
        numbers = ",".join(map(str, range(gpus[0].count(",") + 1)))
        assert {e["JAX_LOCAL_DEVICE_IDS"] for e in environments} == {numbers}
        assert not any("XLA_FLAGS" in e for e in environments)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("flags", "outer", "visible"),
    [
        (["--processes=5"], {}, 4),
        (["--processes=2", "--devices_per_process=3"], {}, 4),
        (["--processes=2"], {"CUDA_VISIBLE_DEVICES": "2,7,1"}, 1),  # CUDA stops at a wrong index
        (["--processes=1", "--platform=gpu"], {"CUDA_VISIBLE_DEVICES": ""}, 0),
    ],
)
def test_more_gpus_than_there_are(local, flags, outer, visible):
    arguments, _ = local.parse([*flags, "--", "true"])
    with pytest.raises(local.UsageError, match=f"{visible} are visible"):
        local.process_environments(arguments, outer)
