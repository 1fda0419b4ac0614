"""Fine-tuning in several processes and on several machines, against a plain loop in one.

The processes are real ones, and talk through gloo. "Machines" are torchrun's launchers that meet somewhere, and start
the script; other processes are started without it, which saves the time to import PyTorch.
"""

import json
import re
import socket
import time
from functools import partial

import psutil
import pytest
import torch

from engine.lora import add_lora, merge_lora
from engine.precision import resolve_precision
from gpt_download import load_gpt2, load_tokenizer
from previous_chapters import calc_loss_batch
from scripts import finetune
from tests import processes
from tutorial import MINIATURE_DIR, ROOT
from tutorial.instructions import InstructionDataset, custom_collate_fn, generate_responses
from tutorial.recipes import MINIATURE
from weights.saved import load_model

pytestmark = pytest.mark.usefixtures("one_thread")

SCRIPT = ROOT / "scripts/finetune.py"
DATA = json.loads((ROOT / "data/mini-instructions.json").read_text())
FEW = DATA[:14] + DATA[-14:]  # 23 for training, 2 for the test, 3 for validation
BATCH, EPOCH = 6, 3           # 6 can be divided by 1, 2 and 3; so many steps has an epoch of few entries
RATE = 0.05                   # of SGD
LINE = re.compile(r"^step (\d{6}) loss (\d+\.\d{6}) norm (\d+\.\d{6}) tokens (\d+)$", re.MULTILINE)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_on_two_machines(folder, *options):
    """Start the script by two launchers: (them, the files with what they and the script print)."""
    options = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-id", "test", "--rdzv-endpoint",
               f"127.0.0.1:{free_port()}", "--local-addr", "127.0.0.1", SCRIPT, *options]
    (folder / "temporary").mkdir()
    outputs = [folder / f"machine-{number}.txt" for number in range(2)]
    return [processes.start(output, processes.launch, folder / "temporary", options) for output in outputs], outputs


@pytest.fixture
def run(tmp_path):
    """Runs the script's `main` in so many processes without torchrun, and returns what they print."""
    def run(count, *options, change=None, exit_code=0):
        port, outputs = free_port(), [tmp_path / f"printed-{rank}.txt" for rank in range(count)]
        ranks = [processes.start(output, processes.finetune_as_rank, rank, count, port, options, change)
                 for rank, output in enumerate(outputs)]
        codes, printed = processes.wait(*ranks), "".join(output.read_text() for output in outputs)
        assert codes == [exit_code] * count, printed
        return printed
    return run


# --- The witness ---


class Plain:
    """The same fine-tuning as a loop over whole batches in this process, with the textbook's loss."""

    def __init__(self, entries, steps, make_optimizer, epochs=None, batch_size=BATCH, lora_rank=0, seed=123,
                 left_out=()):
        epochs = epochs or MINIATURE["num_epochs"]
        self.model, _ = load_gpt2("7M", ROOT / "gpt2")
        if lora_rank:
            torch.manual_seed(seed)
            add_lora(self.model, lora_rank, alpha=2 * lora_rank)
        items = InstructionDataset(entries, load_tokenizer(MINIATURE_DIR), mask_instruction=True)
        count = len(items) * 85 // 100
        per_epoch = count // batch_size
        optimizer, self.steps = make_optimizer(self.model.parameters()), []
        rate = optimizer.param_groups[0]["lr"]
        for step in range(steps):
            order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + step // per_epoch)).tolist()
            first = step % per_epoch * batch_size
            batch = custom_collate_fn([items[i] for i in order[first:first + batch_size]])
            optimizer.param_groups[0]["lr"] = rate * (1 - step / (epochs * per_epoch))
            optimizer.zero_grad()
            loss = calc_loss_batch(*batch, self.model, "cpu")
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            if step + 1 not in left_out:
                optimizer.step()
            self.steps.append((step + 1, loss.item(), norm.item(), int((batch[1] != -100).sum())))
        with torch.no_grad():
            rows = [custom_collate_fn([item]) for item in items[count + len(items) // 10:]]
            scored = [int((targets != -100).sum()) for _, targets in rows]
            loss_sum = sum(calc_loss_batch(*row, self.model, "cpu").item() * n for row, n in zip(rows, scored))
            self.val = loss_sum / sum(scored), sum(scored)


def adamw(parameters, lr=2.5e-4):
    return torch.optim.AdamW(parameters, lr, weight_decay=0.1)


def assert_same(output, plain, first=0, rel=1e-4):
    """The lines of all steps and, at the end, of the validation. AdamW makes whole steps of the rounding, which the
    packed and the plain loss have in other places."""
    steps = [(int(step), float(loss), float(norm), int(tokens)) for step, loss, norm, tokens in LINE.findall(output)]
    for ours, expected in zip(steps, plain.steps[first:], strict=True):
        assert ours == pytest.approx(expected, rel=rel)
    loss, tokens = re.findall(r"^validation loss (\d+\.\d{6}) tokens (\d+)$", output, re.MULTILINE)[-1]
    assert (float(loss), int(tokens)) == pytest.approx(plain.val, rel=rel)


# --- As in one process ---


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A data file of few entries."""
    path = tmp_path_factory.mktemp("data") / "few.json"
    path.write_text(json.dumps(FEW))
    return path


@pytest.fixture(scope="module")
def plain_sgd():
    return Plain(FEW, EPOCH + 1, lambda parameters: torch.optim.SGD(parameters, lr=RATE))


@pytest.mark.slow
@pytest.mark.parametrize(("count", "micro_batch"), [(1, 4), (2, 2), (3, 1)])
def test_losses_norms_and_weights_are_those_of_one_process(run, count, micro_batch, plain_sgd, few, tmp_path):
    """Though parts of a batch have unequal numbers of tokens, and 3 validation entries can't be divided by 2."""
    output = run(count, "--data-file", few, "--batch-size", BATCH, "--micro-batch-size", micro_batch,
                 "--max-steps", EPOCH + 1, "--learning-rate", RATE, "--output-dir", tmp_path, change=processes.with_sgd)
    assert_same(output, plain_sgd, rel=1e-5)
    model, _ = load_model(tmp_path / "gpt2-instruct.pt")
    for (name, ours), expected in zip(model.named_parameters(), plain_sgd.model.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6, msg=name)


@pytest.mark.slow
def test_in_bfloat16_no_part_of_the_gradient_is_lost(run, plain_sgd, few, tmp_path):
    """FSDP2 doesn't see the gradients of weights whose casts were kept from one micro-batch to the next."""
    output = run(2, "--data-file", few, "--batch-size", BATCH, "--micro-batch-size", 2, "--max-steps", 1,
                 "--output-dir", tmp_path, "--precision", "bfloat16")
    step, loss, norm, tokens = map(float, LINE.search(output).groups())
    assert (step, loss, norm, tokens) == pytest.approx(plain_sgd.steps[0], rel=0.01)


@pytest.mark.slow
def test_a_step_that_overflows_in_one_process_is_left_out_by_all_and_counted(run, tmp_path):
    """In float16; also when the run was stopped and goes on. Few rows, since CPUs are slow in float16."""
    entries = DATA[:30] + DATA[-30:]  # in whose first step no gradient overflows by itself
    (tmp_path / "data.json").write_text(json.dumps(entries))
    options = ["--data-file", tmp_path / "data.json", "--batch-size", 4, "--checkpoint-dir", tmp_path / "checkpoints",
               "--output-dir", tmp_path, "--precision", "float16"]
    output = run(2, *options, "--max-steps", 2, change=processes.with_overflow)
    assert "step 000001 loss " in output and " norm inf " in output
    output += run(2, *options, "--max-steps", 3)
    assert output.count("steps skipped so far, because their float16 gradients overflowed: 1") == 2
    plain = Plain(entries, 3, adamw, batch_size=4, left_out=[1])
    losses = [float(loss) for loss in re.findall(r"^step \d+ loss (\S+)", output, re.MULTILINE)]
    assert losses == pytest.approx([loss for _, loss, _, _ in plain.steps], rel=0.03)


@pytest.mark.slow
def test_adapters_are_trained_as_in_one_process(run, few, tmp_path):
    """Also with another seed, and when another number of processes goes on in the middle of an epoch."""
    plain = Plain(FEW, 3, partial(adamw, lr=2.5e-3), lora_rank=4, seed=5)
    merge_lora(plain.model)
    output = "".join(run(count, "--data-file", few, "--batch-size", BATCH, "--max-steps", steps, "--lora-rank", 4,
                         "--seed", 5, "--checkpoint-dir", tmp_path / "checkpoints", "--output-dir", tmp_path)
                     for count, steps in ((2, 2), (3, 3)))
    assert_same(output, plain)
    model, _ = load_model(tmp_path / "gpt2-instruct.pt")
    for (name, ours), expected in zip(model.named_parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4, msg=name)
    saved = list((tmp_path / "checkpoints").iterdir())
    assert {path.name for path in saved} == {"step-2.pt", "step-3.pt"}
    assert all(path.stat().st_size < 1e6 for path in saved), "frozen weights are not saved"


@pytest.mark.slow
def test_two_machines_train_the_model_of_one_process(few, tmp_path):
    """Same losses, and the same answers."""
    plain = Plain(FEW, EPOCH + 1, adamw)
    machines, outputs = start_on_two_machines(tmp_path, "--data-file", few, "--batch-size", BATCH, "--max-steps",
                                              EPOCH + 1, "--output-dir", tmp_path)
    codes, printed = processes.wait(*machines), "".join(output.read_text() for output in outputs)
    assert codes == [0, 0], printed
    assert_same(printed, plain)
    model, _ = load_model(tmp_path / "gpt2-instruct.pt")
    tokenizer = load_tokenizer(MINIATURE_DIR)
    answers, expected = (generate_responses(one, DATA[935:950], tokenizer, max_new_tokens=32)
                         for one in (model, plain.model.eval()))
    assert answers == expected and len(set(answers)) > 10


# --- Killed processes ---


@pytest.mark.slow
def test_a_killed_process_ends_all_and_one_alone_goes_on(run, few, tmp_path):
    """One of two machines' processes. There is a checkpoint after each epoch."""
    folder = tmp_path / "checkpoints"
    options = ["--data-file", few, "--batch-size", BATCH, "--epochs", 2, "--output-dir", tmp_path,
               "--checkpoint-dir", folder]
    machines, outputs = start_on_two_machines(tmp_path, *options)
    try:
        while not (folder / f"step-{EPOCH}.pt").exists():
            assert all(machine.is_alive() for machine in machines), [output.read_text() for output in outputs]
            time.sleep(0.01)
        ranks = [psutil.Process(machine.pid).children()[0] for machine in machines]
        ranks[1].kill()
    finally:
        codes = processes.wait(*machines)
    assert all(output.read_text() for output in outputs) and not {0, None} & set(codes)
    assert not any(rank.is_running() for rank in ranks) and not (tmp_path / "gpt2-instruct.pt").exists()

    (folder / "step-5.pt.0123abcd.part").write_bytes(b"half")  # another that wasn't written to its end
    assert_same(run(1, *options), Plain(FEW, 2 * EPOCH, adamw, epochs=2), first=EPOCH)
    assert sorted(path.name for path in folder.iterdir()) == ["step-3.pt", "step-6.pt"]


@pytest.mark.slow
def test_a_thread_that_is_late_aborts_no_process(tmp_path):
    printed = tmp_path / "printed.txt"
    assert processes.wait(processes.start(printed, processes.leave_late)) == [0] and printed.read_text() == ""


# --- What doesn't fit ---


def read(monkeypatch, *options):
    monkeypatch.setattr("sys.argv", ["finetune.py", *map(str, options)])
    return finetune.read_run(finetune.parse_options())


@pytest.mark.parametrize("size, processes", [(8, 3), (0, 1)])
def test_a_batch_that_can_not_be_divided_is_an_error(monkeypatch, size, processes):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    message = f"--batch-size {size}: expected a multiple of {processes}, the number of processes, above 0"
    with pytest.raises(ValueError, match=message):
        read(monkeypatch, "--batch-size", size)


def test_too_few_entries_are_an_error(few, monkeypatch):
    with pytest.raises(ValueError, match="28 entries are too few: expected 64 for training"):
        read(monkeypatch, "--data-file", few, "--batch-size", 64)


def test_options_are_the_recipes_where_they_are_silent(monkeypatch):
    def parse(*options):
        monkeypatch.setattr("sys.argv", ["finetune.py", *options])
        return finetune.parse_options()

    silent, given = parse(), parse("--epochs", "3", "--learning-rate", "0.5", "--precision", "bfloat16",
                                   "--skip-bad-entries", "--lora-rank", "4")
    assert (silent.num_epochs, silent.learning_rate) == (MINIATURE["num_epochs"], MINIATURE["learning_rate"])
    assert (silent.precision, silent.skip_bad_entries, silent.urls) == ("float32", False, ())
    assert (given.num_epochs, given.learning_rate, given.precision) == (3, 0.5, "bfloat16") and given.skip_bad_entries
    assert parse("--lora-rank", "4").learning_rate == 10 * MINIATURE["learning_rate"]
    assert parse("--precision", "auto").precision == resolve_precision("auto", "cpu")
    published = parse("--model", "gpt2-medium (355M)")
    assert published.learning_rate == 5e-5 and published.max_norm is None
    assert len(published.urls) == 2 and all(url.startswith("https://") for url in published.urls)


def test_entries_at_fault_are_left_out_when_asked(monkeypatch, capsys, tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([*FEW, {"instruction": "Say nothing.", "input": "", "output": " "}]))
    with pytest.raises(ValueError, match="1 of 29 entries can.t be used"):
        read(monkeypatch, "--data-file", path)
    _, _, train_data, _ = read(monkeypatch, "--data-file", path, "--skip-bad-entries")
    assert len(train_data) == 23 and "left out: 1 with an empty output" in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_with_the_checkpoints_of_another_run_is_an_error(run, few, tmp_path):
    options = ["--data-file", few, "--batch-size", BATCH, "--max-steps", 1, "--checkpoint-dir", tmp_path / "run",
               "--output-dir", tmp_path]
    run(1, *options)
    for changes, difference in ((["--seed", 5], "seed 5, was 123"),
                                (["--learning-rate", 0.125], "AdamW lr 0.125, was 0.00025")):
        output = run(1, *options, *changes, exit_code=1)
        assert f"step-1.pt is of another run ({difference}): empty that folder or name another" in output
