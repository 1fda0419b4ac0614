"""The model, the weight loading, generation, losses and training against independent implementations of the same."""

import copy
import math
import os
import platform
import signal
import subprocess
import sys
from pickle import UnpicklingError
from types import SimpleNamespace

os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from llms_from_scratch import ch04, ch05
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import previous_chapters
from conftest import flip, transformers_state, truncate
from previous_chapters import (GPTModel, calc_loss_batch, calc_loss_loader, generate, load_model, load_weights_into_gpt,
                               pack, pick_next, plot_losses, sample_text, save_model, text_to_token_ids, token_ids_to_text,
                               train_model_simple)

V, D, LAYERS, CONTEXT, EOT = 97, 16, 3, 24, 96
CFG = {"vocab_size": V, "context_length": CONTEXT, "emb_dim": D, "n_heads": 2, "n_layers": LAYERS, "drop_rate": 0.0,
       "qkv_bias": True}


def random_params(dtype=np.float64):
    """Weights in OpenAI's form, all of them random: gains, biases and matrices."""
    rng = np.random.default_rng(0)

    def normal(*shape, mean=0.0):
        return rng.normal(mean, 0.3, shape).astype(dtype)

    def norm():
        return {"g": normal(D, mean=1.0), "b": normal(D)}

    def linear(d_in, d_out):
        return {"w": normal(d_in, d_out), "b": normal(d_out)}

    blocks = [{"attn": {"c_attn": linear(D, 3 * D), "c_proj": linear(D, D)}, "ln_1": norm(), "ln_2": norm(),
               "mlp": {"c_fc": linear(D, 4 * D), "c_proj": linear(4 * D, D)}} for _ in range(LAYERS)]
    return {"wte": normal(V, D), "wpe": normal(CONTEXT, D), "blocks": blocks} | norm()


def our_model(**changes):
    model = GPTModel(CFG | changes)
    load_weights_into_gpt(model, random_params())
    return model.eval()


def transformers_model():
    """transformers' GPT-2 with the same weights."""
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=V, n_positions=CONTEXT, n_embd=D, n_layer=LAYERS, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=None, eos_token_id=None, pad_token_id=EOT, attn_implementation="eager"))
    model.transformer.load_state_dict(transformers_state(random_params()))
    model.tie_weights()
    return model.eval()


def book_model():
    model = ch04.GPTModel(CFG)
    ch05.load_weights_into_gpt(model, random_params())
    model.out_head.weight = model.tok_emb.weight  # the book copies the head: tie it
    return model.double().eval()


def logits_of(model, inputs):
    output = model(inputs)
    return output if torch.is_tensor(output) else output.logits


def cross_entropy_by_torch(model, inputs, targets):
    return F.cross_entropy(logits_of(model, inputs).flatten(0, 1), targets.flatten(), ignore_index=-100)


def instruction_batch(seed, rows=3, longest=15, beginning=0):
    """Inputs and targets as the collate function makes them: end-of-text after each row, padding not scored. The first
    `beginning` tokens, 3 at most, are the same in all rows."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, longest, (rows,), generator=generator).tolist()
    texts = [torch.randint(0, EOT, (n,), generator=generator) for n in lengths]
    for text in texts:
        text[:beginning] = texts[0][:beginning]
    width = max(lengths) + 1
    inputs, targets = torch.full((rows, width), EOT), torch.full((rows, width), -100)
    for row, text in enumerate(texts):
        inputs[row, :len(text)] = text
        targets[row, :len(text)] = torch.cat((text[1:], torch.tensor([EOT])))
    return inputs, targets


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for models this small, more threads only wait for one another
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)  # the book's GELU makes a constant of the default type
    yield
    torch.set_default_dtype(torch.float32)


# --- The model against transformers and the book ---

peers = pytest.mark.parametrize("peer", [transformers_model, book_model])


@peers
def test_logits_and_loss_equal_the_peer(float64, peer):
    inputs, targets = instruction_batch(0)
    ours, theirs = our_model(), peer()
    assert logits_of(ours, inputs).dtype == torch.float64
    torch.testing.assert_close(ours(inputs), logits_of(theirs, inputs), rtol=0, atol=1e-9)
    loss = calc_loss_batch(inputs, targets, ours, "cpu")
    torch.testing.assert_close(loss, cross_entropy_by_torch(theirs, inputs, targets), rtol=0, atol=1e-9)


def test_loss_equals_what_transformers_itself_computes(float64):
    inputs, targets = instruction_batch(1)  # transformers shifts labels itself and rounds the logits to float32
    ids = torch.cat((inputs, inputs[:, -1:]), dim=1)
    labels = torch.cat((torch.full((len(targets), 1), -100), targets), dim=1)
    theirs = transformers_model()(input_ids=ids, labels=labels).loss.item()
    assert calc_loss_batch(inputs, targets, our_model(), "cpu").item() == pytest.approx(theirs, abs=1e-5)


def test_greedy_continuation_equals_both_peers(float64):
    prompt = torch.tensor([[5, 17, 3, 60]])
    ours = generate(our_model(), prompt, 18, CONTEXT)
    assert len(set(ours[0, 4:].tolist())) > 3
    assert ours.equal(transformers_model().generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                                                    max_new_tokens=18))
    assert ours.equal(ch05.generate(book_model(), prompt, 18, CONTEXT))
    past_the_end = generate(our_model(), prompt, 30, 10)
    assert past_the_end.equal(ch05.generate(book_model(), prompt, 30, 10))


@peers
def test_three_training_steps_give_the_same_losses(float64, peer):
    losses = []
    for model in (our_model(), peer()):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        for step in range(3):
            batch = instruction_batch(step)
            optimizer.zero_grad()
            loss = calc_loss_batch(*batch, model, "cpu") if isinstance(model, GPTModel) else \
                cross_entropy_by_torch(model, *batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:3] == pytest.approx(losses[3:], rel=0, abs=1e-9)


def exact_gelu(model, monkeypatch):
    for block in model.trf_blocks:
        block.ff.layers[1] = torch.nn.GELU()


def another_epsilon(model, monkeypatch):
    model.trf_blocks[1].norm2.eps = 1e-3


def another_attention(**changes):
    def mutate(model, monkeypatch):
        right = F.scaled_dot_product_attention
        monkeypatch.setattr(F, "scaled_dot_product_attention",
                            lambda *args, **kwargs: right(*args, **(kwargs | changes)))
    return mutate


def zeroed(name):
    def mutate(model, monkeypatch):
        torch.nn.init.zeros_(model.get_parameter(name))
    return mutate


MUTATIONS = {"exact GELU": exact_gelu, "epsilon": another_epsilon, "no mask": another_attention(is_causal=False),
             "no scale": another_attention(scale=1.0)}
MUTATIONS |= {f"no {name}": zeroed(name) for name in (
    "trf_blocks.0.norm1.bias", "trf_blocks.1.att.qkv.bias", "trf_blocks.1.att.out_proj.bias", "trf_blocks.2.norm2.bias",
    "trf_blocks.0.ff.layers.0.bias", "trf_blocks.2.ff.layers.2.bias", "final_norm.bias", "pos_emb.weight")}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_model_does_not_equal_the_peers(float64, monkeypatch, name):
    inputs, _ = instruction_batch(0)
    theirs = [logits_of(peer(), inputs) for peer in (transformers_model, book_model)]
    ours = our_model()
    MUTATIONS[name](ours, monkeypatch)
    assert all((ours(inputs) - logits).abs().max() > 1e-6 for logits in theirs)


@pytest.mark.parametrize("emb_dim, n_layers, n_heads, parameters", [
    (768, 12, 12, 124_439_808), (1024, 24, 16, 354_823_168), (1280, 36, 20, 774_030_080),
    (1600, 48, 25, 1_557_611_200)])
def test_openai_sizes_have_the_published_parameter_counts(emb_dim, n_layers, n_heads, parameters):
    with torch.device("meta"):
        model = GPTModel({"vocab_size": 50257, "context_length": 1024, "emb_dim": emb_dim, "n_heads": n_heads,
                          "n_layers": n_layers, "drop_rate": 0.0, "qkv_bias": True})
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_a_new_model_knows_nothing():
    torch.manual_seed(0)
    model = GPTModel(CFG).eval()
    assert calc_loss_batch(*instruction_batch(0), model, "cpu").item() == pytest.approx(math.log(V), abs=0.1)
    assert not any(parameter.any() for name, parameter in model.named_parameters() if name.endswith("bias"))


def test_model_errors():
    with pytest.raises(ValueError, match="emb_dim 16 can't be divided among n_heads 3"):
        GPTModel(CFG | {"n_heads": 3})
    with pytest.raises(ValueError, match="25 tokens in a row, but the context length is 24"):
        GPTModel(CFG)(torch.zeros(1, 25, dtype=torch.long))


# --- Loading and saving ---


def meta_model():
    with torch.device("meta"):
        model = GPTModel(CFG)
    load_weights_into_gpt(model, random_params(np.float32))
    return model.eval()


def float32_model():
    model = GPTModel(CFG)
    load_weights_into_gpt(model, random_params(np.float32))
    return model.eval()


def test_an_ordinary_and_a_meta_model_load_the_same():
    inputs, _ = instruction_batch(0)
    assert float32_model()(inputs).equal(meta_model()(inputs))


def test_a_meta_model_takes_the_arrays_and_an_ordinary_one_copies():
    params = random_params(np.float32)
    with torch.device("meta"):
        meta = GPTModel(CFG)
    ordinary = GPTModel(CFG)
    for model in (meta, ordinary):
        load_weights_into_gpt(model, params)
    params["wte"][0, 0] = params["blocks"][1]["mlp"]["c_fc"]["w"][2, 3] = 42
    assert meta.tok_emb.weight[0, 0] == meta.trf_blocks[1].ff.layers[0].weight[3, 2] == 42
    assert ordinary.tok_emb.weight[0, 0] != 42


@pytest.mark.parametrize("build", [lambda: GPTModel(CFG), float32_model, meta_model])
def test_the_head_stays_tied_through_saving_and_loading(build, tmp_path):
    model = build()
    save_model(model, CFG, tmp_path / "model.pt")
    state = torch.get_rng_state()
    again, cfg = load_model(tmp_path / "model.pt")
    assert cfg == CFG and not again.training and torch.get_rng_state().equal(state)
    for one in (model, again):
        assert one.out_head.weight is one.tok_emb.weight
        assert sum(name.endswith(("tok_emb.weight", "out_head.weight")) for name, _ in one.named_parameters()) == 1
    inputs, _ = instruction_batch(0)
    assert again(inputs).equal(model.eval()(inputs))


def test_load_model_runs_no_code(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)
    torch.save({"config": CFG, "weights": Malicious()}, tmp_path / "model.pt")
    with pytest.raises(Exception, match="[Ww]eights.only"):
        load_model(tmp_path / "model.pt")
    assert not (tmp_path / "made").exists()


def drop_block_bias(params):
    del params["blocks"][1]["attn"]["c_proj"]["b"]


def drop_wpe(params):
    del params["wpe"]


def drop_layer(params):
    params["blocks"].pop()


def add_layer(params):
    params["blocks"].append(copy.deepcopy(params["blocks"][0]))


def add_head(params):
    params["head"] = params["wte"]


def shorten_wpe(params):
    params["wpe"] = params["wpe"][:-1]


def transpose_fc(params):
    params["blocks"][0]["mlp"]["c_fc"]["w"] = params["blocks"][0]["mlp"]["c_fc"]["w"].T


@pytest.mark.parametrize("spoil, message", [
    (drop_block_bias, "no tensor 'blocks/1/attn/c_proj/b'"), (drop_wpe, "no tensor 'wpe'"),
    (drop_layer, "no tensor 'blocks/2/ln_1/g'"), (add_head, "'head' has no place"),
    (add_layer, "'blocks/3/attn/c_attn/w' has no place"), (shorten_wpe, r"'wpe' has shape \(23, 16\).*\(24, 16\)"),
    (transpose_fc, r"'blocks/0/mlp/c_fc/w' has shape \(64, 16\).*ff.layers.0.weight \(64, 16\)")])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_params_that_do_not_fit_are_named_and_change_nothing(spoil, message, device):
    params = random_params(np.float32)
    spoil(params)
    with torch.device(device):
        model = GPTModel(CFG)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        load_weights_into_gpt(model, params)
    for name, value in model.state_dict().items():
        assert value.is_meta if device == "meta" else value.equal(before[name])


def test_query_key_value_biases_need_a_model_that_has_them():
    with pytest.raises(ValueError, match="'blocks/0/attn/c_attn/b' has no place"):
        load_weights_into_gpt(GPTModel(CFG | {"qkv_bias": False}), random_params(np.float32))


# --- Text and generation ---


def test_text_and_ids(tokenizer):
    ids = text_to_token_ids("Hello, world<|endoftext|>", tokenizer)
    assert ids.tolist() == [[15496, 11, 995, 50256]]
    assert token_ids_to_text(ids, tokenizer) == token_ids_to_text(ids[0], tokenizer) == "Hello, world<|endoftext|>"


@torch.no_grad()
def continue_naively(model, row, new, context_size, eos_id):
    """One row, one full forward pass a step, the window cut to the last `context_size` tokens."""
    row = list(row)
    for _ in range(new):
        token = model(torch.tensor([row[-context_size:]]))[0, -1].argmax().item()
        if token == eos_id:
            break
        row.append(token)
    return row


PROMPTS = [[1, 2, 3], [40] * 13, [7], [9, 8, 7, 6, 5, 4, 3, 2], [11, 80, 33, 2, 65]]


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
    expected = [row + continue_naively(model, row, 12, context_size, None)[len(row):] for row in rows]
    assert generate(model, rows, 12, context_size) == expected


def positions_computed(model):
    """A list to which each pass through the model will add the shape of what it computes."""
    shapes = []
    model.trf_blocks[0].ff.register_forward_hook(lambda module, args, output: shapes.append(output.shape[:-1]))
    return shapes


def test_a_common_beginning_is_read_once():
    model = float32_model()
    shapes = positions_computed(model)
    generate(model, [[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2, 3, 6]], 2, CONTEXT)
    assert shapes == [(3 + 1 + 2 + 1,), (3, 1)]


def test_rows_of_one_batch_stop_at_different_steps(float64):
    model = our_model()
    new = [row[len(prompt):] + list(range(V)) for row, prompt in zip(generate(model, PROMPTS, 20, CONTEXT), PROMPTS)]
    ends = {token: {min(row.index(token), 20) for row in new} for token in range(V)}
    eos_id = max(ends, key=lambda token: len(ends[token]))
    assert len(ends[eos_id]) > 2
    expected = [continue_naively(model, row, 20, CONTEXT, eos_id) for row in PROMPTS]
    assert generate(model, PROMPTS, 20, CONTEXT, eos_id=eos_id) == expected


def test_tensors_come_back_filled_up_with_end_of_text(float64):
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
    drawn = pick_next(logits.repeat(20_000, 1), temperature, top_k, top_p)
    assert set(drawn.tolist()) == set(expected.nonzero().flatten().tolist())
    torch.testing.assert_close(drawn.bincount(minlength=8) / 20_000, expected, rtol=0, atol=0.02)


def test_temperature_zero_takes_the_most_likely():
    assert pick_next(torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]]), 0, 2, 0.5).tolist() == [1, 0]


def test_the_seed_decides_the_draws():
    model = float32_model()

    def draw(seed):
        torch.manual_seed(seed)
        return generate(model, PROMPTS, 10, CONTEXT, temperature=1.0, top_k=20, top_p=0.95)
    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize("training", [True, False])
def test_generating_leaves_mode_and_random_state(training):
    model = GPTModel(CFG | {"drop_rate": 0.5}).train(training)
    torch.nn.init.normal_(model.tok_emb.weight)
    state = torch.get_rng_state()
    rows = generate(model, PROMPTS, 5, CONTEXT)
    assert model.training == training and torch.get_rng_state().equal(state)
    assert rows == [continue_naively(model.eval(), row, 5, CONTEXT, None) for row in PROMPTS]


@pytest.mark.parametrize("idx, changes, message", [
    ([[1]], {"context_size": 0}, "context_size is 0"), ([[1]], {"context_size": 25}, "context_size is 25"),
    ([[1]], {"temperature": -0.1}, "temperature >= 0"), ([[1]], {"top_k": 0}, "top_k >= 1"),
    ([[1]], {"top_p": 0.0}, "0 < top_p"), ([[1]], {"top_p": 1.1}, "top_p <= 1"),
    ([[1], []], {}, "an empty one"), (torch.zeros(2, 0, dtype=torch.long), {}, "an empty one"), ([], {}, "no prompt")])
def test_generate_errors(idx, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(GPTModel(CFG), idx, **({"max_new_tokens": 2, "context_size": CONTEXT} | changes))


# --- Losses ---


@pytest.mark.parametrize("beginning", [0, 3])
def test_batch_loss_and_gradients_equal_cross_entropy(float64, beginning):
    inputs, targets = instruction_batch(0, beginning=beginning)
    ours, plain = our_model(), our_model()
    loss, expected = calc_loss_batch(inputs, targets, ours, "cpu"), cross_entropy_by_torch(plain, inputs, targets)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    (3 * loss).backward()
    (3 * expected).backward()
    for (name, parameter), other in zip(ours.named_parameters(), plain.parameters()):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=0, atol=1e-12, msg=name)


def test_the_loss_of_large_logits_does_not_overflow():
    model, (inputs, targets) = our_model(), instruction_batch(0)
    with torch.no_grad():
        model.final_norm.weight *= 1000
    loss, expected = calc_loss_batch(inputs, targets, model, "cpu"), cross_entropy_by_torch(model, inputs, targets)
    assert expected > 100
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("beginning", [0, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_positions_that_cannot_matter_are_not_computed(float64, masked, beginning):
    model, (inputs, targets) = our_model(), instruction_batch(0, beginning=beginning)
    if masked:
        targets[:, :3], targets[1, 5:] = -100, -100
    needed = torch.zeros_like(targets, dtype=torch.bool)
    for row, at in (targets != -100).nonzero().tolist():
        needed[row, :at + 1] = True
    shapes = positions_computed(model)
    loss = calc_loss_batch(inputs, targets, model, "cpu")
    assert shapes == [(int(needed.sum()) - (len(inputs) - 1) * beginning,)] and needed.sum() < inputs.numel()
    torch.testing.assert_close(loss, cross_entropy_by_torch(model, inputs, targets), rtol=0, atol=1e-12)
    packing = pack(inputs, needed)
    hidden = model.hidden_states(inputs, packing=packing)[packing.places]
    torch.testing.assert_close(hidden[needed], model.hidden_states(inputs)[needed], rtol=0, atol=1e-12)


def test_with_dropout_rows_share_nothing_in_training():
    model, (inputs, targets) = our_model(drop_rate=0.1), instruction_batch(0, beginning=3)
    shapes = positions_computed(model)
    for mode in (model.train, model.eval):
        mode()
        calc_loss_batch(inputs, targets, model, "cpu")
    assert shapes[1][0] == shapes[0][0] - 2 * 3


@pytest.mark.parametrize("d_out", [7, 10, 32, 58])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(), (0,), (1,), (2, 1), (3,), (5,), (4, 4), (8, 8), (65,)])
def test_few_rows_give_what_many_give(float64, rows, bias, d_out):
    layer, x = previous_chapters.Linear(6, d_out, bias=bias), torch.randn(*rows, 6, requires_grad=True)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    ours, plain = layer(x), F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    leaves = [x, *layer.parameters()]
    for mine, other in zip(torch.autograd.grad(ours.square().sum(), leaves), torch.autograd.grad(plain.square().sum(), leaves)):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


def test_bfloat16_only_where_the_hardware_has_it(monkeypatch):
    assert not previous_chapters.mixed_precision("cpu")._enabled
    monkeypatch.setattr(previous_chapters, "mixed_precision", lambda device: torch.autocast("cpu", torch.bfloat16))
    model, (inputs, targets) = float32_model(), instruction_batch(0)
    types = []
    model.trf_blocks[0].ff.layers[0].register_forward_hook(lambda module, args, output: types.append(output.dtype))
    loss = calc_loss_batch(inputs, targets, model, "cpu")
    loss.backward()
    assert types == [torch.bfloat16] and loss.dtype == model.tok_emb.weight.grad.dtype == torch.float32
    assert loss.item() == pytest.approx(cross_entropy_by_torch(model, inputs, targets).item(), rel=0.05)


def test_a_model_with_another_head_still_trains():
    """The token embedding's gradient is sparse only where the tied head adds a dense one to it."""
    model = float32_model()
    model.out_head = torch.nn.Linear(D, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(instruction_batch(0)[0])[:, -1].square().sum().backward()
    optimizer.step()
    assert model.tok_emb.weight.grad.abs().sum() > 0 and not model.tok_emb.weight.grad.is_sparse


def test_batch_without_scored_tokens_has_loss_zero():
    inputs, targets = instruction_batch(0)
    model = float32_model()
    loss = calc_loss_batch(inputs, torch.full_like(targets, -100), model, "cpu")
    loss.backward()
    assert loss.item() == 0
    assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def mean_per_token(model, batches):
    """Mean loss over the scored tokens of several batches, token by token."""
    losses = []
    for inputs, targets in batches:
        chances = logits_of(model, inputs).softmax(dim=-1)
        losses += [-chances[row, at, targets[row, at]].log().item() for row, at in (targets != -100).nonzero().tolist()]
    return sum(losses) / len(losses)


def test_loader_loss_counts_every_token_the_same(float64):
    model, batches = our_model(), [instruction_batch(0, rows=1, longest=5), instruction_batch(1, rows=6)]
    batches.append((batches[1][0], torch.full_like(batches[1][1], -100)))
    expected = mean_per_token(model, batches)
    assert calc_loss_loader(batches, model, "cpu") == pytest.approx(expected, rel=1e-12)
    mean_of_means = sum(calc_loss_batch(*batch, model, "cpu").item() for batch in batches[:2]) / 2
    assert abs(mean_of_means - expected) > 0.01
    for n in (1, 2, 99):
        expected = mean_per_token(model, batches[:n])
        assert calc_loss_loader(batches, model, "cpu", n) == pytest.approx(expected, rel=1e-12)
    assert calc_loss_loader(batches[2:], model, "cpu") == 0


@pytest.mark.parametrize("training", [True, False])
def test_loader_loss_keeps_mode_and_random_state(training):
    inputs, targets = instruction_batch(0, rows=6)
    loader = DataLoader(list(zip(inputs, targets)), batch_size=2, shuffle=True)
    model = GPTModel(CFG | {"drop_rate": 0.5}).train(training)
    state = torch.get_rng_state()
    loss = calc_loss_loader(loader, model, "cpu")
    assert model.training == training and torch.get_rng_state().equal(state)
    assert loss == pytest.approx(mean_per_token(model.eval(), [(inputs, targets)]), rel=1e-5)


def empty_loader():
    return DataLoader([0], batch_size=2, drop_last=True)


def test_a_loader_without_batches_is_an_error():
    with pytest.raises(ValueError, match="no batches"):
        calc_loss_loader(empty_loader(), GPTModel(CFG), "cpu")
    with pytest.raises(ValueError, match="training loader has no batches"):
        train(GPTModel(CFG), empty_loader())


# --- Training ---

BATCHES = [instruction_batch(seed, rows=2 + seed) for seed in range(4)]
VALIDATION = [instruction_batch(seed) for seed in (10, 11)]
TOY_TOKENIZER = SimpleNamespace(eot_token=EOT, encode=lambda text, allowed_special: [ord(c) % EOT for c in text],
                                decode=lambda ids: "\n".join(map(str, ids)))


def train(model, loader=BATCHES, epochs=2, eval_freq=3, optimizer=None, val_loader=VALIDATION, **options):
    """A call as readers of the book write it."""
    if optimizer is None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    return train_model_simple(model, loader, val_loader, optimizer, "cpu", epochs, eval_freq, 1, "start", TOY_TOKENIZER,
                              **options)


@pytest.mark.parametrize("max_norm", [None, 0.1])
def test_training_equals_a_plain_loop(float64, capsys, max_norm):
    """Losses, notes, tokens, schedule and clipping against the loop written out; notes fall on steps 0, 3 and 6."""
    model, plain = our_model(), our_model()
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=0.1) for m in (model, plain)]
    schedulers = [torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=8) for optimizer in optimizers]
    train_losses, val_losses, tokens_seen = train(model, optimizer=optimizers[0], scheduler=schedulers[0],
                                                  max_norm=max_norm)
    printed = capsys.readouterr().out
    steps, expected_val = [], []
    for step, (inputs, targets) in enumerate(BATCHES * 2):
        optimizers[1].zero_grad()
        loss = cross_entropy_by_torch(plain, inputs, targets)
        loss.backward()
        if max_norm is not None:
            norm = torch.cat([parameter.grad.flatten() for parameter in plain.parameters()]).norm()
            assert norm > max_norm
            for parameter in plain.parameters():
                parameter.grad *= max_norm / (norm + 1e-6)
        optimizers[1].step()
        schedulers[1].step()
        steps.append((loss.item(), (targets != -100).sum().item(), (inputs != EOT).sum().item()))
        if step % 3 == 0:
            expected_val.append(mean_per_token(plain, VALIDATION[:1]))
    expected_train = [sum(loss * scored for loss, scored, _ in steps[a:b]) / sum(scored for _, scored, _ in steps[a:b])
                      for a, b in [(0, 1), (1, 4), (4, 7)]]
    assert train_losses == pytest.approx(expected_train, rel=0, abs=1e-9)
    assert val_losses == pytest.approx(expected_val, rel=0, abs=1e-9)
    assert tokens_seen == [sum(tokens for *_, tokens in steps[:n]) for n in (1, 4, 7)]
    assert optimizers[0].param_groups[0]["lr"] == 0  # eight steps of a schedule of eight
    for note, place in enumerate(["Ep 1 (Step 000000)", "Ep 1 (Step 000003)", "Ep 2 (Step 000006)"]):
        assert f"{place}: Train loss {train_losses[note]:.3f}, Val loss {val_losses[note]:.3f}" in printed
    assert sample_text(model, TOY_TOKENIZER, "start") in printed


def test_training_leaves_the_arrays_of_the_checkpoint_alone():
    params = random_params(np.float32)
    with torch.device("meta"):
        model = GPTModel(CFG)
    load_weights_into_gpt(model, params)
    train(model)
    expected = dict(previous_chapters.flatten_params(random_params(np.float32)))
    assert all((array == expected[name]).all() for name, array in previous_chapters.flatten_params(params))
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert model.out_head.weight is model.tok_emb.weight


def test_validation_changes_neither_order_nor_result():
    weights = []
    for eval_freq in (1, 1000):
        torch.manual_seed(123)
        model = GPTModel(CFG | {"drop_rate": 0.2})
        inputs, targets = instruction_batch(0, rows=8)
        loader = DataLoader(list(zip(inputs, targets)), batch_size=2, shuffle=True)
        train(model, loader, eval_freq=eval_freq, val_loader=DataLoader(list(zip(inputs, targets)), shuffle=True))
        weights.append(model.state_dict())
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


def test_dropout_works_in_training_and_rests_in_validation():
    torch.manual_seed(0)
    model = GPTModel(CFG | {"drop_rate": 0.5}).eval()
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    train_losses, val_losses, _ = train(model, BATCHES[:1] * 2, epochs=3, eval_freq=1, optimizer=still)
    assert len(set(train_losses)) == 6 and len(set(val_losses)) == 1


@pytest.mark.parametrize("place", ["drop_emb", "att", "drop_shortcut"])
def test_dropout_in_each_of_its_places(place):
    torch.manual_seed(0)
    model, (inputs, _) = float32_model().train(), instruction_batch(0)
    assert model(inputs).equal(model(inputs))
    for name, module in model.named_modules():
        if name.split(".")[-1] == place:
            setattr(module, "drop_rate" if place == "att" else "p", 0.5)
    assert not model(inputs).equal(model(inputs))
    assert model.eval()(inputs).equal(model(inputs))


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    model = float32_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    after_step = []
    optimizer.register_step_post_hook(lambda *_: after_step.append(copy.deepcopy(model.state_dict())))
    with pytest.raises(ValueError, match="the loss at step 1 is (nan|inf)") as error:
        train(model, optimizer=optimizer)
    for row in BATCHES[1][0]:  # the texts of the batch, without padding
        assert repr(TOY_TOKENIZER.decode(row[row != EOT].tolist())) in str(error.value)
    assert len(after_step) == 1
    assert all(torch.equal(value, after_step[0][name]) for name, value in model.state_dict().items())


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change():
    model = float32_model()
    model.final_norm.bias.register_hook(lambda gradient: gradient * math.inf)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="the gradient's norm at step 0 is (nan|inf)"):
        train(model, max_norm=1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("during", ["calc_loss_batch", "calc_loss_loader"])
@pytest.mark.parametrize("notes", [0, 2, 5])
def test_an_interrupted_training_keeps_model_and_history(monkeypatch, capsys, during, notes):
    """The stop button of a notebook, pressed in a step or in a validation pass after so many notes."""
    history = train(float32_model(), eval_freq=1)
    function, calls = getattr(previous_chapters, during), []

    def interrupted(*args, **kwargs):
        if torch.is_grad_enabled():  # not the calls from within a validation pass
            calls.append(args)
            if len(calls) > notes:
                raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(previous_chapters, during, interrupted)
    model, after_steps = float32_model(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    after_steps.append(copy.deepcopy(model.state_dict()))
    optimizer.register_step_post_hook(lambda *_: after_steps.append(copy.deepcopy(model.state_dict())))
    assert train(model, eval_freq=1, optimizer=optimizer) == tuple(values[:notes] for values in history)
    assert "Interrupted" in capsys.readouterr().out
    assert len(after_steps) == 1 + notes + (during == "calc_loss_loader") and equal(model.state_dict(), after_steps[-1])


RESIDENT = """
import sys, torch, previous_chapters

def resident():
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return int(lines["VmRSS"].split()[0])

if sys.argv[1] == "kept":
    previous_chapters.keep_freed_memory()
before = resident()
torch.ones(25_000_000)
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the switches are glibc's")
@pytest.mark.parametrize("kept", [True, False])
def test_freed_memory_is_kept(kept):
    """By how many kB a process has grown that has filled 100 MB and freed them."""
    run = subprocess.run([sys.executable, "-c", RESIDENT, "kept" if kept else "freed"], capture_output=True, text=True,
                         cwd=os.path.dirname(previous_chapters.__file__), check=True)
    assert int(run.stdout) > 90_000 if kept else int(run.stdout) < 10_000


def test_without_glibc_nothing_is_switched(monkeypatch):
    """macOS has no mallopt, and Windows not even a C library under that name."""
    monkeypatch.setattr(previous_chapters.sys, "platform", "win32")
    monkeypatch.setattr(previous_chapters.ctypes, "CDLL", None)
    previous_chapters.keep_freed_memory()


# A small training run with everything that has a state: dropout, shuffling, a schedule, AdamW. It can kill itself.
RUN = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
import torch
import previous_chapters as pc

folder, moment, result = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(123)
kill = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
cfg = {"vocab_size": 50, "context_length": 16, "emb_dim": 8, "n_heads": 2, "n_layers": 2, "drop_rate": 0.1, "qkv_bias": True}
model = pc.GPTModel(cfg)
data = list(zip(torch.randint(49, (22, 8)), torch.randint(49, (22, 8))))
loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True, drop_last=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=20)
tokenizer = SimpleNamespace(eot_token=49, encode=lambda *args, **kwargs: [1, 2], decode=str)
if moment.isdigit():  # in the middle of this step, counted from where this process begins
    optimizer.register_step_pre_hook(lambda *args, left=[int(moment)]: kill() if left[0] == 0 else left.append(left.pop() - 1))
if moment == "half-written":
    whole, pc.torch.save = torch.save, lambda state, file: (whole(state, file), file.truncate(file.tell() // 2), kill())
if moment == "written":
    pc.os.fsync = kill
if moment == "renamed":
    pc.Path.unlink = kill
history = pc.train_model_simple(model, loader, loader, optimizer, "cpu", 4, 2, 2, "x", tokenizer, scheduler=scheduler,
                                max_norm=1.0, checkpoint_dir=folder)
torch.save((model.state_dict(), optimizer.state_dict(), history, torch.get_rng_state()), result)
"""


def run_training(folder, moment, result):
    command = [sys.executable, "-c", RUN, str(folder), moment, str(result)]
    return subprocess.run(command, cwd=os.path.dirname(previous_chapters.__file__), capture_output=True, text=True)


def equal(one, other):
    """Bit for bit, through dictionaries, lists and tuples."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if torch.is_tensor(one) else one == other


def test_a_killed_training_goes_on_and_ends_the_same(tmp_path):
    whole, result, folder = tmp_path / "whole.pt", tmp_path / "result.pt", tmp_path / "checkpoints"
    assert run_training(tmp_path / "other", "never", whole).returncode == 0
    for moment, saved in [("2", ""), ("half-written", ""), ("6", "1"), ("written", "1"), ("6", "12"), ("renamed", "123"),
                          ("3", "123")]:
        assert run_training(folder, moment, result).returncode == -signal.SIGKILL
        assert sorted(path.name for path in folder.glob("*.pt")) == [f"epoch-{number}.pt" for number in saved], moment
    finished = run_training(folder, "never", result)
    assert finished.returncode == 0 and f"Going on from {folder / 'epoch-3.pt'}" in finished.stdout
    assert equal(torch.load(result), torch.load(whole))
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-3.pt", "epoch-4.pt"]


@pytest.fixture
def saved_run(tmp_path):
    """A run of three epochs with its checkpoints: (folder, a function that runs it again, its result)."""
    def again(**changes):
        torch.manual_seed(123)
        model, (inputs, targets) = GPTModel(CFG | {"drop_rate": 0.1}), instruction_batch(0, rows=8)
        generator = torch.Generator().manual_seed(5)
        loader = DataLoader(list(zip(inputs, targets)), batch_size=2, shuffle=True, generator=generator)
        history = train(model, loader, **{"epochs": 3, "checkpoint_dir": tmp_path / "run"} | changes)
        return model.state_dict(), history, generator.get_state()
    return tmp_path / "run", again, again()


@pytest.mark.parametrize("damage", [
    lambda path: truncate(path, 0), lambda path: truncate(path, 1000), lambda path: truncate(path, -1),
    lambda path: flip(path, 1000), lambda path: flip(path, path.stat().st_size // 2),
    # In the archive's list of contents: its mark, a sign that says "encrypted", the compression, a length.
    *(lambda path, at=at: flip(path, path.read_bytes().index(b"PK\1\2") + at, mask=129) for at in (0, 8, 10, 28))])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(saved_run, capsys, damage):
    folder, again, result = saved_run
    damage(folder / "epoch-3.pt")
    assert equal(again(), result)
    printed = capsys.readouterr().out
    assert "epoch-3.pt is damaged" in printed and f"Going on from {folder / 'epoch-2.pt'}" in printed
    assert equal(again(), result), "a finished run only hands out its result"


def test_a_training_without_any_sound_checkpoint_begins_anew(saved_run, capsys):
    folder, again, result = saved_run
    for path in folder.glob("*.pt"):
        path.write_bytes(b"no checkpoint")
    capsys.readouterr()
    assert equal(again(), result)
    printed = capsys.readouterr().out
    assert printed.count("is damaged") == 2 and "Going on" not in printed


@pytest.mark.parametrize("changes", [{"epochs": 4}, {"optimizer": "other rate"}, {"max_norm": 1.0}])
def test_a_folder_with_another_run_is_an_error(saved_run, changes):
    _, again, _ = saved_run
    if "optimizer" in changes:
        changes = {"optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=5e-5, weight_decay=0.1)}
    with pytest.raises(ValueError, match="is of another run"):
        again(**changes)


def test_a_checkpoint_runs_no_code(saved_run, tmp_path):
    folder, again, _ = saved_run

    class Evil:
        def __reduce__(self):
            return (tmp_path / "pwned").touch, ()

    torch.save({"run": Evil()}, folder / "epoch-3.pt")
    with pytest.raises(UnpicklingError, match="weights_only"):
        again()
    assert not (tmp_path / "pwned").exists()


def test_sample_text_is_one_line_that_ends_before_end_of_text():
    model = float32_model()
    expected = continue_naively(model, TOY_TOKENIZER.encode("Hi", None), 50, CONTEXT, EOT)
    assert sample_text(model, TOY_TOKENIZER, "Hi").split(" ") == [str(token) for token in expected]


def test_plot_losses():
    fig = plot_losses([0, 1, 2], [100, 200, 300], [3.0, 2.0, 1.0], [3.5, 2.5, 2.0])
    lower, upper = fig.axes
    assert [line.get_label() for line in lower.lines] == ["training", "validation"]
    assert [list(line.get_ydata()) for line in lower.lines] == [[3, 2, 1], [3.5, 2.5, 2]]
    assert lower.get_xlabel() == "epochs" and "loss" in lower.get_ylabel() and lower.get_legend() is not None
    assert upper.get_xlabel().startswith("tokens") and upper.get_xlim()[0] < 100 < 300 < upper.get_xlim()[1]
    plt.close(fig)
