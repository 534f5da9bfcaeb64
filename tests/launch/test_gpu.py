"""`launch/gpu.py`: a training on made-up images, what is written, what a second start does."""

import ast
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rcnn_jax.data.datasets.images import cifar
from rcnn_jax.errors import UsageError, UserError
from rcnn_jax.layers.whitening import WhitenedKernel

pytestmark = pytest.mark.one_row

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
LAYOUT = dataclasses.replace(cifar.CIFAR10_LAYOUT, records={"train": 32, "test": 50})
CHANGES = (
    "images=160", "batch_size=16", "steps=1", "epochs=4.8", "dropout=0", "learning_rate=0.1",
    "steps_per_dispatch=8", "evaluation_batch_size=32", "evaluations=3",
    "augment=random_crop(8)|flip", "evaluate=nine_crop(8, 4)",
)  # fmt: skip


def write(folder):
    """Files of images whose class is their colour, but for noise."""
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 216, (10, 3))
    for split, names in LAYOUT.files.items():
        for name in names:
            labels = rng.integers(0, 10, LAYOUT.records[split])
            planes = colours[labels][:, :, None] + rng.integers(-20, 20, (len(labels), 3, 1024))
            table = np.concatenate([labels[:, None], planes.reshape(len(labels), -1)], 1)
            (folder / name).write_bytes(table.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    """The modules of the launcher, the files, and the results of one training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        patch.syspath_prepend(str(LAUNCH))
        patch.setattr(cifar, "CIFAR10", LAYOUT.spec("Made up."))
        import checkout
        import gpu
        import gpu_data
        import gpu_net
        import gpu_recipe
        import gpu_stage
        import gpu_summary
        import gpu_training

        files, out = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("out")
        write(files)
        recipe = gpu_recipe.make("rcnn96", CHANGES, quick=True)
        data = gpu_data.read(str(files), images=160)
        ready = []

        def get_ready(*given):
            ready.append(gpu_training.get_ready.wrapped(*given))
            return ready[-1]

        get_ready.wrapped = gpu_training.get_ready
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(gpu_training, "get_ready", get_ready)
            said = []
            result = gpu_stage.run_stage(
                "rcnn96", recipe, data, out, seeds=1, minutes=10, say=said.append
            )
        yield SimpleNamespace(
            main=gpu, data=gpu_data, net=gpu_net, recipe=gpu_recipe, stage=gpu_stage,
            summary=gpu_summary, training=gpu_training, checkout=checkout, files=files, out=out,
            made=recipe, images=data, result=result, said=said, trainer=ready[0],
        )  # fmt: skip


def test_it_learns_and_says_how(gpu):
    there = json.loads((gpu.out / "rcnn96.json").read_text())
    assert there == json.loads(json.dumps(gpu.result))
    assert there["complete"] is True
    assert there["data"] == {"train": "train[:160]", "evaluated": "test", "images_evaluated": 50}
    assert there["recipe"]["published"] == 0.0737
    (run,) = there["runs"]
    assert {"compile_s", "prepare_s", "warm_up_s", "machine", "device", "peak_mib"} <= set(run)
    assert (run["seed"], run["finished"], run["stopped"]) == (0, True, None)
    # 4.8 epochs of 10 steps, by eights.
    assert run["steps"] == run["steps_planned"] == 48
    assert run["epochs"] == 4.8
    curve = run["curve"]
    assert [point["step"] for point in curve] == [32, 48]
    assert curve[-1]["training_error"] < 0.6
    assert run["error"] == curve[-1]["error"] < 0.5
    assert curve[-1]["training_loss"] < curve[0]["training_loss"]
    seconds = [point["seconds"] for point in curve]
    assert 0 < seconds[0] < seconds[1] == run["seconds"]
    assert run["images_per_s"] == pytest.approx(48 * 16 / run["seconds"])
    assert len(gpu.said) == 2


def test_weights_that_are_kept_give_the_same_error(gpu):
    found = gpu.stage.evaluate_saved("rcnn96", gpu.made, gpu.images, gpu.out)
    last = gpu.result["runs"][0]["curve"][-1]
    assert found["weights"] == {"rcnn96-seed0": {"error": last["error"], "loss": last["loss"]}}
    with pytest.raises(UserError, match="holds no weights of rcnn160"):
        gpu.stage.evaluate_saved("rcnn160", gpu.made, gpu.images, gpu.out)


def start(gpu, monkeypatch, *, seeds=1, recipe=None, out=None):
    """A second start, in which getting ready to train is an error."""

    class Trains(Exception):  # noqa: N818
        pass

    def get_ready(*given):
        raise Trains

    monkeypatch.setattr(gpu.training, "get_ready", get_ready)
    try:
        return gpu.stage.run_stage(
            "rcnn96", recipe or gpu.made, gpu.images, out or gpu.out, seeds=seeds, minutes=1,
            say=lambda text: None,
        )  # fmt: skip
    except Trains:
        return "trains"


def test_what_is_there_is_not_trained_again(gpu, monkeypatch, tmp_path):
    assert start(gpu, monkeypatch) == json.loads(json.dumps(gpu.result))
    assert start(gpu, monkeypatch, seeds=2) == "trains"
    there = json.loads((gpu.out / "rcnn96.json").read_text())
    there["runs"][0]["finished"] = False
    (tmp_path / "rcnn96.json").write_text(json.dumps(there))
    assert start(gpu, monkeypatch, out=tmp_path) == "trains"
    other = dataclasses.replace(gpu.made, learning_rate=0.5)
    with pytest.raises(UserError, match=r"another training, with learning_rate=0.1: name another"):
        start(gpu, monkeypatch, recipe=other)
    (tmp_path / "rcnn96.json").write_text("[]")
    with pytest.raises(UserError, match="holds no results"):
        start(gpu, monkeypatch, out=tmp_path)


def test_training_ends_where_no_time_is_left(gpu):
    kept = []
    run, _ = gpu.training.train(gpu.trainer, 0, -1.0, lambda run: kept.append(dict(run)))
    # Without time one dispatch is planned and taken.
    assert (run["finished"], run["steps"]) == (True, 8)
    slow = dataclasses.replace(gpu.trainer, evaluation_s=1e9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu.training, "plan", lambda trainer, left: 5)
        run, _ = gpu.training.train(slow, 0, 1e9, kept.append)
    assert not run["finished"]
    assert run["stopped"] == "no time was left after 8 of 40 steps"
    assert len(run["curve"]) == 1
    assert kept[-1] == run


def test_training_that_diverges_ends(gpu):
    recipe = dataclasses.replace(gpu.made, learning_rate=float("inf"))
    net = dataclasses.replace(gpu.trainer.net, recipe=recipe)
    trainer = dataclasses.replace(gpu.trainer, net=net)
    run, _ = gpu.training.train(trainer, 0, 1e12, lambda run: None)
    assert run["stopped"] == "the loss was no finite number within step 8"
    assert run["finished"]


def test_number_of_dispatches_is_what_the_time_allows(gpu):
    trainer = dataclasses.replace(gpu.trainer, dispatch_s=2.0, evaluation_s=1.0)
    assert gpu.training.plan(trainer, 1e9) == 6
    # 100 s, less 7 %, less three evaluations, by 30 s.
    assert gpu.training.plan(dataclasses.replace(trainer, dispatch_s=30.0), 100) == 3
    assert gpu.training.plan(trainer, -5) == 1
    assert gpu.training.looks(100, 4) == {44, 75, 94, 100}
    assert gpu.training.looks(1, 12) == {1}


def test_rates_come_with_each_dispatch(gpu):
    net = gpu.trainer.net
    rates = net.rates(100)
    assert rates.argmax() == 20
    assert rates.max() == pytest.approx(0.1)
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.1 / 80)
    picks = net.picks(0, 1, rates)
    assert picks["rate"].tolist() == rates[8:16].tolist()
    rows = np.concatenate([net.picks(0, i, rates)["index"] for i in range(5)])
    # Each epoch of 160 images sees each once.
    assert all(sorted(rows.reshape(4, 160)[i]) == list(range(160)) for i in range(4))
    before = jax.device_get(net.initial(0).params)
    still = {**picks, "rate": np.zeros_like(picks["rate"])}
    after = jax.device_get(gpu.trainer.dispatch(net.initial(0), net.train, still)[0].params)
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_first_kernel_may_whiten_and_weights_be_averaged(gpu):
    recipe = dataclasses.replace(gpu.made, whitening=1e-3, ema_decay=0.99)
    images = {name: column[:20] for name, column in gpu.images.train.items()}
    now = gpu.net.make(recipe, images).initial(3)
    prepared = images["image"] / 255 - (images["image"] / 255).mean(0)[None]
    plain = gpu.trainer.net.initial(0).params["conv"]["kernel"]
    expected = WhitenedKernel("conv/kernel", epsilon=1e-3).fit([prepared], np.asarray(plain))
    for tree in (now.params, now.ema["params"]):
        np.testing.assert_allclose(tree["conv"]["kernel"], expected, rtol=1e-3, atol=1e-4)
    assert now.params["conv"]["kernel"] is not now.ema["params"]["conv"]["kernel"]
    assert gpu.trainer.net.input_size() == 8


def test_files_that_are_missing_or_damaged(gpu, tmp_path):
    with pytest.raises(UserError, match=r"data_batch_1.bin.* not found in any of .* --data or"):
        gpu.data.read(str(tmp_path))
    write(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(b"\0" * 1000)
    with pytest.raises(UserError, match=r"data_batch_3.bin has 1,000 bytes.*truncated.*\.$"):
        gpu.data.read(str(tmp_path), images=160)
    (tmp_path / "data_batch_3.bin").write_bytes((gpu.files / "data_batch_3.bin").read_bytes())
    with pytest.raises(UserError, match="'test\\[:51\\]' selects examples"):
        gpu.data.read(str(tmp_path), images=160, test_exact=51)
    part = gpu.data.read(str(tmp_path), images=160, test_exact=7)
    assert part.about["evaluated"] == "test[:7]"
    with pytest.raises(UsageError, match="--validation leaves alone"):
        gpu.data.read(str(tmp_path), validation=True, test_exact=7)
    held = gpu.data.read(str(gpu.files), images=160, validation=True)
    assert (len(held.train["label"]), len(held.test["label"])) == (128, 32)
    assert held.test["label"].tolist() == gpu.images.train["label"][128:].tolist()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("feature=96", "did you mean 'features'?"),
        ("features=many", "features is of type int"),
        ("epochs=0", "epochs=0.0 must be above 0"),
        ("precision=float16", "must be bfloat16 or float32"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_sentence(gpu, change, named):
    with pytest.raises(UsageError) as caught:
        gpu.recipe.make("rcnn96", [change])
    assert named in str(caught.value)


def test_shares_of_the_time(gpu):
    assert gpu.main.parse_stages(["rows:0.5", "rcnn96"]) == {"rows": 0.5, "rcnn96": 1.0}
    for wrong in (["row"], ["rows:0"], ["rows:x"], ["rows", "rows"], ["rows:nan"]):
        with pytest.raises(UsageError, match="--stages"):
            gpu.main.parse_stages(wrong)


def test_flags_are_handed_on(gpu):
    given = ["--data=files", "--set=epochs=5", "--set=features=8", "--quick", "--platform=cpu"]
    gpu.main._OWN(["gpu.py", *given, "--minutes=7", "--stages=rows"])
    words = gpu.main.command("rcnn160", pathlib.Path("out"), 2.5)
    assert words[1:4] == [str(LAUNCH / "gpu_stage.py"), "--stage=rcnn160", "--minutes=2.5"]
    assert sorted(words[4:]) == sorted(given)
    # That side takes them, and no others are needed.
    gpu.stage._OWN(["gpu_stage.py", *words[2:]])
    assert gpu.stage._SHARED.set.value == ["epochs=5", "features=8"]
    rows = gpu.main.command("rows", pathlib.Path("out"), 2.5)
    assert {"--platform=cpu", "--quick=true", "--missing", "--minutes=2.5"} <= set(rows)
    assert f"--output={pathlib.Path('out') / 'rcnn_rows.json'}" in rows


def test_a_part_that_is_late_is_stopped(gpu):
    waiting = [sys.executable, "-c", "import signal; signal.pause()"]
    assert gpu.main.run(waiting, os.environ, 0.2) == 3
    assert gpu.main.run([sys.executable, "-c", "raise SystemExit(5)"], os.environ, 60) == 5


def test_summary_holds_rates_against_the_product(gpu, tmp_path):
    def side(**facts):
        given = {"state": "measured", "compile_s": 1.0, "peak_mib": 2.0}
        return given | facts

    def row(sides, ratios=()):
        return {"quick": False, "points": [{"sides": sides, "ratios": list(ratios)}]}

    absent = {"state": "absent", "message": "torch is not installed"}
    rows = {
        "gpu_matrix_product_bfloat16": row({"a": side(per_s=4e5), "b": absent}),
        "gpu_rcnn_train_batch_512_24_bfloat16": row(
            {"rcnn_jax": side(seconds=0.01), "torch": side(seconds=0.02), "graphs": absent},
            [{"other": "torch", "ratio": 0.5}],
        ),
    }
    (tmp_path / "rcnn_rows.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "rcnn96.json").write_text(json.dumps(gpu.result))
    found = gpu.summary.summarize(tmp_path)
    assert found["bfloat16_tflop_per_s"] == 400
    ours, torch, graphs = found["rows"]
    # 123.6 million multiply-adds forward, of which 4.1 of the first layer need no second gradient.
    assert ours["tflop_per_s"] == pytest.approx(
        512 * 2 * (3 * 123.6e6 - 4.15e6) / 0.01 / 1e12, 1e-3
    )
    assert ours["share"] == pytest.approx(ours["tflop_per_s"] / 400)
    assert ours["images_per_s"] == pytest.approx(51200)
    assert (ours["ours / it"], torch["ours / it"]) == (None, 0.5)
    assert graphs["side"] == "graphs: absent: torch is not installed"
    (training,) = found["trainings"]
    assert training["error"] == gpu.result["runs"][0]["error"]
    assert not gpu.main.rows_are_complete(tmp_path, quick=False)
    assert gpu.summary.summarize(tmp_path / "none") == {
        "bfloat16_tflop_per_s": None, "rows": [], "trainings": [],
    }  # fmt: skip


def test_a_plain_python_is_enough():
    code = (
        "import sys; import gpu, gpu_stage, jax_rcnn, jaxtyping; print(jaxtyping.__file__);"
        "print(*{'ml_collections', 'grain', 'tensorflow', 'tensorflow_datasets', 'array_record',"
        "'sklearn', 'torch'} & set(sys.modules))"
    )
    folders = [LAUNCH, LAUNCH / "stand_ins"]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "XLA_FLAGS": ""},
        cwd=LAUNCH, capture_output=True, text=True, check=True,
    )  # fmt: skip
    stand_in, others = done.stdout.split("\n")[:2]
    assert pathlib.Path(stand_in) == LAUNCH / "stand_ins" / "jaxtyping.py"
    assert others == ""


def test_stand_in_has_every_name_that_the_package_imports(gpu):
    tree = ast.parse((LAUNCH / "stand_ins" / "jaxtyping.py").read_text())
    has = {node.name for node in tree.body if isinstance(node, ast.ClassDef)} | {"Array"}
    wanted = set()
    for path in (ROOT / "rcnn_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "jaxtyping":
                wanted |= {alias.name for alias in node.names}
    assert "Float" in wanted <= has
    # Where there is the package itself, nothing may stand in its place.
    assert str(gpu.checkout.STAND_INS) in gpu.checkout.folders(has_jaxtyping=False)
    assert str(gpu.checkout.STAND_INS) not in gpu.checkout.folders(has_jaxtyping=True)


def test_a_platform_that_is_not_there_is_one_sentence(gpu):
    env = os.environ | {"JAX_PLATFORMS": "nosuch"}
    with pytest.raises(UserError, match=r"^--platform=gpu: jax finds no such device here"):
        gpu.checkout.device("gpu", env)
