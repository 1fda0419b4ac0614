"""What a notebook's output carries beside its picture, so that the page can bring the picture to life.

    data, metadata = Image(png, alt=alt)._repr_mimebundle_()
    display(data | live("batch", {"texts": [["Opposite of big?", " small."]]}), metadata=metadata, raw=True)

Jupyter, GitHub and Colab know nothing of MIME and show the picture. The page puts the figure in its place; instead of a
picture there may be "text/markdown", such as a table. The alternative text is the picture's caption, too; the figure
has one of its own.

The data of each figure, all of it JSON:

    ask         {"questions": [{"task": str, "instruction": str, "input": str}, ...]}
                Questions to choose from; a button shows the task. The first is asked at once. This figure is at the
                top of the page, and the picture stays where it is.

    token       {"prompt": str, "ids": [int, ...]}
                A prompt as the model reads it, and GPT-2's ids of the answer that the fine-tuned model gave, with the
                end of text.

    training    {"steps": [int, ...],
                 "losses": {"train": [[step, loss], ...], "val": [[step, loss], ...]},
                 "answers": [{"question": str, "answer": str, "said": [[[token, probability], ...], ...]}, ...]}
                A watched training run. `steps`, from 0 upwards, are where a reader can stop; losses may be of other
                steps, too. `said` has for each of the steps the tokens of the model's answer, as texts, each with the
                probability that it had; the last is "<|endoftext|>" if the answer ended. `answer` is the wanted one.

    batch       {"texts": [[question, answer], ...]}
                Three short texts, strings; an answer begins with its space.

    attention   {"prompt": str}
                A prompt as the model reads it. The fine-tuned model's answer is added in the page.
"""

MIME = "application/vnd.gpt2-tutorial+json"
KEYS = {"ask": {"questions"}, "token": {"prompt", "ids"}, "training": {"steps", "losses", "answers"},
        "batch": {"texts"}, "attention": {"prompt"}}


def live(figure, data):
    """The bundle for one figure: {MIME: data}. Raises ValueError for a figure that the page doesn't have, and for keys
    other than the figure's."""
    if figure not in KEYS:
        raise ValueError(f"the page has no figure {figure!r}, only {', '.join(KEYS)}")
    if set(data) != KEYS[figure]:
        raise ValueError(f"the figure {figure!r} expects {sorted(KEYS[figure])}, not {sorted(data)}")
    return {MIME: {"figure": figure, **data}}


def training_for_page(seen, entries, losses):
    """The data of the figure "training". seen: {step: what `observe.snapshot` gave then}, with `entries` as the watched
    ones. losses: the training losses, (step, loss) pairs."""
    return {"steps": list(seen),
            "losses": {"train": losses, "val": [[step, observed["loss"]] for step, observed in seen.items()]},
            "answers": [{"question": f"{entry['instruction']} {entry['input']}".strip(), "answer": entry["output"],
                         "said": [observed["said"][i] for observed in seen.values()]}
                        for i, entry in enumerate(entries)]}
