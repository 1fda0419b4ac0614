"""This project and its peers, each with the same methods; a worker is a process in which one of them is measured."""

import os
import sys
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from benchmarks.common import DEVICE, FOLDER, PRECISION, RANK, TOKENIZER, batches, entries, loader, test_prompts
from benchmarks.load import LOADERS, memory
from engine import generation, trainer
from engine.fast import packed_loss
from engine.layers import fast_layers
from engine.lora import add_lora
from engine.memory import keep_freed_memory, lay_out_in_rows
from engine.precision import mixed_precision
from gpt_download import END_OF_TEXT
from previous_chapters import IGNORE_INDEX
from tutorial.instructions import format_input, format_prompt
from tutorial.recipes import MINIATURE

CONTEXT = 1024


class Peer:
    """What all share. A subclass has `source`, a key of LOADERS in load.py; or, if it only generates, an `__init__`
    of its own. And it has what its rows in bench.py use:

    - for training steps, `logits(ids)`, (B, T) -> (B, T, V), or a `loss` of its own
    - for generation, `generate_batch(prompts, lengths)`, id lists and the numbers of new tokens -> lists of the new ids
    - for whole runs, `loop`, called as `train_model_simple` is, and `finetune_miniature(steps)`, which gives the losses
    """

    fused = True     # AdamW, as the peer's own training loop has it
    batch_size = 64  # when generating: the fastest of 16, 32, 64 and 128

    def __init__(self, size):
        self.size = size
        self.before = self.begin()

    def begin(self):
        """Load the model, and forget any earlier training. Returns the memory after the imports in bytes."""
        model, before = LOADERS[self.source](FOLDER / self.size)
        self.model, self.optimizer = self.prepare(model).to(DEVICE), None
        return before

    def prepare(self, model):
        """The model as it is measured."""
        return model

    def start_training(self):
        """What comes before the first step."""
        self.model.train()
        self.optimizer = self.adamw()

    def adamw(self, learning_rate=5e-5):
        """A new optimiser of the model's weights."""
        return torch.optim.AdamW(self.model.parameters(), lr=learning_rate, weight_decay=0.1, fused=self.fused)

    def step(self, batch):
        """Train for one step on a batch, inputs and targets (B, T): its loss."""
        if self.optimizer is None:
            self.start_training()
        self.optimizer.zero_grad()
        with mixed_precision(DEVICE, PRECISION):
            loss = self.loss(*batch)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def data_step(self, masked, number):
        """A step on a batch of the first epoch, with the loss on answers only if it is `masked`."""
        return self.step(batches(masked)[number])

    def random_step(self, rows, length):
        """A step on full rows of random ids."""
        ids = torch.randint(0, END_OF_TEXT, (rows, length + 1))
        return self.step((ids[:, :-1], ids[:, 1:]))

    @torch.no_grad()
    def forward(self, number):
        """The loss on a batch, as in a validation."""
        self.model.eval()
        with mixed_precision(DEVICE, PRECISION):
            return self.loss(*batches(False)[number]).item()

    def finetune(self):
        """Take 12 steps, with validation on 40 entries after every fifth, in the peer's own loop: the loss on a batch
        that comes later."""
        self.begin()
        train_data, _, val_data = entries()
        self.loop(self.model, loader(train_data[:96], shuffle=False), loader(val_data[:40], shuffle=False),
                  self.adamw(), DEVICE, num_epochs=1, eval_freq=5, eval_iter=5,
                  start_context=format_input(val_data[0]), tokenizer=TOKENIZER)
        return self.forward(20)

    def loss(self, inputs, targets):
        """Logits at every position, then cross-entropy."""
        inputs, targets = inputs.to(DEVICE), targets.to(DEVICE)
        return F.cross_entropy(self.logits(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)

    def peak(self):
        """The peak memory so far in GB, minus what the process had after its imports; on a GPU, that of the GPU."""
        return (torch.cuda.max_memory_allocated() if DEVICE == "cuda" else memory("VmHWM") - self.before) / 1e9

    def generate(self, every, new):
        """Continue the test prompts whose index is a multiple of `every` by `new` tokens; if None, by as many as their
        answers have, of which the last is the end. Gives the new ids. Prompts of similar length are in one batch."""
        prompts, lengths = test_prompts()
        by_length, rows = sorted(range(0, len(prompts), every), key=lambda i: len(prompts[i])), {}
        for first in range(0, len(by_length), self.batch_size):
            batch = by_length[first:first + self.batch_size]
            rows |= zip(batch, self.generate_batch([prompts[i] for i in batch], [new or lengths[i] for i in batch]))
        return [rows[i][:new or lengths[i] - 1] for i in sorted(rows)]


# --- This project ---


class Ours(Peer):
    source, batch_size = "ours", 128
    loop = staticmethod(trainer.train)

    def prepare(self, model):
        lay_out_in_rows(model, copy_all=True)
        return model

    def start_training(self):
        """With what `engine.trainer.train` does around its steps."""
        super().start_training()
        self.never_left = keep_freed_memory()
        start_keeping = self.never_left.__enter__()
        self.optimizer.register_step_post_hook(lambda *_: start_keeping())

    def loss(self, inputs, targets):
        with fast_layers(self.model):
            return packed_loss(inputs, targets, self.model, DEVICE)

    def generate_batch(self, prompts, lengths):
        with end_after(lengths):
            rows = generation.generate(self.model, prompts, max(lengths), CONTEXT, eos_id=END_OF_TEXT)
        return [row[len(prompt):] for row, prompt in zip(rows, prompts)]

    def finetune_miniature(self, steps):
        """By the notebook's recipe, but in the order of the data, with a validation at the end: the losses."""
        self.begin()
        losses, (train_data, _, val_data) = [], entries()
        train_loader = loader(train_data[:8 * steps], 8, mask_instruction=True, shuffle=False)
        val_loader = loader(val_data, 32, mask_instruction=True, shuffle=False)
        trainer.train(self.model, train_loader, val_loader, self.adamw(MINIATURE["learning_rate"]), DEVICE,
                      num_epochs=1, eval_freq=None, eval_iter=None, start_context="", tokenizer=TOKENIZER,
                      max_norm=MINIATURE["max_norm"], on_step=lambda step, loss, *_: losses.append(loss))
        trainer.evaluate(val_loader, self.model, DEVICE)
        return losses


@contextmanager
def end_after(lengths):
    """Inside the `with` block, each row that is shorter than the longest has the end as the last of these numbers of
    tokens: real answers end, but with random weights a model never says so."""
    lengths, longest, step, sample = torch.tensor(lengths, device=DEVICE), max(lengths), 0, generation.sample

    def sample_or_end(logits, **options):
        nonlocal lengths, step
        if len(logits) < len(lengths):  # `generate` has dropped the rows that ended in earlier steps
            lengths = lengths[generation.filling_gaps((lengths > step).cpu())]
        step += 1
        return sample(logits, **options).masked_fill((lengths <= step) & (step < longest), END_OF_TEXT)

    with patch.object(generation, "sample", sample_or_end):
        yield


class OursCompiled(Ours):
    def prepare(self, model):
        model.compile(dynamic=True)
        return super().prepare(model)


class OursWithLoRA(Ours):
    def prepare(self, model):
        """As in fine-tuning, the frozen weights stay in the mapped file."""
        add_lora(model, RANK, 2 * RANK)
        return draw_adapters(model)


def draw_adapters(model):
    """Give both models the same random adapters; their layers have the same order. B isn't zero, so that A has
    gradients, too."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


# --- The peers ---


class Book(Peer):
    """Its plain GPT-2, without the key/value cache of its other variants."""

    source, fused, batch_size = "llms-from-scratch", None, 1

    def prepare(self, model):
        """With one matrix for embedding and output head, as all others have it; else it would train another model."""
        model.out_head.weight = model.tok_emb.weight
        return model

    def logits(self, ids):
        return self.model(ids)

    def generate_batch(self, prompts, lengths):
        from llms_from_scratch.ch05 import generate
        ids = generate(self.model.eval(), torch.tensor(prompts, device=DEVICE), lengths[0], CONTEXT)
        return [ids[0, len(prompts[0]):].tolist()]

    def loop(self, *arguments, **options):
        from llms_from_scratch.ch05 import train_model_simple
        train_model_simple(*arguments, **options)


class HuggingFace(Peer):
    source = "transformers"

    def __init__(self, size, **options):
        super().__init__(size)
        self.options = options  # of its `generate`

    def logits(self, ids):
        return self.model(ids, use_cache=False).logits

    def generate_batch(self, prompts, lengths):
        width = max(map(len, prompts))
        ids = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True, padding_value=END_OF_TEXT,
                           padding_side="left").to(DEVICE)
        length = torch.tensor(lengths, device=DEVICE)
        rows = self.model.eval().generate(
            ids, attention_mask=(ids != END_OF_TEXT).long(), do_sample=False, max_new_tokens=max(lengths),
            pad_token_id=END_OF_TEXT, eos_token_id=None,
            stopping_criteria=[lambda ids, scores: ids.shape[1] - width >= length], **self.options)
        return [row[width:width + n].tolist() for row, n in zip(rows, lengths)]


class HuggingFaceCompiled(HuggingFace):
    """Compiled for training; and its `generate` with a static cache, which compiles the steps after the first token, on
    a CPU if it is told to."""

    def __init__(self, size):
        from transformers import CompileConfig
        config = CompileConfig(mode="default")
        config._compile_all_devices = True
        super().__init__(size, cache_implementation="static", compile_config=config)

    def start_training(self):
        super().start_training()
        self.model.compile(dynamic=True)


class PEFT(HuggingFace):
    def prepare(self, model):
        from peft import LoraConfig, get_peft_model
        return draw_adapters(get_peft_model(model, LoraConfig(
            r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules=["c_attn", "c_fc", "c_proj"],
            fan_in_fan_out=True)))


class TRL(HuggingFace):
    """SFTTrainer without padding, and without two defaults that cost time here: recomputed activations and bfloat16."""

    def __init__(self, size):
        from trl import SFTTrainer  # noqa: F401  takes seconds, which don't count
        super().__init__(size)

    def finetune_miniature(self, steps):
        from datasets import Dataset
        from transformers import AutoTokenizer
        from trl import SFTConfig, SFTTrainer
        config = SFTConfig(
            output_dir=FOLDER / "trl", use_cpu=True, bf16=False, gradient_checkpointing=False, max_length=None,
            train_sampling_strategy="sequential", num_train_epochs=1, per_device_train_batch_size=8,
            per_device_eval_batch_size=32, lr_scheduler_type="constant", max_grad_norm=MINIATURE["max_norm"],
            logging_steps=1, eval_strategy="epoch", save_strategy="no", report_to="none", disable_tqdm=True,
            padding_free=True)
        train_set, val_set = (
            Dataset.from_list([{"prompt": format_prompt(entry), "completion": entry["output"]} for entry in part])
            for part in (entries()[0][:8 * steps], entries()[2]))
        self.begin()
        tokenizer = AutoTokenizer.from_pretrained(FOLDER / self.size / "huggingface")
        optimizer = self.adamw(MINIATURE["learning_rate"])  # its own has no weight decay for gains and biases
        run = SFTTrainer(self.model, config, train_dataset=train_set, eval_dataset=val_set,
                         optimizers=(optimizer, None), processing_class=tokenizer)
        run.train()
        return [note["loss"] for note in run.state.log_history if "loss" in note]


class CTranslate2(Peer):
    """It only generates, and loads the model by itself, so it has no `source`."""

    batch_size = 128

    def __init__(self, size):
        from ctranslate2 import Generator
        from transformers import AutoTokenizer
        self.tokens = AutoTokenizer.from_pretrained(FOLDER / size / "huggingface").convert_ids_to_tokens
        self.model = Generator(str(FOLDER / size / "ctranslate2"), compute_type="float32",
                               intra_threads=torch.get_num_threads())

    def generate_batch(self, prompts, lengths):
        """What the prompts begin with is read once."""
        prompts, missing = list(map(self.tokens, prompts)), list(lengths)
        shared = len(os.path.commonprefix(prompts)) if len(prompts) > 1 else 0

        def ends(result):
            missing[result.batch_id] -= 1
            return missing[result.batch_id] == 0

        results = self.model.generate_batch(
            [prompt[shared:] for prompt in prompts], static_prompt=prompts[0][:shared], max_length=CONTEXT,
            sampling_topk=1, include_prompt_in_result=False, callback=ends)
        return [result.sequences_ids[0] for result in results]


PEERS = {  # a name with "compiled" needs a compiler, one with "CTranslate2" a CPU (`can_run` in processes.py)
    "ours": Ours, "ours, compiled": OursCompiled, "ours with LoRA": OursWithLoRA, "llms-from-scratch": Book,
    "transformers": HuggingFace, "transformers, compiled": HuggingFaceCompiled,
    "transformers, static cache": partial(HuggingFace, cache_implementation="static"), "PEFT": PEFT,
    "TRL": TRL, "CTranslate2": CTranslate2}


def start(name, size, compiled):
    """Make this process the worker of a peer; `compiled` is a folder for what torch.compile makes."""
    global peer
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = compiled
    with open(os.devnull, "w") as nowhere:  # for the notes and warnings of loops and libraries; errors are raised
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    peer = PEERS[name](size)


def call(method, *arguments):
    """Call a method of the worker's peer: (seconds, result)."""
    begin = perf_counter()
    result = getattr(peer, method)(*arguments)
    return perf_counter() - begin, result
