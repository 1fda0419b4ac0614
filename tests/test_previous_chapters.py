"""The textbook: model, weights, losses and training against independent implementations of the same."""

import copy
import math
import os
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from llms_from_scratch import ch05
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

from engine.lora import add_lora
from engine.params import flatten_params
from previous_chapters import (
    GPTModel,
    calc_loss_batch,
    calc_loss_loader,
    generate_text_simple,
    load_model,
    load_weights_into_gpt,
    sample_text,
    save_model,
    text_to_token_ids,
    token_ids_to_text,
)
from tests.helpers import transformers_state, truncate
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
    equal,
    float32_model,
    instruction_batch,
    logits_of,
    mean_per_token,
    meta_model,
    our_model,
    random_params,
    train,
    transformers_model,
)

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


# --- Loading and saving ---


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
    with pytest.raises(ValueError, match="model.pt is no file that save_model wrote.*weights_only"):
        load_model(tmp_path / "model.pt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("write, message", [
    (lambda path: torch.save(GPTModel(CFG).state_dict(), path), "bare state_dict"),
    (lambda path: torch.save({"model": {}, "optimizer": {}}, path), "a config and weights"),
    (lambda path: torch.save([1, 2], path), "a config and weights"),
    (lambda path: torch.save({"config": {"n_layer": 12}, "weights": {}}, path), "its config lacks context_length, dr"),
    *((lambda path, first=first: path.write_bytes(first + b"\x00safetensors"), "damaged")
      for first in (b"h", b"a", b"X", b"R")),
    (lambda path: path.write_bytes(b""), "damaged"), (lambda path: path.write_bytes(b"<html></html>"), "damaged"),
    (lambda path: [save_model(GPTModel(CFG), CFG, path), truncate(path, 5000)], "damaged")])
def test_a_file_that_save_model_did_not_write_is_named(write, message, tmp_path):
    write(tmp_path / "theirs.pth")
    with pytest.raises(ValueError, match=f"theirs.pth is no file that save_model wrote.*{message}"):
        load_model(tmp_path / "theirs.pth")


def test_a_model_that_can_not_be_saved_leaves_the_old_file(tmp_path):
    save_model(GPTModel(CFG), CFG, tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    with pytest.raises(AttributeError):
        save_model(GPTModel(CFG), CFG | {"why": lambda: "a function can't be saved"}, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def with_adapters():
    model = GPTModel(CFG)
    add_lora(model, rank=2, alpha=4)
    return model


@pytest.mark.parametrize("build, cfg, fault", [
    (lambda: torch.nn.DataParallel(GPTModel(CFG)), CFG, "lacks the tensor tok_emb.weight"),
    (with_adapters, CFG, "lacks the tensor trf_blocks.0.att.qkv.weight"),
    (lambda: GPTModel(CFG), CFG | {"emb_dim": 32}, r"has tok_emb.weight of shape \(97, 16\), not \(97, 32\)"),
    (lambda: GPTModel(CFG), CFG | {"n_layers": 4}, "lacks the tensor trf_blocks.3.norm1.weight")])
def test_only_what_load_model_can_read_is_saved(build, cfg, fault, tmp_path):
    with pytest.raises(ValueError, match=f"the model {fault}.*no GPTModel of its config.*merge adapters first"):
        save_model(build(), cfg, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
    torch.save({"config": cfg, "weights": build().state_dict()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=f"the model {fault}"):
        load_model(tmp_path / "model.pt")


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_hugging_face_names_are_recognised(prefix):
    params = {prefix + name: tensor.numpy() for name, tensor in transformers_state(random_params(np.float32)).items()}
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


def test_text_and_ids(tokenizer):
    ids = text_to_token_ids("Hello, world<|endoftext|>", tokenizer)
    assert ids.tolist() == [[15496, 11, 995, 50256]]
    assert token_ids_to_text(ids, tokenizer) == token_ids_to_text(ids[0], tokenizer) == "Hello, world<|endoftext|>"


def test_sample_text_is_one_line_that_ends_before_end_of_text():
    model = float32_model()
    expected = continue_naively(model, TOY_TOKENIZER.encode("Hi", None), 50, CONTEXT, EOT)
    assert sample_text(model, TOY_TOKENIZER, "Hi").split(" ") == [str(token) for token in expected]


# --- Losses ---


def test_the_loss_of_large_logits_does_not_overflow():
    model, (inputs, targets) = our_model(), instruction_batch(0)
    with torch.no_grad():
        model.final_norm.weight *= 1000
    loss, expected = calc_loss_batch(inputs, targets, model, "cpu"), cross_entropy_by_torch(model, inputs, targets)
    assert expected > 100
    torch.testing.assert_close(loss, expected)


def test_a_model_with_another_head_still_trains():
    model = float32_model()
    model.out_head = torch.nn.Linear(CFG["emb_dim"], 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(instruction_batch(0)[0])[:, -1].square().sum().backward()
    optimizer.step()
    assert model.tok_emb.weight.grad.abs().sum() > 0


def test_batch_without_scored_tokens_has_loss_zero():
    inputs, targets = instruction_batch(0)
    model = float32_model()
    loss = calc_loss_batch(inputs, torch.full_like(targets, -100), model, "cpu")
    loss.backward()
    assert loss.item() == 0
    assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


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
    with pytest.raises(ValueError, match="num_batches is 0: want 1 or more"):
        calc_loss_loader(BATCHES, GPTModel(CFG), "cpu", num_batches=0)


@pytest.mark.parametrize("changes, message", [
    ({"loader": empty_loader()}, "the training loader has no batches"),
    ({"val_loader": empty_loader()}, "the validation loader has no batches"),
    ({"eval_freq": 0}, "eval_freq is 0: want 1 or more"), ({"eval_iter": 0}, "eval_iter is 0: want 1 or more")])
def test_a_training_that_can_note_nothing_does_not_begin(changes, message):
    model = float32_model()
    with pytest.raises(ValueError, match=message):
        train(model, **changes)
    assert equal(dict(model.state_dict()), dict(float32_model().state_dict()))


# --- Training ---


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
    expected = dict(flatten_params(random_params(np.float32)))
    assert all((array == expected[name]).all() for name, array in flatten_params(params))
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
