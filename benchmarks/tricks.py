"""What each trick of the engine earns: python -m benchmarks.tricks writes tricks.md.

Our GPT-2 124M trains, and answers, with all tricks and without one of them, in turns; in training, in two processes.
What is quoted is the median of the turns' ratios.
"""

import sys
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

import torch

import engine.fast
import engine.generation
import previous_chapters
from benchmarks import bench
from engine.fast import Linear, pack

NOTHING = "nothing"
STEPS = 9
TRAINING = {  # what is left out, and how
    NOTHING: lambda: None,
    "the head on scored positions only": lambda: setattr(previous_chapters, "scored_log_probs", all_log_probs),
    "leaving out padding, and the shared beginning": lambda: setattr(engine.fast, "has_hooks", lambda model: True),
    "the shared beginning alone": lambda: setattr(engine.fast, "pack", pack_without_sharing),
    "memory of its own for each weight": lambda: setattr(engine.fast, "own_memory", lambda model: None),
    "keeping freed memory": lambda: setattr(engine.fast, "keep_freed_memory", lambda: None),
    "fused AdamW": lambda: bench.IMPLEMENTATIONS.update(ours=(*bench.IMPLEMENTATIONS["ours"][:2], None)),
    "the log-softmax in slices": lambda: setattr(engine.fast.TargetLogProbs, "apply", indexed_log_probs),
    "the head's product with the weights first": lambda: setattr(Linear, "forward", torch.nn.Linear.forward),
}


def all_log_probs(model, idx, targets, attend):
    """In the place of `scored_log_probs`: logits for all positions, then those of the scored ones."""
    scored = targets != engine.fast.IGNORE_INDEX
    log_probs = model(idx).log_softmax(dim=-1)
    return log_probs[scored].gather(1, targets[scored][:, None])[:, 0]


def indexed_log_probs(logits, which, targets):
    return logits.log_softmax(dim=-1)[which, targets]


def pack_without_sharing(idx, wanted, share):
    return pack(idx, wanted, share=False)


def pack_everything(idx, wanted):
    return pack(idx, torch.ones_like(wanted), share=False)


def training_worker(trick, masked):
    if trick == "memory of its own for each weight":
        bench.IMPLEMENTATIONS["ours"] = (mapped_model, *bench.IMPLEMENTATIONS["ours"][1:])
    TRAINING[trick]()
    bench.training_worker("ours", masked, STEPS)


def mapped_model(size):
    model = bench.load.our_model(bench.MODELS, size)
    return model


def training(masked):
    """{trick: (time without it over time with it, peak bytes without it less those with it)}"""
    results = {}
    for trick in TRAINING:
        if trick != NOTHING:
            variants = bench.answers_in_turns(
                {name: bench.command("training_worker", name, masked, module="benchmarks.tricks")
                 for name in (NOTHING, trick)}, STEPS)
            times = ([seconds for seconds, _ in variants[name][1:]] for name in (trick, NOTHING))
            with_it, without = (variants[name][-1][1][1] for name in (NOTHING, trick))
            results[trick] = ratio(*times), without - with_it
    return results


def ratio(without, with_it):
    return median(a / b for a, b in zip(without, with_it))


def generation():
    """{what is generated and without which trick: time without it over time with it}"""
    model = bench.our_model("124M").eval()
    prompts, lengths = bench.test_prompts()
    loaded = bench.load.our_model(bench.MODELS, "124M")  # in OpenAI's layout
    prompt = torch.tensor(prompts[:1])

    def test_set(model):
        bench.in_batches(partial(bench.our_batch, model), prompts, lengths, 32)

    def one_prompt(model):
        previous_chapters.generate(model, prompt, 100, bench.CONTEXT)

    def with_and_without(run, module, **values):
        def without():
            with patch.multiple(module, **values):
                run()
        return run, without

    one, all_prompts, loaded_one, loaded_all = (
        partial(run, measured) for measured in (model, loaded) for run in (one_prompt, test_set))
    runs = {
        "one prompt, 100 tokens: the key/value cache": (
            one, partial(previous_chapters.generate_text_simple, model, prompt, 100, bench.CONTEXT)),
        "one prompt, 100 tokens: reading weights in slices": with_and_without(one, engine.fast, FEW_ROWS=0),
        "test set: reading weights in slices": with_and_without(all_prompts, engine.fast, FEW_ROWS=0),
        "test set: the same for a single row only": with_and_without(all_prompts, engine.fast, FEW_ROWS=1),
        "one prompt, weights as they were loaded: slices": with_and_without(loaded_one, engine.fast, FEW_ROWS=0),
        "test set, weights as they were loaded: slices": with_and_without(loaded_all, engine.fast, FEW_ROWS=0),
        "test set: dropping rows that ended": with_and_without(all_prompts, engine.generation, DROP_AT=-1),
        "test set: prompts without padding, and their beginning once": with_and_without(
            all_prompts, engine.generation, pack=pack_everything),
    }
    results = {}
    for name, (with_it, without_it) in runs.items():
        times = []
        for _ in range(4):
            times.append([seconds(without_it), seconds(with_it)])
        results[name] = ratio(*zip(*times[1:]))
    return results


def seconds(run):
    start = perf_counter()
    run()
    return perf_counter() - start


def main():
    bench.write_models()
    newline, full, masked = "\n", training(False), training(True)
    lines = [f"| {trick} | {full[trick][0]:.2f} | {masked[trick][0]:.2f} | {full[trick][1] / 1e9:+.2f} GB |"
             for trick in full]
    generating = [f"| {name} | {value:.2f} |" for name, value in generation().items()]
    Path(__file__).with_name("tricks.md").write_text(f"""# What each trick earns

{bench.machine()}; {bench.FORMAT}; GPT-2 124M, batches of 8 from {bench.data_name()}. Time without the trick over time
with it, and by how much the peak of the memory would be higher.

| a training step without | every token scored | instruction masked | peak memory |
|---|---|---|---|
{newline.join(lines)}

| generating without | |
|---|---|
{newline.join(generating)}
""", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        training_worker(*sys.argv[2:])
    else:
        main()
