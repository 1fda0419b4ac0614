"""A run that was killed, or whose checkpoints are damaged, ends as one that was not."""

import random
import shutil
import signal
from functools import partial
from pickle import UnpicklingError
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as schedules
from torch.utils.data import DataLoader

import engine.checkpoints
from engine import trainer
from engine.checkpoints import Checkpoints
from previous_chapters import GPTModel
from tests import processes
from tests.helpers import flip, truncate
from tests.small_models import CFG, equal, float32_model, instruction_batch, train

pytestmark = pytest.mark.usefixtures("one_thread")

@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_the_same(tmp_path):
    whole, result, folder = tmp_path / "whole.pt", tmp_path / "result.pt", tmp_path / "checkpoints"
    printed = tmp_path / "printed.txt"

    def run_until(moment, folder, result):
        return processes.wait(processes.start(printed, processes.train_until, moment, folder, result))

    assert run_until("never", tmp_path / "other", whole) == [0], printed.read_text()
    for moment, saved in [(2, ""), ("half-written", ""), (6, "1"), ("written", "1"), (6, "12"),
                          ("renamed", "123"), (3, "123")]:
        assert run_until(moment, folder, result) == [-signal.SIGKILL], printed.read_text()
        assert {path.name for path in folder.glob("*.pt")} == {f"step-{5 * int(epoch)}.pt" for epoch in saved}, moment
    assert run_until("never", folder, result) == [0]
    assert f"Continuing from {folder / 'step-15.pt'}" in printed.read_text()
    assert equal(torch.load(result), torch.load(whole))
    assert sorted(path.name for path in folder.iterdir()) == ["step-15.pt", "step-20.pt"]


def small_run(folder, data_seed=0, model_seed=123, drop_rate=0.1, batch_size=2, total_iters=12, optimizer=None,
              **changes):
    """A run of three epochs, and its result."""
    torch.manual_seed(model_seed)
    model, (inputs, targets) = GPTModel(CFG | {"drop_rate": drop_rate}), instruction_batch(data_seed, rows=8)
    torch.manual_seed(123)
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(list(zip(inputs, targets)), batch_size=batch_size, shuffle=True, generator=generator)
    rate = 5e-5 if optimizer == "other rate" else 1e-2
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1)
    schedule = schedules.LinearLR(optimizer, 1.0, 0.5, total_iters=total_iters)
    history = train(model, loader, optimizer=optimizer, scheduler=schedule,
                    **{"epochs": 3, "checkpoint_dir": folder} | changes)
    return model.state_dict(), history, generator.get_state()


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, small_run(folder)


@pytest.fixture
def saved_run(finished_run, tmp_path):
    """A run with its checkpoints: (folder, a function that runs it again, its result)."""
    finished, result = finished_run
    folder = shutil.copytree(finished, tmp_path / "run")
    return folder, partial(small_run, folder), result


def in_the_largest_tensor(path):
    """The place of a byte of it: between the tensors is padding, whose bytes don't matter."""
    with ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
        return path.read_bytes().index(archive.read(largest)) + largest.file_size // 2


@pytest.mark.parametrize("damage", [
    lambda path: truncate(path, 0), lambda path: truncate(path, 1000), lambda path: truncate(path, -1),
    lambda path: flip(path, 1000), lambda path: flip(path, in_the_largest_tensor(path)),
    # In the archive's list of contents: its mark, a sign that says "encrypted", the compression, a length.
    *(lambda path, at=at: flip(path, path.read_bytes().index(b"PK\1\2") + at, mask=129) for at in (0, 8, 10, 28))])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(saved_run, capsys, damage):
    folder, again, result = saved_run
    damage(folder / "step-12.pt")
    assert equal(again(), result)
    printed = capsys.readouterr().out
    assert "step-12.pt is damaged" in printed and f"Continuing from {folder / 'step-8.pt'}" in printed
    assert equal(again(), result), "a finished run only hands out its result"


def test_a_training_without_any_sound_checkpoint_begins_anew(saved_run, capsys):
    folder, again, result = saved_run
    for path in folder.glob("*.pt"):
        path.write_bytes(b"no checkpoint")
    capsys.readouterr()
    assert equal(again(), result)
    printed = capsys.readouterr().out
    assert printed.count("is damaged") == 2 and "Continuing" not in printed


def test_a_new_checkpoint_is_kept_beside_damaged_newer_ones(saved_run):
    """The run that begins anew may be stopped again: what it has saved by then is all there is."""
    folder, again, result = saved_run
    for path in folder.glob("*.pt"):
        path.write_bytes(b"no checkpoint")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyError):
        patch.setattr("engine.trainer.sample_text", lambda *args: {}["stopped after the first save"])
        again(start_context="start")
    assert [path.name for path in folder.iterdir()] == ["step-4.pt"]
    assert equal(again(), result)


def test_a_copy_beside_the_checkpoints_is_left_alone(saved_run):
    folder, again, result = saved_run
    (folder / "step-12 copy.pt").write_bytes((folder / "step-12.pt").read_bytes())
    assert equal(again(), result) and (folder / "step-12 copy.pt").exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = GPTModel(CFG)
    checkpoints = Checkpoints(tmp_path, [model])
    checkpoints.save(1)
    with torch.no_grad():
        model.final_norm.bias[0] = torch.nan
    with pytest.raises(ValueError, match="after step 2 the weights aren't finite"):
        checkpoints.save(2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1.pt"]


@pytest.mark.parametrize("changes, difference", [
    ({"epochs": 4}, "num_epochs 4, was 3"), ({"optimizer": "other rate"}, "AdamW lr 5e-05, was 0.01"),
    ({"max_norm": 1.0}, "max_norm 1.0, was None"), ({"eval_freq": 2}, "eval_freq 2, was 3"),
    ({"precision": "bfloat16"}, "precision 'bfloat16', was 'float32'"),
    ({"data_seed": 1}, "training data '[0-9a-f]{16}', was '[0-9a-f]{16}'"),
    ({"batch_size": 4}, "training batch size 4, was 2; training batches 2, was 4"),
    ({"drop_rate": 0.2}, r"dropout \[0.2.*\], was \[0.1.*\]"),
    ({"val_loader": [instruction_batch(12)]}, "validation data '.*', was '.*'; validation batches 1, was 2"),
    ({"model_seed": 1}, "initial weights '[0-9a-f]{8}', was '[0-9a-f]{8}'"),
    ({"total_iters": 5}, "LinearLR total_iters 5, was 12")])
def test_a_folder_with_another_run_is_an_error(saved_run, changes, difference):
    """Only what differs is named."""
    _, again, _ = saved_run
    with pytest.raises(ValueError, match=rf"step-12.pt is of another run \({difference}\): empty that folder or name"):
        again(**changes)


def warm_up_and_decay(optimizer, steps=3, end=0.0):
    parts = [schedules.LinearLR(optimizer, 0.1, 1.0, steps), schedules.LinearLR(optimizer, 1.0, end, 9)]
    return schedules.SequentialLR(optimizer, parts, milestones=[steps])


def chained(optimizer, gamma=0.9):
    return schedules.ChainedScheduler([warm_up_and_decay(optimizer), schedules.ExponentialLR(optimizer, gamma)])


def one_cycle(optimizer, **changes):
    return schedules.OneCycleLR(optimizer, 1e-2, total_steps=20, **changes)


@pytest.mark.parametrize("make_schedule, change, difference", [
    (warm_up_and_decay, {"end": 0.5}, r"SequentialLR\[1\] LinearLR end_factor 0.5, was 0.0"),
    (warm_up_and_decay, {"steps": 4}, r"SequentialLR milestones \[4\], was \[3\]; "
     r"SequentialLR\[0\] LinearLR total_iters 4, was 3"),
    (chained, {"gamma": 0.8}, r"ChainedScheduler\[1\] ExponentialLR gamma 0.8, was 0.9"),
    (one_cycle, {"pct_start": 0.5}, "OneCycleLR schedule_phases .*")])
def test_another_schedule_within_a_schedule_is_another_run(tmp_path, make_schedule, change, difference):
    """Only what differs is named; the same schedule made again continues."""
    def run(**changes):
        model = float32_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        return train(model, optimizer=optimizer, scheduler=make_schedule(optimizer, **changes), checkpoint_dir=tmp_path)

    history = run()
    with pytest.raises(ValueError, match=rf"of another run \({difference}\): empty that folder or name"):
        run(**change)
    assert run() == history


def test_another_size_of_micro_batches_may_go_on(saved_run, capsys):
    """It changes no result but by rounding and by what dropout draws, and may be what a smaller machine needs."""
    folder, again, (_, (losses, *_), _) = saved_run
    (folder / "step-12.pt").unlink()
    _, (other_losses, *_), _ = again(micro_batch_size=1)
    assert f"Continuing from {folder / 'step-8.pt'}" in capsys.readouterr().out
    assert other_losses[:3] == losses[:3] and other_losses == pytest.approx(losses, rel=1e-3)
    assert other_losses != losses


PLAIN = {"lr": 1e-3, "max_norm": 1.0, "epochs": 2, "eval_freq": 3}


def run_with_numbers(folder, numbers, stop=None):
    model = float32_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=numbers["lr"])
    steps = iter(range(100))
    optimizer.register_step_pre_hook(lambda *_: {}["stopped"] if next(steps) == stop else None)
    history = train(model, optimizer=optimizer, checkpoint_dir=folder, checkpoint_minutes=0,
                    **{name: value for name, value in numbers.items() if name != "lr"})
    return model.state_dict(), history


@pytest.fixture(scope="module")
def whole_plain_run(tmp_path_factory):
    return run_with_numbers(tmp_path_factory.mktemp("whole"), PLAIN)


@pytest.mark.parametrize("what", PLAIN)
@pytest.mark.parametrize("number", [np.float64, partial(torch.tensor, dtype=torch.float64)])
def test_numbers_of_other_libraries_are_saved_as_plain_ones(tmp_path, whole_plain_run, what, number):
    """A run with them goes on, and ends as one with Python's numbers."""
    value = number(PLAIN[what]) if what in ("lr", "max_norm") else np.int64(PLAIN[what])
    with pytest.raises(KeyError, match="stopped"):
        run_with_numbers(tmp_path, PLAIN | {what: value}, stop=5)
    torch.load(tmp_path / "step-5.pt", weights_only=True)
    assert equal(run_with_numbers(tmp_path, PLAIN), whole_plain_run)


@pytest.mark.parametrize("make_schedule", [
    lambda optimizer: schedules.MultiStepLR(optimizer, np.array([2, 6]), np.float64(0.1)),
    lambda optimizer: schedules.SequentialLR(optimizer, [
        schedules.LinearLR(optimizer, 0.5, total_iters=2), schedules.MultiStepLR(optimizer, [1, 3], 0.1)], [2]),
    lambda optimizer: schedules.ChainedScheduler([
        schedules.LinearLR(optimizer, 0.1, 1.0, 3), schedules.ExponentialLR(optimizer, np.float32(0.9))])])
def test_numbers_of_another_precision_in_schedules_go_on_the_same(tmp_path, make_schedule):
    """NumPy rounds 32 bits times Python's number to 32 bits."""
    def run(folder, stop=None):
        model, steps = float32_model(), iter(range(100))
        optimizer = torch.optim.AdamW(model.parameters(), lr=np.float32(1e-2))
        optimizer.register_step_pre_hook(lambda *_: {}["stopped"] if next(steps) == stop else None)
        history = train(model, optimizer=optimizer, scheduler=make_schedule(optimizer), checkpoint_dir=folder,
                        checkpoint_minutes=0)
        return model.state_dict(), history

    with pytest.raises(KeyError, match="stopped"):
        run(tmp_path / "run", stop=5)
    assert equal(run(tmp_path / "run"), run(tmp_path / "whole"))


@pytest.mark.parametrize("after", [3, 6])
@pytest.mark.parametrize("new_optimizer", [False, True])
def test_the_same_call_goes_on_after_the_stop_button(tmp_path, capsys, after, new_optimizer):
    """In the same process, with the very model, and the optimizer's cell run again or not."""
    def prepare(model):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        return {"optimizer": optimizer, "scheduler": schedules.LinearLR(optimizer, 1.0, 0.0, 12),
                "epochs": 3, "checkpoint_dir": tmp_path / "run", "checkpoint_minutes": 0}

    whole = float32_model()
    expected = train(whole, **(prepare(whole) | {"checkpoint_dir": None}))
    model = float32_model()
    options, steps = prepare(model), iter(range(100))

    def press_stop(*_):
        if next(steps) == after:
            raise KeyboardInterrupt

    hook = options["optimizer"].register_step_post_hook(press_stop)
    train(model, **options)
    assert "Interrupted" in capsys.readouterr().out
    hook.remove()
    options = prepare(model) if new_optimizer else options
    assert train(model, **options) == expected
    assert f"Continuing from {tmp_path / 'run' / f'step-{after}.pt'}" in capsys.readouterr().out
    assert equal(dict(model.state_dict()), dict(whole.state_dict()))
    with pytest.raises(ValueError, match="num_epochs 4, was 3"):
        train(model, **(options | {"epochs": 4}))


def test_a_stop_before_the_first_checkpoint_can_not_go_on(tmp_path):
    """There is nothing to go on from, and training on would be another run."""
    model, steps = float32_model(), iter(range(100))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)

    def press_stop(*_):
        if next(steps) == 1:
            raise KeyboardInterrupt

    hook = optimizer.register_step_post_hook(press_stop)
    train(model, optimizer=optimizer, checkpoint_dir=tmp_path)
    hook.remove()
    with pytest.raises(ValueError, match="stopped before its first checkpoint.*make the model and the optimizer again"):
        train(model, optimizer=optimizer, checkpoint_dir=tmp_path)
    train(model, optimizer=optimizer, checkpoint_dir=tmp_path / "other")
    assert (tmp_path / "other/step-8.pt").exists()


def test_a_folder_that_was_refused_can_be_emptied_and_used(tmp_path):
    """The error says so, and no step was taken."""
    train(float32_model(), checkpoint_dir=tmp_path)
    model = float32_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    with pytest.raises(ValueError, match="of another run.*empty that folder"):
        train(model, optimizer=optimizer, checkpoint_dir=tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    train(model, optimizer=optimizer, checkpoint_dir=tmp_path)
    assert (tmp_path / "step-8.pt").exists()


class Changing(torch.nn.Module):
    """A feed-forward with buffers of several kinds, and a generator of its own."""

    def __init__(self, ff):
        super().__init__()
        self.ff, self.generator = ff, torch.Generator().manual_seed(1)
        self.register_buffer("mean", torch.zeros(CFG["emb_dim"]))
        self.register_buffer("steps", torch.zeros(()), persistent=False)
        self.register_buffer("mask", torch.full((2,), -torch.inf))

    def forward(self, x):
        if self.training:
            self.mean.lerp_(x.detach().flatten(0, -2).mean(dim=0), 0.1)
            self.steps += 1
            x = x * (1 + 0.1 * torch.rand((), generator=self.generator))
        return self.ff(x - self.mean) * (1 + 0.01 * self.steps)


@pytest.mark.parametrize("stopped_after", [3, 4])
def test_buffers_and_generators_of_the_model_go_on_too(tmp_path, stopped_after):
    def run(folder, stop=None):
        torch.manual_seed(1)
        model = float32_model()
        model.trf_blocks[1].ff = Changing(model.trf_blocks[1].ff)
        optimizer, steps = torch.optim.AdamW(model.parameters(), lr=1e-2), iter(range(100))
        optimizer.register_step_pre_hook(lambda *_: {}["stopped"] if next(steps) == stop else None)
        history = train(model, optimizer=optimizer, checkpoint_dir=folder, checkpoint_minutes=0, start_context="start")
        return dict(model.state_dict()), model.trf_blocks[1].ff.steps.item(), history

    whole = run(tmp_path / "whole")
    assert whole[1] == 8, "the check leaves no trace"
    with pytest.raises(KeyError, match="stopped"):
        run(tmp_path / "run", stop=stopped_after)
    assert equal(run(tmp_path / "run"), whole) and equal(run(None), whole)


def shuffled_run(own_generator, folder, stop=None):
    """A run of three epochs of four batches with shuffling, dropout and a schedule; or one that is stopped in a step,
    counted from 1. A checkpoint is due after every step."""
    torch.manual_seed(123)
    model, (inputs, targets) = GPTModel(CFG | {"drop_rate": 0.1}), instruction_batch(0, rows=8)
    loader, val_loader = (
        DataLoader(list(zip(*data)), batch_size=2, shuffle=True,
                   generator=torch.Generator().manual_seed(5) if own_generator else None)
        for data in ((inputs, targets), instruction_batch(1, rows=8)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    steps = iter(range(1, 100))
    optimizer.register_step_pre_hook(lambda *args: {}["stopped"] if next(steps) == stop else None)
    history = train(model, loader, val_loader=val_loader, optimizer=optimizer, epochs=3, eval_freq=2,
                    checkpoint_dir=folder, checkpoint_minutes=0, start_context="start",
                    scheduler=schedules.LinearLR(optimizer, 1.0, 0.5, total_iters=12))
    return model.state_dict(), optimizer.state_dict(), history, torch.get_rng_state()


@pytest.fixture(scope="module", params=[True, False], ids=["own generator", "global generator"])
def whole_shuffled_run(request, tmp_path_factory):
    """Whether the loaders have generators of their own, and the result of the run that nobody stops."""
    return request.param, shuffled_run(request.param, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("stopped_after", [1, 3, 4, 6, 11])
def test_resuming_in_the_middle_of_an_epoch_ends_the_same(tmp_path, stopped_after, whole_shuffled_run):
    """Bit for bit."""
    own_generator, whole = whole_shuffled_run
    with pytest.raises(KeyError, match="stopped"):
        shuffled_run(own_generator, tmp_path, stop=stopped_after + 1)
    assert (tmp_path / f"step-{stopped_after}.pt").exists()
    with pytest.raises(KeyError, match="stopped"):  # a second time, so that what is saved after resuming counts too
        shuffled_run(own_generator, tmp_path, stop=1 if stopped_after == 11 else 2)
    assert equal(shuffled_run(own_generator, tmp_path), whole)


class OwnGenerator(torch.utils.data.Sampler):
    """A sampler of somebody else's that shuffles with a generator of its own."""

    def __init__(self, count):
        self.count, self.rng = count, torch.Generator().manual_seed(7)

    def __iter__(self):
        return iter(torch.randperm(self.count, generator=self.rng).tolist())

    def __len__(self):
        return self.count


class GlobalRandom(OwnGenerator):
    """One that draws from Python's global state, and a data set that draws from NumPy's."""

    def __iter__(self):
        return iter(random.sample(range(self.count), self.count))


class Augmented(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        inputs, targets = self.items[index]
        return inputs, targets.masked_fill(torch.from_numpy(np.random.random(targets.shape) < 0.1), -100)


class Counting(OwnGenerator):
    """A sampler that counts its epochs by itself, which nobody can save."""

    epoch = 0

    def __iter__(self):
        self.epoch += 1
        return iter(torch.randperm(self.count, generator=torch.Generator().manual_seed(self.epoch)).tolist())


class Unseen(OwnGenerator):
    """One whose generator of NumPy's is hidden from us."""

    def __init__(self, count):
        self.count, self.rng = count, np.random.default_rng(1)

    def __iter__(self):
        return iter(self.rng.permutation(self.count).tolist())


def run_with(make_loader, folder, stop=None):
    """A run of three epochs of four batches; or one that is stopped in a step, counted from 0."""
    torch.manual_seed(123)
    random.seed(5)
    np.random.seed(6)
    model = float32_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    steps = iter(range(100))
    optimizer.register_step_pre_hook(lambda *_: {}["stopped"] if next(steps) == stop else None)
    history = train(model, make_loader(), optimizer=optimizer, epochs=3, checkpoint_dir=folder, checkpoint_minutes=0)
    return model.state_dict(), history


def drop_some(rows):
    """A collate function that draws from Python's global state."""
    inputs, targets = map(torch.stack, zip(*rows))
    return inputs, targets.masked_fill(torch.tensor(random.choices([True, False], k=targets.shape[1])), -100)


ITEMS = list(zip(*instruction_batch(0, rows=8)))
BATCH_SAMPLER = torch.utils.data.BatchSampler
LOADERS = {
    "a sampler's generator": lambda: DataLoader(ITEMS, batch_size=2, sampler=OwnGenerator(8)),
    "PyTorch's sampler": lambda: DataLoader(ITEMS, batch_size=2, sampler=torch.utils.data.RandomSampler(
        ITEMS, generator=torch.Generator().manual_seed(3))),
    "a batch sampler's sampler": lambda: DataLoader(ITEMS, batch_sampler=BATCH_SAMPLER(OwnGenerator(8), 2, False)),
    "a collate function": lambda: DataLoader(ITEMS, batch_size=2, collate_fn=drop_some),
    "Python's and NumPy's global states": lambda: DataLoader(Augmented(ITEMS), batch_size=2, sampler=GlobalRandom(8))}


@pytest.fixture(scope="module", params=LOADERS)
def whole_run(request, tmp_path_factory):
    """A function that makes a loader, and the result of the run with it that nobody stops."""
    make_loader = LOADERS[request.param]
    whole = run_with(make_loader, tmp_path_factory.mktemp("whole"))
    assert equal(run_with(make_loader, None), whole), "the checkpoints change nothing"
    return make_loader, whole


@pytest.mark.parametrize("stopped_after", [3, 4, 6])
def test_a_loader_with_randomness_of_its_own_goes_on_the_same(tmp_path, whole_run, stopped_after):
    make_loader, whole = whole_run
    with pytest.raises(KeyError, match="stopped"):
        run_with(make_loader, tmp_path, stop=stopped_after)
    random.random(), np.random.random(), torch.rand(1)
    assert equal(run_with(make_loader, tmp_path), whole)


@pytest.mark.parametrize("loader", ["PyTorch's sampler", "a sampler's generator"])
def test_a_run_that_ends_with_an_epoch_goes_on_with_more(tmp_path, loader):
    """PyTorch's sampler draws once more at the end of an epoch, from its own generator."""
    def run(folder, **options):
        model = float32_model()
        history = train(model, LOADERS[loader](), epochs=3, checkpoint_dir=folder, **options)
        return model.state_dict(), history

    whole = run(tmp_path / "whole")
    run(tmp_path / "run", max_steps=4)
    assert equal(run(tmp_path / "run"), whole)


@pytest.mark.parametrize(("sampler", "what"), [(Counting, "batches"), (Unseen, "batches")])
def test_a_loader_whose_randomness_can_not_be_saved_is_an_error(tmp_path, sampler, what):
    with pytest.raises(ValueError, match=f"the {what} of the training loader can't be repeated.*torch.Generator"):
        run_with(lambda: DataLoader(ITEMS, batch_size=2, sampler=sampler(8)), tmp_path)
    assert not list(tmp_path.iterdir())
    run_with(lambda: DataLoader(ITEMS, batch_size=2, sampler=sampler(8)), None)  # without checkpoints nobody minds


Subset = torch.utils.data.SubsetRandomSampler


@pytest.mark.parametrize("one, other", [
    ({"shuffle": True}, {}), ({"sampler": list(range(8))}, {"sampler": [1, 0, *range(2, 8)]}),
    ({"sampler": Subset(range(6))}, {"sampler": Subset(range(2, 8))})])
def test_another_order_of_the_same_data_is_another_run(tmp_path, one, other):
    """As one that is drawn in each process anew, without a seed."""
    with pytest.raises(KeyError, match="stopped"):
        run_with(lambda: DataLoader(ITEMS, batch_size=2, **one), tmp_path, stop=2)
    with pytest.raises(ValueError, match=r"of another run \(training order '\w+', was '\w+'\): empty that folder"):
        run_with(lambda: DataLoader(ITEMS, batch_size=2, **other), tmp_path)


class Wrapper:
    """A loader of somebody else's around PyTorch's, which can be asked for no entry."""

    def __init__(self):
        self.loader = DataLoader(ITEMS, batch_size=2, shuffle=True)

    def __iter__(self):
        return iter(self.loader)

    def __len__(self):
        return len(self.loader)


class Stream(torch.utils.data.IterableDataset):
    """A data set that comes in one order, and knows its length."""

    def __iter__(self):
        return iter(ITEMS)

    def __len__(self):
        return len(ITEMS)


@pytest.mark.parametrize("make_loader", [Wrapper, lambda: DataLoader(Stream(), batch_size=2)])
def test_a_loader_that_has_no_numbered_entries_goes_on_the_same(tmp_path, make_loader):
    with pytest.raises(KeyError, match="stopped"):
        run_with(make_loader, tmp_path / "run", stop=6)
    assert equal(run_with(make_loader, tmp_path / "run"), run_with(make_loader, None))
    with pytest.raises(ValueError, match="of another run .*training data"):
        run_with(lambda: DataLoader(ITEMS[::-1], batch_size=2), tmp_path / "run")


def test_data_that_can_not_be_repeated_are_an_error(tmp_path):
    rng = np.random.default_rng(0)

    class Noisy(Augmented):
        def __getitem__(self, index):
            inputs, targets = self.items[index]
            return inputs, targets.masked_fill(torch.from_numpy(rng.random(targets.shape) < 0.3), -100)

    with pytest.raises(ValueError, match="the data of the training loader can't be repeated"):
        run_with(lambda: DataLoader(Noisy(ITEMS), batch_size=2), tmp_path)


def test_checkpoints_come_every_so_many_minutes(tmp_path, monkeypatch):
    """A clock that says one minute more at every look; steps 1 to 8 of two epochs."""
    now = iter(range(0, 60_000, 60))
    monkeypatch.setattr("engine.checkpoints.time.monotonic", lambda: next(now))
    saved, right = [], torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: saved.append(state["states"][2]["step"])
                        or right(state, file))
    train(float32_model(), checkpoint_dir=tmp_path, checkpoint_minutes=3)
    assert saved == [3, 4, 7, 8]  # when three minutes old, and at the end of an epoch


def test_of_two_writers_of_one_folder_either_may_delete_an_old_checkpoint(tmp_path, monkeypatch):
    there = engine.checkpoints.checkpoints_in
    monkeypatch.setattr(engine.checkpoints, "checkpoints_in",
                        lambda folder: [*there(folder), folder / "step-0.pt"])  # deleted by the other one meanwhile
    checkpoints = Checkpoints(tmp_path, [GPTModel(CFG)])
    for step in (1, 2, 3):
        checkpoints.save(step)
    assert {path.name for path in tmp_path.iterdir()} == {"step-2.pt", "step-3.pt"}


def test_what_a_killed_process_was_writing_is_removed(saved_run):
    folder, again, result = saved_run
    (folder / "step-12.pt").unlink()
    (folder / "step-9.pt.0123abcd.part").write_bytes(b"half")
    assert equal(again(), result)
    assert sorted(path.name for path in folder.iterdir()) == ["step-12.pt", "step-8.pt"]


def test_a_run_that_was_interrupted_in_validation_goes_on(tmp_path, monkeypatch):
    whole = train(float32_model(), checkpoint_dir=tmp_path / "whole")
    with monkeypatch.context() as patch:
        right, calls = trainer.evaluate, iter(range(9))
        patch.setattr(trainer, "evaluate", lambda *args, **options: (
            {}["interrupted"] if next(calls) == 1 else right(*args, **options)))
        with pytest.raises(KeyError, match="interrupted"):
            train(float32_model(), checkpoint_dir=tmp_path / "run", checkpoint_minutes=0)
    assert train(float32_model(), checkpoint_dir=tmp_path / "run") == whole


def test_a_checkpoint_runs_no_code(saved_run, tmp_path):
    folder, again, _ = saved_run

    class Evil:
        def __reduce__(self):
            return (tmp_path / "pwned").touch, ()

    torch.save({"description": Evil()}, folder / "step-12.pt")
    with pytest.raises(UnpicklingError, match="weights_only"):
        again()
    assert not (tmp_path / "pwned").exists()
