"""The notebook's own definitions: the prompt, the split, data set, batches, and the model's answers.

Don't edit this file. `python scripts/write_instructions.py` writes it from the notebook's cells with the tag `export`
and from those imports of the cell with the tag `imports` that they need.
"""

import torch
import torch.nn.functional as F
from torch.utils.data import Dataset
from tqdm import tqdm

from engine import generation


def split(data):
    """The entries for training (85%), for the test (10%) and for validation (the rest),
    in the order of the data."""
    train_end = int(len(data) * 0.85)
    test_end = train_end + int(len(data) * 0.1)
    return data[:train_end], data[train_end:test_end], data[test_end:]


def format_input(entry):
    """The instruction part of an Alpaca prompt, without the response header."""
    instruction_text = (
        f"Below is an instruction that describes a task. "
        f"Write a response that appropriately completes the request."
        f"\n\n### Instruction:\n{entry['instruction']}"
    )
    input_text = f"\n\n### Input:\n{entry['input']}" if entry["input"] else ""
    return instruction_text + input_text


def format_prompt(entry):
    """All that comes before the answer: instruction, input and the response header."""
    return format_input(entry) + "\n\n### Response:\n"


class InstructionDataset(Dataset):
    """Entries as ids. An item is a list of ids, or with `mask_instruction` a pair:
    (list of ids, index of the answer's first id)."""

    def __init__(self, data, tokenizer, mask_instruction=False):
        self.encoded_texts = []
        for entry in data:
            prompt_ids = tokenizer.encode_ordinary(format_prompt(entry))
            ids = prompt_ids + tokenizer.encode_ordinary(entry["output"])
            item = (ids, len(prompt_ids)) if mask_instruction else ids
            self.encoded_texts.append(item)

    def __getitem__(self, index):
        return self.encoded_texts[index]

    def __len__(self):
        return len(self.encoded_texts)


def custom_collate_fn(batch, pad_token_id=50256, ignore_index=-100,
                      allowed_max_length=None, device="cpu"):
    """Pad a batch of id lists, or of (id list, start of the answer): (inputs, targets).

    Both are (rows, longest row). Raises ValueError for a row that is longer than
    `allowed_max_length`: a cut would go through its answer.
    """
    rows = [item if isinstance(item, tuple) else (item, 1) for item in batch]
    longest = max(len(ids) for ids, _ in rows)
    if allowed_max_length is not None and longest > allowed_max_length:
        raise ValueError(f"a row has {longest} tokens, more than {allowed_max_length}")
    inputs, targets = [], []
    for ids, answer_start in rows:
        start, padding = max(answer_start, 1), longest - len(ids)
        # No end of text here: the end is only a target.
        inputs.append(ids + [pad_token_id] * padding)
        # Targets stand one place to the left of the inputs, so start - 1.
        targets.append([ignore_index] * (start - 1) + ids[start:] + [pad_token_id]
                       + [ignore_index] * padding)
    return torch.tensor(inputs, device=device), torch.tensor(targets, device=device)


def generate_responses(model, entries, tokenizer, max_new_tokens, batch_size=64,
                       prompt_of=format_prompt):
    """The model's greedy answers to the entries: a list of stripped texts. `prompt_of`
    makes a prompt. Raises ValueError for one with more tokens than the model reads."""
    prompts = [tokenizer.encode_ordinary(prompt_of(entry)) for entry in entries]
    longest, limit = max(map(len, prompts), default=0), model.pos_emb.num_embeddings
    if longest > limit:
        raise ValueError(f"a question has {longest} tokens with its prompt, but the "
                         f"model reads {limit}: shorten it")
    by_length = sorted(range(len(entries)), key=lambda i: len(prompts[i]))
    responses = [""] * len(entries)
    for first in range(0, len(entries), batch_size):
        indices = by_length[first:first + batch_size]  # of similar length: less padding
        with tqdm(total=max_new_tokens, desc="answers", delay=5, leave=False) as bar:
            rows = generation.generate(model, [prompts[i] for i in indices],
                                       max_new_tokens, limit, on_step=bar.update,
                                       eos_id=tokenizer.eot_token)
        for i, row in zip(indices, rows):
            responses[i] = tokenizer.decode(row[len(prompts[i]):]).strip()
    return responses


def token_losses(model, ids):
    """The loss of every token of an id list but the first: (T - 1,)."""
    ids = torch.tensor(ids, device=model.pos_emb.weight.device)      # (T,)
    with torch.no_grad():
        logits = model(ids[None, :-1])[0]                            # (T - 1, V)
    return F.cross_entropy(logits, ids[1:], reduction="none").cpu()
