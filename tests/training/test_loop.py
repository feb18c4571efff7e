"""`fit`: it learns, an interrupted run ends as an undisturbed one, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')
pytest.importorskip(
    "lightning_fabric", reason='training needs the extra: pip install "blurgate[train]"'
)
pytest.importorskip("safetensors", reason='training needs the extra: pip install "blurgate[train]"')
pytest.importorskip("yaml", reason='training needs the extra: pip install "blurgate[train]"')

import torch
from safetensors import safe_open

from blurgate.errors import ConfigError, ModelError, PluginError, WeightsError, is_no_memory
from blurgate.training import checkpoints, loop, rounding
from blurgate.training.batches import Pictures, order
from blurgate.training.config import TrainConfig
from blurgate.training.heads import make_head
from blurgate.training.loop import fit, learning_rate, make_fabric, predict, prepare
from blurgate.training.loss_sums import parse_loss
from blurgate.training.model import BlurModel
from blurgate.training.runs import compare
from blurgate.training.scores import score, spearman

DATA = Path(__file__).parents[1] / "data"
# Everything that has a state: averaged weights, clipping, what is drawn, dropout, a schedule.
CONFIG = TrainConfig(
    epochs=4, batch=8, lr=3e-3, ema=0.9, clip=1.0, schedule="cosine", seed=5, loss="huber+0.5*l1",
    shift=2, tone=0.05,
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(load):
    return load(DATA / "tiny_backbone.py")


class ToyFeed:
    """Noise whose contrast is the degree. Notes what it was asked for."""

    facts = {"kind": "toy"}  # noqa: RUF012 - what a feed says of itself

    def __init__(self, count=50, *, stop=None):
        rng = np.random.default_rng(0)
        self.degrees = torch.from_numpy(rng.random(count, np.float32))
        noise = torch.from_numpy(rng.standard_normal((count, 3, 112, 112), np.float32))
        scaled = 128 + 60 * noise * self.degrees.view(-1, 1, 1, 1)
        self.pictures = scaled.clamp(0, 255).to(torch.uint8)
        self.stop, self.asked = stop, []

    def steps(self, batch, *, world=1):
        return (len(self.degrees) - 16) // batch // world

    def train(self, epoch, batch, *, rank=0, world=1):
        self.asked.append(epoch)
        for step, index in enumerate(order(len(self.degrees) - 16, 0, epoch, batch, rank, world)):
            if (epoch, step) == self.stop:
                raise KeyboardInterrupt
            yield Pictures(self.pictures[index], self.degrees[index])

    def val(self, batch):
        yield Pictures(self.pictures[-16:], self.degrees[-16:])


@pytest.fixture
def make(tiny):
    def run(folder, config=CONFIG, *, feed=None, resume=False, head="regression", **more):
        folder.mkdir(exist_ok=True)
        torch.manual_seed(config.seed)
        model = BlurModel(tiny.Tiny(), make_head(head, in_features=16))
        run.model = model
        feed = feed or ToyFeed()
        return fit(model, parse_loss(config.loss), feed, config, folder, resume=resume, **more)

    return run


def log(folder):
    with (folder / "log.csv").open() as file:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "pictures_per_s")}
            for row in csv.DictReader(file)
        ]


def same(first, second):
    a, b = checkpoints.load(first)[0], checkpoints.load(second)[0]
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns(make, tmp_path):
    config = TrainConfig(epochs=12, batch=8, lr=2e-2, loss="mse", weight_decay=0)
    done = make(tmp_path, config, feed=ToyFeed(144))
    rows = log(tmp_path)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    assert done.best["mae"] < 0.1 < float(rows[0]["val_mae"])
    assert done.best["spearman"] > 0.9
    # The model holds the weights that were measured.
    predicted, true = predict(make.model, ToyFeed(144).val(8), torch.device("cpu"))
    assert score(predicted, true).mae == pytest.approx(done.best["mae"], abs=1e-7)
    assert done.best["mae"] == min(row["val_mae"] for row in done.history)
    assert done.history[done.best_epoch - 1]["val_mae"] == done.best["mae"]


@pytest.mark.parametrize("stop", [(2, 0), (2, 3), (0, 1)])
def test_an_interrupted_run_goes_on_to_the_same_bits(make, tmp_path, stop):
    make(tmp_path / "whole")
    torch.manual_seed(99)  # nothing may depend on what the process did before
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "parts", feed=ToyFeed(stop=stop))
    assert (tmp_path / "parts" / "last.safetensors").is_file() == (stop[0] > 0)
    torch.rand(3)
    feed = ToyFeed()
    make(tmp_path / "parts", feed=feed, resume=True)
    assert feed.asked == list(range(stop[0], 4))
    for name in ("last.safetensors", "best.safetensors"):
        assert same(tmp_path / "whole" / name, tmp_path / "parts" / name)
    assert log(tmp_path / "whole") == log(tmp_path / "parts")


@pytest.mark.parametrize("last", ["log.csv", "last.safetensors"])
def test_a_run_that_ends_between_the_last_epochs_files_goes_on_to_all_of_them(
    make, tmp_path, monkeypatch, last
):
    make(tmp_path / "whole")
    parts, replace, written = tmp_path / "parts", Path.replace, []

    def then_stop(self, target):
        replace(self, target)
        written.append(target)
        if written.count(parts / last) == CONFIG.epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", then_stop)
        with pytest.raises(KeyboardInterrupt):
            make(parts)
    make(parts, resume=True)
    for name in ("last.safetensors", "best.safetensors"):
        assert same(tmp_path / "whole" / name, parts / name)
    assert log(tmp_path / "whole") == log(parts)


def test_a_run_that_ends_before_an_epoch_was_shown_shows_it_when_it_goes_on(
    make, tmp_path, monkeypatch
):
    """What --viz draws, and the rows for TensorBoard."""
    shown: dict[str, list] = {}

    class Board:
        def __init__(self, folder):
            self.rows = shown.setdefault(folder.name, [])

        def write(self, row):
            self.rows.append(row["epoch"])

    def see(model, state):
        with torch.inference_mode():
            drawn[state.epoch] = model.degree(prepare(ToyFeed().pictures[:4])).tolist()

    def stop(model, state):
        if state.epoch == 2:
            raise KeyboardInterrupt
        see(model, state)

    monkeypatch.setattr(loop, "Board", Board)
    drawn: dict[int, list] = {}
    make(tmp_path / "whole", on_epoch=see)
    whole, drawn = drawn, {}
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "parts", on_epoch=stop)
    make(tmp_path / "parts", on_epoch=see, resume=True)
    assert drawn == whole
    assert shown == {"whole": [1, 2, 3, 4], "parts": [1, 2, 2, 3, 4]}
    assert same(tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors")


def test_every_part_of_the_state_is_needed_to_resume(make, tmp_path):
    make(tmp_path / "whole")
    whole = tmp_path / "whole" / "last.safetensors"
    for prefix in ("model.backbone.layers.1.running", "ema", "optimizer.0.exp_avg"):
        folder = tmp_path / prefix
        with pytest.raises(KeyboardInterrupt):
            make(folder, feed=ToyFeed(stop=(2, 0)))
        tensors, facts = checkpoints.load(folder / "last.safetensors")
        names = [name for name in tensors if name.startswith(prefix)]
        assert names
        for name in names:
            tensors[name] = torch.ones_like(tensors[name])
        checkpoints.save(folder / "last.safetensors", tensors, facts)
        make(folder, resume=True)
        assert not same(whole, folder / "last.safetensors")


def test_a_finished_run_is_not_trained_again(make, tmp_path):
    first = make(tmp_path)
    feed = ToyFeed()
    again = make(tmp_path, feed=feed, resume=True)
    assert feed.asked == []
    assert again == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1e-2}, r"begun with lr = 0\.003, now it is 0\.01"),
        ({"epochs": 9}, r"begun with epochs = 4, now it is 9"),
        ({"seed": 6}, r"begun with seed = 5, now it is 6"),
    ],
)
def test_other_settings_cannot_go_on(make, tmp_path, change, message):
    make(tmp_path)
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, TrainConfig(**{**CONFIG.facts(), **change}), resume=True)


def test_other_data_cannot_go_on(make, tmp_path):
    make(tmp_path)
    feed = ToyFeed()
    feed.facts = {"kind": "other"}
    with pytest.raises(ConfigError, match="begun with kind = 'toy', now it is 'other'"):
        make(tmp_path, feed=feed, resume=True)


def test_early_stopping_waits_for_the_patience(make, tmp_path, monkeypatch):
    maes = iter([0.5, 0.4, 0.4, 0.41, 0.3, 0.2])

    def scripted(predicted, true):
        real = score(predicted, true)
        return type(real)(next(maes), real.rmse, real.spearman, real.pictures)

    monkeypatch.setattr(loop, "score", scripted)
    done = make(tmp_path, TrainConfig(**{**CONFIG.facts(), "epochs": 6, "patience": 2}))
    assert (done.epoch, done.best_epoch, done.best["mae"]) == (4, 2, 0.4)
    # The model holds the averaged weights of the second epoch, and not the last.
    best, facts = checkpoints.load(tmp_path / "best.safetensors")
    last = checkpoints.select(checkpoints.load(tmp_path / "last.safetensors")[0], "ema")
    assert facts["epoch"] == 2
    state = make.model.state_dict()
    assert all(torch.equal(state[name], best[name]) for name in best)
    assert not any(torch.equal(best[name], last[name]) for name in best)


def test_a_loss_that_is_no_number_ends_the_run(make, tmp_path):
    class Bad:
        head = "regression"

        def __call__(self, output, target):
            return output.sum() * math.nan

    make(tmp_path / "a")  # sets make.model
    with pytest.raises(ModelError, match=r"the loss of epoch 1 is not a number: lower --lr"):
        fit(make.model, Bad(), ToyFeed(), CONFIG, tmp_path)
    assert not (tmp_path / "last.safetensors").exists()


@pytest.mark.parametrize("error", [KeyError("x"), torch.OutOfMemoryError("CUDA out of memory.")])
def test_a_backbone_that_fails_in_training_is_named(make, tiny, tmp_path, monkeypatch, error):
    def forward(self, images):
        raise error

    monkeypatch.setattr(tiny.Tiny, "forward", forward)
    with pytest.raises((PluginError, torch.OutOfMemoryError)) as caught:
        make(tmp_path, replace(CONFIG, backbone="tiny"))
    if is_no_memory(error):  # is not its fault
        assert caught.value is error
    else:
        assert str(caught.value) == "the backbone tiny failed: KeyError: 'x'"


def test_torch_without_memory_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_no_memory(caught.value)


def test_a_checkpoint_is_safetensors_with_json(make, tmp_path):
    make(tmp_path)
    with safe_open(tmp_path / "last.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["blurgate"])
        names = set(file.keys())
    assert facts["config"] == CONFIG.facts()
    assert facts["epoch"] == 4
    assert len(facts["history"]) == 4
    assert {name.partition(".")[0] for name in names} == {"model", "ema", "optimizer"}
    assert {"optimizer.0.step", "optimizer.0.exp_avg", "optimizer.0.exp_avg_sq"} <= names
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "best.safetensors",
        "last.safetensors",
        "log.csv",
    ]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04pickle"])
def test_a_damaged_checkpoint_is_named(make, tmp_path, content):
    (tmp_path / "last.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"last\.safetensors is not a checkpoint of blurgate"):
        make(tmp_path, resume=True)


def test_the_averaged_weights_are_an_exponential_mean(make, tmp_path):
    config = TrainConfig(epochs=1, batch=8, lr=1e-2, ema=0.5, loss="mse")
    seen = []
    torch.manual_seed(0)
    feed = ToyFeed()
    make(tmp_path / "a", TrainConfig(**{**config.facts(), "ema": 0.0}))  # makes a model
    model = make.model
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def watch(done, total, text):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})

    (tmp_path / "b").mkdir()
    fit(model, parse_loss("mse"), feed, config, tmp_path / "b", on_step=watch)
    for name in ("backbone.layers.0.weight", "backbone.layers.1.running_mean"):
        expected = start[name].double()
        for number, state in enumerate(seen):
            decay = min(0.5, (1 + number) / (10 + number))
            expected = decay * expected + (1 - decay) * state[name].double()
        got = checkpoints.load(tmp_path / "b" / "last.safetensors")[0][f"ema.{name}"]
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-7)
    got = checkpoints.load(tmp_path / "b" / "best.safetensors")[0]
    assert torch.equal(got["backbone.layers.1.num_batches_tracked"], torch.tensor(8))


def test_schedules_are_those_of_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    for schedule, make_scheduler, per_step in (
        ("exponential", lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9), False),
        ("cosine", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 15), True),
    ):
        config = TrainConfig(epochs=5, lr=0.1, schedule=schedule, decay=0.9)
        optimizer = torch.optim.SGD([parameter], 0.1)
        scheduler = make_scheduler(optimizer)
        for step in range(15):
            wanted = optimizer.param_groups[0]["lr"]
            assert learning_rate(config, step, 3) == pytest.approx(wanted, rel=1e-6, abs=1e-9)
            optimizer.step()
            if per_step or step % 3 == 2:
                scheduler.step()


def test_pictures_become_what_the_scorer_gives_a_model():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
    got = prepare(torch.from_numpy(pictures).permute(0, 3, 1, 2)).numpy()
    expected = (pictures[..., ::-1].astype(np.float64) - 127.5) / 127.5
    np.testing.assert_allclose(got, expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_flips_mirror_half_of_the_pictures_and_can_be_switched_off(make, tmp_path, monkeypatch):
    for flip in (True, False):
        seen, feed = [], ToyFeed()
        original = BlurModel.forward

        def watch(self, images, original=original, seen=seen):
            if self.training:
                seen.append(images.detach().clone())
            return original(self, images)

        monkeypatch.setattr(BlurModel, "forward", watch)
        plainly = {"epochs": 2, "flip": flip, "shift": 0, "tone": 0.0}
        config = TrainConfig(**{**CONFIG.facts(), **plainly})
        make(tmp_path / str(flip), config, feed=feed)
        monkeypatch.undo()
        batches = [b.pictures for e in range(2) for b in ToyFeed().train(e, 8)]
        plain = [(g == prepare(b)).flatten(1).all(1) for g, b in zip(seen, batches, strict=True)]
        turned = [
            (g == prepare(b.flip(3))).flatten(1).all(1) for g, b in zip(seen, batches, strict=True)
        ]
        plain, turned = torch.cat(plain), torch.cat(turned)
        assert bool((plain ^ turned).all())
        assert (0.25 < turned.float().mean() < 0.75) if flip else not bool(turned.any())


def test_bf16_trains_and_keeps_weights_in_float32(tiny, tmp_path):
    model = BlurModel(tiny.Tiny(), make_head("bins20", in_features=16))
    config = TrainConfig(epochs=1, batch=8, precision="bf16", loss="cmse")
    fabric = make_fabric(torch.device("cpu"), "bf16")
    done = fit(model, parse_loss("cmse"), ToyFeed(), config, tmp_path, fabric=fabric)
    assert math.isfinite(done.best["mae"])
    floating = [v for v in model.state_dict().values() if v.is_floating_point()]
    assert {value.dtype for value in floating} == {torch.float32}


def test_processes_share_an_epoch_without_overlap():
    parts = [list(order(103, 1, 4, 16, rank, 3)) for rank in range(3)]
    assert [len(part) for part in parts] == [2, 2, 2]
    numbers = np.concatenate([batch for part in parts for batch in part])
    assert len(set(numbers.tolist())) == len(numbers) == 96
    assert not np.array_equal(parts[0][0], next(order(103, 1, 5, 16, 0, 3)))


def test_too_few_pictures_are_refused():
    with pytest.raises(ConfigError, match="3 training pictures are too few for 2 processes"):
        list(order(3, 0, 0, 8, 0, 2))


def test_statistics_that_are_frozen_stay_and_everything_else_learns(make, tiny, tmp_path):
    def learnt(name, **changes):
        make(tmp_path / name, replace(CONFIG, epochs=2, ema=0.0, **changes))
        return checkpoints.load(tmp_path / name / "best.safetensors")[0]

    torch.manual_seed(CONFIG.seed)
    fresh = BlurModel(tiny.Tiny(), make_head("regression", in_features=16)).state_dict()
    free, frozen = learnt("free"), learnt("frozen", freeze_norm=True)
    norms = {key for key in fresh if key.rpartition(".")[2].startswith("running")}
    counters = {key for key in fresh if key.endswith("num_batches_tracked")}
    assert norms
    assert counters
    for key, value in fresh.items():
        assert torch.equal(frozen[key], value) == (key in norms | counters), key
        assert not torch.equal(free[key], value), key


def test_training_for_8_bits_rounds_in_training_and_not_in_validation(make, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(rounding, "rounded", lambda values: seen.append(values.shape) or values)
    plain, rounds = (replace(CONFIG, epochs=1, for_int8=on) for on in (False, True))
    make(tmp_path / "plain", plain)
    assert not seen
    make(tmp_path / "rounds", rounds)
    assert {shape[0] for shape in seen} == {CONFIG.batch}  # validation shows 16 at once
    assert same(tmp_path / "plain/best.safetensors", tmp_path / "rounds/best.safetensors")


def test_scores_against_definitions():
    a, b = np.array([0.1, 0.5, 0.5, 0.9]), np.array([0.2, 0.4, 0.7, 0.8])
    scores = score(a, b)
    assert scores.mae == pytest.approx((0.1 + 0.1 + 0.2 + 0.1) / 4)
    assert scores.rmse == pytest.approx(math.sqrt((0.01 + 0.01 + 0.04 + 0.01) / 4))
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
    assert scores.spearman == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert spearman(np.zeros(3), np.arange(3)) == 0


def test_a_checkpoint_of_an_older_version_lacks_keys_that_are_off(tmp_path):
    now = {"lr": 0.1, "backbone_options": {}, "harsh": 0.0, "init": ""}
    compare(tmp_path / "last.safetensors", {"lr": 0.1}, now)
    for old, new in (
        ({"lr": 0.1}, {**now, "harsh": 0.5}),
        ({"lr": 0.2}, now),
        ({"lr": 0.1, "gone": 0}, now | {"gone": 1}),
    ):
        with pytest.raises(ConfigError, match=r"cannot resume .*: it was begun with"):
            compare(tmp_path / "last.safetensors", old, new)
