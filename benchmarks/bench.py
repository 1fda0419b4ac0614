"""Speed and memory of this project and of two peers: python -m benchmarks.bench writes results.md and growth.png.

- The peers are llms-from-scratch (its plain GPT-2 without options) and transformers (GPT2LMHeadModel, fused AdamW, its
  key/value cache). All have the same random weights, read from one checkpoint, and the same batches.
- Losses and generated ids are compared before anything is timed. Then the implementations run in turns, so that a slow
  moment of the machine affects all of them, and the median counts. Only llms-from-scratch's run over the whole test
  set, which takes minutes, is measured once.
- Memory is the peak of a separate process, minus what it had after its imports.
- INSTRUCTION_DATA is the path of the published data set; without it the miniature's is used.
"""

import json
import os
import platform
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

import torch
import torch.nn.functional as F

from benchmarks import load
from benchmarks.load import memory
from engine import generation
from engine.fast import IGNORE_INDEX, FastLinear, Packing, fast_layers, freed_memory, own_memory, packed_loss
from engine.generation import generate
from engine.precision import mixed_precision, number_format
from engine.trainer import train
from gpt_download import END_OF_TEXT, download_and_load_gpt2, load_tokenizer
from tests.helpers import transformers_state, write_checkpoint
from tutorial import MINIATURE_DIR, ROOT
from tutorial.instructions import InstructionDataset, custom_collate_fn, format_input, format_prompt, split
from weights.sizes import MODELS, VOCAB_SIZE, gpt_config, openai_settings

os.environ.setdefault("MPLBACKEND", "Agg")
FOLDER = ROOT / "build/benchmarks"  # checkpoints with random weights
SIZES = {model.model_size: model for model in MODELS.values()}
TIMED = "7M", "124M", "355M"
DATA = os.environ.get("INSTRUCTION_DATA", ROOT / "data/mini-instructions.json")
CONTEXT = SIZES["124M"].context_length
BOOK, HF = "llms-from-scratch", "transformers"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISION = "auto" if DEVICE == "cuda" else "float32"  # of all implementations
FORMAT = number_format(PRECISION, DEVICE)
TOKENIZER = load_tokenizer(MINIATURE_DIR)


# --- The implementations ---


def our_model(size):
    """With weights in rows, as fine-tuning leaves them and as load_model reads them."""
    model = load.our_model(FOLDER, size)
    own_memory(model)
    return model.to(DEVICE)


def book_model(size):
    from llms_from_scratch import ch04, ch05
    settings, params = download_and_load_gpt2(size, FOLDER)
    model = ch04.GPTModel(gpt_config(settings))
    ch05.load_weights_into_gpt(model, params)
    return model.to(DEVICE)


def hf_model(size):
    from transformers import GPT2Config, GPT2LMHeadModel
    settings, params = download_and_load_gpt2(size, FOLDER)
    model = GPT2LMHeadModel(GPT2Config(
        n_positions=settings["n_ctx"], n_embd=settings["n_embd"], n_layer=settings["n_layer"],
        n_head=settings["n_head"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    model.transformer.load_state_dict(transformers_state(params))
    return model.to(DEVICE)


def book_loss(model, inputs, targets):
    """The peers' loss: logits at every position, then cross-entropy."""
    inputs, targets = inputs.to(DEVICE), targets.to(DEVICE)
    with mixed_precision(DEVICE, PRECISION):
        return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)


def hf_loss(model, inputs, targets):
    return book_loss(lambda ids: model(ids, use_cache=False).logits, inputs, targets)


def our_loss(model, inputs, targets):
    with mixed_precision(DEVICE, PRECISION):
        return packed_loss(inputs, targets, model, DEVICE)


IMPLEMENTATIONS = {  # name: (a function that makes its model, its loss, AdamW's `fused` in its own training loop)
    "ours": (our_model, our_loss, True), BOOK: (book_model, book_loss, None), HF: (hf_model, hf_loss, True)}


def adamw(name, model):
    return torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1, fused=IMPLEMENTATIONS[name][2])


@contextmanager
def stepper(name, size, batches):
    """Gives a function that trains for one step on the next batch and returns the loss."""
    make, loss_of, _ = IMPLEMENTATIONS[name]
    model = make(size).train()
    optimizer, batches = adamw(name, model), iter(batches)

    def step():
        inputs, targets = next(batches)
        optimizer.zero_grad()
        loss = loss_of(model, inputs, targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    if name == "ours":  # what engine.trainer does around its steps
        with fast_layers(model), freed_memory() as keep_freed_memory:
            optimizer.register_step_post_hook(lambda *_: keep_freed_memory())
            yield step
    else:
        yield step


# --- The data ---


def entries():
    """The entries for training, test and validation."""
    return split(json.loads(Path(DATA).read_text(encoding="utf-8")))


def loader(entries, batch_size=8, mask_instruction=False, shuffle=True):
    """Batches on the CPU, in the order of the published run."""
    torch.manual_seed(123)
    return torch.utils.data.DataLoader(
        InstructionDataset(entries, TOKENIZER, mask_instruction), batch_size=batch_size, shuffle=shuffle,
        drop_last=shuffle, collate_fn=custom_collate_fn)


# --- Measuring ---


def in_turns(functions, rounds, warm_up=1):
    """Median seconds of each function: {name: seconds}. Every round runs all of them; the first `warm_up` rounds don't
    count."""
    times = {name: [] for name in functions}
    for turn in range(-warm_up, rounds):
        for name, function in functions.items():
            start = perf_counter()
            function()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            if turn >= 0:
                times[name].append(perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def peak_memory(before):
    """The peak memory in bytes, minus `before`; on a GPU, the peak of the GPU's memory."""
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else memory("VmHWM") - before


def command(*arguments, module="benchmarks.bench"):
    """The command that runs a module, or one of the functions below, in a new Python process."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def in_own_process(*arguments, **options):
    """What such a process prints in its last line, read as JSON."""
    run = subprocess.run(command(*arguments, **options), stdout=subprocess.PIPE, check=True, text=True, cwd=ROOT)
    return json.loads(run.stdout.splitlines()[-1])


def answers_in_turns(commands, turns):
    """Run worker processes in turns, so many times each: {name: [(seconds, answer), ...]}. A worker computes when it is
    sent a line, and waits while another one computes."""
    workers = {name: subprocess.Popen(worker, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
               for name, worker in commands.items()}
    answers = {name: [] for name in workers}
    for _ in range(turns):
        for name, worker in workers.items():
            start = perf_counter()
            print(file=worker.stdin, flush=True)
            answer = json.loads(worker.stdout.readline())
            answers[name].append((perf_counter() - start, answer))
    for worker in workers.values():
        worker.communicate()
    return answers


def training_worker(name, masked, batches):
    """A worker that trains for one step, or computes the matrix products of ours, each time. It answers with the loss,
    or the number of operations, and its peak memory so far in bytes."""
    import llms_from_scratch.ch05  # noqa: F401  all imports first, for each implementation the same
    import transformers
    assert transformers.GPT2LMHeadModel  # imported only when it is asked for
    batches = list(loader(entries()[0], mask_instruction=masked == "True"))[:int(batches)]
    before = memory("VmRSS")
    with multiplier("124M", batches) if name == "products" else stepper(name, "124M", batches) as step:
        for _ in sys.stdin:
            print(json.dumps([step(), peak_memory(before)]), flush=True)


# --- The rows ---


def training_rows(masked):
    """Seconds and peak bytes of a training step of each, the seconds that the matrix products of ours take alone, and
    their operations per second. Each runs in a process of its own; they take turns."""
    batches = 13
    answers = answers_in_turns({name: command("training_worker", name, masked, batches)
                                for name in ("products", *IMPLEMENTATIONS)}, batches)
    losses = [answers[name][0][1][0] for name in IMPLEMENTATIONS]
    assert max(losses) - min(losses) < (1e-4 if DEVICE == "cpu" else 1e-2), losses
    seconds = {name: median(time for time, _ in turns[1:]) for name, turns in answers.items()}  # without the warm-up
    peak = {name: answers[name][-1][1][1] for name in IMPLEMENTATIONS}
    operations = median(count for _, (count, _) in answers["products"][1:])
    products = seconds.pop("products")
    return seconds, peak, products, operations / products


@contextmanager
def multiplier(size, batches):
    """Gives a function that computes the matrix products of our step on the next batch and nothing else, and returns
    the number of operations. Every layer has matrices of its own, as in a step: repeated products with the same
    matrices would read them from the processor's cache."""
    D, V = SIZES[size].emb_dim, VOCAB_SIZE
    shapes = [(D, 3 * D), (D, D), (D, 4 * D), (4 * D, D)] * SIZES[size].n_layers + [(D, V)]
    row_counts = []  # for each batch, the number of rows that each layer reads
    for inputs, targets in batches:
        packing = Packing(inputs, targets != IGNORE_INDEX)
        read = packing.source[targets != IGNORE_INDEX].unique()
        row_counts.append([len(packing.computed)] * (len(shapes) - 1) + [len(read)])
    largest = max(map(max, row_counts))
    kind = {"device": DEVICE, "dtype": torch.bfloat16 if DEVICE == "cuda" else torch.float32}
    layers = [(FastLinear(d_in, d_out, bias=False, **kind), torch.randn(largest, d_in, **kind),
               torch.randn(largest, d_out, **kind)) for d_in, d_out in shapes]
    row_counts = iter(row_counts)

    def multiply():
        rows = next(row_counts)
        for (layer, x, _), n in zip(layers, rows):
            layer(x[:n])
        for (layer, x, grad), n in reversed(list(zip(layers, rows))):
            grad[:n] @ layer.weight
            grad[:n].T @ x[:n]
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        keep_freed_memory()
        return sum(3 * 2 * n * d_in * d_out for n, (d_in, d_out) in zip(rows, shapes))

    with torch.no_grad(), freed_memory() as keep_freed_memory:
        yield multiply


def fine_tuning(name):
    """Seconds of 12 steps, with validation on 40 entries after every fifth, in the implementation's own loop."""
    from llms_from_scratch import ch05
    train_data, _, val_data = entries()
    loop, val_batch_size = {"ours": (train, 32), BOOK: (ch05.train_model_simple, 8)}[name]
    model, val_loader = IMPLEMENTATIONS[name][0]("124M"), loader(val_data[:40], val_batch_size, shuffle=False)
    run = partial(loop, model, loader(train_data[:96]), val_loader, adamw(name, model), DEVICE, num_epochs=1,
                  eval_freq=5, eval_iter=5, start_context=format_input(val_data[0]), tokenizer=TOKENIZER)
    return in_turns({name: run}, rounds=1, warm_up=0)[name]


def fine_tuning_row():
    """Seconds of a fine-tuning: {name: seconds}. Each runs in processes of its own; they take turns."""
    times = [{name: in_own_process("fine_tuning", name) for name in ("ours", BOOK)} for _ in range(2)]
    return {name: median(time[name] for time in times) for name in times[0]}


def test_prompts():
    """The ids of all test prompts, and the number of tokens in each answer of the data: (list of lists, list)."""
    tests = entries()[1]
    return ([TOKENIZER.encode_ordinary(format_prompt(entry)) for entry in tests],
            [len(TOKENIZER.encode_ordinary(entry["output"])) for entry in tests])


def in_batches(generate_batch, prompts, lengths, batch_size):
    """The continuations by `generate_batch(prompts, lengths)`, in the order of the prompts. Prompts of similar length
    are in one batch."""
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    rows = {}
    for first in range(0, len(prompts), batch_size):
        batch = by_length[first:first + batch_size]
        rows |= dict(zip(batch, generate_batch([prompts[i] for i in batch], [lengths[i] for i in batch])))
    return [rows[i] for i in range(len(prompts))]


def our_batch(model, prompts, lengths):
    with end_after(lengths):
        rows = generate(model, prompts, max(lengths) + 1, CONTEXT, eos_id=END_OF_TEXT)
    return [row[len(prompt):] for row, prompt in zip(rows, prompts)]


def hf_batch(model, prompts, lengths):
    width = max(map(len, prompts))
    ids = torch.tensor([[END_OF_TEXT] * (width - len(prompt)) + prompt for prompt in prompts], device=DEVICE)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=DEVICE)
    length = torch.tensor(lengths, device=DEVICE)
    rows = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=max(lengths),
                          pad_token_id=END_OF_TEXT, eos_token_id=None,
                          stopping_criteria=[lambda ids, scores: ids.shape[1] - width >= length])
    return [row[width:width + n].tolist() for row, n in zip(rows, lengths)]


def book_one(model, prompt, length):
    from llms_from_scratch import ch05
    return ch05.generate(model, torch.tensor([prompt], device=DEVICE), length, CONTEXT)[0, len(prompt):].tolist()


def test_set_row(models):
    """Seconds for all test prompts, each continued by as many tokens as its answer in the data has, and the fastest
    batch size of those that generate in batches: ({name: seconds}, {name: batch size})."""
    prompts, lengths = test_prompts()
    start = perf_counter()
    expected = [book_one(models[BOOK], prompt, n) for prompt, n in zip(prompts, lengths)]
    seconds, best = {BOOK: perf_counter() - start}, {}  # it takes minutes, so it runs once
    runs = {}
    for name, generate_batch in (("ours", our_batch), (HF, hf_batch)):
        tries = {size: partial(in_batches, partial(generate_batch, models[name]), prompts, lengths, size)
                 for size in (16, 32, 64)}
        assert tries[32]() == expected, f"ids of {name} differ"
        tried = in_turns(tries, rounds=1, warm_up=0)
        best[name] = min(tried, key=tried.get)
        runs[name] = tries[best[name]]
    return seconds | in_turns(runs, rounds=3, warm_up=0), best


def one_prompt_row(models, new=100):
    """Seconds for one prompt, continued by `new` tokens; ours again, in turns with a sum that reads as many weights as
    often; and the bytes that this sum reads: ({name: seconds}, {"sum": seconds, "ours": seconds}, bytes)."""
    from llms_from_scratch import ch05
    ours, prompt = models["ours"], torch.tensor(test_prompts()[0][:1], device=DEVICE)
    single = {
        "ours": lambda: generate(ours, prompt, new, CONTEXT),
        BOOK: lambda: ch05.generate(models[BOOK], prompt, new, CONTEXT),
        HF: lambda: models[HF].generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                                        max_new_tokens=new, pad_token_id=END_OF_TEXT, eos_token_id=None)}
    ids = [run().tolist() for run in single.values()]
    assert ids[0] == ids[1] == ids[2], "generated ids differ"
    weights = torch.randn(sum(parameter.numel() for parameter in ours.parameters()), device=DEVICE)
    # Without the peers, so that little time passes between the two: on a shared machine the memory's speed changes.
    reading = in_turns({"sum": lambda: [weights.sum() for _ in range(new)], "ours": single["ours"]}, rounds=10)
    return in_turns(single, rounds=4), reading, new * weights.nbytes


@contextmanager
def end_after(lengths):
    """Inside the `with` block, `generate` ends its rows after these numbers of tokens: real answers end, but with
    random weights a model never says so."""
    lengths, step, sample = torch.tensor(lengths, device=DEVICE), 0, generation.sample

    def sample_or_end(logits, **options):
        nonlocal lengths, step
        if len(logits) < len(lengths):  # `generate` has dropped the rows that ended in earlier steps
            lengths = lengths[lengths >= step]
        tokens = sample(logits, **options).masked_fill(lengths <= step, END_OF_TEXT)
        step += 1
        return tokens

    with patch.object(generation, "sample", sample_or_end):
        yield


def loading_row():
    """Seconds of a process that loads 355M and runs it once, imports included, and its peak memory in bytes."""
    runs = {name: partial(in_own_process, name, FOLDER, "355M", module=load.__name__) for name in ("ours", BOOK)}
    peak = {name: run() for name, run in runs.items()}
    return in_turns(runs, rounds=3, warm_up=0), peak


# --- How cost grows ---


def growth_point(size, batch_size, length):
    """Median seconds and peak bytes of our training step on full rows of random ids."""
    before = memory("VmRSS")
    ids = torch.randint(0, END_OF_TEXT, (int(batch_size), int(length) + 1))
    with stepper("ours", size, [(ids[:, :-1], ids[:, 1:])] * 4) as step:
        return in_turns({"step": step}, rounds=3)["step"], peak_memory(before)


def growth():
    """Plot how our cost grows, into growth.png; also a command: python -m benchmarks.bench growth."""
    import matplotlib.pyplot as plt
    points = {
        "model, batch of 8 × 64": [(size, *in_own_process("growth_point", size, 8, 64)) for size in TIMED],
        "batch size, 124M, length 64": [(b, *in_own_process("growth_point", "124M", b, 64)) for b in (1, 2, 4, 8, 16)],
        "length, 124M, one row": [(n, *in_own_process("growth_point", "124M", 1, n))
                                  for n in (64, 128, 256, 512, 1024)],
    }
    model = our_model("124M").eval()
    prompts = torch.randint(0, END_OF_TEXT, (32, 64), device=DEVICE)  # with no common prefix
    by_tokens = in_turns({n: partial(generate, model, prompts[:1], n, CONTEXT) for n in (50, 100, 200, 400, 800)}, 3, 0)
    by_rows = in_turns({b: partial(generate, model, prompts[:b], 50, CONTEXT) for b in (1, 2, 4, 8, 16, 32)}, 3, 0)

    fig, axes = plt.subplots(1, 5, figsize=(17, 3.2))
    for ax, (title, series) in zip(axes, points.items()):
        x, times, peak = zip(*series)
        positions = x if not isinstance(x[0], str) else range(len(x))
        ax.plot(positions, times, "o-")
        ax.set(title=title, ylabel="s a step", ylim=(0, None))
        ax.set_xticks(positions, [str(value) for value in x], rotation=0 if isinstance(x[0], str) else 60)
        twin = ax.twinx()
        twin.plot(positions, [value / 1e9 for value in peak], "s--", color="tab:orange")
        twin.set(ylabel="GB (orange)", ylim=(0, None))
    for ax, series, title in ((axes[3], by_tokens, "new tokens, one row"),
                              (axes[4], by_rows, "rows, 50 new tokens each")):
        ax.plot(*zip(*series.items()), "o-")
        ax.set(title=title, ylabel="s", ylim=(0, None))
    fig.tight_layout()
    fig.savefig(Path(__file__).with_name("growth.png"), dpi=110)


# --- The report ---


def row(name, amounts, unit, note=""):
    """A line of the table, also printed at once. `unit` "s": how many times longer a peer takes; "GB", for amounts in
    bytes: our fraction of a peer's memory."""
    def cell(amount):
        return f"{amount:.2f} s" if unit == "s" else f"{amount / 1e9:.2f} GB"

    cells = [cell(amounts["ours"])]
    for peer in (BOOK, HF):
        if peer in amounts:
            ratio = amounts[peer] / amounts["ours"]
            cells.append(f"{cell(amounts[peer])}, **{ratio if unit == 's' else 1 / ratio:.2f}×**")
        else:
            cells.append("–")
    line = f"| {name} | {' | '.join(cells)} | {note} |"
    print(line, file=sys.stderr, flush=True)
    return line


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return (f"{torch.get_num_threads()} threads of {model[0] if model else platform.processor()}, Python "
            f"{platform.python_version()}, torch {torch.__version__}, "
            + (torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU"))


def data_name():
    return "the published data" if "INSTRUCTION_DATA" in os.environ else "the miniature's data"


def write_models():
    """Write checkpoints with random weights, unless they exist."""
    for size in TIMED:
        if not (FOLDER / size / "model.ckpt.index").exists():
            write_checkpoint(FOLDER / size, openai_settings(SIZES[size].config()), deviation=0.02)
        download_and_load_gpt2(size, FOLDER)  # verifies the checksums once, before anything is timed


def main():
    write_models()
    rows = []
    for masked, name in ((False, "one training step, loss on all tokens"), (True, "the same, loss on answers only")):
        seconds, peak, products, rate = training_rows(masked)
        rows.append(row(name, seconds, "s", f"its matrix products alone take {products / seconds['ours']:.0%} of it, "
                        f"at {rate / 1e9:.0f} GFLOP/s"))
        rows.append(row("peak memory of it", peak, "GB"))
    rows.append(row("12 steps with validation, each in its own loop", fine_tuning_row(), "s",
                    f"{BOOK} also evaluates training batches"))
    models = {name: make("124M").eval() for name, (make, _, _) in IMPLEMENTATIONS.items()}
    test_set, best = test_set_row(models)
    single, reading, read_bytes = one_prompt_row(models)
    rows.append(row(f"110 test prompts, as many tokens as their answers have (batches of {best['ours']}; {HF} "
                    f"{best[HF]}, {BOOK} 1)", test_set, "s", f"one run of {BOOK}"))
    rows.append(row("one prompt, 100 new tokens", single, "s",
                    f"{reading['sum'] / reading['ours']:.0%} of the memory bandwidth ({reading['ours']:.2f} s in turns "
                    "with a sum)"))
    seconds, peak = loading_row()
    size = (FOLDER / "355M/model.ckpt.data-00000-of-00001").stat().st_size
    rows.append(row("355M from files to first logits, imports included", seconds, "s", "checksums verified before"))
    rows.append(row("peak memory of it", peak, "GB", f"{peak['ours'] / size:.2f}× the file"))

    growth()
    table = "\n".join(rows)
    Path(__file__).with_name("results.md").write_text(f"""# Results

{machine()}; {FORMAT}; GPT-2 124M with random weights, batches of 8 from {data_name()}. Medians. In bold: how many times
longer a peer takes, and our fraction of a peer's memory. {BOOK} is its plain GPT-2, without the key/value cache of its
other variants.

| | ours | {BOOK} | {HF} | |
|---|---|---|---|---|
{table}

The limits of the machine, measured in turns with what they limit: matrix products at the rates given above, computed
alone, in the step's shapes and order; {read_bytes / reading['sum'] / 1e9:.1f} GB/s read by a sum.

![How cost grows](growth.png)
""", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
