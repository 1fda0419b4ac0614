"""Each fast path against the reference path, for whatever a model has become: changed, hooked, sharded, compiled."""

import platform
import subprocess
import sys
from math import inf
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from torch.nn.modules import module as torch_modules

import previous_chapters
from engine import comparison, fast, layers, memory
from engine.fast import packed_loss
from engine.generation import generate
from engine.layers import FastLinear, fast_layers, reordered_weights
from engine.lora import add_lora
from engine.memory import keep_freed_memory, lay_out_in_rows
from engine.packing import Packing, on_device
from engine.probes import loss_and_gradients
from previous_chapters import GPTModel, MultiHeadAttention, calc_loss_batch, causal_attention
from tests import processes
from tests.small_models import (
    CFG,
    CONTEXT,
    LAYERS,
    PROMPTS,
    D,
    V,
    continue_naively,
    cross_entropy_by_torch,
    float32_model,
    instruction_batch,
    meta_model,
    our_model,
    positions_computed,
)
from tutorial import ROOT
from weights.saved import load_model, save_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("beginning", [0, 3])
def test_batch_loss_and_gradients_equal_cross_entropy(float64, capsys, beginning):
    inputs, targets = instruction_batch(0, beginning=beginning)
    ours, plain = our_model(), our_model()
    loss, expected = packed_loss(inputs, targets, ours, "cpu"), cross_entropy_by_torch(plain, inputs, targets)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    (3 * loss).backward()
    (3 * expected).backward()
    for (name, parameter), other in zip(ours.named_parameters(), plain.parameters()):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=0, atol=1e-12, msg=name)
    assert capsys.readouterr().out == "", "the fast path was used"


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
    packed_loss(inputs, targets, model, "cpu")  # the first time, it is checked
    shapes.clear()
    loss = packed_loss(inputs, targets, model, "cpu")
    assert shapes == [(1, int(needed.sum()) - (len(inputs) - 1) * beginning,)] and needed.sum() < inputs.numel()
    torch.testing.assert_close(loss, cross_entropy_by_torch(model, inputs, targets), rtol=0, atol=1e-12)
    packing = Packing(inputs, needed)
    logits = packing.logits(model, causal_attention, packing.source[needed])
    torch.testing.assert_close(logits, model(inputs)[needed], rtol=0, atol=1e-12)


def test_with_dropout_rows_share_nothing_in_training():
    model, (inputs, targets) = our_model(drop_rate=0.1), instruction_batch(0, beginning=3)
    shapes = positions_computed(model)
    computed = []
    for mode in (model.train, model.eval):
        mode()
        packed_loss(inputs, targets, model, "cpu")
        computed.append(shapes[-1][1])
    assert computed[1] == computed[0] - 2 * 3


def test_dropout_is_as_strong_as_in_the_reference_path():
    """The mean of many packed losses is that of many plain ones."""
    torch.manual_seed(0)
    model, batch = float32_model().train(), instruction_batch(0, beginning=3)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    means, errors = [], []
    for loss_of in (packed_loss, calc_loss_batch):
        losses = torch.stack([loss_of(*batch, model, "cpu").detach() for _ in range(400)])
        means.append(losses.mean().item())
        errors.append(losses.std().item() / 20)
    assert means[0] == pytest.approx(means[1], abs=4 * sum(errors)) and errors[0] == pytest.approx(errors[1], rel=0.3)


# --- Whatever a model has become: loss, every gradient and greedy ids are the reference path's ---


def gradients(model, loss):
    loss.backward()
    return {name.replace("module.", "").replace("_orig_mod.", ""): parameter.grad
            for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_equals_reference_path(model, plain):
    """The loss and every gradient of a model against `F.cross_entropy` of another copy, and greedy ids against its
    plain loop."""
    for masked in (False, True):
        inputs, targets = instruction_batch(0, rows=4, beginning=3)
        if masked:
            targets[:, :3] = -100
        loss = packed_loss(inputs, targets, model, "cpu")
        expected = cross_entropy_by_torch(plain, inputs, targets)
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
        ours, theirs = gradients(model, loss), gradients(plain, expected)
        assert ours.keys() == theirs.keys() and ours
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-12, msg=name)
        model.zero_grad()
        plain.zero_grad()
    rows = generate(model, PROMPTS, 8, CONTEXT)
    assert rows == [continue_naively(plain.eval(), row, 8, CONTEXT, None) for row in PROMPTS]


class OwnAttention(torch.nn.Module):
    """What a reader writes who leaves `attend` unused: the very same function of one text."""

    def __init__(self, att):
        super().__init__()
        self.qkv, self.out_proj, self.n_heads = att.qkv, att.out_proj, att.n_heads

    def forward(self, x, attend=None):
        B, T, width = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(torch.ones(T, T).triu(diagonal=1).bool(), -torch.inf)
        return self.out_proj((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(B, T, width))


class WithoutArguments(OwnAttention):
    def forward(self, x):
        return super().forward(x)


def own_attention(kind):
    def change(model, monkeypatch):
        for block in model.trf_blocks:
            block.att = kind(block.att)
            if kind is WithoutArguments:
                block.forward = lambda x, attend=None, block=block: (
                    (y := x + block.att(block.norm1(x))) + block.ff(block.norm2(y)))
    return change


def attention_of_the_class(model, monkeypatch):
    monkeypatch.setattr(MultiHeadAttention, "forward", OwnAttention.forward)


def patched_forward(model, monkeypatch):
    feed_forward = model.trf_blocks[1].ff
    plain = feed_forward.forward
    feed_forward.forward = lambda x: plain(x) + x.cumsum(1)


class LooksBack(torch.nn.Module):
    """A feed-forward that sees the token before."""

    def __init__(self, ff):
        super().__init__()
        self.ff = ff

    def forward(self, x):
        before = torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), dim=1)
        return self.ff(x + before)


def looks_back(model, monkeypatch):
    model.trf_blocks[0].ff = LooksBack(model.trf_blocks[0].ff)


def forward_hook(change):
    return lambda model, monkeypatch: model.trf_blocks[1].register_forward_hook(lambda module, args, out: change(out))


def hook_on_the_whole(model, monkeypatch):
    model.register_forward_hook(lambda module, args, out: out + out.mean(dim=0, keepdim=True))


def backward_hook(model, monkeypatch):
    model.trf_blocks[1].register_full_backward_hook(lambda module, grads, _: (grads[0].cumsum(1), *grads[1:]))


def global_hook(model, monkeypatch):
    """One for all modules, which `no_global_hooks` removes."""
    if not torch_modules._global_forward_hooks:
        torch_modules.register_module_forward_hook(
            lambda module, args, out: out.cumsum(1) if isinstance(module, previous_chapters.FeedForward) else None)


@pytest.fixture(autouse=True)
def no_global_hooks():
    yield
    torch_modules._global_forward_hooks.clear()


def another_head(model, monkeypatch):
    torch.manual_seed(0)
    model.out_head = torch.nn.Linear(D, V, bias=True)


def capped_logits(model, monkeypatch):
    """A head whose backward pass needs its result, the logits: nothing may write over them."""
    model.out_head = torch.nn.Sequential(model.out_head, torch.nn.Tanh())


class Adapter(torch.nn.Module):
    """A layer around a linear one, with `forward` alone, as in the book's appendix E: W x + B A x."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        generator = torch.Generator().manual_seed(7)
        self.A = torch.nn.Parameter(torch.randn(linear.in_features, 2, generator=generator))
        self.B = torch.nn.Parameter(torch.randn(2, linear.out_features, generator=generator))

    def forward(self, x):
        return self.linear(x) + x @ self.A @ self.B


def wrap_linear_layers(model, monkeypatch):
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert len(linear) == 4 * LAYERS + 1
    for name, module in linear:
        model.set_submodule(name, Adapter(module))


class AdapterThatLooksBack(Adapter):
    """At first it changes nothing, but its gradient depends on the token before."""

    def __init__(self, linear):
        super().__init__(linear)
        torch.nn.init.zeros_(self.B)

    def forward(self, x):
        before = torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), dim=1)
        return self.linear(x) + before @ self.A @ self.B


def looks_back_with_zero_weights(model, monkeypatch):
    model.trf_blocks[1].att.out_proj = AdapterThatLooksBack(model.trf_blocks[1].att.out_proj)


def low_rank_adapters(model, monkeypatch):
    torch.manual_seed(0)
    add_lora(model, rank=2, alpha=4)
    for name, parameter in model.named_parameters():
        if name.endswith(".B"):
            torch.nn.init.normal_(parameter, std=0.1)


class OtherPositions(GPTModel):
    """A model with a forward of its own, which knows none of the textbook's arguments."""

    def forward(self, idx):
        x = self.tok_emb(idx) + self.pos_emb(torch.arange(idx.shape[1])).flip(1)
        for block in self.trf_blocks:
            x = block(x)
        return self.out_head(self.final_norm(x))


def another_class(model, monkeypatch):
    model.__class__ = OtherPositions


FITTING = {"wrapped layers": wrap_linear_layers, "LoRA": low_rank_adapters, "another head": another_head,
           "capped logits": capped_logits, "a hook that scales": forward_hook(lambda x: 1.5 * x)}
NOT_FITTING = {
    "own attention": own_attention(OwnAttention), "own attention of one argument": own_attention(WithoutArguments),
    "own attention as a method of the class": attention_of_the_class, "a forward patched on one instance":
    patched_forward, "a feed-forward that looks back": looks_back, "a hook that looks along the rows":
    forward_hook(lambda x: x.cumsum(1)), "a hook on the whole model": hook_on_the_whole, "a backward hook":
    backward_hook, "a global hook": global_hook, "an adapter that looks back": looks_back_with_zero_weights,
    "another forward": another_class}


def changed_models(change, monkeypatch):
    """Two copies of a model, both changed in the same way."""
    models = [our_model().train() for _ in range(2)]
    for model in models:
        change(model, monkeypatch)
    return models


@pytest.mark.parametrize("change", FITTING)
def test_a_changed_model_is_computed_packed_where_that_is_the_same(float64, monkeypatch, capsys, change):
    ours, plain = changed_models(FITTING[change], monkeypatch)
    inputs, _ = instruction_batch(0)
    assert not ours(inputs).allclose(our_model()(inputs))
    assert_equals_reference_path(ours, plain)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("change", NOT_FITTING)
def test_a_model_that_packing_does_not_fit_is_computed_plainly_and_it_is_said(float64, monkeypatch, capsys, change):
    assert_equals_reference_path(*changed_models(NOT_FITTING[change], monkeypatch))
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= 2 and all("using a slower path" in line for line in lines)
    assert lines[0].startswith("Loss and gradients: ")


@pytest.mark.parametrize("change", NOT_FITTING)
def test_a_change_after_a_check_is_noticed(float64, monkeypatch, change):
    """The model was fine, trained and generated, and then a reader changes it."""
    ours, plain = our_model().train(), our_model().train()
    assert_equals_reference_path(ours, plain)
    plain.train()
    for model in (ours, plain):
        NOT_FITTING[change](model, monkeypatch)
    assert_equals_reference_path(ours, plain)


@pytest.mark.parametrize(("change", "reason"), [
    ("own attention", "trf_blocks.0.att (OwnAttention) has a forward of its own"),
    ("a forward patched on one instance", "trf_blocks.1.ff (FeedForward) has another forward"),
    ("a backward hook", "trf_blocks.1 (TransformerBlock) has a hook"), ("a global hook", "all modules have a hook"),
    ("another forward", "the fast one fails (TypeError: ")])
def test_the_reason_is_said_as_far_as_it_is_known(float64, monkeypatch, capsys, change, reason):
    model, _ = changed_models(NOT_FITTING[change], monkeypatch)
    for _ in range(3):
        packed_loss(*instruction_batch(0), model, "cpu")
    printed = capsys.readouterr().out
    assert reason in printed and printed.count("\n") == 1, "said once"


def test_an_edited_textbook_is_noticed(float64, monkeypatch, capsys):
    """A file in which attention ignores `attend`."""
    source = (ROOT / "previous_chapters.py").read_text(encoding="utf-8")
    edited = source.replace("y = attend(qkv,", "y = causal_attention(qkv,")
    assert edited != source
    namespace = {"__name__": "previous_chapters"}
    exec(compile(edited, "previous_chapters.py", "exec"), namespace)
    models = [namespace["GPTModel"](CFG) for _ in range(2)]
    for model in models:
        model.load_state_dict(our_model().state_dict())
    assert_equals_reference_path(*models)
    assert "the fast one gives another result" in capsys.readouterr().out


def windowed(width):
    """Attention in which a token sees the last `width` alone."""
    def attend(qkv, dropout=0.0):
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        T = q.shape[2]
        seen = torch.ones(T, T).tril().triu(diagonal=1 - width).bool()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)
    return attend


WINDOWED = windowed(8)


class Windowed(GPTModel):
    def forward(self, idx, pos=None, attend=WINDOWED, logits_at=slice(None)):
        return super().forward(idx, pos, attend, logits_at)


class Gated(torch.nn.Module):
    """Looks at the token before as soon as its gate isn't zero."""

    def __init__(self, ff):
        super().__init__()
        self.ff, self.gate, self.mix = ff, torch.nn.Parameter(torch.zeros(())), 0.0

    def forward(self, x):
        return self.ff(x) + (self.gate + self.mix) * F.pad(x, (0, 0, 1, 0))[:, :-1]


class Banned(torch.nn.Module):
    """A head that bans a token, after a layer that looks back."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        banned = torch.zeros(V).masked_fill(torch.arange(V) == 3, -torch.inf)
        return self.head(x + x.cumsum(-2)) + banned


def test_attention_within_a_window_is_noticed_though_short_texts_do_not_show_it(float64):
    models = [our_model() for _ in range(2)]
    for model in models:
        model.__class__ = Windowed
    assert_equals_reference_path(*models)
    rows = [list(range(3)), list(range(20))]
    assert generate(models[0], rows, 4, CONTEXT) == [continue_naively(models[1], row, 4, CONTEXT, None) for row in rows]


def test_a_window_in_an_edited_textbook_is_noticed_though_the_first_text_is_short(float64, monkeypatch):
    monkeypatch.setattr(GPTModel.forward, "__defaults__", (None, WINDOWED, slice(None)))
    model = our_model()
    for rows in ([[1, 2, 3]], [[5, 6], list(range(18))]):
        assert generate(model, rows, 4, CONTEXT) == [continue_naively(model, row, 4, CONTEXT, None) for row in rows]


LONG_WINDOW = windowed(140)


class LongWindowed(GPTModel):
    def forward(self, idx, pos=None, attend=LONG_WINDOW, logits_at=slice(None)):
        return super().forward(idx, pos, attend, logits_at)


def test_a_window_longer_than_the_usual_comparison_is_noticed(float64, capsys):
    torch.manual_seed(0)
    model, row = LongWindowed(CFG | {"context_length": 300}).eval(), torch.randint(0, V, (160,)).tolist()
    assert generate(model, [row], 4, 300) == [continue_naively(model, row, 4, 300, None)]
    assert "the fast one gives another result: the model (LongWindowed)" in capsys.readouterr().out


class WithoutPositions(GPTModel):
    """A model that can't say how long its texts may be, and fails if they are longer."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.angles = torch.arange(cfg["context_length"]) / 10
        del self.pos_emb

    def forward(self, idx, pos=None, attend=causal_attention, logits_at=slice(None)):
        x = self.tok_emb(idx) + self.angles[torch.arange(idx.shape[1]) if pos is None else pos][..., None]
        for block in self.trf_blocks:
            x = block(x, attend)
        return self.out_head(self.final_norm(x[logits_at]))


def test_a_model_that_does_not_say_its_context_length(float64, capsys):
    torch.manual_seed(0)
    model, (inputs, targets) = WithoutPositions(CFG).eval(), instruction_batch(0)
    torch.testing.assert_close(packed_loss(inputs, targets, model, "cpu"),
                               cross_entropy_by_torch(model, inputs, targets), rtol=0, atol=1e-12)
    for n, context_size in ((CONTEXT - 4, inf), (CONTEXT, CONTEXT)):  # within the context, and beyond it
        row = (list(range(1, 10)) * 9)[:n]
        assert generate(model, [row], 4, context_size) == [continue_naively(model, row, 4, CONTEXT, None)]
    assert capsys.readouterr().out == ""


def test_an_error_in_a_check_among_processes_leaves_the_gradients(monkeypatch):
    def fail(grad):
        raise RuntimeError("in the backward pass")

    model = our_model()
    cross_entropy_by_torch(model, *instruction_batch(0)).backward()
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    loss = cross_entropy_by_torch(model, *instruction_batch(1))
    loss.register_hook(fail)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="in the backward pass"):
        loss_and_gradients(lambda: loss, model)
    for name, parameter in model.named_parameters():
        assert parameter.grad.equal(before[name])


def one_fused_step(ff):
    """Of an optimiser whose steps PyTorch's count of changes, `_version`, leaves out."""
    ff.gate.grad = torch.full((), -1.0)
    torch.optim.AdamW([ff.gate], lr=0.5, fused=True).step()


@pytest.mark.parametrize("open_gate", [
    lambda ff: ff.gate.fill_(0.5), one_fused_step, lambda ff: setattr(ff, "mix", 0.5)],
    ids=["a weight", "a weight, by a fused optimiser", "an attribute"])
def test_what_a_gate_of_zero_hides_is_noticed_when_it_opens(float64, open_gate):
    models = [our_model().eval() for _ in range(2)]
    for model in models:
        model.trf_blocks[1].ff = Gated(model.trf_blocks[1].ff)
        generate(model, PROMPTS, 2, CONTEXT)
        with torch.no_grad():
            packed_loss(*instruction_batch(0), model, "cpu")
            open_gate(model.trf_blocks[1].ff)
            loss = packed_loss(*instruction_batch(0), model, "cpu")
            torch.testing.assert_close(loss, cross_entropy_by_torch(model, *instruction_batch(0)), rtol=0, atol=1e-12)
    assert generate(models[0], PROMPTS, 8, CONTEXT) == [
        continue_naively(models[1], row, 8, CONTEXT, None) for row in PROMPTS]


def test_a_second_row_that_differs_is_noticed_in_rows_of_one_token(float64):
    """Both rows of the comparison must count, however short they are."""
    model = our_model()
    model.trf_blocks[1].register_forward_hook(lambda module, args, out: torch.cat((out[:1], 2 * out[1:])))
    inputs, targets = (ids[:, :1] for ids in instruction_batch(0))
    loss, expected = packed_loss(inputs, targets, model, "cpu"), cross_entropy_by_torch(model, inputs, targets)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)


def test_an_error_of_the_model_itself_is_not_taken_for_one_of_the_fast_path(capsys):
    def fail(module, args):
        raise RuntimeError("an error of the model's own")

    model = float32_model()
    hook = model.trf_blocks[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="an error of the model's own"):
        packed_loss(*instruction_batch(0), model, "cpu")
    hook.remove()
    packed_loss(*instruction_batch(0), model, "cpu")
    assert capsys.readouterr().out == ""


def test_a_result_of_another_shape_differs():
    ones = torch.ones(2, 3)
    assert comparison.equal_up_to_rounding([ones], [ones])
    assert not comparison.equal_up_to_rounding([ones[:1]], [ones])
    assert not comparison.equal_up_to_rounding([ones, ones], [ones])


@pytest.mark.parametrize(("device", "queued"), [("cuda", True), ("cuda:1", True), ("mps", False), ("cpu", False)])
def test_a_copy_is_queued_for_a_cuda_gpu_alone(device, queued):
    tensor = Mock()
    on_device(tensor, device)
    tensor.to.assert_called_once_with(device, non_blocking=queued)


def test_infinite_logits_are_compared(float64):
    models = [our_model().eval() for _ in range(2)]
    for model in models:
        model.out_head = Banned(model.out_head)
    rows = generate(models[0], PROMPTS, 8, CONTEXT)
    assert rows == [continue_naively(models[1], row, 8, CONTEXT, None) for row in PROMPTS]


def test_a_patch_in_the_place_of_another_is_noticed(float64):
    model, plain = our_model().train(), our_model().train()
    batch = instruction_batch(0)
    for shift in (0.0, 1.0, 0.0, 1.0):
        for one in (model, plain):
            ff = one.trf_blocks[1].ff
            vars(ff).pop("forward", None)
            forward = ff.forward
            ff.forward = lambda x, forward=forward, shift=shift: forward(x + shift * F.pad(x, (0, 0, 1, 0))[:, :-1])
        loss, expected = packed_loss(*batch, model, "cpu"), cross_entropy_by_torch(plain, *batch)
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)


def test_linear_layers_of_a_patched_pytorch_are_noticed(monkeypatch):
    """Compared with PyTorch's own layers, fast ones would hide the patch."""
    plain = torch.nn.Linear.forward
    model = float32_model()
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda self, x: plain(self, (8 * x).round() / 8))
    with fast_layers(model), torch.no_grad():
        loss = packed_loss(*instruction_batch(0), model, "cpu")
    torch.testing.assert_close(loss, cross_entropy_by_torch(model, *instruction_batch(0)))


def test_a_batch_in_which_nothing_counts_has_loss_zero_in_the_reference_path_too():
    model, (inputs, targets) = float32_model(), instruction_batch(0)
    model.trf_blocks[0].ff = LooksBack(model.trf_blocks[0].ff)
    loss = packed_loss(inputs, torch.full_like(targets, -100), model, "cpu")
    loss.backward()
    assert loss.item() == 0


def test_an_optimizer_within_the_backward_pass_takes_no_step_in_a_check():
    model = float32_model()
    before = model.tok_emb.weight.clone()
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: p.data.sub_(p.grad))
    packed_loss(*instruction_batch(0), model.train(), "cpu")
    assert model.tok_emb.weight.equal(before)


class Noisy(torch.nn.Module):
    """Noise of the reader's own in training: one number for each row of a batch."""

    def __init__(self, ff):
        super().__init__()
        self.ff = ff

    def forward(self, x):
        return self.ff(x) * (1 + torch.randn(len(x), 1, 1) if self.training else 1)


class RowDropout(torch.nn.Dropout):
    """A class of dropout of the reader's own, which drops whole rows."""

    def forward(self, x):
        return x * (torch.rand(len(x), 1, 1) > self.p) if self.training else x


class DropPath(torch.nn.Module):
    """Drops a whole row by PyTorch's own class."""

    def __init__(self, ff):
        super().__init__()
        self.ff, self.drop = ff, torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.ff(x) * self.drop(torch.ones(len(x), 1, 1))


@pytest.mark.parametrize("noise", [
    Noisy, lambda ff: torch.nn.Sequential(ff, torch.nn.AlphaDropout(0.3)),
    lambda ff: torch.nn.Sequential(ff, torch.nn.Dropout1d(0.3)), lambda ff: torch.nn.Sequential(ff, RowDropout(0.5)),
    lambda ff: DropPath(ff)])
def test_noise_in_training_is_drawn_as_in_the_reference_path(float64, capsys, noise):
    models = [our_model().train() for _ in range(2)]
    for model in models:
        model.trf_blocks[1].ff = noise(model.trf_blocks[1].ff)
    batch, results = instruction_batch(0, rows=4, beginning=3), []
    for model, loss_of in zip(models, (packed_loss, calc_loss_batch)):
        torch.manual_seed(3)
        loss = loss_of(*batch, model, "cpu")
        results.append((loss, gradients(model, loss), torch.get_rng_state()))
    assert "using a slower path" in capsys.readouterr().out
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)
    assert_equals_reference_path(*(model.eval() for model in models))


def test_the_check_leaves_no_trace(float64):
    """Neither in gradients that are there already, nor in the random state, nor in the rates of dropout."""
    model = our_model(drop_rate=0.1).train()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    with torch.no_grad():
        packed_loss(*instruction_batch(0), model, "cpu")
    state = torch.get_rng_state()
    comparison.CHECKED.clear()
    assert fast.packing_works(model, *instruction_batch(0), "cpu")
    assert torch.get_rng_state().equal(state)
    assert all((parameter.grad == 3).all() for parameter in model.parameters())
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.1}


def test_a_model_is_checked_once_for_each_mode(float64, monkeypatch):
    model, checks = our_model(), []
    right = comparison.difference_between
    monkeypatch.setattr(comparison, "difference_between", lambda *args: checks.append(args) or right(*args))
    for _ in range(3):
        packed_loss(*instruction_batch(0), model.train(), "cpu")
        with torch.no_grad():
            packed_loss(*instruction_batch(0), model.eval(), "cpu")
        generate(model, PROMPTS, 2, CONTEXT)
    assert len(checks) == 4  # generation has two: several rows, and a single one


def test_a_second_backward_pass_gives_the_same(float64):
    model = our_model()
    loss = packed_loss(*instruction_batch(0), model, "cpu")
    loss.backward(retain_graph=True)
    once = [parameter.grad.clone() for parameter in model.parameters()]
    loss.backward()
    for parameter, grad in zip(model.parameters(), once):
        torch.testing.assert_close(parameter.grad, 2 * grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", [-1, -99])
def test_another_negative_target_is_an_error(target):
    inputs, targets = instruction_batch(0)
    targets[1, 2] = target
    with pytest.raises(ValueError, match=f"target {target}: expected token ids, or -100"):
        packed_loss(inputs, targets, float32_model(), "cpu")


def test_a_row_too_long_is_an_error():
    ids = torch.zeros(1, CFG["context_length"] + 1, dtype=torch.long)
    with pytest.raises(ValueError, match="25 tokens in a row, but the context length is 24"):
        packed_loss(ids, ids, float32_model(), "cpu")


def test_parameters_that_share_memory_go_on_to_do_so():
    model = float32_model()
    model.out_head.weight = torch.nn.Parameter(model.tok_emb.weight.data)
    before = model.tok_emb.weight.data_ptr()
    lay_out_in_rows(model, copy_all=True)
    assert model.tok_emb.weight.data_ptr() == model.out_head.weight.data_ptr() != before


def test_transposed_weights_are_copied_into_rows_unless_they_are_frozen():
    """As OpenAI's lie in their file. Frozen ones may stay there."""
    model, (inputs, _) = meta_model(), instruction_batch(0)
    frozen, other = model.trf_blocks[0].att.qkv.weight.requires_grad_(False), model.trf_blocks[1].att.qkv.weight
    expected, value = model(inputs), other.detach().clone()
    assert not frozen.is_contiguous() and not other.is_contiguous()
    with torch.inference_mode():
        lay_out_in_rows(model)
    assert not frozen.is_contiguous() and other.is_contiguous() and other.equal(value)
    assert model.out_head.weight is model.tok_emb.weight
    torch.testing.assert_close(model(inputs), expected)
    model(inputs).sum().backward()  # nothing was made in inference mode


def test_reordered_weights_give_the_same_and_are_gone_afterwards():
    """Transposed ones, too. Products with gradients take the weights themselves."""
    model, (inputs, _) = meta_model(), instruction_batch(0)
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    expected = model(inputs)
    with fast_layers(model), reordered_weights(model):
        assert all(layer.reordered.layout == torch._mkldnn for layer in layers)
        with torch.no_grad():
            torch.testing.assert_close(model(inputs), expected)
        model(inputs).sum().backward()
    assert all(layer.weight.grad is not None and "reordered" not in vars(layer) for layer in layers)


def test_a_batch_in_which_nothing_counts_has_loss_zero():
    inputs, targets = instruction_batch(0)
    model = float32_model()
    loss = packed_loss(inputs, torch.full_like(targets, -100), model, "cpu")
    loss.backward()
    assert loss.item() == 0
    assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def test_the_loss_of_large_logits_does_not_overflow():
    model, (inputs, targets) = our_model(), instruction_batch(0)
    with torch.no_grad():
        model.final_norm.weight *= 1000
    loss, expected = packed_loss(inputs, targets, model, "cpu"), cross_entropy_by_torch(model, inputs, targets)
    assert expected > 100
    torch.testing.assert_close(loss, expected)


def test_a_compiled_model_gives_the_same_and_can_be_saved(float64, tmp_path):
    model = our_model()
    compiled = torch.compile(model, backend="eager")
    assert_equals_reference_path(compiled, our_model())
    save_model(compiled, CFG, tmp_path / "model.pt")
    again, _ = load_model(tmp_path / "model.pt")
    inputs, _ = instruction_batch(0)
    assert again(inputs).equal(model(inputs)) and again.out_head.weight is again.tok_emb.weight


def test_processes_compare_on_rows_of_one_length(monkeypatch):
    """Otherwise one would compare, which all have to do together, while another has done so before."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    one, other = (comparison.probe_for(our_model(), ["a custom part"], length) for length in (5, 17))
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("how", ["DistributedDataParallel", "fully_shard"])
def test_in_two_processes_gradients_are_the_mean_of_both(how, tmp_path):
    address = f"file://{tmp_path}/rendezvous"
    outputs = [tmp_path / f"printed-{rank}.txt" for rank in range(2)]
    ranks = [processes.start(output, processes.compare_gradients, how, rank, address)
             for rank, output in enumerate(outputs)]
    assert processes.wait(*ranks) == [0, 0], "".join(output.read_text() for output in outputs)


# --- Linear layers ---


def random_layer(d_in, d_out, bias=True, input_first=False):
    """A fast layer with random weights; with `input_first` they lie in the memory as in OpenAI's files."""
    layer = torch.nn.Linear(d_in, d_out, bias=bias)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    if input_first:
        layer.weight = torch.nn.Parameter(layer.weight.data.T.contiguous().T)
    layer.__class__ = FastLinear
    return layer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(), (0,), (1,), (2, 1), (3,), (4, 4), (8, 8), (65,), (2, 0)])
@pytest.mark.parametrize(("d_in", "d_out"), [(6, 7), (6, 32), (11, 10), (32, 58)])
@pytest.mark.parametrize("input_first", [False, True])
@pytest.mark.parametrize("trained", ["all", "input", "none"])
def test_a_fast_layer_gives_what_a_plain_one_gives(rows, bias, d_in, d_out, input_first, trained):
    layer, x = random_layer(d_in, d_out, bias, input_first), torch.randn(*rows, d_in, requires_grad=trained != "none")
    layer.requires_grad_(trained == "all")
    ours, plain = layer(x), F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(ours, plain)
    if trained != "none":
        leaves = [leaf for leaf in (x, *layer.parameters()) if leaf.requires_grad]
        grads = [torch.autograd.grad(y.square().sum(), leaves) for y in (ours, plain)]
        for mine, other in zip(*grads):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_layers_are_fast_inside_the_block_alone():
    model = float32_model()
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(KeyError), fast_layers(model):
        assert sum(type(module) is FastLinear for module in model.modules()) == 4 * LAYERS + 1
        raise KeyError
    assert [type(module) for module in model.modules()] == kinds


class Wrapped(torch.Tensor):
    """A tensor type of somebody else's."""


@pytest.mark.parametrize("change", [
    lambda layer: layer.bfloat16(), lambda layer: layer.double(),
    lambda layer: layer.__setattr__("weight", torch.nn.Parameter(layer.weight.data.as_subclass(Wrapped)))])
def test_other_weights_are_left_to_pytorch(change, monkeypatch):
    layer = random_layer(6, 32)
    change(layer)
    monkeypatch.setattr(layers, "OneDNNLinear", None)
    x = torch.randn(3, 6, dtype=layer.weight.dtype)
    assert layer(x).equal(F.linear(x, layer.weight, layer.bias))


def test_without_onednn_layers_stay_pytorchs(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = float32_model()
    with fast_layers(model):
        assert not any(isinstance(module, FastLinear) for module in model.modules())


# --- Memory ---


RESIDENT = """
import sys, torch
from engine.memory import keep_freed_memory

def resident():
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return int(lines["VmRSS"].split()[0])

def growth():
    before = resident()
    torch.ones(25_000_000)
    return resident() - before

with keep_freed_memory() as start:
    print(growth())
    start()
    before = resident()
    print(growth())
    with keep_freed_memory() as start_within:  # such as a batch that is generated during a training
        start_within()
    print(resident() - before)
print(resident() - before, growth())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the switches are glibc's")
def test_freed_memory_is_kept_from_the_call_to_the_end_of_the_block():
    """By how many kB a process has grown that has filled 100 MB and freed them."""
    run = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, cwd=ROOT, check=True)
    before, kept, still_kept, given_back, after = map(int, run.stdout.split())
    assert min(kept, still_kept) > 90_000 and max(before, given_back, after) < 10_000


def test_without_glibc_nothing_is_switched(monkeypatch):
    """macOS has no mallopt, and Windows not even a C library under that name."""
    monkeypatch.setattr(memory.sys, "platform", "win32")
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    with keep_freed_memory() as start:
        start()
