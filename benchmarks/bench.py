"""Ours against the peers, side by side in one run: python -m benchmarks.bench writes results.md and growth.png.

- The peers are llms-from-scratch (its plain GPT-2, as it ships) and transformers (GPT2LMHeadModel, fused AdamW, its
  key/value cache). All have the same random weights, read from one checkpoint, and the same batches.
- Losses and generated ids are compared before any time counts. Then the implementations take turns, so that a noisy
  moment hits all of them; what is quoted is the median. Only llms-from-scratch's run over the whole test set, which
  takes minutes, is a single one.
- Memory is the peak of a process of its own, above what it had after its imports.
- INSTRUCTION_DATA names the published data set; without it the miniature's is used.
"""

import json
import os
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F

from benchmarks import load
from benchmarks.load import memory
from engine.fast import IGNORE_INDEX, own_memory, pack, ready_to_train
from engine.precision import mixed_precision, number_format
from gpt_download import END_OF_TEXT, download_and_load_gpt2, load_tokenizer
from previous_chapters import calc_loss_batch, generate, gpt_config, train_model_simple
from scripts.tutorial import MINIATURE_DIR, ROOT, notebook_definitions
from tests.helpers import transformers_state, write_checkpoint

os.environ.setdefault("MPLBACKEND", "Agg")
MODELS = ROOT / "build/benchmarks"
SIZES = {  # the miniature's, and OpenAI's
    "7M": {"n_vocab": 50257, "n_ctx": 256, "n_embd": 128, "n_head": 4, "n_layer": 4},
    "124M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12},
    "355M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 1024, "n_head": 16, "n_layer": 24},
    "774M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 1280, "n_head": 20, "n_layer": 36},
    "1558M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 1600, "n_head": 25, "n_layer": 48},
}
TIMED = "7M", "124M", "355M"  # those that have checkpoints
DATA = os.environ.get("INSTRUCTION_DATA", ROOT / "data/mini-instructions.json")
CONTEXT = SIZES["124M"]["n_ctx"]
BOOK, HF = "llms-from-scratch", "transformers"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISION = "auto" if DEVICE == "cuda" else "float32"  # of all implementations
FORMAT = number_format(PRECISION, DEVICE)
NOTEBOOK, TOKENIZER = notebook_definitions(), load_tokenizer(MINIATURE_DIR)


# --- The implementations ---


def our_model(size):
    """Its weights lie in rows, as fine-tuning leaves them, and as load_model reads them."""
    model = load.our_model(MODELS, size)
    own_memory(model)
    return model.to(DEVICE)


def book_model(size):
    from llms_from_scratch import ch04, ch05
    settings, params = download_and_load_gpt2(size, MODELS)
    model = ch04.GPTModel(gpt_config(settings))
    ch05.load_weights_into_gpt(model, params)
    return model.to(DEVICE)


def hf_model(size):
    from transformers import GPT2Config, GPT2LMHeadModel
    settings, params = download_and_load_gpt2(size, MODELS)
    model = GPT2LMHeadModel(GPT2Config(
        n_positions=settings["n_ctx"], n_embd=settings["n_embd"], n_layer=settings["n_layer"],
        n_head=settings["n_head"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    model.transformer.load_state_dict(transformers_state(params))
    return model.to(DEVICE)


def book_loss(model, inputs, targets):
    """The peers' loss: logits at every position, then cross-entropy."""
    with mixed_precision(DEVICE, PRECISION):
        return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)


def hf_loss(model, inputs, targets):
    with mixed_precision(DEVICE, PRECISION):
        logits = model(inputs, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)


def our_loss(model, inputs, targets):
    with mixed_precision(DEVICE, PRECISION):
        return calc_loss_batch(inputs, targets, model, DEVICE)


IMPLEMENTATIONS = {  # name: how its model is made, its loss, AdamW's `fused` as it ships
    "ours": (our_model, our_loss, True), BOOK: (book_model, book_loss, None), HF: (hf_model, hf_loss, True)}


def adamw(name, model):
    return torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1, fused=IMPLEMENTATIONS[name][2])


def stepper(name, size, batches):
    """A function that trains for one step on the next batch, and returns its loss."""
    make, loss_of, _ = IMPLEMENTATIONS[name]
    model = make(size).train()
    optimizer, batches = adamw(name, model), iter(batches)
    if name == "ours":
        ready_to_train(model, optimizer)  # as our loop does

    def step():
        inputs, targets = next(batches)
        optimizer.zero_grad()
        loss = loss_of(model, inputs, targets)
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


# --- The data ---


def entries():
    data = json.loads(Path(DATA).read_text(encoding="utf-8"))
    return data[:935], data[935:1045], data[1045:]


def loader(entries, batch_size=8, mask_instruction=False, shuffle=True):
    """Batches in the order of the published run."""
    torch.manual_seed(123)
    return torch.utils.data.DataLoader(
        NOTEBOOK["InstructionDataset"](entries, TOKENIZER, mask_instruction), batch_size=batch_size, shuffle=shuffle,
        drop_last=shuffle, collate_fn=partial(NOTEBOOK["custom_collate_fn"], device=DEVICE))


# --- Measuring ---


def in_turns(functions, rounds, warm_up=1):
    """Median seconds of each function; every round runs all of them, and the first `warm_up` rounds don't count."""
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
    """Bytes of the peak above `before`; on a GPU, of the GPU's memory."""
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else memory("VmHWM") - before


def command(*arguments, module="benchmarks.bench"):
    return [sys.executable, "-m", module, *map(str, arguments)]


def in_own_process(*arguments, **options):
    """What one of the functions below, or another module, prints when run by a fresh Python."""
    run = subprocess.run(command(*arguments, **options), stdout=subprocess.PIPE, check=True, text=True, cwd=ROOT)
    return json.loads(run.stdout.splitlines()[-1])


def answers_in_turns(commands, turns):
    """What worker processes answer: {name: [(seconds, answer), ...]}. They are given a line in turns, so many times
    each, and wait while another one computes."""
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
    """For each line it is given, trains for a step (or computes the matrix products of ours), and prints the loss (or
    the number of operations) and its peak bytes so far."""
    import llms_from_scratch.ch05  # noqa: F401  all imports first, for each implementation the same
    import transformers
    assert transformers.GPT2LMHeadModel  # imported only when it is asked for
    batches = list(loader(entries()[0], mask_instruction=masked == "True"))[:int(batches)]
    before = memory("VmRSS")
    step = multiplier("124M", batches) if name == "products" else stepper(name, "124M", batches)
    for _ in sys.stdin:
        print(json.dumps([step(), peak_memory(before)]), flush=True)


# --- The rows ---


def training_rows(masked):
    """Seconds and peak bytes of one training step each, the seconds of the matrix products of ours alone, and the
    operations a second that these do. All run in processes of their own, as they would with a reader, and take
    turns."""
    batches = 13
    answers = answers_in_turns({name: command("training_worker", name, masked, batches)
                                for name in ("products", *IMPLEMENTATIONS)}, batches)
    losses = [answers[name][0][1][0] for name in IMPLEMENTATIONS]
    assert max(losses) - min(losses) < (1e-4 if DEVICE == "cpu" else 1e-2), losses
    seconds = {name: median(time for time, _ in turns[1:]) for name, turns in answers.items()}  # the first: warm-up
    peak = {name: answers[name][-1][1][1] for name in IMPLEMENTATIONS}
    operations = median(count for _, (count, _) in answers["products"][1:])
    products = seconds.pop("products")
    return seconds, peak, products, operations / products


def multiplier(size, batches):
    """A function that computes the matrix products of our step on the next batch and nothing else, into memory that is
    there already, and returns the number of operations. Every layer has matrices of its own, as in a step: a product
    repeated with the same ones would find them in the processor's cache."""
    D, V, layers = SIZES[size]["n_embd"], SIZES[size]["n_vocab"], SIZES[size]["n_layer"]
    shapes = [(D, 3 * D), (D, D), (D, 4 * D), (4 * D, D)] * layers + [(D, V)]
    counts = []  # for each batch, how many rows each layer reads
    for inputs, targets in batches:
        packing = pack(inputs, targets != IGNORE_INDEX)
        read = packing.source[targets != IGNORE_INDEX].unique()
        counts.append([int(packing.computed.sum())] * (len(shapes) - 1) + [len(read)])
    rows = max(map(max, counts))
    random = partial(torch.randn, device=DEVICE, dtype=torch.bfloat16 if DEVICE == "cuda" else torch.float32)
    operands = [(random(rows, d_in), random(d_out, d_in), random(rows, d_out)) for d_in, d_out in shapes[:-1]]
    operands.append((random(rows, D), random(V, D), random(V, rows).T))  # our logits are columns
    results = [[torch.zeros_like(operand) for operand in layer] for layer in operands]
    counts = iter(counts)

    def multiply():
        count = next(counts)
        layers = list(zip(operands, results, count))
        for (x, weight, _), (_, _, y), n in layers:
            torch.mm(x[:n], weight.T, out=y[:n])
        for (x, weight, grad), (grad_x, grad_weight, _), n in reversed(layers):
            torch.mm(grad[:n], weight, out=grad_x[:n])
            torch.mm(grad[:n].T, x[:n], out=grad_weight)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return sum(3 * 2 * n * d_in * d_out for n, (d_in, d_out) in zip(count, shapes))
    return multiply


def fine_tuning(name):
    """Seconds of 12 steps with validation on 40 entries at every fifth, by the implementation's own loop."""
    from llms_from_scratch import ch05
    train, _, validation = entries()
    train, validation = train[:96], validation[:40]
    loop, validation_batch = {"ours": (train_model_simple, 32), BOOK: (ch05.train_model_simple, 8)}[name]
    model, val_loader = IMPLEMENTATIONS[name][0]("124M"), loader(validation, validation_batch, shuffle=False)
    run = partial(loop, model, loader(train), val_loader, adamw(name, model), DEVICE, num_epochs=1, eval_freq=5,
                  eval_iter=5, start_context=NOTEBOOK["format_input"](validation[0]), tokenizer=TOKENIZER)
    return in_turns({name: run}, rounds=1, warm_up=0)[name]


def fine_tuning_row():
    """Seconds of both, in turns, in processes of their own."""
    times = [{name: in_own_process("fine_tuning", name) for name in ("ours", BOOK)} for _ in range(2)]
    return {name: median(time[name] for time in times) for name in times[0]}


def test_prompts():
    """The ids of all test prompts, and how many tokens each published answer has."""
    tests = entries()[1]
    return ([TOKENIZER.encode_ordinary(NOTEBOOK["format_prompt"](entry)) for entry in tests],
            [len(TOKENIZER.encode_ordinary(entry["output"])) for entry in tests])


def in_batches(generate_batch, prompts, lengths, batch_size):
    """The continuations that `generate_batch(prompts, lengths)` makes, prompts of similar length together, in order."""
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    rows = {}
    for first in range(0, len(prompts), batch_size):
        batch = by_length[first:first + batch_size]
        rows |= dict(zip(batch, generate_batch([prompts[i] for i in batch], [lengths[i] for i in batch])))
    return [rows[i] for i in range(len(prompts))]


def our_batch(model, prompts, lengths):
    with end_after(lengths, model):
        rows = generate(model, prompts, max(lengths) + 1, CONTEXT, eos_id=END_OF_TEXT)
    return [row[len(prompt):] for row, prompt in zip(rows, prompts)]


def hf_batch(model, prompts, lengths):
    width = max(map(len, prompts))
    ids = torch.tensor([[END_OF_TEXT] * (width - len(prompt)) + prompt for prompt in prompts], device=DEVICE)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=DEVICE)
    wanted = torch.tensor(lengths, device=DEVICE)
    made = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=max(lengths),
                          pad_token_id=END_OF_TEXT, eos_token_id=None,
                          stopping_criteria=[lambda ids, scores: ids.shape[1] - width >= wanted])
    return [row[width:width + n].tolist() for row, n in zip(made, lengths)]


def book_one(model, prompt, length):
    from llms_from_scratch import ch05
    return ch05.generate(model, torch.tensor([prompt], device=DEVICE), length, CONTEXT)[0, len(prompt):].tolist()


def test_set_row(models):
    """Seconds for all test prompts, each continued by as many tokens as its published answer has, and the batch sizes
    at which those that take batches are fastest."""
    prompts, lengths = test_prompts()
    start = perf_counter()
    expected = [book_one(models[BOOK], prompt, n) for prompt, n in zip(prompts, lengths)]
    seconds, best = {BOOK: perf_counter() - start}, {}  # minutes: it runs once, the others in turns
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
    """Seconds for one prompt, continued by so many tokens; ours once more, in turns with a sum that reads as many
    weights as often; and the bytes that this sum reads."""
    from llms_from_scratch import ch05
    ours, prompt = models["ours"], torch.tensor(test_prompts()[0][:1], device=DEVICE)
    single = {
        "ours": lambda: generate(ours, prompt, new, CONTEXT),
        BOOK: lambda: ch05.generate(models[BOOK], prompt, new, CONTEXT),
        HF: lambda: models[HF].generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                                        max_new_tokens=new, pad_token_id=END_OF_TEXT, eos_token_id=None)}
    made = [run().tolist() for run in single.values()]
    assert made[0] == made[1] == made[2], "generated ids differ"
    weights = torch.randn(sum(parameter.numel() for parameter in ours.parameters()), device=DEVICE)
    # In turns without the peers: other users share the memory, and its speed changes while these take theirs.
    reading = in_turns({"sum": lambda: [weights.sum() for _ in range(new)], "ours": single["ours"]}, rounds=10)
    return in_turns(single, rounds=4), reading, new * weights.nbytes


class end_after:
    """Inside the `with` block, the model's rows end after the given numbers of tokens: the head then asks for
    end-of-text. Random weights would never do so themselves, and rows that end are what real answers are made of."""

    def __init__(self, lengths, model):
        self.lengths, self.model, self.step = torch.tensor(lengths, device=DEVICE), model, 0

    def __enter__(self):
        self.handle = self.model.out_head.register_forward_hook(self.end_rows)

    def __exit__(self, *error):
        self.handle.remove()

    def end_rows(self, module, args, logits):
        if len(logits) < len(self.lengths):  # the rows that ended in earlier steps were dropped
            self.lengths = self.lengths[self.lengths >= self.step]
        logits[self.lengths <= self.step, ..., END_OF_TEXT] = torch.inf
        self.step += 1


def loading_row():
    """Seconds of a process that loads 355M and runs it once, its imports counted, and its peak memory."""
    runs = {name: partial(in_own_process, name, MODELS, "355M", module=load.__name__) for name in ("ours", BOOK)}
    peak = {name: run() for name, run in runs.items()}
    return in_turns(runs, rounds=3, warm_up=0), peak


# --- How cost grows ---


def growth_point(size, batch_size, length):
    """Median seconds and peak bytes of our training step on full rows of random ids."""
    before = memory("VmRSS")
    ids = torch.randint(0, END_OF_TEXT, (int(batch_size), int(length) + 1))
    step = stepper("ours", size, [(ids[:, :-1], ids[:, 1:])] * 4)
    return in_turns({"step": step}, rounds=3)["step"], peak_memory(before)


def growth():
    """Small plots of how our cost grows, in growth.png; also a command: python -m benchmarks.bench growth."""
    import matplotlib.pyplot as plt
    points = {
        "model, batch of 8 × 64": [(size, *in_own_process("growth_point", size, 8, 64)) for size in TIMED],
        "batch size, 124M, length 64": [(b, *in_own_process("growth_point", "124M", b, 64)) for b in (1, 2, 4, 8, 16)],
        "length, 124M, one row": [(n, *in_own_process("growth_point", "124M", 1, n))
                                  for n in (64, 128, 256, 512, 1024)],
    }
    model = our_model("124M").eval()
    prompts = torch.randint(0, END_OF_TEXT, (32, 64), device=DEVICE)  # without a common beginning
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
    """A line of the table, also shown at once. In seconds: how many times longer a peer takes; in bytes, shown as GB:
    our share of a peer's."""
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
    """Checkpoints with random weights, unless they are there."""
    for size in TIMED:
        if not (MODELS / size / "model.ckpt.index").exists():
            write_checkpoint(MODELS / size, SIZES[size], deviation=0.02)
        download_and_load_gpt2(size, MODELS)  # verified once, before any time counts


def main():
    write_models()
    rows = []
    for masked, name in ((False, "one training step, every token scored"), (True, "the same, instruction masked")):
        seconds, peak, products, rate = training_rows(masked)
        rows.append(row(name, seconds, "s", f"{products / seconds['ours']:.0%} of it is its matrix products' own time, "
                        f"at {rate / 1e9:.0f} GFLOP/s"))
        rows.append(row("peak memory of it", peak, "GB"))
    rows.append(row("12 steps with validation, each one's own loop", fine_tuning_row(), "s",
                    f"{BOOK}'s also reads training batches for their loss"))
    models = {name: make("124M").eval() for name, (make, _, _) in IMPLEMENTATIONS.items()}
    test_set, best = test_set_row(models)
    single, reading, read_bytes = one_prompt_row(models)
    rows.append(row(f"110 test prompts, as many tokens as their answers have (batches of {best['ours']}; {HF} "
                    f"{best[HF]}, {BOOK} 1)", test_set, "s", f"one run of {BOOK}"))
    rows.append(row("one prompt, 100 new tokens", single, "s",
                    f"{reading['sum'] / reading['ours']:.0%} of the memory bandwidth ({reading['ours']:.2f} s in turns "
                    "with a sum)"))
    seconds, peak = loading_row()
    size = (MODELS / "355M/model.ckpt.data-00000-of-00001").stat().st_size
    rows.append(row("355M from files to first logits, imports counted", seconds, "s", "checksums verified before"))
    rows.append(row("peak memory of it", peak, "GB", f"{peak['ours'] / size:.2f}× the file"))

    growth()
    table = "\n".join(rows)
    Path(__file__).with_name("results.md").write_text(f"""# Results

{machine()}; {FORMAT}; GPT-2 124M with random weights, batches of 8 from {data_name()}. Medians; times are how many
times longer the peer takes, memory is our share of the peer's. {BOOK} is its plain GPT-2, without the key/value cache
of its other variants.

| | ours | {BOOK} | {HF} | |
|---|---|---|---|---|
{table}

The machine's own limits, taken in turns with what they limit: matrix products at the rates given above, computed alone,
in the step's shapes and order; {read_bytes / reading['sum'] / 1e9:.1f} GB/s read by a sum.

![How cost grows](growth.png)
""", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
