"""Serves the notebook's exercises: `fine_tune` trains a model, `check(number, ...)` checks a reader's results."""

from math import log

import torch
from torch.utils.data import DataLoader

from engine.fast import packed_loss
from engine.texts import translate
from gpt_download import load_gpt2, load_tokenizer
from tutorial import MINIATURE_DIR
from tutorial.instructions import InstructionDataset, custom_collate_fn
from tutorial.scores import exact_match
from weights.sizes import VOCAB_SIZE


def fine_tune(entries, num_epochs=2, mask_instruction=True, learning_rate=2.5e-4):
    """A new copy of the miniature in evaluation mode, fine-tuned on these entries on the CPU with AdamW, a constant
    learning rate and batches of 8."""
    model, _ = load_gpt2(MINIATURE_DIR.name, MINIATURE_DIR.parent)
    dataset = InstructionDataset(entries, load_tokenizer(MINIATURE_DIR), mask_instruction)
    torch.manual_seed(123)
    loader = DataLoader(dataset, batch_size=8, shuffle=True, collate_fn=custom_collate_fn, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.1)
    for _ in range(num_epochs):
        for batch in loader:
            optimizer.zero_grad()
            packed_loss(*batch, model, "cpu").backward()
            optimizer.step()
    return model.eval()


def check(number, *results):
    """Print that the results of exercise `number`, counted from 1, are right. Raises AssertionError with the reason if
    they aren't, and ValueError for a number without an exercise."""
    if number not in CHECKS:
        raise ValueError(f"there is no exercise {number!r}: expected one of {', '.join(map(str, CHECKS))}")
    CHECKS[number](*results)
    print(translate("Exercise {}: that's it.").format(number))


# --- The check of each exercise; a docstring says what the reader hands over ---


def mask_or_not(masked, unmasked):
    """The shares of exact answers after training with the mask and without it."""
    assert 0 <= unmasked <= 1 and 0 <= masked <= 1, "expected two shares, from 0 to 1"
    assert masked > unmasked, "expected the share with the mask first; it should be the larger one"


def another_format(alpaca, phi3):
    """The mean numbers of tokens of an entry in Alpaca's and in Phi-3's format."""
    assert alpaca > phi3, "Alpaca's sentences of introduction are longer than Phi-3's marks"
    assert 50 < alpaca < 55 and 36 < phi3 < 42, "count the tokens of prompt and answer together, and take the mean"


def how_long(one, three, eight):
    """The validation losses after one, three and eight epochs."""
    assert max(one, three, eight) < log(VOCAB_SIZE), "worse than a uniform guess: is the model in evaluation mode?"
    assert max(one, three, eight) < 0.3, "expected losses of the answers only: mask the validation instructions"
    assert one < 1.2 * min(three, eight), "expected the losses of one, three and eight epochs, in this order"


def never_shown(entries, answers):
    """The test's antonym entries, and the answers of a model that was trained without this task."""
    assert len(entries) == len(answers) and {entry["task"] for entry in entries} == {"antonym"}, (
        "expected the test's antonym entries and an answer to each")
    assert not all(exact_match(answer, entry["output"]) for entry, answer in zip(entries, answers)), (
        "all answers have the wording of the training data: was the task left out of it?")
    opposites = [entry["output"].rstrip(".").split()[-1] for entry in entries]
    assert sum(word in answer for word, answer in zip(opposites, answers)) >= len(entries) / 2, (
        "fewer than half of the answers have the opposite: pretraining knows it")


def a_hundred_entries(share):
    """The share of exact answers after training on a hundred entries."""
    assert 0.6 < share < 0.85, "expected the share of the 55 validation questions, between 60% and 85%"


def a_new_wording(answers):
    """The answers to three questions in a new wording: the plurals of river, church and knife."""
    for answer, plural in zip(answers, ("rivers", "churches", "knives"), strict=True):
        assert plural in answer, f"expected {plural} in {answer!r}: add entries in this very wording"


def lora_by_hand(model, ids, logits_before):
    """A model with adapters, ids (rows, T), and its logits before they were added."""
    assert any(name.rpartition(".")[2] in ("A", "B") for name, _ in model.named_parameters()), "there is no adapter"
    assert model(ids).equal(logits_before), "the logits have changed: is B zero at first?"


def i_do_not_know(unknown, known):
    """The answers to questions about unknown words, and those about known words."""
    assert unknown and all("not know" in answer for answer in unknown), "it still answers about unknown words"
    assert known and not any("not know" in answer for answer in known), "it refuses words that it knows"


CHECKS = {1: mask_or_not, 2: another_format, 3: how_long, 4: never_shown, 5: a_hundred_entries, 6: a_new_wording,
          7: lora_by_hand, 8: i_do_not_know}
