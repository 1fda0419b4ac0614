"""The notebook: its functions against the article's printed results, its cells in this process, and all of it executed
once."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from torch.utils.data import DataLoader

from engine import trainer
from engine.lora import add_lora, merge_lora
from gpt_download import CheckpointError, load_gpt2
from previous_chapters import GPTModel, calc_loss_loader, generate, text_to_token_ids
from scripts.write_instructions import INSTRUCTIONS, exported
from tests.helpers import web_page
from tutorial import NOTEBOOK, ROOT, exercises, instructions, recipes
from tutorial.data_files import download_and_load_file
from tutorial.exercises import check, fine_tune
from tutorial.instructions import (
    InstructionDataset,
    custom_collate_fn,
    format_input,
    format_prompt,
    generate_responses,
    split,
)
from tutorial.parts import with_own_parts
from tutorial.scores import exact_match
from weights.saved import load_model, save_model

CASES = ROOT / "tests/cases"
MINI_DATA = json.loads((ROOT / "data/mini-instructions.json").read_text())
PUBLISHED_DATA = os.environ.get("INSTRUCTION_DATA")
needs_published_data = pytest.mark.skipif(not PUBLISHED_DATA, reason="INSTRUCTION_DATA names no file")

SPELLING = {"instruction": "Identify the correct spelling of the following word.", "input": "Ocassion",
            "output": "The correct spelling is 'Occasion.'"}
ANTONYM = {"instruction": "What is an antonym of 'complicated'?", "input": "",
           "output": "An antonym of 'complicated' is 'simple'."}


def entry(**changes):
    return {"instruction": "Say hello.", "input": "", "output": "Hello."} | changes


def cells_of(kind):
    """The notebook's cells of a kind: {id: source}."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == kind}


def number_right(records):
    return sum(exact_match(record["after"], record["output"]) for record in records)


# --- The exported definitions ---


def test_instructions_are_the_exported_cells_of_the_notebook():
    expected = exported(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    assert INSTRUCTIONS.read_text(encoding="utf-8") == expected, "run python scripts/write_instructions.py"


def test_only_cells_with_the_tag_are_exported():
    def cell(source, *tags):
        return {"source": source.splitlines(keepends=True), "metadata": {"tags": list(tags)} if tags else {}}
    cells = [cell("import math\nimport os\n\nfrom a import b, c as d\n\nimport e", "imports"), cell("import os"),
             cell("TWO = 2\nFOUR = 4", "other", "export"), cell("print(TWO)", "other"),
             cell("def f():\n    return math.pi + d", "export")]
    docstring, _, code = exported({"cells": cells}).removeprefix('"""').partition('"""\n')
    assert "Don't edit" in docstring and "scripts/write_instructions.py" in docstring
    assert code == ("\nimport math\n\nfrom a import c as d\n\n\n"
                    "TWO = 2\nFOUR = 4\n\n\ndef f():\n    return math.pi + d\n")


def test_instructions_import_no_figures_and_no_notebook():
    script = ("import sys, tutorial.instructions; "
              "print({'matplotlib', 'IPython', 'miniature', 'tensorflow'} & sys.modules.keys())")
    reply = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert reply.stdout == "set()\n"


# --- Data ---


def test_format_input_as_the_article_prints_it():
    header = ("Below is an instruction that describes a task. "
              "Write a response that appropriately completes the request.\n\n")
    assert format_input(SPELLING) == header + (
        "### Instruction:\nIdentify the correct spelling of the following word.\n\n### Input:\nOcassion")
    assert format_input(ANTONYM) == header + "### Instruction:\nWhat is an antonym of 'complicated'?"
    assert format_prompt(ANTONYM).endswith("'complicated'?\n\n### Response:\n")


def test_data_is_downloaded_once(server, tmp_path):
    content = json.dumps([entry(output="你好 👋")], ensure_ascii=False).encode()
    server.files["/data.json"] = content
    load, path = download_and_load_file, tmp_path / "data.json"
    for _ in range(2):
        assert load(path, [f"{server.url}/data.json"], hashlib.sha256(content).hexdigest()) == [entry(output="你好 👋")]
    assert len(server.requests) == 1 and path.read_bytes() == content


def test_a_second_address_is_tried_and_held_to_the_same_hash(server, tmp_path, capsys):
    content = json.dumps([entry()]).encode()
    server.files["/second.json"], path = content, tmp_path / "data.json"
    urls, sha256 = [f"{server.url}/first.json", f"{server.url}/second.json"], hashlib.sha256(content).hexdigest()
    with pytest.raises(ValueError, match="sha256"):
        download_and_load_file(path, urls, "0" * 64)
    path.unlink()
    assert download_and_load_file(path, urls, sha256) == [entry()]
    assert f"could not download {urls[0]}" in capsys.readouterr().out
    server.files["/first.json"], asked = content, len(server.requests)
    path.unlink()
    assert download_and_load_file(path, urls, sha256) == [entry()] and len(server.requests) == asked + 1


def test_data_that_cannot_be_had_or_trusted(server, tmp_path):
    load = download_and_load_file
    with pytest.raises(CheckpointError, match="by hand"):
        load(tmp_path / "a.json", [f"{server.url}/missing.json", f"{server.url}/nor-here.json"])
    with pytest.raises(FileNotFoundError, match="no url"):
        load(tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()
    server.files["/b.json"] = json.dumps([entry()]).encode()
    with pytest.raises(ValueError, match="sha256"):
        load(tmp_path / "b.json", [f"{server.url}/b.json"], "0" * 64)
    (tmp_path / "d.json").write_bytes(b"\xef\xbb\xbf" + json.dumps([entry()]).encode())
    assert load(tmp_path / "d.json") == [entry()], "a byte-order mark is no error"


def test_twenty_thousand_entries(tokenizer, tmp_path):
    data = [entry(instruction=f"Say {i} hellos.", output="Hello. " * (1 + i % 5)) for i in range(20_000)]
    (tmp_path / "data.json").write_text(json.dumps(data))
    loaded = download_and_load_file(tmp_path / "data.json")
    dataset = InstructionDataset(loaded, tokenizer)
    assert len(dataset) == 20_000
    for i in (0, 12_345, 19_999):
        assert tokenizer.decode(dataset[i]) == format_prompt(data[i]) + data[i]["output"].strip()


@pytest.mark.parametrize("number, batch_size, expected", [
    (1100, 8, (935, 110, 55)), (60, 8, (51, 6, 3)), (10, 8, (8, 1, 1)), (11, 9, (9, 1, 1))])
def test_split_keeps_the_order_and_every_entry(number, batch_size, expected):
    parts = with_own_parts(split(list(range(number))), batch_size)
    assert tuple(map(len, parts)) == expected
    assert sum(parts, []) == list(range(number))


@pytest.mark.parametrize("own_test, own_validation, expected", [
    ([7], [], (57, 1, 3)), ([], [8, 9], (54, 6, 2)), ([7], [8, 9], (60, 1, 2))])
def test_a_part_of_ones_own_leaves_its_share_to_training(own_test, own_validation, expected):
    data = list(range(10, 70))
    parts = with_own_parts(split(data), 8, own_test, own_validation)
    assert tuple(map(len, parts)) == expected
    assert sorted(sum(parts, [])) == sorted(data + own_test + own_validation)
    assert parts[0][:51] == data[:51]
    assert (own_test or parts[1], own_validation or parts[2]) == parts[1:]


@pytest.mark.parametrize("number, batch_size", [(0, 1), (1, 8), (9, 8), (9, 7), (60, 64)])
def test_too_few_entries_to_split(number, batch_size):
    with pytest.raises(ValueError, match=f"{number} entries are too few: expected {batch_size} for training, and"):
        with_own_parts(split([entry()] * number), batch_size)


# --- Batches ---


def test_collate_gives_the_published_toy_tensors():
    inputs, targets = custom_collate_fn([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]])
    assert inputs.tolist() == [[0, 1, 2, 3, 4], [5, 6, 50256, 50256, 50256], [7, 8, 9, 50256, 50256]]
    assert targets.tolist() == [[1, 2, 3, 4, 50256], [6, 50256, -100, -100, -100], [8, 9, 50256, -100, -100]]


def test_the_published_sample_comes_out_as_printed(tokenizer):
    ids = [21106, 318, 281, 12064, 326, 8477, 257, 4876, 13, 19430, 257, 2882, 326, 20431, 32543, 262, 2581, 13, 198,
           198, 21017, 46486, 25, 198, 30003, 6525, 262, 6827, 1262, 257, 985, 576, 13, 198, 198, 21017, 23412, 25, 198,
           464, 5156, 318, 845, 13779, 13, 198, 198, 21017, 18261, 25, 198, 464, 5156, 318, 355, 13779, 355, 257, 4936,
           13]
    sample = entry(**{"instruction": "Rewrite the sentence using a simile.", "input": tokenizer.decode(ids[39:45]),
                      "output": tokenizer.decode(ids[51:])})
    dataset = InstructionDataset([sample], tokenizer)
    inputs, targets = custom_collate_fn([dataset[0], [1] * 69])
    assert inputs[0].tolist() == ids + [50256] * 9
    assert targets[0].tolist() == ids[1:] + [50256] + [-100] * 9


def test_masking_hides_all_before_the_answer(tokenizer):
    dataset = InstructionDataset([SPELLING, ANTONYM], tokenizer, mask_instruction=True)
    inputs, targets = custom_collate_fn([dataset[0], dataset[1]])
    plain = InstructionDataset([SPELLING, ANTONYM], tokenizer)
    unmasked_inputs, unmasked_targets = custom_collate_fn([plain[0], plain[1]])
    assert inputs.equal(unmasked_inputs)
    for row, sample in zip(targets, (SPELLING, ANTONYM)):
        assert tokenizer.decode(row[row != -100].tolist()) == sample["output"] + "<|endoftext|>"
    assert unmasked_targets[targets != -100].equal(targets[targets != -100])


def test_a_literal_end_of_text_stays_text(tokenizer):
    sample = entry(input="a <|endoftext|> b", output="### Response:\n<|endoftext|> 你好 👋")
    ids = InstructionDataset([sample], tokenizer)[0]
    assert 50256 not in ids and tokenizer.decode(ids) == format_prompt(sample) + sample["output"]
    inputs, targets = custom_collate_fn([ids, [1, 2]])
    assert (targets[0] == 50256).sum() == 1 and targets[1].tolist() == [2, 50256] + [-100] * (len(ids) - 2)


def test_a_row_too_long_is_an_error_not_a_cut():
    assert custom_collate_fn([[1, 2, 3]], allowed_max_length=3)[1].tolist() == [[2, 3, 50256]]
    with pytest.raises(ValueError, match="a row has 4 tokens, more than 3"):
        custom_collate_fn([[1], [1, 2, 3, 4]], allowed_max_length=3)


@needs_published_data
def test_published_split_and_shapes(tokenizer):
    data = download_and_load_file(PUBLISHED_DATA)
    assert data[50] == SPELLING and data[999] == ANTONYM
    train, _, validation = split(data)
    assert validation[0]["instruction"] == (
        "Convert the active sentence to passive: 'The chef cooks the meal every day.'")
    torch.manual_seed(123)
    loader = DataLoader(InstructionDataset(train, tokenizer), batch_size=8, shuffle=True, drop_last=True,
                        collate_fn=custom_collate_fn)
    lengths = [inputs.shape[1] for inputs, targets in loader]
    assert lengths[:20] == [61, 76, 73, 68, 65, 72, 80, 67, 62, 75, 62, 68, 67, 77, 69, 79, 71, 66, 83, 68]
    assert len(lengths) == 116


def test_a_question_longer_than_the_context_is_reported(tokenizer):
    model = SimpleNamespace(pos_emb=SimpleNamespace(num_embeddings=64))
    with pytest.raises(ValueError, match=r"a question has \d+ tokens with its prompt, but the model reads 64: shorten"):
        generate_responses(model, [entry(instruction="word " * 60)], tokenizer, 5)


def test_no_questions_have_no_answers(tokenizer):
    model = SimpleNamespace(pos_emb=SimpleNamespace(num_embeddings=64))
    assert generate_responses(model, [], tokenizer, 5) == []


# --- Adapters ---


@pytest.mark.slow
def test_adapters_learn_it_too(executed, tokenizer, tmp_path, one_thread):
    """They reach 0.9 of the score of all weights, and what is saved is a plain model."""
    train_data, test_data, val_data = split(MINI_DATA)
    model, config = load_gpt2("gpt2-mini (7M)", ROOT / "gpt2")
    loader = partial(DataLoader, collate_fn=custom_collate_fn)
    torch.manual_seed(123)
    add_lora(model, rank=8, alpha=16)
    train_loader = loader(InstructionDataset(train_data, tokenizer, mask_instruction=True), batch_size=8, shuffle=True)
    val_loader = loader(InstructionDataset(val_data, tokenizer, mask_instruction=True), batch_size=55)
    adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(adapters, lr=2.5e-3, weight_decay=0.1)
    trainer.train(model, train_loader, val_loader, optimizer, "cpu", 1, 1000, None, "", tokenizer, max_norm=1.0,
                  scheduler=torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(train_loader)))
    merge_lora(model)
    save_model(model, config, tmp_path / "model.pt")
    model, config = load_model(tmp_path / "model.pt")
    assert model.state_dict().keys() == GPTModel(config).state_dict().keys()
    answers = generate_responses(model, test_data, tokenizer, 16)  # more than any right answer needs
    records = [e | {"after": answer} for e, answer in zip(test_data, answers)]
    assert number_right(records) >= 0.9 * number_right(executed[2])


# --- The cells in this process ---


@pytest.fixture
def run_cells(monkeypatch):
    """Runs code cells, by default all, in order, in a namespace. Environment variables are given as keywords; nothing
    is displayed."""
    display = SimpleNamespace(update=lambda shown, raw=False: None)
    monkeypatch.setattr("IPython.display.display", lambda shown, **options: display)
    monkeypatch.chdir(ROOT)

    def run(namespace, *ids, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))
        for name, source in cells_of("code").items():
            if not ids or name in ids:
                exec(compile(source, name, "exec"), namespace)
    yield run
    plt.close("all")


IMPORTS = ("result", "imports", "map")
SETTINGS = ("settings", "device")
DATA = ("load-data", "split-code", "split-data", "overlap", "example", "format-input")
# These read neither the data nor the trained model. They run when the notebook is executed as a whole.
APART = {"tensorflow-check", "fresh-process", "corpus-sample", "knows-code", "control-picture", "facts-table",
         "never-shown-picture", "examples-table", "refusals-found", "fault-atlas", "quiz-picture", "rates-table",
         "lora-live"}
TRAINING = ("tokenize", "dataset-code", "check-lengths", "collate-code", "loaders-code", "one-batch-code",
            "load-weights-code", "training-copy", "optimizer", "train")


@pytest.mark.parametrize("environment, message", [
    ({"CHOOSE_MODEL": "gpt3"}, "unknown model 'gpt3': expected gpt2-mini"),
    ({"NUM_EPOCHS": "many"}, "the environment variable NUM_EPOCHS is 'many': expected a whole number"),
    ({"DATA_FILE": "nowhere.json"}, "nowhere.json does not exist, and no url is known"),
    ({"DATA_FILE": [entry()] * 9}, "9 entries are too few: expected 8 for training"),
    ({"MODELS_DIR": "empty"}, "hparams.json is missing, and '7M' is none of OpenAI's sizes"),
    ({"DATA_FILE": CASES / "some_too_long.json"}, r"entries have more than the model's 256 tokens \(numbered from 0"),
    ({"START_FROM": "nowhere.pt"}, "No such file or directory: 'nowhere.pt'"),
    ({"START_FROM": {"emb_dim": 8, "n_heads": 2}}, "START_FROM=.*model.pt has another size: {.*'emb_dim': 8"),
    ({"PRECISION": "half"}, "precision is 'half': expected auto, float32, bfloat16, float16"),
])
def test_a_failing_cell_says_what_to_do(tmp_path, run_cells, environment, message):
    [(name, value)] = environment.items()
    if isinstance(value, list):
        (tmp_path / "data.json").write_text(json.dumps(value))
        environment = {name: tmp_path / "data.json"}
    if isinstance(value, dict):
        config = {"vocab_size": 50257, "context_length": 256, "n_layers": 4, "drop_rate": 0.0, "qkv_bias": True} | value
        save_model(GPTModel(config), config, tmp_path / "model.pt")
        environment = {name: tmp_path / "model.pt"}
    with pytest.raises((ValueError, FileNotFoundError, CheckpointError), match=message):
        run_cells({}, *IMPORTS, *SETTINGS, *DATA, *TRAINING, OUTPUT_DIR=tmp_path, **environment)


def test_sorted_data_can_be_shuffled_and_parts_of_ones_own_be_given(run_cells, tmp_path, capsys):
    by_task = [entry(input=f"{number} of {task}", task=task) for task in ("greet", "count", "sing")
               for number in range(40)]
    (tmp_path / "sorted.json").write_text(json.dumps(by_task))
    (tmp_path / "own.json").write_text(json.dumps([entry(instruction="Stay as you are.", task="greet")]))
    kept, shuffled = {}, {}
    run_cells(kept, *IMPORTS, *SETTINGS, *DATA, DATA_FILE=tmp_path / "sorted.json", OUTPUT_DIR=tmp_path)
    assert {e["task"] for e in kept["test_data"]} == {"sing"}
    printed = capsys.readouterr().out
    assert "tasks without an entry in test: count, greet" in printed
    for _ in range(2):
        earlier = shuffled
        shuffled = {}
        run_cells(shuffled, *IMPORTS, *SETTINGS, *DATA, SHUFFLE=1, VALIDATION_FILE=tmp_path / "own.json")
    assert {e["task"] for e in shuffled["test_data"]} == {"greet", "count", "sing"}
    assert shuffled["parts"] == earlier["parts"] and shuffled["val_data"][0]["instruction"] == "Stay as you are."
    assert sorted(e["input"] for e in shuffled["train_data"] + shuffled["test_data"]) == sorted(
        e["input"] for e in by_task)
    assert "tasks without an entry in validation: count, sing" in capsys.readouterr().out


def test_near_duplicates_are_counted_and_shown(run_cells, tmp_path, capsys):
    sentence = "Put the long sentence about the {} that slept under the old bridge into the past tense, please."
    data = [entry(instruction=f"Tell number {number} of those stories that nobody else knew.") for number in range(60)]
    data[3], data[54] = entry(instruction=sentence.format("cat")), entry(instruction=sentence.format("dog"))
    (tmp_path / "data.json").write_text(json.dumps(data))
    run_cells({}, *IMPORTS, *SETTINGS, *DATA, DATA_FILE=tmp_path / "data.json", OUTPUT_DIR=tmp_path)
    printed = capsys.readouterr().out
    assert "test: 0 of 6 repeat a training question exactly, 6 nearly" in printed
    assert "about the dog that slept" in printed and "about the cat that slept" in printed


def test_in_another_folder_the_first_cell_says_what_to_do(tmp_path, run_cells, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="gpt_download.py is not in .*: this notebook needs the files beside"):
        run_cells({}, "colab")


def test_the_first_cell_goes_up_from_a_folder_of_the_project(run_cells, monkeypatch):
    monkeypatch.chdir(ROOT / "translations")
    for _ in range(2):
        run_cells({}, "colab")
        assert Path.cwd() == ROOT


def test_an_environment_variable_changes_settings_only(run_cells, tmp_path):
    """Not names that the notebook imports or defines."""
    namespace = {}
    run_cells(namespace, *IMPORTS, *SETTINGS, END_OF_TEXT=7, PUBLISHED="x", BATCH_SIZE=4, NUM_EPOCHS=3, LORA_RANK=2,
              OUTPUT_DIR=tmp_path)
    assert namespace["END_OF_TEXT"] == 50256 and namespace["PUBLISHED"] == recipes.PUBLISHED
    assert namespace["BATCH_SIZE"] == 4 and namespace["output_dir"] == tmp_path
    assert namespace["recipe"] == recipes.MINIATURE | {"num_epochs": 3, "learning_rate": 2.5e-3}


@pytest.mark.slow
def test_data_of_every_kind_from_start_to_score(executed, run_cells, tokenizer, tmp_path, capsys, monkeypatch,
                                                one_thread):
    """Chinese, markup, long names of tasks, whitespace, a test set that is in training, an entry that can't be used, a
    validation entry that fills the context exactly; adapters on a model saved before, in small micro-batches, with
    checkpoints and without ipywidgets. A second run finds the training finished; other data are refused."""
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # can't be imported
    odd = [entry(instruction="把这句话变成被动语态：厨师做饭。", output="饭是厨师做的。 ", task="任务 $x_{" + "长" * 9),
           entry(instruction="Cost $5$ or \\frac{1", output="$\\alpha_{", task="$\\frac{1"), entry()] * 20
    prompt_length = len(tokenizer.encode_ordinary(format_prompt(entry())))
    odd[57] = entry(output="word" + " word" * (255 - prompt_length))  # the first validation entry
    (tmp_path / "odd.jsonl").write_text("\n".join(map(json.dumps, [*odd, entry(output="")])))
    start_from, checkpoints = executed[0] / "gpt2-instruct.pt", tmp_path / "checkpoints"
    namespace = {}
    run_cells(namespace, *cells_of("code").keys() - APART, DATA_FILE=tmp_path / "odd.jsonl", NUM_EPOCHS=1,
              SKIP_BAD_ENTRIES=1, MICRO_BATCH_SIZE=2, LORA_RANK=2, CHECKPOINT_DIR=checkpoints, START_FROM=start_from,
              OUTPUT_DIR=tmp_path / "build", MAX_NEW_TOKENS=40)
    printed = capsys.readouterr()
    assert ("60 entries, JSON Lines, Alpaca's keys; other keys: task; outputs stripped of whitespace: 19; "
            "left out: 1 with an empty output (60)") in printed.out
    assert "test: 6 of 6 repeat a training question exactly" in printed.out
    assert "Warning" not in printed.err and "findfont" not in printed.err and "Continuing" not in printed.out
    records = json.loads((tmp_path / "build/responses.json").read_text())
    assert len(records) == 6 and len({record.get("task") for record in records}) == 3
    assert [r["before"] for r in records] == generate_responses(load_model(start_from)[0], records, tokenizer, 40)
    saved, config = load_model(tmp_path / "build/gpt2-instruct.pt")
    assert saved.state_dict().keys() == GPTModel(config).state_dict().keys()

    steps = []
    monkeypatch.setattr(torch.optim.AdamW, "step", steps.append)
    run_cells(namespace, *TRAINING, "answers-after")
    assert f"Continuing from {checkpoints / 'step-6.pt'}" in capsys.readouterr().out  # 51 entries, 8 a step
    assert json.loads((tmp_path / "build/responses.json").read_text()) == records and not steps

    with pytest.raises(ValueError, match=r"is of another run \(training data '\w+', was '\w+'; valid"):
        run_cells(namespace, *SETTINGS, *DATA, *TRAINING, DATA_FILE=CASES / "other60.json")


@pytest.mark.slow
def test_the_optimizer_cell_may_be_run_twice_with_adapters(run_cells, tmp_path, one_thread):
    namespace = {"time": time}
    run_cells(namespace, *IMPORTS, *SETTINGS, *DATA, *TRAINING[:-1], LORA_RANK=2, OUTPUT_DIR=tmp_path, NUM_EPOCHS=1,
              DATA_FILE=CASES / "other60.json")
    trainable = sum(parameter.numel() for parameter in namespace["trainable"])
    run_cells(namespace, "optimizer", "train")
    assert sum(parameter.numel() for parameter in namespace["trainable"]) == trainable
    model, config = load_model(tmp_path / "gpt2-instruct.pt")
    assert model.state_dict().keys() == GPTModel(config).state_dict().keys()


@pytest.mark.slow
@needs_published_data
def test_the_published_data_from_start_to_score(run_cells, tmp_path, one_thread):
    """Every thirty-second entry, and without the experiments, to save time."""
    few = json.loads(Path(PUBLISHED_DATA).read_text())[::32]
    (tmp_path / "few.json").write_text(json.dumps(few))
    run_cells({}, *cells_of("code").keys() - APART - {"parts-live", "fault-live-code"}, DATA_FILE=tmp_path / "few.json",
              NUM_EPOCHS=1, MAX_NEW_TOKENS=24, OUTPUT_DIR=tmp_path)
    records = json.loads((tmp_path / "responses.json").read_text())
    assert [r["instruction"] for r in records] == [e["instruction"] for e in few[29:32]]
    assert all(r["after"] for r in records)


def test_on_colab_the_files_are_fetched_and_its_torch_stays(tmp_path, monkeypatch):
    """With a repository on the disk; what pip would install is only noted."""
    repository, installed, run = tmp_path / "repository", [], subprocess.check_call
    repository.mkdir()
    for name in ("requirements.txt", "gpt_download.py"):
        shutil.copy(ROOT / name, repository)
    git = ["git", "-C", repository, "-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "All"]):
        run([*git, *command])

    def run_or_note(command):
        return installed.extend(command) if "pip" in command else run(command)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    monkeypatch.setattr(subprocess, "check_call", run_or_note)
    cell = cells_of("code")["colab"]
    with pytest.raises(ValueError, match="set REPOSITORY to the address"):
        exec(cell, {})
    for _ in range(2):  # the second time after the kernel was restarted
        os.chdir(tmp_path)
        exec(cell.replace('REPOSITORY = ""', f"REPOSITORY = {str(repository)!r}"), {})
        assert Path.cwd() == tmp_path / "project" and Path("gpt_download.py").exists()
    assert any(package.startswith("tiktoken==") for package in installed)
    assert not any(package.startswith(("torch", "tensorflow", "numpy")) for package in installed)


# --- The exercises ---


def solutions():
    """The code of the exercises' solutions."""
    text = "\n".join(cells_of("markdown").values())
    return re.findall(r"<details><summary>Solution</summary>\s*```python\n(.*?)```.*?</details>", text, flags=re.DOTALL)


def test_every_exercise_has_a_check_and_a_solution_that_fits_a_page():
    assert len(solutions()) == len(exercises.CHECKS) == 8
    for number, solution in enumerate(solutions(), 1):
        assert f"\ncheck({number}, " in solution and max(map(len, solution.splitlines())) <= 88


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_a_solution_runs(tokenizer, number, run_cells, one_thread):
    """On a part of the data, in one epoch, so that it doesn't take long: the check gets results of the right kinds."""
    namespace, checked = vars(instructions) | {"tokenizer": tokenizer, "example": MINI_DATA[0],
                                                  "calc_loss_loader": calc_loss_loader}, []
    run_cells(namespace, *IMPORTS, "prompts", "fine-tune")
    antonyms = [e for e in namespace["mini_test"] if e["task"] == "antonym"]
    exec(solutions()[number], namespace | {
        "check": lambda *results: checked.append(results), "mini_train": namespace["mini_train"][:8],
        "fine_tune": lambda entries, num_epochs=2, **options: fine_tune(entries[-8:], 1, **options),
        "mini_test": namespace["mini_test"][:2] + antonyms[:3], "mini_val": namespace["mini_val"][:4]})
    [(checked_number, *results)] = checked
    assert checked_number == number + 1
    try:
        check(checked_number, *results)
    except AssertionError as error:
        assert str(error), "a model that saw eight entries may fail the check, with a reason"


class Adapter(torch.nn.Module):
    def __init__(self, linear, B):
        super().__init__()
        self.linear, self.A = linear, torch.nn.Parameter(torch.ones(1, linear.in_features))
        self.B = torch.nn.Parameter(torch.full((linear.out_features, 1), B))

    def forward(self, x):
        return self.linear(x) + x @ self.A.T @ self.B.T


def with_adapter(B):
    """What exercise 7 hands over: a model with an adapter, ids, and the logits without it."""
    model, ids = GPTModel({"vocab_size": 11, "context_length": 6, "emb_dim": 8, "n_heads": 2, "n_layers": 1,
                           "drop_rate": 0.0, "qkv_bias": True}).eval(), torch.tensor([[1, 2, 3]])
    logits = model(ids)
    model.trf_blocks[0].att.out_proj = Adapter(model.trf_blocks[0].att.out_proj, B)
    return model, ids, logits


OPPOSITES = [entry(instruction="Q", output=f"The opposite of {a} is {b}.", task="antonym")
             for a, b in (("hot", "cold"), ("wake", "sleep"))]


@pytest.mark.parametrize("number, right, wrong, message", [
    (1, (0.87, 0.53), (0.53, 0.87), "the share with the mask first"),
    (1, (0.87, 0.53), (87, 53), "from 0 to 1"),
    (2, (52.4, 38.9), (38.9, 52.4), "longer than Phi-3's marks"),
    (2, (52.4, 38.9), (41.0, 30.0), "prompt and answer together"),
    (3, (0.093, 0.104, 0.097), (0.9, 0.9, 0.9), "mask the validation instructions"),
    (3, (0.093, 0.104, 0.097), (0.2, 0.104, 0.097), "in this order"),
    (4, (OPPOSITES, ["The reverse of hot is cold.", "Not wake but sleep."]),
     (OPPOSITES, [e["output"] for e in OPPOSITES]), "was the task left out"),
    (4, (OPPOSITES, ["The reverse of hot is cold.", "Not wake but sleep."]), (OPPOSITES, ["A hot.", "B."]),
     "fewer than half"),
    (5, (0.73,), (0.2,), "between 60% and 85%"),
    (6, (["The plural of river is rivers.", "churches", "knives"],), (["rivers", "church", "knives"],), "churches in"),
    (7, with_adapter(0.0), with_adapter(1.0), "is B zero at first"),
    (8, (["I do not know the word ink."] * 2, ["glasses", "horses"]), (["inks"] * 2, ["glasses"]), "still answers"),
    (8, (["I do not know the word ink."] * 2, ["glasses", "horses"]), (["I do not know"] * 2, ["I do not know"]),
     "refuses words"),
])
def test_a_check_tells_right_results_from_wrong_ones(number, right, wrong, message, capsys):
    check(number, *right)
    assert f"Exercise {number}" in capsys.readouterr().out
    with pytest.raises(AssertionError, match=message):
        check(number, *wrong)


@pytest.mark.parametrize("number", [0, 9, -1, "1"])
def test_a_check_of_no_exercise_names_the_numbers(number):
    with pytest.raises(ValueError, match=f"no exercise {number!r}: .* 1, 2, 3, 4, 5, 6, 7, 8"):
        check(number, 0.87, 0.53)


# --- The whole notebook, executed ---


@pytest.mark.slow
def test_the_miniature_learns_to_follow_instructions(executed):
    _, _, records = executed
    assert [{k: v for k, v in r.items() if k not in ("before", "after")} for r in records] == MINI_DATA[935:1045]

    def share(when, *wordings):
        asked = [r for r in records if r["wording"] in wordings]
        return sum(" ".join(r[when].lower().split()) == " ".join(r["output"].lower().split())
                   for r in asked) / len(asked)

    assert share("before", "known", "new") <= 0.05
    assert share("after", "known") >= 0.85 and share("after", "new") >= 0.65
    assert all(r["before"] for r in records), "the base model says something"


@pytest.mark.slow
def test_the_saved_model_answers_the_same_in_another_process(executed, tokenizer):
    """This one, and with the textbook's `generate`."""
    folder, _, records = executed
    model, config = load_model(folder / "gpt2-instruct.pt")
    for record in records[:5]:
        prompt = text_to_token_ids(format_prompt(record), tokenizer)
        ids = generate(model, prompt, 16, config["context_length"], eos_id=50256)
        assert tokenizer.decode(ids[0, prompt.shape[1]:].tolist()).strip() == record["after"]


@pytest.mark.slow
def test_the_page(executed):
    folder, notebook, records = executed
    html = web_page(folder)
    for link in re.findall(r'href="#([^"]+)"', html):
        assert f'id="{link}"' in html, "a link of the table of contents leads nowhere"
    alts = [re.search(r'alt="([^"]*)"', image) for image in re.findall(r"<img[^>]*>", html)]
    assert alts and all(len(alt[1]) > 20 and "No description" not in alt[1] for alt in alts)
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    first_table = next(output for cell in notebook["cells"] for output in cell.get("outputs", [])
                       if "text/markdown" in output.get("data", {}))
    shown = "".join(first_table["data"]["text/markdown"])
    assert sum(record["after"].split(".")[0] in shown for record in records) >= 3, "filled at the end of section 8"


def test_the_committed_notebook_was_executed_once_in_order():
    cells = [c for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    assert all(output["output_type"] != "error" for c in cells for output in c["outputs"])
    [settings] = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert re.findall(r"^(\w+) = ", "".join(settings["source"]), flags=re.MULTILINE) == [
        "CHOOSE_MODEL", "DATA_FILE", "NUM_EPOCHS", "LEARNING_RATE", "BATCH_SIZE"]
