"""The models of the experiments: the miniature cut down to its world, trained, cached and asked.

The miniature's world has some 6,000 of GPT-2's 50,257 tokens: those of the pretraining text and of all that it is
asked. Only their rows of the embedding are kept here, which makes a training two and a half times faster. All other
tokens together have 0.005% of the probability on a test question, and the scores are those of the whole model
(`tests/test_experiments.py`).
"""

from copy import deepcopy
from functools import cache, partial
from itertools import chain, repeat

import torch
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from engine.fast import packed_loss
from engine.layers import fast_layers
from engine.trainer import evaluate
from gpt_download import END_OF_TEXT
from miniature import recipe
from miniature.experiments.questions import every_text
from miniature.experiments.results import made_with
from miniature.recipe import BATCH_SIZE, MAX_NEW_TOKENS, RECIPE, TEST, TRAIN, VALIDATION
from previous_chapters import GPTModel
from tutorial import ROOT
from tutorial.instructions import InstructionDataset, custom_collate_fn, format_prompt, generate_responses
from tutorial.scores import exact_match
from weights.saved import load_model, save_model
from weights.sizes import MODELS

CACHE = ROOT / "build/experiments"
DEVICE = torch.device("cpu")

# --- The miniature's world ---


class WorldTokenizer:
    """GPT-2's tokenizer with the ids of a world: the number of a token among the world's `tokens`, GPT-2's ids in
    order. Raises KeyError for a text from outside."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.number = {token: i for i, token in enumerate(tokens)}
        self.eot_token = self.number[END_OF_TEXT]

    def encode_ordinary(self, text):
        return [self.number[token] for token in recipe.TOKENIZER.encode_ordinary(text)]

    def decode(self, ids):
        return recipe.TOKENIZER.decode([self.tokens[i] for i in ids])


def read_in_pretraining(embedding):
    """The tokens of the pretraining text, as GPT-2's ids. All others had one row of the embedding (V, D) in common,
    which `miniature.export` gave a little noise; the rows of those that were read are far from it."""
    distance = (embedding - embedding.median(dim=0).values).norm(dim=1)         # (V,)
    return (distance > 1).nonzero()[:, 0].tolist()


@cache
def world():
    """The pretrained model with its world's tokens only, and their tokenizer: (GPTModel, WorldTokenizer)."""
    whole = recipe.pretrained()
    texts = recipe.TOKENIZER.encode_ordinary_batch(list(every_text()))
    tokens = sorted({END_OF_TEXT, *read_in_pretraining(whole.tok_emb.weight), *chain(*texts)})
    model = GPTModel(config(len(tokens)))
    rows = whole.tok_emb.weight[tokens]                                         # (W, D)
    model.load_state_dict(whole.state_dict() | {"tok_emb.weight": rows, "out_head.weight": rows})
    return model.eval(), WorldTokenizer(tokens)


def config(vocab_size):
    return MODELS["gpt2-mini (7M)"].config() | {"vocab_size": vocab_size}


def tokenizer():
    return world()[1]


def pretrained():
    """A copy of the pretrained model, to be trained."""
    return deepcopy(world()[0])


def untrained(seed, keep_embeddings=False):
    """A model with random weights, or with random blocks between the pretrained embeddings."""
    torch.manual_seed(1_000 + seed)
    model = GPTModel(config(len(tokenizer().tokens)))
    if keep_embeddings:
        model.load_state_dict({name: weight for name, weight in world()[0].state_dict().items()
                               if "emb" in name or name == "out_head.weight"}, strict=False)
    return model


# --- Training ---


def loader_of(entries, collate=custom_collate_fn, **options):
    dataset = InstructionDataset(entries, tokenizer(), mask_instruction=True)
    return DataLoader(dataset, collate_fn=partial(collate, pad_token_id=tokenizer().eot_token), **options)


def train(model, seed, entries=TRAIN, learning_rate=RECIPE["learning_rate"], num_epochs=RECIPE["num_epochs"],
          steps=None, collate=custom_collate_fn, loss_of=packed_loss, watch=None):
    """Train a model by the notebook's recipe and return the losses of all steps, a list.

    The seed decides on the order of the batches. steps: so many instead of `num_epochs`. collate, loss_of: what makes
    the batches and the loss. watch: called with the losses so far after steps 1, 2, 4, 8, ... and the last one.
    """
    torch.manual_seed(seed)
    loader = loader_of(entries, collate, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    steps = steps or num_epochs * len(loader)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.1, fused=True)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    losses = []
    model.train()
    with fast_layers(model):
        for inputs, targets in chain.from_iterable(repeat(loader)):
            optimizer.zero_grad()
            loss = loss_of(inputs, targets, model, DEVICE)
            loss.backward()
            clip_grad_norm_(trained, RECIPE["max_norm"])
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            if watch and (len(losses) & (len(losses) - 1) == 0 or len(losses) == steps):
                watch(losses)
            if len(losses) == steps:
                model.eval()
                return losses


def fine_tuned(seed):
    """The model that the recipe gives: from the cache, if it is there."""
    made = made_with()["sha256"]["gpt2/7M/model.ckpt.data-00000-of-00001"][:8]
    path = CACHE / f"fine-tuned-{made}-{len(tokenizer().tokens)}-{seed}.pt"
    if not path.exists():
        model = pretrained()
        train(model, seed)
        save_model(model, config(len(tokenizer().tokens)), path)
    return load_model(path)[0]


# --- Asking ---


def answers(model, entries=TEST, prompt_of=format_prompt):
    """The model's greedy answers, a list of texts."""
    return generate_responses(model, entries, tokenizer(), MAX_NEW_TOKENS, prompt_of=prompt_of)


def marks(values):
    """A text of one character for each value, 1 for a true one, 0 for a false one, - for None."""
    return "".join("-" if value is None else str(int(value)) for value in values)


def right(answered, entries=TEST):
    """Which answers match the entries' exactly, as `marks`."""
    return marks(exact_match(answer, entry["output"]) for answer, entry in zip(answered, entries))


def validation_loss(model, collate=custom_collate_fn, entries=VALIDATION):
    """The mean loss over the entries, in nats per token."""
    return evaluate(loader_of(entries, collate, batch_size=64), model, DEVICE)[0]


@torch.no_grad()
def log_probs(model, prompts, continuations, batch_size=64):
    """For each prompt and its continuation, both id lists, the log-probability of every token of the continuation, and
    whether it is the most likely one: [(list of floats, list of bools), ...]."""
    found = []
    for first in range(0, len(prompts), batch_size):
        rows = list(zip(prompts[first:first + batch_size], continuations[first:first + batch_size]))
        ids = pad_sequence([torch.tensor(prompt + more) for prompt, more in rows], batch_first=True)  # (B, T)
        wanted = torch.zeros_like(ids, dtype=torch.bool)                        # (B, T)
        for row, (prompt, more) in zip(wanted, rows):
            row[len(prompt):len(prompt) + len(more)] = True
        logits = model(ids[:, :-1], logits_at=wanted[:, 1:])                    # (N, W)
        targets = ids[wanted]                                                   # (N,)
        values = logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]   # (N,)
        lengths = [len(more) for _, more in rows]
        found += [(value.tolist(), best.tolist()) for value, best in
                  zip(values.split(lengths), (logits.argmax(dim=-1) == targets).split(lengths))]
    return found
