"""The miniature keeps its promises: its data, what its pretraining text does not say, and its checkpoint."""

import json
import re

import pytest

from gpt_download import load_settings, tensor_shapes
from miniature.corpus import documents
from miniature.grammar import is_held_out, misspell, sentence_forms
from miniature.instructions import FILE, instruction_set
from miniature.wordings import TASKS
from miniature.words import ADJECTIVES, PEOPLE, SCENES, SPELLINGS, TIMES
from scripts.tutorial import ROOT

ENTRIES = json.loads(FILE.read_text(encoding="utf-8"))
TRAIN, TEST, VALIDATION = ENTRIES[:935], ENTRIES[935:1045], ENTRIES[1045:]
HELD_OUT = TEST + VALIDATION
RIGHT_SPELLING = {misspell(word): word for word in SPELLINGS}
EVENTS = {sentence_forms(subject, verb, "", obj, "")["active"][:-1]: (subject, verb, obj)
          for verbs, objects in SCENES for subject in PEOPLE for verb in verbs for obj in objects}


def event_of(entry):
    """The event that a sentence task asks about: who, what, how the thing is, which thing, when."""
    active = re.search(r"The .+\.$", entry["input"] or entry["instruction"])[0][:-1]
    time = next((time for time in TIMES if active.endswith(" " + time)), "")
    active = active.removesuffix(" " + time) if time else active
    adjective = next((word for word in ADJECTIVES if f" the {word} " in active), "")
    subject, verb, obj = EVENTS[active.replace(f" the {adjective} ", " the ") if adjective else active]
    return subject, verb, adjective, obj, time


def is_rewriting(entry):
    return entry["task"] in ("passive voice", "question", "negation", "past-tense rewriting", "future-tense rewriting")


def asked_about(entry):
    """What the entry asks about: its words, or its event."""
    if is_rewriting(entry):
        subject, verb, _, obj, _ = event_of(entry)
        return {(subject, verb, obj)}
    if entry["task"] == "spelling":
        wrong = next(word for word in words_of(entry) if word in RIGHT_SPELLING)
        return {wrong, RIGHT_SPELLING[wrong]}
    if entry["task"] == "addition":
        return {tuple(sorted(re.findall(r"\d+", entry["output"])[:2]))}
    pattern = {"definition": r"^An? ([\w-]+) is", "choice": r"is ([\w-]+)\.$"}.get(entry["task"], r" of ([\w-]+) is")
    return {re.search(pattern, entry["output"])[1]}


def words_of(entry):
    return set(re.findall(r"[\w-]+", f"{entry['instruction']} {entry['input']} {entry['output']}"))


@pytest.fixture(scope="module")
def text():
    return "\n".join(documents()).lower()


def test_data_file_is_what_the_generator_writes():
    assert FILE.read_text(encoding="utf-8") == json.dumps(instruction_set(), indent=2) + "\n"


def test_entries_have_the_published_shape():
    assert len(ENTRIES) == 1100
    assert all(list(entry) == ["instruction", "input", "output", "task"] for entry in ENTRIES)
    assert len({(entry["instruction"], entry["input"]) for entry in ENTRIES}) == 1100
    assert {entry["task"] for entry in TRAIN} == {entry["task"] for entry in TEST} == set(TASKS)


def test_entries_shown_in_the_tutorial():
    assert ENTRIES[50]["task"] == "spelling" and ENTRIES[50]["input"]
    assert ENTRIES[999]["task"] == "antonym" and not ENTRIES[999]["input"]
    assert VALIDATION[0]["task"] == "passive voice" and not VALIDATION[0]["input"]


@pytest.mark.parametrize("task", TASKS)
def test_training_never_mentions_what_is_asked_later(task):
    train = [entry for entry in TRAIN if entry["task"] == task]
    said = set.union(*(asked_about(entry) if is_rewriting(entry) or task == "addition" else words_of(entry)
                       for entry in train))
    for entry in HELD_OUT:
        if entry["task"] == task:
            assert not asked_about(entry) & said, entry


def test_pretraining_text_has_no_instruction(text):
    for template in ("###", "below is an instruction", "instruction:", "response:"):
        assert template not in text
    for entry in HELD_OUT:
        assert entry["instruction"].lower() not in text, entry


def test_pretraining_text_has_no_answer(text):
    for entry in HELD_OUT:
        assert entry["output"].lower() not in text, entry


def test_pretraining_text_has_no_held_out_sentence(text):
    for entry in filter(is_rewriting, HELD_OUT):
        subject, verb, adjective, obj, time = event_of(entry)
        assert is_held_out(subject, verb, obj)
        for form in sentence_forms(subject, verb, adjective, obj, "").values():
            assert form[:-1].lower() not in text, form


def test_checkpoint_is_gpt2_and_small():
    tf = pytest.importorskip("tensorflow")
    folder = ROOT / "gpt2/7M"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 20e6
    settings = load_settings(folder)
    assert settings == {"n_vocab": 50257, "n_ctx": 256, "n_embd": 128, "n_head": 4, "n_layer": 4}
    reader = tf.train.load_checkpoint(str(folder))
    assert reader.get_variable_to_shape_map() == {
        f"model/{name}": list(shape) for name, shape in tensor_shapes(settings).items()}
    assert set(reader.get_variable_to_dtype_map().values()) == {tf.float16}
