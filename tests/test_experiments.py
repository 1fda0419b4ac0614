"""The experiments with the miniature: their cheapest cases repeated, the order of their numbers, and their tables.

What is repeated must be within the spread of the committed numbers over seeds; the first losses of each kind of
training must be the committed ones up to rounding.
"""

import json
import re
from statistics import mean, stdev

import pytest
import torch
from filelock import FileLock

from engine.trainer import train as engine_train
from miniature import recipe
from miniature.corpus import FACTS
from miniature.experiments import faults as faults_module
from miniature.experiments import findings, models, parts, questions, results, tables, trainings
from miniature.experiments import heads as heads_module
from miniature.experiments import influence as influence_module
from miniature.experiments.catalog import EXPERIMENTS, runs
from miniature.experiments.facts import right_ways
from miniature.recipe import TEST, TRAIN, VALIDATION
from previous_chapters import causal_attention
from tutorial.instructions import InstructionDataset, custom_collate_fn, format_prompt, generate_responses

pytestmark = pytest.mark.usefixtures("one_thread")
FOUND = results.read()
# Results of all runs are compared once all are there.
complete = pytest.mark.skipif(any(key not in FOUND for key in runs()), reason="the run of experiments isn't complete")


@pytest.fixture(scope="module")
def tuned(shared_folder):
    """The recipe's model of seed 0, in a cache of its own, so that no test relies on an earlier run. When several
    processes share the tests, the first one trains it for all."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(models, "CACHE", shared_folder / "experiments")
        with FileLock(shared_folder / "experiments.lock"):
            model = models.fine_tuned(0)
        yield model


def within_spread(value, committed):
    """Whether a number could be one more seed's: within three standard deviations of the mean, and two more entries."""
    return abs(value - mean(committed)) <= 3 * (stdev(committed) if len(committed) > 1 else 0) + 2


def number_right(marks):
    return marks.count("1")


# --- The file ---


@complete
def test_every_run_is_in_the_file():
    assert set(FOUND) == set(runs())


@complete
def test_tables_are_what_the_file_gives():
    text = tables.README.read_text(encoding="utf-8")
    found = tables.tables(FOUND)
    assert set(found) == set(tables.TABLES)
    for name, table in found.items():
        assert tables.between_markers(text, name, table) == text, f"run python -m miniature.experiments tables ({name})"


def test_results_of_other_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FILE", tmp_path / "experiments.json")
    assert results.read() == {}
    results.add(("heads", "base", 0), {"right": "01"})
    results.add(("control", "random, 8 epochs at 1e-3", 4), {"losses": [1.5]})
    assert results.read() == {("heads", "base", 0): {"right": "01"},
                              ("control", "random, 8 epochs at 1e-3", 4): {"losses": [1.5]}}
    content = json.loads(results.FILE.read_text())
    content["made with"]["sha256"]["gpt2/7M/model.ckpt.data-00000-of-00001"] = "0" * 64
    results.FILE.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="other data, weights or settings"):
        results.read()


def test_a_second_start_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    from miniature.experiments.__main__ import measure
    monkeypatch.setattr(results, "FILE", tmp_path / "experiments.json")
    asked = []

    def run(condition, seed):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append((condition, seed))
        return {"right": "1"}

    monkeypatch.setitem(EXPERIMENTS, "rates", EXPERIMENTS["rates"]._replace(run=run))
    with pytest.raises(KeyboardInterrupt):
        measure(["rates"])
    assert len(results.read()) == 3
    before, asked[:] = list(asked), [None]
    with pytest.raises(KeyboardInterrupt):
        measure(["rates"])
    assert len(results.read()) == 5 and not set(before) & set(asked)


@pytest.mark.parametrize("mistake", faults_module.FINGERPRINTS)
def test_a_fingerprint_tells_a_mistake_from_all_others(mistake):
    _, is_this = faults_module.FINGERPRINTS[mistake]
    for fault in EXPERIMENTS["faults"].conditions:
        for seed, run in enumerate(results.of(FOUND, "faults", fault)):
            assert bool(is_this(faults_module.signs(run))) == (fault == mistake), (fault, seed)


@complete
def test_the_order_of_the_fingerprints():
    signs = {fault: [faults_module.signs(run) for run in results.of(FOUND, "faults", fault)]
             for fault in EXPERIMENTS["faults"].conditions}
    shown = {fault: mean(of["shown"] for of in runs) for fault, runs in signs.items() if runs[0]["shown"] is not None}
    true = {fault: mean(of["true"] for of in runs) for fault, runs in signs.items() if runs[0]["shown"] is not None}
    right = {fault: mean(of["right"] for of in runs) for fault, runs in signs.items()}
    end = {fault: mean(of["P(end)"] for of in runs) for fault, runs in signs.items()}
    assert set(sorted(shown, key=shown.get)[:2]) == {"the shift is forgotten", "padding counts"}  # losses too good
    assert shown["padding counts"] < shown["none"] and true["padding counts"] < 2 * true["none"]
    assert right["none"] > 0.8 and right["padding counts"] > 0.8
    assert right["none"] > right["the first answer token is ignored"] > right["another template"]
    assert right["none"] > right["the end is ignored"] and end["the end is ignored"] < end["none"] - 0.1
    assert right["none"] > right["a space for the line feed"] > right["no header"]
    assert right["the shift is forgotten"] == right["shifted twice"] == 0 < right["rate × 20"] < 0.5
    assert min(true["the shift is forgotten"], true["shifted twice"]) > 3 > true["rate × 20"] > 0.8


# --- What the notebook tells ---


def test_counts_and_shares_by_hand(monkeypatch):
    monkeypatch.setattr(findings, "TEST", [{"task": "a", "wording": "known"}, {"task": "b", "wording": "new"}] * 2)
    monkeypatch.setattr(findings, "WORDINGS", {"known": [True, False] * 2, "new": [False, True] * 2})
    found = {("control", "pretrained", 0): {"right": "1101", "says": "1111"},
             ("control", "pretrained", 1): {"right": "1-00", "says": "1101"},
             ("control", "pretrained, not fine-tuned", 0): {"says": "0001"},
             ("never shown", "a", 0): {"says": "1000"}, ("never shown", "b", 0): {"says": "0101"}}
    assert findings.mean_count(found, "control", "pretrained") == (2, 4)
    assert findings.mean_count(found, "control", "pretrained", asked=[True, False, True, False]) == (1, 2)
    assert findings.seeds(found) == "3, 1"
    assert findings.never_shown(found) == {
        "a": {"base model": (0, 2), "without this task": (1, 2), "with it": (1.5, 2)},
        "b": {"base model": (1, 2), "without this task": (2, 2), "with it": (2, 2)}}


@complete
def test_every_number_that_the_notebook_tells_is_the_files():
    """The sentences are made of the file; here the claims that they make without a number."""
    def right(*place, **options):
        return findings.mean_count(FOUND, *place, **options)[0]
    assert right("control", "random, 8 epochs at 1e-3") < 1 < 40 < right("control", "random, 8 epochs at 1e-3", "form")
    assert 20 < right("control", "pretrained embeddings, random blocks, 8 epochs at 1e-3") < 60
    assert right("control", "random, 8 epochs at 1e-3", asked=findings.REWRITTEN) < 1, "not even these are right"
    embeddings = right("control", "pretrained embeddings, random blocks, 8 epochs at 1e-3", asked=findings.REWRITTEN)
    assert sum(findings.REWRITTEN) == 40 > embeddings > 20
    shares = findings.never_shown(FOUND)
    ahead = {task for task, of in shares.items() if of["base model"][0] > of["without this task"][0]}
    assert ahead == {"definition", "negation", "future-tense rewriting", "past-tense rewriting"}
    assert shares["definition"]["base model"][0] == 1, "ahead by one answer"
    for task in ("antonym", "past tense", "plural", "category"):
        assert shares[task]["without this task"][0] > 1.5 * shares[task]["base model"][0] > 0
    for task in ("question", "definition"):
        assert shares[task]["without this task"][0] == 0 and shares[task]["with it"][0] > 6
    for about in (findings.about_control, findings.about_facts, findings.about_never_shown, findings.about_parts,
                  findings.about_heads, findings.about_refusals, findings.about_lora):
        assert "nan" not in about(FOUND)


# --- Definitions ---


def test_facts_that_training_shows_are_known_by_their_entries():
    shown = {entry["output"] for entry in TRAIN}
    for task, i in questions.UNSHOWN:
        assert questions.sentence(task, FACTS[task][i]) not in shown
    assert len(questions.UNSHOWN) + len({entry["output"] for entry in TRAIN if questions.fact_of(entry)}) <= sum(
        map(len, FACTS.values()))
    held_out = {questions.fact_of(entry) for entry in TEST + VALIDATION} - {None}
    assert held_out < set(questions.UNSHOWN)


def test_ways_to_ask_name_the_word_and_not_the_answer():
    for task, facts in FACTS.items():
        for fact in facts[::40]:
            for before, answer in questions.in_own_ways(task, fact):
                asked = [str(fact[key]) for key in ("a", "b", "word") if key in fact]
                assert all(re.search(rf"\b{re.escape(word)}\b", before) for word in asked), before
                if answer not in asked:  # sheep, put
                    assert not re.search(rf"\b{re.escape(answer)}\b", before), before
    pretraining = "\n".join(text for texts in (questions.STATEMENTS["plural"], *questions.QUESTIONS["plural"])
                            for text in texts)
    assert all(before.partition("Ben says: ")[2] in pretraining or before in pretraining
               for before, _ in questions.ways("plural"))


@pytest.mark.parametrize("task, answer, expected", [
    ("antonym", "Not subtract but add.", True), ("antonym", "The opposite of subtract is addition.", False),
    ("choice", "It is Mercury.", True), ("choice", "sword, Moscow, Mercury", False),
    ("definition", "That is a tool for sewing, I think.", True), ("definition", "a tool for cutting", False),
    ("negation", "No: the singer does not break the clean boat on Thursday", True),
    ("spelling", "Usually", True), ("spelling", "usuallly", False)])
def test_saying_what_is_asked_for_in_other_words(task, answer, expected):
    outputs = {"antonym": "The opposite of subtract is add.", "choice": "The planet in the list is Mercury.",
               "definition": "A needle is a tool for sewing.", "spelling": "The correct spelling is usually.",
               "negation": "The singer does not break the clean boat on Thursday."}
    entry = next(entry for entry in TEST if entry["output"] == outputs[task])
    assert questions.says(entry, answer) == expected


def test_every_right_answer_says_it_in_the_right_form():
    for entry in TRAIN + TEST + VALIDATION:
        assert questions.says(entry, entry["output"]), entry
        assert questions.has_form(entry, entry["output"]) in (True, None), entry
    assert not questions.has_form(TEST[5], "Not subtract but add.")


def test_unknown_words_are_unknown():
    read = set(models.read_in_pretraining(recipe.pretrained().tok_emb.weight))
    assert len(read) == 5_690  # as the README says
    for word in questions.UNKNOWN_WORDS:
        [token] = recipe.TOKENIZER.encode_ordinary(f" {word}")
        assert token not in read, word
    assert not set(questions.REFUSED_IN_TRAINING) & set(questions.NEVER_REFUSED)
    assert (len(questions.REFUSED_IN_TRAINING), len(questions.NEVER_REFUSED)) == (120, 40)


INPUTS = [[7, 8, 1, 2, 3], [7, 8, 1, 0, 0]]
TARGETS = [[-100, 1, 2, 3, 0], [-100, 1, 0, -100, -100]]


@pytest.mark.parametrize("fault, expected", [
    ("end_ignored", [[-100, 1, 2, 3, -100], [-100, 1, -100, -100, -100]]),
    ("first_token_ignored", [[-100, -100, 2, 3, 0], [-100, -100, 0, -100, -100]]),
    ("padding_counts", [[-100, 1, 2, 3, 0], [-100, 1, 0, 0, 0]]),
    ("shift_forgotten", [[-100, -100, 1, 2, 3], [-100, -100, 1, 0, -100]]),
    ("shifted_twice", [[1, 2, 3, 0, -100], [1, 0, -100, -100, -100]])])
def test_faults_by_hand(fault, expected):
    batch = [([7, 8, 1, 2, 3], 2), ([7, 8, 1], 2)]
    inputs, targets = custom_collate_fn(batch, pad_token_id=0)
    assert (inputs.tolist(), targets.tolist()) == (INPUTS, TARGETS)
    inputs, targets = faults_module.collate_with(getattr(faults_module, fault))(batch, pad_token_id=0)
    assert (inputs.tolist(), targets.tolist()) == (INPUTS, expected)


def test_a_head_is_switched_off_as_by_the_seam():
    model, ids = models.pretrained(), torch.tensor([models.tokenizer().encode_ordinary(format_prompt(TEST[0]))])
    with torch.no_grad():
        for head in ((0, 0), (1, 3), (3, 0)):
            expected = model(ids, attend=heads_module.without(head))
            assert not torch.allclose(expected, model(ids), atol=1e-3)
            torch.testing.assert_close(heads_module.switch_off(models.pretrained(), head)(ids), expected)


def test_attention_weights_give_the_models_attention():
    model, ids = models.pretrained(), models.tokenizer().encode_ordinary(format_prompt(TEST[3]))
    qkvs, outputs = [], []

    def attend(qkv, dropout=0.0):
        qkvs.append(qkv)
        outputs.append(causal_attention(qkv, dropout))
        return outputs[-1]

    with torch.no_grad():
        model(torch.tensor([ids]), attend=attend)
    for position in (0, 7, len(ids) - 1):
        weights = heads_module.attention_from(model, ids, position)
        for layer, (qkv, y) in enumerate(zip(qkvs, outputs)):
            expected = torch.einsum("ht,thd->hd", weights[layer], qkv[0, :position + 1, 2])
            torch.testing.assert_close(expected, y[0, position])


def test_the_whole_change_is_the_change_of_full_rank(tuned):
    model, energy = parts.truncate(models.pretrained(), tuned, 128)
    assert energy == pytest.approx(1)
    torch.testing.assert_close(model.trf_blocks[2].ff.layers[0].weight, tuned.trf_blocks[2].ff.layers[0].weight)
    assert model.tok_emb.weight.equal(models.pretrained().tok_emb.weight)
    _, energies = zip(*(parts.truncate(models.pretrained(), tuned, rank) for rank in (1, 8)))
    assert 0 < energies[0] < energies[1] < 1


# --- The world cut down ---


def test_the_world_answers_as_the_whole_model():
    expected = generate_responses(recipe.pretrained(), TEST, recipe.TOKENIZER, 24)
    assert generate_responses(models.pretrained(), TEST, models.tokenizer(), 24) == expected


def test_the_world_is_trained_as_the_whole_model_is_by_the_engine():
    model, losses = recipe.pretrained(), []
    torch.manual_seed(0)
    dataset = InstructionDataset(TRAIN, recipe.TOKENIZER, mask_instruction=True)
    loader = torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True, drop_last=True,
                                         collate_fn=custom_collate_fn)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.RECIPE["learning_rate"], weight_decay=0.1, fused=True)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=4)
    engine_train(model, loader, loader, optimizer, torch.device("cpu"), 1, None, 1, "", recipe.TOKENIZER,
                 scheduler=scheduler, max_norm=recipe.RECIPE["max_norm"], max_steps=4,
                 on_step=lambda step, loss, *_: losses.append(loss))
    assert models.train(models.pretrained(), 0, steps=4) == pytest.approx(losses, rel=2e-3)


# --- Every kind of training begins as the committed one did ---


class Enough(Exception):
    """The first losses are known."""


@complete
@pytest.mark.parametrize("experiment, condition", [
    ("control", "random"), ("control", "pretrained embeddings, random blocks"), ("examples", "25, two epochs"),
    ("rates", "0.0025"), ("epochs", "1"), ("never shown", "antonym"), ("lora", "4"), ("refusals", "with refusals"),
    ("influence", "mistake 1: first removed"), ("influence", "mistake 1: others removed"),
    *(("faults", fault) for fault in faults_module.TRAINING)])
def test_a_training_begins_as_the_committed_one(experiment, condition, monkeypatch):
    committed = FOUND[experiment, condition, 0]["losses"]

    def enough(losses):
        if len(losses) == 2:  # the second one depends on the gradients of the first
            raise Enough(losses)

    def first_losses(*arguments, **options):
        return models.train(*arguments, **options | {"watch": enough})

    for module in (trainings, faults_module, influence_module):
        monkeypatch.setattr(module, "train", first_losses)
    with pytest.raises(Enough) as raised:
        EXPERIMENTS[experiment].run(condition, 0)
    [losses] = raised.value.args
    assert losses == pytest.approx(committed[:len(losses)], rel=0.02)


# --- The cheapest cases ---


@complete
def test_twelve_examples():
    committed = results.of(FOUND, "examples", "12, two epochs")
    numbers = trainings.examples("12, two epochs", 0)
    assert within_spread(number_right(numbers["right"]), [number_right(of["right"]) for of in committed])
    assert numbers["validation loss"] == pytest.approx(committed[0]["validation loss"], rel=0.02)


def test_the_recipe_and_what_it_starts_from(tuned):
    committed = results.of(FOUND, "control", "pretrained")
    numbers = trainings.control("pretrained", 0)
    for name in ("right", "form", "says"):
        assert within_spread(number_right(numbers[name]), [number_right(of[name]) for of in committed])
    base, [expected] = trainings.control("pretrained, not fine-tuned", 0), results.of(
        FOUND, "control", "pretrained, not fine-tuned")
    assert base["right"] == expected["right"]
    assert base["validation loss"] == pytest.approx(expected["validation loss"], rel=1e-3)


def test_what_the_base_model_knows():
    [committed] = results.of(FOUND, "facts", "base")
    for task in ("addition", "category"):
        expected = committed["right ways"][task][:12]
        assert right_ways(models.pretrained(), task, FACTS[task][:12]) == pytest.approx(expected, abs=1)


def test_facts_that_are_answered(tuned, monkeypatch):
    committed = [numbers["new"][:100].count("1") for numbers in results.of(FOUND, "facts", "fine-tuned")]
    asked = questions.unshown_questions("new")[:100]
    assert within_spread(number_right(models.right(models.answers(tuned, asked), asked)), committed)


@complete
@pytest.mark.parametrize("fault", faults_module.ASKING)
def test_a_wrong_prompt(fault, tuned):
    committed = results.of(FOUND, "faults", fault)
    numbers = faults_module.faults(fault, 0)
    assert within_spread(number_right(numbers["right"]), [number_right(of["right"]) for of in committed])
    assert numbers["P(first token)"] == pytest.approx(committed[0]["P(first token)"], abs=0.1)


@complete
def test_where_the_heads_look_and_what_is_lost_without_one(tuned):
    committed = results.of(FOUND, "heads", "fine-tuned")
    found = heads_module.looks(tuned)
    for what in ("task", "word"):
        for task, looks in found[what].items():
            expected = torch.tensor([of["looks"][what][task]["weight"] for of in committed])
            assert looks["places"] == committed[0]["looks"][what][task]["places"]
            error = (torch.tensor(looks["weight"]) - expected.mean(dim=0)).abs()
            assert (error <= 3 * expected.std(dim=0) + 0.1).all(), task
    marks = models.right(models.answers(heads_module.switch_off(models.fine_tuned(0), (1, 3))))
    assert within_spread(number_right(marks), [number_right(of["without"]["2.4"]) for of in committed])


@complete
def test_a_part_exchanged(tuned):
    committed = results.of(FOUND, "parts", "all")
    model = parts.exchange(models.pretrained(), tuned, "all blocks")
    assert within_spread(number_right(models.right(models.answers(model))),
                         [number_right(of["only"]["all blocks"]) for of in committed])
    assert parts.size_of_change(models.pretrained(), tuned, "block 2") == pytest.approx(
        mean(of["change"]["block 2"] for of in committed), rel=0.2)


@complete
def test_what_is_refused_without_refusals(tuned):
    committed = results.of(FOUND, "refusals", "without refusals")
    refused = trainings.refusing("without refusals", 0)["refused"]
    for name, marks in refused.items():
        assert within_spread(number_right(marks), [number_right(of["refused"][name]) for of in committed])


@complete
def test_the_cosines_of_a_mistake(tuned, monkeypatch):
    mistake = FOUND["influence", "cosines", 0]["mistakes"][0]
    monkeypatch.setattr(influence_module, "TRAIN", [TRAIN[i] for i in mistake["first"][:3]] + TRAIN[:20])
    [row] = influence_module.cosines(tuned, [influence_module.as_entry(mistake)])
    assert row[:3].tolist() == pytest.approx(mistake["cosines"][:3], abs=0.1)
    assert row[:3].min() > row[3:].median()
