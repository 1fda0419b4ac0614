"""Generation against the plain loop, the peers, and one row at a time."""

import math
import warnings

import pytest
import torch
import torch.nn.utils.prune
from llms_from_scratch import ch05
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from engine.generation import KeyValueCache, generate, sample, stream, text_pieces
from engine.lora import add_lora
from engine.one_row import OneRowReader, gelu, is_plain
from previous_chapters import GPTModel
from tests.small_models import (
    CFG,
    CONTEXT,
    PROMPTS,
    V,
    book_model,
    continue_naively,
    float32_model,
    our_model,
    positions_computed,
    transformers_model,
)


def test_greedy_continuation_equals_both_peers(float64):
    prompt = torch.tensor([[5, 17, 3, 60]])
    ours = generate(our_model(), prompt, 18, CONTEXT)
    assert len(set(ours[0, 4:].tolist())) > 3
    assert ours.equal(transformers_model().generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                                                    max_new_tokens=18))
    assert ours.equal(ch05.generate(book_model(), prompt, 18, CONTEXT))
    past_the_end = generate(our_model(), prompt, 30, 10)
    assert past_the_end.equal(ch05.generate(book_model(), prompt, 30, 10))


@pytest.mark.parametrize("context_size", [1, 5, 8, 14, CONTEXT])
@pytest.mark.parametrize("stops", [False, True])
def test_ragged_rows_equal_one_by_one_recomputation(float64, context_size, stops):
    model, new = our_model(), 20
    expected = [continue_naively(model, row, new, context_size, None) for row in PROMPTS]
    eos_id = None
    if stops:  # what one of the rows says in the middle
        eos_id = expected[0][len(PROMPTS[0]) + 3]
        expected = [continue_naively(model, row, new, context_size, eos_id) for row in PROMPTS]
        assert len(expected[0]) < len(PROMPTS[0]) + new
    assert generate(model, PROMPTS, new, context_size, eos_id=eos_id) == expected


@pytest.mark.parametrize("context_size", [CONTEXT, 10])
@pytest.mark.parametrize("rows", [
    [[1, 2, 3, 4], [1, 2, 3, 5, 6, 7], [1, 2, 3]], [[1, 2, 3]] * 3, [[1], [1, 2]], [[1, 2], [3, 4, 5]],
    [list(range(11)), list(range(12)), [0, 1]]])
def test_rows_with_a_common_beginning_equal_one_by_one_recomputation(float64, rows, context_size):
    model = our_model()
    expected = [continue_naively(model, row, 12, context_size, None) for row in rows]
    assert generate(model, rows, 12, context_size) == expected


def test_what_new_memory_contains_does_not_matter(float64, capsys):
    rows = [[1, 2, 3], [4, 5, 6, 7, 8, 9]]
    model = our_model()
    expected = [continue_naively(model, row, 12, CONTEXT, None) for row in rows]
    torch.use_deterministic_algorithms(True)  # PyTorch then fills new memory with NaN
    try:
        assert torch.empty(1).isnan()
        assert generate(model, rows, 12, CONTEXT) == expected
    finally:
        torch.use_deterministic_algorithms(False)
    assert capsys.readouterr().out == ""  # or the cache would have been given up


def test_a_common_beginning_is_read_once():
    model = float32_model()
    shapes = positions_computed(model)
    for _ in range(2):  # the first time, the cache is checked
        shapes.clear()
        generate(model, [[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2, 3, 6]], 2, CONTEXT)
    assert shapes == [(1, 3 + 1 + 2 + 1), (3, 1)]


def test_rows_of_one_batch_stop_at_different_steps(float64):
    model = our_model()
    new = [row[len(prompt):] + list(range(V)) for row, prompt in zip(generate(model, PROMPTS, 20, CONTEXT), PROMPTS)]
    ends = {token: {min(row.index(token), 20) for row in new} for token in range(V)}
    eos_id = max(ends, key=lambda token: len(ends[token]))
    assert len(ends[eos_id]) > 2
    expected = [continue_naively(model, row, 20, CONTEXT, eos_id) for row in PROMPTS]
    assert generate(model, PROMPTS, 20, CONTEXT, eos_id=eos_id) == expected


def test_tensors_come_back_padded_with_end_of_text(float64):
    model, prompts = our_model(), torch.tensor([[1, 2, 3], [7, 7, 7], [50, 4, 90]])
    free = generate(model, prompts, 12, CONTEXT)
    assert free.tolist() == generate(model, prompts.tolist(), 12, CONTEXT)
    eos_id = free[0, 6].item()
    rows = generate(model, prompts.tolist(), 12, CONTEXT, eos_id=eos_id)
    width = max(map(len, rows))
    assert min(map(len, rows)) < width
    assert generate(model, prompts, 12, CONTEXT, eos_id=eos_id).tolist() == [
        row + [eos_id] * (width - len(row)) for row in rows]


def test_nothing_to_add(float64):
    model, first = our_model(), continue_naively(our_model(), [1, 2, 3], 1, CONTEXT, None)[-1]
    prompt = torch.tensor([[1, 2, 3]])
    assert generate(model, prompt, 0, CONTEXT).equal(prompt)
    assert generate(model, prompt, 5, CONTEXT, eos_id=first).equal(prompt)
    assert generate(model, PROMPTS, 0, CONTEXT) == PROMPTS


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_what_was_generated_can_be_changed_and_trained_on(dtype):
    model, prompt = our_model(), torch.tensor([[1, 2, 3]], dtype=dtype)
    made = generate(model, prompt, 5, CONTEXT)
    assert made.tolist() == generate(model, prompt.tolist(), 5, CONTEXT)
    made[0, -1] = 7
    model(made).sum().backward()
    assert model.pos_emb.weight.grad[:8].all()


@pytest.mark.parametrize("temperature, top_k, top_p", [
    (1.0, None, None), (0.5, None, None), (1.0, 3, None), (1.0, 1, None), (1.0, 50, None), (1.0, None, 0.6),
    (2.0, None, 0.9), (1.0, None, 1e-6), (1.0, None, 1.0), (1.5, 4, 0.7)])
def test_sampling_draws_from_what_transformers_leaves(temperature, top_k, top_p):
    logits = torch.tensor([[0.0, 2.0, 1.5, -0.5, 2.2, 1.3, -1.0, 0.7]])
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k is not None:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None:
        expected = TopPLogitsWarper(top_p)(None, expected)
    expected = expected.softmax(dim=-1)[0]
    torch.manual_seed(0)
    drawn = sample(logits.repeat(20_000, 1), temperature, top_k, top_p)
    assert set(drawn.tolist()) == set(expected.nonzero().flatten().tolist())
    torch.testing.assert_close(drawn.bincount(minlength=8) / 20_000, expected, rtol=0, atol=0.02)


def test_all_of_the_probability_is_no_limit(monkeypatch):
    """Though the sum of the first probabilities is rounded to 1 long before the last."""
    logits = torch.tensor([[0.0, *[-20.0] * 20]])
    assert logits.softmax(dim=-1).cumsum(dim=-1)[0, 0] == 1
    # The least likely token is drawn as soon as its probability isn't 0.
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda draws: draws.copy_(torch.tensor([1.0] * 20 + [1e-30])))
    assert sample(logits, 1.0, None, 1.0) == sample(logits, 1.0, None, None) == 20
    assert sample(logits, 1.0, 1, None) == sample(logits, 1.0, None, 0.9) == 0


@pytest.mark.parametrize("temperature", [1e-3, 1e-40, 5e-324])
def test_a_tiny_temperature_is_as_good_as_greedy(temperature):
    logits = torch.tensor([[0.0, 2.0, 1.5], [-80.0, 90.0, 89.0]])
    assert sample(logits, temperature, None, 0.9).tolist() == [1, 1]


def test_temperature_zero_takes_the_most_likely():
    assert sample(torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]]), 0, 2, 0.5).tolist() == [1, 0]


def test_the_seed_decides_the_draws():
    model = float32_model()

    def draw(seed):
        torch.manual_seed(seed)
        return generate(model, PROMPTS, 10, CONTEXT, temperature=1.0, top_k=20, top_p=0.95)
    assert draw(1) == draw(1) != draw(2)


def test_generating_leaves_the_mode_of_every_part():
    model = GPTModel(CFG | {"drop_rate": 0.5}).train()
    model.trf_blocks[1].eval()
    before = [module.training for module in model.modules()]
    generate(model, PROMPTS, 2, CONTEXT)
    assert [module.training for module in model.modules()] == before


@pytest.mark.parametrize("training", [True, False])
def test_generating_leaves_mode_and_random_state(training):
    model = GPTModel(CFG | {"drop_rate": 0.5}).train(training)
    torch.nn.init.normal_(model.tok_emb.weight)
    state = torch.get_rng_state()
    rows = generate(model, PROMPTS, 5, CONTEXT)
    assert model.training == training and torch.get_rng_state().equal(state)
    assert rows == [continue_naively(model.eval(), row, 5, CONTEXT, None) for row in PROMPTS]


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "top_k": 20, "top_p": 0.95}])
@pytest.mark.parametrize("context_size", [CONTEXT, 8])
@pytest.mark.parametrize("stops", [False, True])
def test_a_stream_has_the_tokens_of_generate(options, context_size, stops):
    model = float32_model()
    for prompt in PROMPTS:
        eos_id = generate(model, [prompt], 10, context_size)[0][-1] if stops else None
        torch.manual_seed(5)
        expected = generate(model, [prompt], 20, context_size, eos_id=eos_id, **options)[0]
        torch.manual_seed(5)
        assert list(stream(model, prompt, 20, context_size, eos_id=eos_id, **options)) == expected[len(prompt):]


def test_a_stream_gives_each_token_at_once_and_can_be_closed():
    model = GPTModel(CFG).train()
    shapes = positions_computed(model)
    next(stream(model, [1, 2, 3], 20, CONTEXT))  # the first time, the cache is checked
    shapes.clear()
    tokens = stream(model, [1, 2, 3], 20, CONTEXT)
    assert shapes == []
    next(tokens)
    assert shapes == [(1, 3)]
    next(tokens)
    assert shapes == [(1, 3), (1, 1)] and not torch.is_inference_mode_enabled()
    tokens.close()
    assert model.training and len(shapes) == 2


@pytest.mark.parametrize("text", ["plain words", "把这句话翻译成英文。", "a 👩‍👩‍👧‍👦 family", "naïve", ""])
def test_streamed_text_comes_in_whole_characters(text, tokenizer):
    ids = tokenizer.encode(text)
    pieces = list(text_pieces(iter(ids), tokenizer))
    assert "".join(pieces) == text and "" not in pieces and not any("\ufffd" in piece for piece in pieces)
    for n in range(len(ids)):  # an answer that was stopped in the middle of a character
        assert "".join(text_pieces(ids[:n], tokenizer)) == tokenizer.decode(ids[:n])


@pytest.mark.parametrize("idx, changes, message", [
    ([[1]], {"context_size": 0}, "context_size is 0"), ([[1]], {"context_size": 25}, "context_size is 25"),
    ([[1]], {"temperature": -0.1}, "temperature is -0.1"), ([[1]], {"temperature": math.nan}, "temperature is nan"),
    ([[1, -2]], {}, "below 0"),
    ([[1]], {"max_new_tokens": -5}, "max_new_tokens is -5"), ([[1]], {"top_k": 0}, "top_k is 0: expected 1 or more"),
    ([[1]], {"top_p": 0.0}, "top_p is 0.0: expected more than 0"), ([[1]], {"top_p": 1.1}, "top_p is 1.1: .* most 1"),
    ([[1], []], {}, "an empty one"), (torch.zeros(2, 0, dtype=torch.long), {}, "an empty one"), ([], {}, "no prompt")])
def test_generate_errors(idx, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(GPTModel(CFG), idx, **({"max_new_tokens": 2, "context_size": CONTEXT} | changes))
    if torch.is_tensor(idx) or len(idx) != 1:
        return
    with pytest.raises(ValueError, match=message):
        next(stream(GPTModel(CFG), idx[0], **({"max_new_tokens": 2, "context_size": CONTEXT} | changes)))


# --- A single row, in NumPy ---


def relu(model):
    model.trf_blocks[1].ff.layers[1] = torch.nn.ReLU()


def exact_gelu(model):
    model.trf_blocks[1].ff.layers[1] = torch.nn.GELU()


def biased_head(model):
    model.out_head.bias = torch.nn.Parameter(torch.zeros(model.out_head.out_features))


def other_eps(model):
    model.final_norm.eps = 0.1


def other_heads(model):
    model.trf_blocks[0].att.n_heads *= 2


def shared_block(model):
    model.trf_blocks[1] = model.trf_blocks[0]


def hooked(model):
    model.trf_blocks[0].ff.register_forward_hook(lambda module, args, y: 2 * y)


def adapted(model):
    add_lora(model, 2)
    torch.nn.init.normal_(model.trf_blocks[0].att.qkv.B)


def patched(model):
    model.trf_blocks[0].att.forward = lambda x, attend=None: x


def with_a_gain(model):  # as if the textbook's block had it, which doesn't show at first
    model.trf_blocks[0].gain = torch.nn.Parameter(torch.ones(1))


def pruned(model):  # a hook of PyTorch's own computes the weight anew in each forward pass
    torch.nn.utils.prune.l1_unstructured(model.trf_blocks[0].ff.layers[0], "weight", 0.5)


@pytest.mark.parametrize("change, plain", [
    (lambda model: None, True), (other_eps, True), (other_heads, True), (torch.nn.Module.bfloat16, False),
    (relu, False), (exact_gelu, False), (biased_head, True), (shared_block, False), (hooked, False), (adapted, False),
    (patched, False), (with_a_gain, False), (pruned, False)])
def test_a_single_row_gives_the_reference_paths_ids_whatever_was_changed(float64, change, plain):
    model = our_model()
    change(model)
    assert is_plain(model) == plain
    for _ in range(2):  # again with other weights: what was compared with the first ones must hold for these, too
        wanted = [continue_naively(model, row, 8, CONTEXT, None) for row in ([3], [1, 2, 3, 4, 5])]
        assert [generate(model, [row], 8, CONTEXT)[0] for row in ([3], [1, 2, 3, 4, 5])] == wanted
        assert generate(model, [[3], [1, 2, 3, 4, 5]], 8, CONTEXT) == wanted
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape), alpha=0.1)


def test_a_single_row_computes_a_window_and_its_last_token(float64):
    """The logits are those of the textbook's model, after a prompt and after each further token."""
    model, ids = our_model(), PROMPTS[0]
    cache, one_row = KeyValueCache(len(ids)), OneRowReader(model)
    for n in range(3, len(ids) + 1):
        read = (one_row.decode_step(torch.tensor([ids]), torch.tensor([n]), cache) if n > 3 else
                one_row.prefill(torch.tensor([ids]), torch.tensor([n]), CONTEXT, cache))
        torch.testing.assert_close(read, model(torch.tensor([ids[:n]]))[:, -1].detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gelu_is_pytorchs_even_far_from_zero(dtype):
    x = torch.cat((torch.linspace(-12, 12, 1001), torch.tensor([-1e4, -100.0, 100.0, 1e4]))).to(dtype)
    expected = torch.nn.functional.gelu(x.double(), approximate="tanh")
    with warnings.catch_warnings(action="error"):  # such as NumPy's of an overflow
        y = torch.from_numpy(gelu(x.numpy()))
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-6 if dtype == torch.float32 else 1e-12)


def test_under_autocast_the_models_own_modules_compute_a_single_row():
    model, rows = float32_model(), [[1, 2, 3], [4, 5]]
    ended = generate(model, rows, 3, CONTEXT)[0][3]  # ends the first row at once
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_plain(model)
        assert len(generate(model, rows, 3, CONTEXT, eos_id=ended)) == 2


def test_a_batch_may_be_generated_within_another():
    model, inner = float32_model(), []
    wanted = generate(model, PROMPTS, 4, CONTEXT)
    assert generate(model, PROMPTS, 4, CONTEXT, on_step=lambda: inner.append(generate(model, PROMPTS, 4, CONTEXT))
                    ) == wanted and inner == [wanted] * 4
