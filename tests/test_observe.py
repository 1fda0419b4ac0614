"""What a model says, expects and looks at, against transformers and results by hand."""

import pytest
import torch

from engine import generation
from gpt_download import load_gpt2, load_tokenizer
from previous_chapters import generate
from tests.small_models import EOT, float32_model, transformers_model
from tutorial import MINIATURE_DIR, figures, observe
from weights.saved import save_model

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'# \n"


class LetterTokenizer:
    """A letter is a token; those that aren't in LETTERS are left out."""

    eot_token = EOT

    def encode_ordinary(self, text):
        return [LETTERS.index(letter) for letter in text if letter in LETTERS]

    def decode(self, ids):
        return "".join("<|endoftext|>" if i == EOT else "*" if i >= len(LETTERS) else LETTERS[i] for i in ids)


TOKENIZER = LetterTokenizer()


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A short prompt, for the small models' context, and figures that are set up."""
    figures.set_up_figures()
    monkeypatch.setattr(observe, "format_prompt", lambda entry: entry["instruction"] + ":")
    monkeypatch.setattr("tutorial.instructions.format_prompt", lambda entry: entry["instruction"] + ":")


def test_attention_weights_are_those_of_transformers():
    ids = [5, 9, 2, 2, 90, 7, 1]
    with torch.no_grad():
        theirs = transformers_model().float()(torch.tensor([ids]), output_attentions=True).attentions
    torch.testing.assert_close(observe.attention_weights(float32_model(), ids), torch.cat(theirs))


def test_queries_and_keys_are_those_of_each_layer():
    model, ids = float32_model(), [5, 9, 2]
    seen = []
    for block in model.trf_blocks:
        block.att.qkv.register_forward_hook(lambda layer, args, output: seen.append(output[0]))
    q, k = observe.queries_and_keys(model, ids)
    D, nh = seen[0].shape[1] // 3, model.trf_blocks[0].att.n_heads
    for layer, qkv in enumerate(seen):
        for head in range(nh):
            columns = slice(head * D // nh, (head + 1) * D // nh)
            torch.testing.assert_close(q[layer, head], qkv[:, :D][:, columns])
            torch.testing.assert_close(k[layer, head], qkv[:, D:2 * D][:, columns])


def test_a_file_is_continued_in_another_process(tmp_path):
    model, config = load_gpt2("gpt2-mini (7M)", MINIATURE_DIR.parent)
    save_model(model, config, tmp_path / "model.pt")
    ids = load_tokenizer(MINIATURE_DIR).encode_ordinary("The plural form that goes with glass is")
    expected = generate(model, torch.tensor([ids]), 3, config["context_length"], eos_id=50256)[0, len(ids):].tolist()
    assert observe.continue_in_new_process(tmp_path / "model.pt", ids, 3) == expected != []


def answer_probabilities(model, entry, answer):
    """The tokens of an answer and of its end, each with the probability that the model gives it: [(text, p), ...]."""
    prompt = TOKENIZER.encode_ordinary(entry["instruction"] + ":")
    return observe.probabilities_of(model, prompt, observe.answer_ids(answer, TOKENIZER), TOKENIZER)


def test_probabilities_of_an_answer_are_those_of_transformers():
    entry, answer = {"instruction": "Say so", "input": ""}, "So."
    ids = TOKENIZER.encode_ordinary("Say so:" + answer) + [EOT]
    with torch.no_grad():
        probabilities = transformers_model().float()(torch.tensor([ids])).logits[0].softmax(dim=-1)
    expected = [probabilities[place - 1, ids[place]].item() for place in range(len(ids) - 4, len(ids))]
    texts, found = zip(*answer_probabilities(float32_model(), entry, answer))
    assert texts == ("S", "o", ".", "<|endoftext|>") and found == pytest.approx(expected, rel=1e-4)


def test_the_likeliest_tokens():
    assert observe.likeliest(torch.tensor([0.1, 0.6, 0.3]), TOKENIZER, n=2) == [("'b'", pytest.approx(0.6)),
                                                                                ("'c'", pytest.approx(0.3))]


def answer_with(monkeypatch, answers):
    """Let every model give these answers to its first, second, ... question."""
    monkeypatch.setattr(generation, "generate", lambda model, prompts, *args, **options: [
        prompt + TOKENIZER.encode_ordinary(answer) for prompt, answer in zip(prompts, answers)])
    monkeypatch.setattr(observe, "generate_responses", lambda model, asked, *_: [
        answer.strip() for answer in answers[:len(asked)]])


def test_a_snapshot_of_a_model_in_training(monkeypatch):
    entries = [{"instruction": text, "input": "", "output": answer} for text, answer in (
        ("Say so", "So."), ("No", "Yes."), ("One", "Two"))]
    answer_with(monkeypatch, ["so.", "no", "x"])
    model = float32_model().train()
    seen = observe.snapshot(model, entries[:2], entries, TOKENIZER, 4)
    assert model.training and seen["right"] == [True, False] and seen["exact"] == pytest.approx(1 / 3)
    rows = [[p for _, p in answer_probabilities(model.eval(), entry, entry["output"])]
            for entry in entries]
    assert seen["chances"] == pytest.approx([torch.tensor(row).prod().item() ** (1 / len(row)) for row in rows[:2]])
    assert seen["stop"] == pytest.approx(sum(row[-1] for row in rows) / 3)
    assert [text for text, _ in seen["said"][0]] == ["s", "o", ".", "<|endoftext|>"]
    tokens = torch.tensor([p for row in rows for p in row])
    assert seen["loss"] == pytest.approx(-tokens.log().mean().item(), rel=1e-4)


def test_what_was_said_is_what_was_generated(monkeypatch):
    """With the blanks around it, which are stripped from the answer. A stripped answer would be other tokens."""
    entry = {"instruction": "Say so", "input": "", "output": "So."}
    answer_with(monkeypatch, [" So.\n"])
    model = float32_model()
    seen = observe.snapshot(model, [entry], [entry], TOKENIZER, 9)
    assert seen["answers"] == ["So."] and seen["right"] == [True]
    assert [text for text, _ in seen["said"][0]] == [" ", "S", "o", ".", "\n", "<|endoftext|>"]
    expected = answer_probabilities(model, entry, " So.\n")
    assert [p for _, p in seen["said"][0]] == pytest.approx([p for _, p in expected])
    cut = observe.snapshot(model, [entry], [entry], TOKENIZER, 5)
    assert [text for text, _ in cut["said"][0]] == [" ", "S", "o", ".", "\n"], "without the end, which is the sixth"
