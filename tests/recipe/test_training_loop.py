"""The loop: what it asks for, what it keeps, how it stops, and that resuming changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_trainer import FakeData, FakeTrainer

from slimkit.errors import ConfigError, TrainingError
from slimkit.recipe.checkpoint import BEST, LAST, CheckpointFolder, prepare_folder
from slimkit.recipe.config_file import load_config
from slimkit.recipe.schedule import learning_rate
from slimkit.recipe.training import Interrupted, TrainingLoop, Watcher

HERE = Path(__file__).parent


@pytest.fixture
def make(config_file, tmp_path):
    """Returns a function that makes a loop over fakes."""

    def build(*overrides, trainer=None, data=None, folder="out"):
        config = load_config(config_file(), ["train.epochs=3", "train.lr.base=0.05", *overrides])
        store = CheckpointFolder(str(tmp_path / folder))
        train, test = data or FakeData(), FakeData(steps=2, seed=5)
        names = {"loss": "loss", "logits": "logits"}
        return TrainingLoop(trainer or FakeTrainer(), train, test, config, store, **names)

    return build


def resumed(loop):
    loop.restore(loop.folder.load(LAST))
    return loop


def test_every_step_gets_the_schedules_rate_and_every_epoch_an_evaluation(make):
    loop = make()
    progress = loop.run(Watcher())
    lr = loop.config.train.lr
    assert loop.trainer.rates == [learning_rate(lr, step, 5, 3) for step in range(15)]
    assert [(e["epoch"], e["step"]) for e in progress.evaluations] == [(1, 5), (2, 10), (3, 15)]
    assert progress.curve.steps == list(range(1, 16)) and progress.curve.rate == loop.trainer.rates
    assert progress.curve.loss[-1] < progress.curve.loss[0]
    assert progress.evaluations[0]["samples"] == 16


def test_last_evaluation_is_never_left_out(make):
    progress = make("train.evaluate_epochs=2").run(Watcher())
    assert [e["epoch"] for e in progress.evaluations] == [2, 3]


def test_max_steps_shortens_the_epochs(make):
    loop = make("train.max_steps=2")
    assert loop.run(Watcher()).step == 6
    assert loop.train.asked == [(0, 0), (1, 0), (2, 0)]


def test_zero_epochs_evaluates_and_saves(make):
    loop = make("train.epochs=0")
    progress = loop.run(Watcher())
    assert progress.step == 0 and len(progress.evaluations) == 1 and loop.folder.exists(BEST)


def test_best_is_kept_and_gone_back_to(make, monkeypatch):
    loop = make()
    accuracies, states = iter([0.4, 0.9, 0.6]), []

    def fake(run, data, tick):
        states.append(loop.trainer.state_dict())
        return {"top1": next(accuracies), "top5": 1.0, "samples": 1}

    monkeypatch.setattr("slimkit.recipe.training.evaluate", fake)
    progress = loop.run(Watcher())
    assert (progress.best, progress.best_step) == (0.9, 10)
    assert not np.array_equal(loop.trainer.weight, states[1]["weight"])
    loop.load_best()
    assert np.array_equal(loop.trainer.weight, states[1]["weight"])
    assert sorted(os.listdir(loop.folder.folder)) == ["best.npz", "last.npz"]


def test_nan_loss_is_one_sentence_and_the_best_stays(make):
    loop = make(trainer=FakeTrainer(nan_at=8))
    with pytest.raises(TrainingError) as caught:
        loop.run(Watcher())
    text = str(caught.value)
    assert "the loss became nan at step 8 (epoch 2, learning rate 0.0" in text and "\n" not in text
    assert "lower train.lr.base" in text and loop.folder.path(BEST) in text
    assert loop.folder.load(BEST).meta["progress"]["step"] == 5
    assert np.isfinite(loop.folder.load(LAST).arrays["weight"]).all()


def test_nan_before_any_evaluation(make):
    with pytest.raises(TrainingError, match="no checkpoint was good enough"):
        make(trainer=FakeTrainer(nan_at=1)).run(Watcher())


@pytest.mark.parametrize("stop_after", [1, 4, 5, 7, 14])
def test_interrupted_and_resumed_is_the_same_as_uninterrupted(make, stop_after):
    whole = make(folder="whole")
    reference = whole.run(Watcher())

    class Stop(Watcher):
        def on_step(self, progress, loss, rate):
            if progress.step == stop_after:
                os.kill(os.getpid(), signal.SIGINT)

    first = make()
    with pytest.raises(Interrupted, match=f"stopped at step {stop_after} of 15"):
        first.run(Stop())
    second = resumed(make(trainer=FakeTrainer(seed=99)))
    progress = second.run(Watcher())
    for name, value in whole.trainer.state_dict().items():
        assert np.array_equal(value, second.trainer.state_dict()[name]), name
    assert progress.curve == reference.curve and progress.evaluations == reference.evaluations
    assert second.train.asked[0] == divmod(stop_after, 5)


def test_sigint_handler_is_put_back(make):
    before = signal.getsignal(signal.SIGINT)
    make().run(Watcher())
    assert signal.getsignal(signal.SIGINT) is before


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from fake_trainer import FakeData, FakeTrainer
from slimkit.recipe.checkpoint import CheckpointFolder
from slimkit.recipe.config_file import load_config
from slimkit.recipe.training import TrainingLoop, Watcher
class Kill(Watcher):
    def on_step(self, progress, loss, rate):
        if progress.step == 8:
            os.kill(os.getpid(), signal.SIGKILL)
config = load_config({config!r}, ["train.epochs=3", "train.lr.base=0.05", "run.checkpoint_steps=2"])
TrainingLoop(FakeTrainer(), FakeData(), FakeData(steps=2, seed=5), config, CheckpointFolder({out!r}),
             loss="loss", logits="logits").run(Kill())
"""


def test_killed_in_the_middle_of_an_epoch_and_resumed(make, config_file, tmp_path):
    whole = make("run.checkpoint_steps=2", folder="whole")
    reference = whole.run(Watcher())
    code = KILLED.format(here=str(HERE), config=config_file(), out=str(tmp_path / "out"))
    paths = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert done.returncode == -signal.SIGKILL
    loop = resumed(make("run.checkpoint_steps=2", trainer=FakeTrainer(seed=3)))
    assert loop.progress.step == 6
    progress = loop.run(Watcher())
    assert np.array_equal(loop.trainer.weight, whole.trainer.weight)
    assert progress.curve == reference.curve and progress.evaluations == reference.evaluations


def test_resume_with_another_config_names_the_keys(make):
    make().run(Watcher())
    other = make("train.lr.base=0.5", "quant.weight_bits=4")
    with pytest.raises(TrainingError) as caught:
        resumed(other)
    text = str(caught.value)
    assert "quant.weight_bits (8 there, 4 here)" in text and "train.lr.base (0.05 there, 0.5 here)" in text
    assert "without --resume" in text


def test_resuming_a_finished_run_trains_no_more(make):
    make().run(Watcher())
    loop = resumed(make())
    loop.run(Watcher())
    assert loop.train.asked == [] and loop.progress.step == 15


def test_training_set_that_shrank_is_an_error_not_an_endless_loop(make):
    class Short(FakeData):
        def batches(self, epoch=0, start_step=0):
            return iter(list(super().batches(epoch, start_step))[:2])

    with pytest.raises(TrainingError, match="ended after 2 of its 5 batches"):
        make(data=Short()).run(Watcher())


def test_full_disk_is_one_sentence_and_leaves_the_checkpoint_before(make, monkeypatch):
    loop = make()
    loop.save(LAST)
    before = Path(loop.folder.path(LAST)).read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("slimkit.files.os.replace", full)
    with pytest.raises(TrainingError, match="No space left on device") as caught:
        loop.run(Watcher())
    assert "\n" not in str(caught.value) and "--resume" in str(caught.value)
    assert Path(loop.folder.path(LAST)).read_bytes() == before
    assert os.listdir(loop.folder.folder) == ["last.npz"]


def test_damaged_checkpoint(make):
    loop = make()
    loop.save(LAST)
    path = Path(loop.folder.path(LAST))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match=r"last.npz is damaged"):
        loop.folder.load(LAST)


def test_checkpoint_of_a_later_version(make):
    loop = make()
    loop.folder.save(LAST, {"a": np.zeros(2)}, {})
    assert loop.folder.load(LAST).meta == {"version": 1}
    import slimkit.recipe.checkpoint as module

    before, module._VERSION = module._VERSION, 2
    try:
        with pytest.raises(TrainingError, match="has version 1, this slimkit reads 2"):
            loop.folder.load(LAST)
    finally:
        module._VERSION = before


def test_curve_is_bounded_and_means_what_it_says():
    from slimkit.recipe.progress import MAX_POINTS, Progress

    progress = Progress.start(10 * MAX_POINTS)
    for step in range(1, 10 * MAX_POINTS + 1):
        progress.curve.add(step, float(step), 0.1)
    assert len(progress.curve.loss) == MAX_POINTS
    assert progress.curve.loss[0] == 5.5 and progress.curve.steps[:2] == [10, 20]
    assert Progress.read(progress.dump()) == progress


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written .*-o run.output=DIR"):
        prepare_folder(str(tmp_path / "file" / "out"))


def test_error_of_paddle_is_one_sentence(make):
    class Broken(FakeTrainer):
        def train_step(self, feed, fetch):
            raise RuntimeError(
                "\n\n--- C++ Traceback ---\n0 paddle::x\n\nResourceExhaustedError: Out of memory.\n  [Hint]"
            )

    with pytest.raises(TrainingError) as caught:
        make(trainer=Broken()).run(Watcher())
    assert str(caught.value) == (
        "Paddle failed in step 1: ResourceExhaustedError: Out of memory; SLIMKIT_DEBUG=1 shows its traceback."
    )
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_weights_that_are_nan_behind_a_finite_loss_are_never_saved(make):
    class Hidden(FakeTrainer):
        def train_step(self, feed, fetch):
            loss = super().train_step(feed, fetch)
            if self.draws[0] == 8:
                self.velocity[0, 0] = np.inf
            return [np.nan_to_num(loss[0])]

    loop = make("run.checkpoint_steps=2", trainer=Hidden())
    with pytest.raises(TrainingError, match=r"velocity became NaN or infinite by step 8; lower train.lr.base"):
        loop.run(Watcher())
    assert loop.folder.load(LAST).meta["progress"]["step"] == 6
    assert loop.folder.load(BEST).meta["progress"]["step"] == 5
