"""The miniature as files for the browser: the base model and a fine-tuned one, restricted to the tokens it uses.

A file is a script that gives the page one object (`models.js` reads it):

    width, heads, layers, context       the model's sizes
    tokens      GPT-2's ids of the tokens that have a row in the embedding, in order: uint16
    weights     all weights one after the other, in the order of `tensors`: float16

Both arrays are little-endian, in base64.
"""

import base64
import json
import re
from itertools import chain, islice

import torch

from gpt_download import END_OF_TEXT
from miniature import recipe
from miniature.corpus import documents
from miniature.experiments.models import read_in_pretraining
from tutorial import MINIATURE_DIR
from tutorial.instructions import format_prompt
from weights.saved import load_model
from weights.sizes import is_miniature

ENTRIES = [*recipe.TRAIN, *recipe.TEST, *recipe.VALIDATION]
DOCUMENTS = 20_000  # of the pretraining text, the first third: it has all words of the rest


def world_tokens(base):
    """GPT-2's ids of the tokens that the miniature uses, in order: those of its pretraining, those of its entries, and
    all 256 bytes, of which every other token can be made."""
    texts = chain.from_iterable((format_prompt(entry), entry["output"]) for entry in ENTRIES)
    ids = chain.from_iterable(recipe.TOKENIZER.encode_ordinary_batch(list(texts)))
    return sorted({*range(256), END_OF_TEXT, *read_in_pretraining(base.tok_emb.weight), *ids})


def world_words():
    """The words that the miniature has read, as they were written, sorted: "Dog" has other tokens than "dog"."""
    entries = (" ".join((e["instruction"], e["input"], e["output"])) for e in ENTRIES)
    texts = chain(islice(documents(), DOCUMENTS), entries)
    return sorted(set(chain.from_iterable(re.findall(r"[A-Za-z]+|\d+", text) for text in texts)))


def tensors(model, tokens):
    """A GPTModel's weights in forward order, with the embedding's rows of these tokens. Matrices are input-first, as
    OpenAI's are: x @ w + b."""
    yield from (model.tok_emb.weight[tokens], model.pos_emb.weight)
    for block in model.trf_blocks:
        for norm, linears in ((block.norm1, (block.att.qkv, block.att.out_proj)),
                              (block.norm2, (block.ff.layers[0], block.ff.layers[2]))):
            yield from (norm.weight, norm.bias)
            for linear in linears:
                yield from (linear.weight.T, linear.bias)
    yield from (model.final_norm.weight, model.final_norm.bias)


@torch.no_grad()
def model_file(name, model, tokens):
    """The script that gives the page a GPTModel, restricted to these tokens, under a name: a text."""
    weights = torch.cat([tensor.flatten() for tensor in tensors(model, tokens)]).numpy()
    context, width = model.pos_emb.weight.shape
    content = {"width": width, "heads": model.trf_blocks[0].att.n_heads, "layers": len(model.trf_blocks),
               "context": context, "tokens": in_base64(tokens, "<u2"), "weights": in_base64(weights, "<f2")}
    return f"modelFiles.{name} = {json.dumps(content)};\n"


def in_base64(numbers, dtype):
    """Numbers in a NumPy dtype, as base64: a text."""
    return base64.b64encode(torch.as_tensor(numbers).numpy().astype(dtype).tobytes()).decode()


def merges():
    """GPT-2's merges for the browser: token 256 + i joins the two tokens at place i. Pairs of uint16, in base64."""
    ids = json.loads((MINIATURE_DIR / "encoder.json").read_text(encoding="utf-8"))
    lines = (MINIATURE_DIR / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]  # without the version
    return in_base64([[ids[part] for part in line.split()] for line in lines], "<u2")


def fine_tuned(path):
    """The fine-tuned miniature that a run saved in a file, and whether the run had another model: (GPTModel, bool).
    Without a file, or if it holds another model, a miniature is trained as the notebook trains it, for some minutes.
    Raises ValueError if the file is damaged."""
    other = False
    if path.exists():
        model, config = load_model(path)
        if is_miniature(config):
            return model, False
        other = True
    print("fine-tuning a miniature for the page ...", flush=True)
    return recipe.fine_tuned(recipe.RECIPE, seed=123), other
