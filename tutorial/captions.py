"""The captions of the notebook's figures. Each says what there is to see.

They are kept here so that a cell that draws a figure stays short. A caption is also the picture's alternative text.
"""

from engine.texts import marked, translate

CAPTIONS = {
    "map": marked(
        "From left to right the training text changes: any text, then questions with answers, then pairs of answers. "
        "This notebook is the middle stage."),
    "collate": marked(
        "The batch of three texts. Blue is what the model reads. Green and orange are targets that count; orange is "
        "the end of text. Grey is padding or -100. On the right the answers start at 3, 1 and 2, counted from 0: what "
        "comes before them doesn't count."),
    "one batch": marked(
        "Three rows of the first batch. Blue tokens are only read. Green ones (also read) and orange ones are targets: "
        "the model must predict them from what comes before. That is {share:.0%} of the positions in this batch."),
    "stop": marked(
        "What the base model expects after the right answer to our question (■: end of text, ↵: newline). The end has "
        "{end:.1%}: pretraining texts are short, and often end after such a sentence."),
    "architecture": marked(
        "GPT-2 with the shapes of our batch, from the ids at the bottom to the loss at the top. On the right, one "
        "block. Here B = {B}, T = {T}, D = {D}, nh = {nh}, L = {L}, V = {V:,}."),
    "one head": marked(
        "Of all {heads} heads, this one looks most at “glass”: head {head} of layer {layer}, with {weight:.0%} of its "
        "weight. The thicker the arc, the larger the weight."),
    "attention": marked(
        "The attention weights of the same head for all tokens of the sentence. Each row is a token that looks, each "
        "column one that is looked at. The last row is the picture above. What is later is hidden."),
    "gelu": marked("GELU follows ReLU far from zero, but bends smoothly around it."),
    "before": marked(
        "The probability of each token of the right answer, given all before it, with the base model: the stronger the "
        "colour, the more likely. The mean loss is {loss:.2f} nats."),
    "answers by step": marked(
        "The probability per token of the right answers to eight questions, after so many steps (exp of minus the mean "
        "loss). A tick: the model says exactly that. One unlikely token costs the tick, even when the mean is high."),
    "learning": marked(
        "All validation questions. The end is expected with {stop:.0%} before training. Exact answers take longer: "
        "after {steps} steps they are {exact:.0%}."),
    "losses": marked(
        "The training loss ends at {train:.3f}, the validation loss at {val:.3f}; its smallest value is {least:.3f}."),
    "losses, the last is the smallest": marked(
        "The training loss ends at {train:.3f}, the validation loss at {val:.3f}, its smallest value."),
    "wordings": marked(
        "Exact answers in known and in new wordings, for each task. Most new wordings are understood, but less "
        "reliably. The bars of the last row are Wilson's intervals."),
    "temperature": marked(
        "The higher the temperature, the more the unlikely tokens have together: compare the bars of “the rest”."),
    "before and after": marked(
        "The probabilities of the right answer's tokens. Before, the least likely token had {least_before}; after, the "
        "least likely has {least_after:.2f}. The end of the text had {end_before} and has {end_after}."),
    "control": marked(
        "Dark: answers of the right form, of the 70 questions that have one. Pale: exact answers, of all 110. The "
        "training was the same, or longer where the name says so. Means over the seeds, with Wilson's intervals."),
    "head": marked(
        "Where head {head} of layer {layer} looks from the end of the prompt: the stronger the colour, the more. On "
        "“{word}”: {before:.2f} before, {after:.2f} after."),
    "quiz": marked(
        "The training losses of four runs: each point is the mean of the steps since the point before; the last covers "
        "104 steps. Both axes are logarithmic."),
    "lora": marked(
        "The miniature's matrix qkv, which turns 128 numbers into 3 × 128, and its adapter of rank 8. Only the thin "
        "matrices are trained."),
}


def caption(name, **values):
    """A caption in the reader's language, with the values in its fields. Raises KeyError for an unknown name."""
    return translate(CAPTIONS[name]).format(**values)
