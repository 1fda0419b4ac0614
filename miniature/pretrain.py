"""Pretrain the miniature: plain next-token prediction on the text of `corpus.py`.

    python -m miniature.pretrain        # from the repository root; run it again to go on from the last checkpoint

- The text uses some 5,700 of GPT-2's 50,257 tokens. All the others share a single row of the embedding, whose logit is
  raised by the logarithm of their number: this gives exactly the softmax over the full vocabulary, at a fraction of its
  cost.
- The step number is the seed of its batch, so that a resumed run sees the batches that an uninterrupted one would.
"""

import time
import zlib
from math import log

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from engine.checkpoints import Checkpoints
from engine.trainer import micro_batches
from gpt_download import END_OF_TEXT, load_tokenizer
from miniature.corpus import documents
from previous_chapters import GPTModel
from tutorial import MINIATURE_DIR, ROOT
from weights.sizes import MODELS, VOCAB_SIZE

CONFIG = MODELS["gpt2-mini (7M)"].config()
CONTEXT = CONFIG["context_length"]
FOLDER = ROOT / "build/miniature"  # checkpoints of the run, and its result
RESULT = FOLDER / "pretrained.pt"
STEPS, BATCH, WARMUP = 3_200, 16, 100
MICRO_BATCH = 4  # windows at a time: their logits fit the processor's cache, which halves the time
HELD_OUT = 0.02  # the fraction of the text, at its end, that only measures the loss


def tokens_of_corpus():
    """The whole text as token ids (T,), with an end-of-text token after every document."""
    tokenizer = load_tokenizer(MINIATURE_DIR)
    ids = []
    for document in tokenizer.encode_ordinary_batch(list(documents())):
        ids += document + [END_OF_TEXT]
    return torch.tensor(ids)


def batch_at(step, data):
    """The inputs of a step, BATCH windows of the text `data`, and their targets, moved one place to the left: both
    (B, T)."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(data) - CONTEXT, (BATCH, 1), generator=generator)
    windows = data[starts + torch.arange(CONTEXT + 1)]                          # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]


def loss_of(model, inputs, targets):
    """Mean cross-entropy over the full vocabulary, in nats per token: (B, T), (B, T) -> scalar. The model's last token
    stands for all tokens that the text doesn't use."""
    logits = model(inputs)                                                      # (B, T, P + 1)
    unused = VOCAB_SIZE - (logits.shape[-1] - 1)
    logits[..., -1] += log(unused)
    return cross_entropy(logits.flatten(0, 1), targets.flatten())


@torch.no_grad()
def held_out_loss(model, data):
    """The mean loss over `data`, cut into windows, in nats per token: a float."""
    width = CONTEXT + 1
    windows = data[:len(data) // width * width].view(-1, width)                 # (N, T + 1)
    losses = [loss_of(model, w[:, :-1], w[:, 1:]) * len(w) for w in windows.split(BATCH)]
    return (sum(losses) / len(windows)).item()


def main():
    torch.manual_seed(123)
    types, data = tokens_of_corpus().unique(return_inverse=True)  # ids within the corpus's own vocabulary
    train, held_out = data[:-int(len(data) * HELD_OUT)], data[-int(len(data) * HELD_OUT):]
    model = GPTModel(CONFIG | {"vocab_size": len(types) + 1})
    # Muon for the blocks' matrices, AdamW for embeddings, norms and biases: with AdamW alone, learning takes twice as
    # many steps here.
    named = dict(model.named_parameters())
    matrices = {name for name, weight in named.items() if name.startswith("trf_blocks") and weight.dim() == 2}
    optimizers = [
        torch.optim.Muon([named[name] for name in named if name in matrices], lr=0.02, weight_decay=0.05),
        torch.optim.AdamW([named[name] for name in named if name not in matrices], lr=3e-3, betas=(0.9, 0.98),
                          weight_decay=0.1, fused=True)]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / WARMUP, 1 - step / STEPS))
                 for optimizer in optimizers]
    checkpoints = Checkpoints(FOLDER, [model, *optimizers, *schedules], steps=STEPS, batch=BATCH,
                              text=zlib.crc32(data.numpy()))
    checkpoints.resume()
    first = schedules[0].last_epoch  # the number of steps taken
    print(f"{len(train):,} tokens of text, {len(types):,} of them different; step {first} of {STEPS}")

    started = time.time()
    progress = tqdm(range(first, STEPS), initial=first, total=STEPS, mininterval=10)
    for step in progress:
        model.zero_grad()
        loss = 0.0
        for inputs, targets, weight in micro_batches(*batch_at(step, train), MICRO_BATCH):
            part = weight * loss_of(model, inputs, targets)
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer_or_schedule in optimizers + schedules:
            optimizer_or_schedule.step()
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss:.3f}")
        if (step + 1) % 500 == 0 or step + 1 == STEPS:
            checkpoints.save(step + 1)
            tqdm.write(f"step {step + 1}: held-out loss {held_out_loss(model, held_out):.3f}")
    torch.save({"types": types, "weights": model.state_dict()}, RESULT)
    tokens = (STEPS - first) * BATCH * CONTEXT
    print(f"{tokens / 1e6:.1f} M tokens in {(time.time() - started) / 60:.1f} min")


if __name__ == "__main__":
    main()
