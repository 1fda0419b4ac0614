"""Pretrain the miniature: plain next-token prediction on the text of `corpus.py`.

    python miniature/pretrain.py        # from the repository root; run it again and it goes on where it stopped

- The text uses some 3,000 of GPT-2's 50,257 tokens. All the others share a single row of the embedding, whose logit is
  raised by the logarithm of their number: exactly the softmax over the full vocabulary, at a fraction of its price.
- Every batch is drawn by its step number, so a run that was stopped goes on with the batches it would have seen.
"""

from math import log
from pathlib import Path
import sys
import time

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from corpus import documents
from gpt_download import load_tokenizer
from previous_chapters import GPTModel

FOLDER = ROOT / "build/miniature"
STATE = FOLDER / "state.pt"
VOCABULARY, END_OF_TEXT = 50257, 50256
CONFIG = {"context_length": 256, "emb_dim": 128, "n_heads": 4, "n_layers": 4, "drop_rate": 0.0, "qkv_bias": True}
STEPS, BATCH, WARMUP = 2_500, 16, 100
HELD_OUT = 0.02  # the share of the text, its last documents, that is only used to measure the loss


def tokens_of_corpus():
    """The whole text as one row of token ids, an end-of-text token after every document."""
    tokenizer = load_tokenizer(ROOT / "gpt2/7M")
    ids = []
    for document in tokenizer.encode_ordinary_batch(list(documents())):
        ids += document + [END_OF_TEXT]
    return torch.tensor(ids)


def batch_at(step, data):
    """The `BATCH` windows of this step and, one place to the left, their targets."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(data) - CONFIG["context_length"], (BATCH, 1), generator=generator)
    windows = data[starts + torch.arange(CONFIG["context_length"] + 1)]  # (B, T+1)
    return windows[:, :-1], windows[:, 1:]


def loss_of(model, inputs, targets):
    """Cross-entropy over the full vocabulary; the last row of the embedding stands for all unused tokens."""
    logits = model(inputs)  # (B, T, V)
    unused = VOCABULARY - (logits.shape[-1] - 1)
    logits = torch.cat([logits[..., :-1], logits[..., -1:] + log(unused)], dim=-1)
    return cross_entropy(logits.flatten(0, 1), targets.flatten())


@torch.no_grad()
def held_out_loss(model, data):
    """The mean loss on unseen documents, window after window."""
    windows = data[:len(data) // 257 * 257].view(-1, 257)  # (N, T+1)
    losses = [loss_of(model, w[:, :-1], w[:, 1:]) * len(w) for w in windows.split(BATCH)]
    return (sum(losses) / len(windows)).item()


def main():
    torch.manual_seed(123)
    types, data = tokens_of_corpus().unique(return_inverse=True)  # ids within the corpus's own vocabulary
    train, held_out = data[:-int(len(data) * HELD_OUT)], data[-int(len(data) * HELD_OUT):]
    model = GPTModel({**CONFIG, "vocab_size": len(types) + 1})
    # Muon for the matrices of the blocks learns twice as fast here as AdamW, which keeps embeddings, norms and biases.
    named = dict(model.named_parameters())
    matrices = {name for name, weight in named.items() if name.startswith("trf_blocks") and weight.dim() == 2}
    optimizers = [
        torch.optim.Muon([named[name] for name in named if name in matrices], lr=0.02, weight_decay=0.05),
        torch.optim.AdamW([named[name] for name in named if name not in matrices], lr=3e-3, betas=(0.9, 0.98),
                          weight_decay=0.1, fused=True)]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: min((step + 1) / WARMUP, 1 - step / STEPS))
                 for o in optimizers]
    parts = [model, *optimizers, *schedules]
    first = 0
    if STATE.exists():
        state = torch.load(STATE)
        first = state["step"]
        for part, saved in zip(parts, state["parts"]):
            part.load_state_dict(saved)
    print(f"{len(train):,} tokens of text, {len(types):,} of them different; step {first} of {STEPS}")

    FOLDER.mkdir(parents=True, exist_ok=True)
    started = time.time()
    progress = tqdm(range(first, STEPS), initial=first, total=STEPS, mininterval=10)
    for step in progress:
        loss = loss_of(model, *batch_at(step, train))
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepping in optimizers + schedules:
            stepping.step()
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")
        if (step + 1) % 500 == 0 or step + 1 == STEPS:
            torch.save({"step": step + 1, "types": types, "model": model.state_dict(),
                        "parts": [part.state_dict() for part in parts]}, STATE)
            tqdm.write(f"step {step + 1}: held-out loss {held_out_loss(model, held_out):.3f}")
    print(f"{(STEPS - first) * BATCH * CONFIG['context_length'] / 1e6:.1f} M tokens in {(time.time() - started) / 60:.1f} min")


if __name__ == "__main__":
    main()
