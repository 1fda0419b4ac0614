"""The miniature: its data, what must not occur in its pretraining text, and its checkpoint."""

import json
import re
from collections import Counter

import pytest

from gpt_download import load_settings, load_tokenizer, tensor_shapes
from miniature.corpus import documents
from miniature.grammar import is_held_out, misspell, sentence_forms
from miniature.instructions import FILE, instruction_set
from miniature.tasks import TASKS
from miniature.words import ADJECTIVES, PEOPLE, SCENES, SPELLINGS, TIMES
from tutorial import MINIATURE_DIR
from tutorial.instructions import split
from weights.sizes import MODELS, openai_settings

ENTRIES = json.loads(FILE.read_text(encoding="utf-8"))
TRAIN, TEST, VALIDATION = split(ENTRIES)
HELD_OUT = TEST + VALIDATION
RIGHT_SPELLING = {misspell(word): word for word in SPELLINGS}
EVENTS = {sentence_forms(subject, verb, "", obj, "")["active"][:-1]: (subject, verb, obj)
          for verbs, objects in SCENES for subject in PEOPLE for verb in verbs for obj in objects}


def event_of(entry):
    """The event that a sentence task asks about: (subject, verb, adjective, object, time)."""
    text = entry["input"] or entry["instruction"]
    for begin in re.finditer(r"\bThe ", text):
        active = text[begin.start():].split(".")[0]
        time = next((time for time in TIMES if active.endswith(" " + time)), "")
        active = active.removesuffix(" " + time) if time else active
        adjective = next((word for word in ADJECTIVES if f" the {word} " in active), "")
        event = EVENTS.get(active.replace(f" the {adjective} ", " the ") if adjective else active)
        if event:
            subject, verb, obj = event
            return subject, verb, adjective, obj, time
    raise ValueError(f"no event in {entry}")


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


def asks_in(entry, wordings):
    """Whether the entry asks in one of these wordings: (instruction, input) with names in braces."""
    patterns = (re.sub(r"\\{\w+\\}", ".+", re.escape("\n".join(wording))) for wording in wordings)
    return any(re.fullmatch(pattern, f"{entry['instruction']}\n{entry['input']}") for pattern in patterns)


def edits(one, other):
    """The edit distance of two lists of words: how many words have to be exchanged, added or removed."""
    row = list(range(len(other) + 1))
    for i, word in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != wanted))
    return row[-1]


@pytest.fixture(scope="module")
def corpus():
    return list(documents())


@pytest.fixture(scope="module")
def text(corpus):
    return "\n".join(corpus).lower()


def test_data_file_is_what_the_generator_writes():
    assert FILE.read_text(encoding="utf-8") == json.dumps(instruction_set(), indent=2) + "\n"


def test_entries_have_the_published_shape():
    assert [len(ENTRIES), len(TRAIN), len(TEST), len(VALIDATION)] == [1100, 935, 110, 55]
    assert all(list(entry) == ["instruction", "input", "output", "task", "wording"] for entry in ENTRIES)
    assert len({(entry["instruction"], entry["input"]) for entry in ENTRIES}) == 1100
    assert {entry["task"] for entry in TRAIN} == {entry["task"] for entry in TEST} == set(TASKS)


def test_entries_shown_in_the_tutorial():
    assert (ENTRIES[50]["instruction"], ENTRIES[50]["input"]) == (
        "The following word has a mistake. Correct it.", "Word: possses")
    assert (ENTRIES[999]["instruction"], ENTRIES[999]["input"]) == ("Name the opposite of offense.", "")
    assert (VALIDATION[0]["instruction"], VALIDATION[0]["input"]) == (
        "Put this sentence into the passive voice: The woman sells the white bread on Friday.", "")


@pytest.mark.parametrize("task", TASKS)
def test_a_quarter_of_the_wordings_is_new_and_never_in_training(task):
    known, new = (TASKS[task].wordings(kind) for kind in ("known", "new"))
    assert len({*known, *new}) == len(known) + len(new) >= 20 and len(new) * 3 == len(known)
    for entry in ENTRIES:
        if entry["task"] == task:
            assert asks_in(entry, known) == (entry["wording"] == "known"), entry
            assert asks_in(entry, new) == (entry["wording"] == "new"), entry
    train = [entry for entry in TRAIN if entry["task"] == task]
    assert all(any(asks_in(entry, [wording]) for entry in train) for wording in known), "known means: in training"


def test_half_of_test_and_validation_asks_in_new_wordings():
    assert {entry["wording"] for entry in TRAIN} == {"known"}
    for part in (TEST, VALIDATION):
        kinds = Counter(entry["wording"] for entry in part)
        assert abs(kinds["known"] - kinds["new"]) <= 1
        assert {entry["task"] for entry in part if entry["wording"] == "new"} == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_wordings_have_questions_and_requests_with_and_without_an_input(task):
    for kind in ("known", "new"):
        wordings = TASKS[task].wordings(kind)
        with_input = [text for _, text in wordings if text]
        assert 0 < len(with_input) < len(wordings), "with and without an input"
        assert any(":" in text for text in with_input) and any(":" not in text for text in with_input), "labels"
        assert any(text.endswith("?") for text, _ in wordings) and any("please" in text.lower() for text, _ in wordings)


@pytest.mark.parametrize("task", TASKS)
def test_no_new_wording_is_a_known_one_with_a_word_exchanged(task):
    known, new = ([re.findall(r"[\w{}+]+", " ".join(wording).lower()) for wording in TASKS[task].wordings(kind)]
                  for kind in ("known", "new"))
    for wording in new:
        assert min(edits(wording, other) for other in known) >= 3, wording


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
    for instruction in {entry["instruction"].lower() for entry in ENTRIES}:
        assert instruction not in text


def test_pretraining_text_uses_all_tokens_of_the_wordings(corpus):
    tokenizer = load_tokenizer(MINIATURE_DIR)
    used = Counter(token for ids in tokenizer.encode_ordinary_batch(corpus) for token in ids)
    example = {"word": "horse", "a_word": "a horse", "active": "The cook eats the bread.", "a": 3, "b": 4,
               "category": "animal", "a_category": "an animal", "first": "horse", "second": "table", "third": "iron"}
    for task in TASKS.values():
        for wording in task.wordings("known") + task.wordings("new"):
            for part in filter(None, wording):
                for token in tokenizer.encode_ordinary(f"\n{part.format(**example)}\n"):
                    assert used[token] >= 7, (wording, tokenizer.decode([token]))


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
    folder = MINIATURE_DIR
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 20e6
    settings = load_settings(folder)
    assert settings == {"n_vocab": 50257, "n_ctx": 256, "n_embd": 128, "n_head": 4, "n_layer": 4}
    assert settings == openai_settings(MODELS["gpt2-mini (7M)"].config())
    reader = tf.train.load_checkpoint(str(folder))
    assert reader.get_variable_to_shape_map() == {
        f"model/{name}": list(shape) for name, shape in tensor_shapes(settings).items()}
    assert set(reader.get_variable_to_dtype_map().values()) == {tf.float16}
