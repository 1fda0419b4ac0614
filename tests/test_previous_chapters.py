"""The textbook: model, weights, losses and training against independent implementations of the same."""

import ast
import copy
import math
import os
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from llms_from_scratch import ch05
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

from previous_chapters import (
    FeedForward,
    GPTModel,
    MultiHeadAttention,
    TransformerBlock,
    calc_loss_batch,
    calc_loss_loader,
    generate,
    generate_text_simple,
    load_weights_into_gpt,
    plot_losses,
    text_to_token_ids,
    token_ids_to_text,
    train_model_simple,
)
from tests.helpers import transformers_state
from tests.small_models import (
    BATCHES,
    CFG,
    CONTEXT,
    EOT,
    TOY_TOKENIZER,
    VALIDATION,
    V,
    book_model,
    continue_naively,
    cross_entropy_by_torch,
    float32_model,
    instruction_batch,
    logits_of,
    mean_losses,
    mean_per_token,
    meta_model,
    our_model,
    random_params,
    transformers_model,
)
from tutorial import ROOT

# --- The model against transformers and the book ---


pytestmark = pytest.mark.usefixtures("one_thread")
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


def test_a_new_model_knows_nothing():
    torch.manual_seed(0)
    model = GPTModel(CFG).eval()
    assert calc_loss_batch(*instruction_batch(0), model, "cpu").item() == pytest.approx(math.log(V), abs=0.1)


def test_a_new_model_is_drawn_as_transformers_draws_it():
    torch.manual_seed(0)
    model = GPTModel(CFG | {"emb_dim": 64, "n_layers": 8})
    config = GPT2Config(vocab_size=V, n_positions=CONTEXT, n_embd=64, n_layer=8, n_head=2, eos_token_id=EOT)
    theirs = GPT2LMHeadModel(config).transformer.parameters()  # in the same order
    for (name, one), other in zip(model.named_parameters(), theirs, strict=True):
        for measure in (torch.mean, partial(torch.std, correction=0)):
            assert measure(one).item() == pytest.approx(measure(other).item(), rel=0.1, abs=0.002), name


def test_model_errors():
    with pytest.raises(ValueError, match="emb_dim 16 can't be divided among n_heads 3"):
        GPTModel(CFG | {"n_heads": 3})
    with pytest.raises(ValueError, match="25 tokens in a row, but the context length is 24"):
        GPTModel(CFG)(torch.zeros(1, 25, dtype=torch.long))


@pytest.mark.parametrize("place", ["drop_emb", "dropout", "drop_shortcut"])
def test_dropout_in_each_of_its_places(place):
    torch.manual_seed(0)
    model, (inputs, _) = float32_model().train(), instruction_batch(0)
    assert model(inputs).equal(model(inputs))
    for name, module in model.named_modules():
        if name.split(".")[-1] == place:
            module.p = 0.5
    assert not model(inputs).equal(model(inputs))
    assert model.eval()(inputs).equal(model(inputs))


@pytest.mark.parametrize("of_model", [True, False])
def test_attention_drops_weights_in_the_mode_of_its_own_dropout(of_model):
    torch.manual_seed(0)
    model, (inputs, _) = GPTModel(CFG | {"drop_rate": 0.5}).train(of_model), instruction_batch(0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train(not of_model)
    assert model(inputs).equal(model(inputs)) == of_model


# --- Loading ---


def test_an_ordinary_and_a_meta_model_load_the_same():
    inputs, _ = instruction_batch(0)
    torch.testing.assert_close(float32_model()(inputs), meta_model()(inputs))


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


@pytest.mark.parametrize("value", [torch.Tensor.numpy, lambda tensor: tensor], ids=["arrays", "tensors"])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_hugging_face_names_are_recognised(prefix, value):
    params = {prefix + name: value(tensor) for name, tensor in transformers_state(random_params(np.float32)).items()}
    with pytest.raises(ValueError, match="Hugging Face's names.*from_pretrained"):
        load_weights_into_gpt(GPTModel(CFG), params)


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
    (drop_block_bias, "lacks the tensor blocks/1/attn/c_proj/b"), (drop_wpe, "lacks the tensor wpe"),
    (drop_layer, "lacks the tensor blocks/2/ln_1/g"), (add_head, "unexpected tensor head"),
    (add_layer, "unexpected tensor blocks/3/attn/c_attn/w"), (shorten_wpe, r"wpe of shape \(23, 16\), not \(24, 16\)"),
    (transpose_fc, r"blocks/0/mlp/c_fc/w of shape \(16, 64\), not \(64, 16\)")])
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
    with pytest.raises(ValueError, match="unexpected tensor blocks/0/attn/c_attn/b"):
        load_weights_into_gpt(GPTModel(CFG | {"qkv_bias": False}), random_params(np.float32))


# --- Text ---


@pytest.mark.parametrize("context_size", [CONTEXT, 10])
def test_the_plain_loop_continues_as_the_book_does(float64, context_size):
    prompt = torch.tensor([[5, 17, 3, 60], [1, 2, 3, 4]])
    made = generate_text_simple(our_model(), prompt, 18, context_size)
    assert made.equal(ch05.generate(book_model(), prompt, 18, context_size))
    assert made[1].tolist() == continue_naively(our_model(), [1, 2, 3, 4], 18, context_size, None)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"temperature": 0.7, "top_k": 5}, {"top_k": 3}])
def test_one_text_is_continued_as_the_book_continues_it(float64, options):
    """Greedily, and drawn with the same seed; up to the end of text, which the book compares with the whole batch."""
    prompt = torch.tensor([[5, 17, 3, 60]])
    made = []
    for continue_text, model in ((generate, our_model()), (ch05.generate, book_model())):
        torch.manual_seed(1)
        free = continue_text(model, prompt, 18, CONTEXT, **options)
        torch.manual_seed(1)
        stopped = continue_text(model, prompt, 18, CONTEXT, **options, eos_id=free[0, 9].item())
        made.append([free.tolist(), stopped.tolist()])
    assert made[0] == made[1] and len(made[0][0][0]) == 22 > len(made[0][1][0])


def test_each_row_ends_at_its_own_end(float64):
    prompts = torch.tensor([[1, 2, 3], [7, 7, 7], [50, 4, 90]])
    eos_id = continue_naively(our_model(), [1, 2, 3], 4, CONTEXT, None)[-1]
    rows = [continue_naively(our_model(), row, 12, CONTEXT, eos_id) for row in prompts.tolist()]
    width = max(map(len, rows))
    assert min(map(len, rows)) < width
    made = generate(our_model(), prompts, 12, CONTEXT, eos_id=eos_id)
    assert made.tolist() == [row + [eos_id] * (width - len(row)) for row in rows]


def test_text_and_ids(tokenizer):
    ids = text_to_token_ids("Hello, world<|endoftext|>", tokenizer)
    assert ids.tolist() == [[15496, 11, 995, 50256]]
    assert token_ids_to_text(ids, tokenizer) == token_ids_to_text(ids[0], tokenizer) == "Hello, world<|endoftext|>"


# --- Losses ---


def test_a_model_with_another_head_still_trains():
    model = float32_model()
    model.out_head = torch.nn.Linear(CFG["emb_dim"], 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(instruction_batch(0)[0])[:, -1].square().sum().backward()
    optimizer.step()
    assert model.tok_emb.weight.grad.abs().sum() > 0


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
    with pytest.raises(ValueError, match="the data loader has no batches"):
        calc_loss_loader(empty_loader(), GPTModel(CFG), "cpu")


# --- Training ---


def test_training_is_the_plain_loop_of_the_book(float64, capsys):
    """Losses of all steps, notes after steps 0, 3 and 6, tokens and what is printed, against the loop written out for
    the book's model."""
    model, theirs = our_model(), book_model()
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=0.1) for m in (model, theirs)]
    history = train_model_simple(model, BATCHES, VALIDATION, optimizers[0], "cpu", 2, 3, 1, "start", TOY_TOKENIZER)
    steps, expected_val = [], []
    for step, (inputs, targets) in enumerate(BATCHES * 2):
        optimizers[1].zero_grad()
        loss = cross_entropy_by_torch(theirs, inputs, targets)
        loss.backward()
        optimizers[1].step()
        steps.append((loss.item(), (targets != -100).sum().item(), (inputs != EOT).sum().item()))
        if step % 3 == 0:
            expected_val.append(mean_per_token(theirs, VALIDATION[:1]))
    assert history[0] == pytest.approx(mean_losses(steps, 1, 4, 7), abs=1e-9)
    assert history[1] == pytest.approx(expected_val, abs=1e-9)
    assert history[2] == [sum(tokens for *_, tokens in steps[:n]) for n in (1, 4, 7)]
    *_, last = lines = capsys.readouterr().out.splitlines()
    notes = [f"Ep {epoch} (Step {step:06d}): Train loss {train_loss:.3f}, Val loss {val_loss:.3f}"
             for epoch, step, train_loss, val_loss in zip((1, 1, 2), (0, 3, 6), *history[:2])]
    assert [line for line in lines if line.startswith("Ep")] == notes and len(lines) == 5
    expected = continue_naively(model.eval(), TOY_TOKENIZER.encode("start", None), 50, CONTEXT, EOT)
    assert last.split(" ") == [str(token) for token in expected]


def test_training_without_a_text_prints_none(capsys):
    model = float32_model()
    train_model_simple(model, BATCHES, VALIDATION, torch.optim.SGD(model.parameters(), 0.1), "cpu", 1, 9, 1, "",
                       TOY_TOKENIZER)
    assert len(capsys.readouterr().out.splitlines()) == 1 and model.training


def test_losses_are_plotted_over_epochs_and_tokens():
    figure = plot_losses([0.0, 0.5, 1.0], [100, 200, 300], [3.0, 1.0, 0.5], [3.1, 1.2, 0.9])
    axes, tokens_axis = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[3.0, 1.0, 0.5], [3.1, 1.2, 0.9]]
    assert all(list(line.get_xdata()) == [0.0, 0.5, 1.0] for line in axes.lines)
    assert axes.get_yscale() == "log" and list(tokens_axis.lines[0].get_xdata()) == [100, 200, 300]


# --- By itself ---

ALONE = """
import sys, types
import torch
import previous_chapters as book

torch.manual_seed(0)
cfg = {"vocab_size": 60, "context_length": 16, "emb_dim": 32, "n_heads": 2, "n_layers": 2, "drop_rate": 0.1,
       "qkv_bias": True}
model = book.GPTModel(cfg)
tokenizer = types.SimpleNamespace(eot_token=59, decode=lambda ids: " ".join(map(str, ids)),
                                  encode=lambda text, allowed_special: [int(word) for word in text.split()])
ids = torch.arange(1, 13).repeat(4, 1)  # the model learns to count
batches = [(ids[:, :-1], ids[:, 1:])] * 20
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
train_losses, *_ = book.train_model_simple(model, batches, batches[:1], optimizer, "cpu", 3, 10, 1, "1 2 3",
                                           tokenizer)
assert train_losses[0] > 3 > 0.2 > train_losses[-1], train_losses
print(book.generate(model.eval(), torch.tensor([[1, 2, 3]]), 9, 16).tolist())
print(*sorted(name for name in ("engine", "weights", "tutorial", "tiktoken", "matplotlib") if name in sys.modules))
"""


def test_copied_into_an_empty_folder_it_trains_and_generates(tmp_path):
    shutil.copy(ROOT / "previous_chapters.py", tmp_path)
    run = subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": "", "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-2:] == [str([list(range(1, 13))]), ""]


def test_it_imports_pytorch_alone():
    tree = ast.parse((ROOT / "previous_chapters.py").read_text(encoding="utf-8"))
    imported = {(getattr(node, "module", None) or node.names[0].name).split(".")[0]: node.col_offset
                for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))}
    assert imported == {"itertools": 0, "torch": 0, "matplotlib": 4}


def test_every_part_works_by_itself():
    """On its own initial weights; attention against PyTorch's own module."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, CFG["emb_dim"])
    attention = MultiHeadAttention(CFG)
    theirs = torch.nn.MultiheadAttention(CFG["emb_dim"], CFG["n_heads"], batch_first=True)
    theirs.load_state_dict({"in_proj_weight": attention.qkv.weight, "in_proj_bias": attention.qkv.bias,
                            "out_proj.weight": attention.out_proj.weight, "out_proj.bias": attention.out_proj.bias})
    future = torch.ones(5, 5, dtype=torch.bool).triu(diagonal=1)
    torch.testing.assert_close(attention(x), theirs(x, x, x, attn_mask=future, need_weights=False)[0])

    feed_forward, block = FeedForward(CFG), TransformerBlock(CFG)
    widen, _, narrow = feed_forward.layers
    wide = F.linear(x, widen.weight, widen.bias)
    gelu = 0.5 * wide * (1 + torch.tanh((2 / math.pi) ** 0.5 * (wide + 0.044715 * wide ** 3)))
    torch.testing.assert_close(feed_forward(x), F.linear(gelu, narrow.weight, narrow.bias))
    halfway = x + block.att(block.norm1(x))
    torch.testing.assert_close(block(x), halfway + block.ff(block.norm2(halfway)))
    assert all(part(x).isfinite().all() and part(x).std() > 0.01 for part in (attention, feed_forward, block))

