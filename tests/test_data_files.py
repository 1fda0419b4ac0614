"""Data files: every kind that is read, and those that are not."""

import csv
import io
import json
import os

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tutorial import ROOT
from tutorial.data_files import check_lengths, load_entries
from tutorial.instructions import InstructionDataset, custom_collate_fn
from tutorial.messages import shorten
from tutorial.scores import count_known, score_table

CASES = ROOT / "tests/cases"
ENTRY = {"instruction": "Name a colour.", "input": "", "output": "Blue."}
GOOD = json.dumps(ENTRY)


@pytest.fixture
def read(tmp_path):
    """Reads the entries in bytes, a text, or what json.dumps makes of anything else."""
    def read(content, **options):
        content = content if isinstance(content, (bytes, str)) else json.dumps(content)
        (tmp_path / "data.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_entries(tmp_path / "data.txt", **options)
    return read


# --- Formats and keys ---


@pytest.mark.parametrize("content, kind", [
    ([ENTRY, ENTRY], "JSON list"), ({"version": 1, "data": [ENTRY, ENTRY]}, "JSON object with one list"),
    (json.dumps(ENTRY) + "\n" + json.dumps(ENTRY), "JSON Lines"),
    (json.dumps(ENTRY) + "\r\n\r\n" + json.dumps(ENTRY) + "\r\n", "JSON Lines"),
    (json.dumps(ENTRY) + "\r" + json.dumps(ENTRY) + "\r", "JSON Lines"),
    ("instruction,input,output\nName a colour.,,Blue.\nName a colour.,,Blue.\n", "CSV"),
    ("output;instruction;task\r\nBlue.;Name a colour.;1\r\nBlue.;Name a colour.;2", "CSV"),
    ("instruction\toutput\n\"Name a colour.\"\tBlue.\nName a colour.\tBlue.", "CSV")])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_format_gives_the_same_entries(read, content, kind, mark):
    content = content if isinstance(content, str) else json.dumps(content, indent=1)
    entries, found = read(mark + content.encode())
    assert [{key: entry[key] for key in ENTRY} for entry in entries] == [ENTRY, ENTRY]
    assert found == f"2 entries, {kind}, Alpaca's keys" + ("; other keys: task" if "task" in entries[0] else "")


def test_a_csv_field_may_have_lines_and_quotes(read):
    entries, _ = read('instruction,output\n"Say ""hi"",\nplease.","Hi\nthere"\n')
    assert entries == [{"instruction": 'Say "hi",\nplease.', "input": "", "output": "Hi\nthere"}]


def test_a_line_separator_within_a_text_ends_no_line(read):
    entries, _ = read('{"prompt": "a\u2028b\x85c", "completion": "d"}\n{"prompt": "e", "completion": "f"}')
    assert [entry["instruction"] for entry in entries] == ["a\u2028b\x85c", "e"]


@pytest.mark.parametrize("record, expected, format_name", [
    ({"instruction": "Q", "output": "A"}, ("Q", "", "A"), "Alpaca's keys"),
    ({"instruction": "Q", "input": None, "output": "A"}, ("Q", "", "A"), "Alpaca's keys"),
    ({"instruction": "Q", "input": "<noinput>", "output": "A"}, ("Q", "", "A"), "Alpaca's keys"),
    ({"instruction": "Q", "input": "No input.", "output": "A"}, ("Q", "", "A"), "Alpaca's keys"),
    ({"instruction": "Q", "input": "I", "output": "A"}, ("Q", "I", "A"), "Alpaca's keys"),
    ({"instruction": "Q", "context": "C", "response": "A"}, ("Q", "C", "A"), "Dolly's keys"),
    ({"prompt": "Q", "completion": " A"}, ("Q", "", "A"), "the keys prompt and completion"),
    ({"instruction": "Q", "input": "I", "response": "A"}, ("Q", "I", "A"), "Dolly's keys"),
    ({"prompt": "Q", "input": "I", "completion": "A"}, ("Q", "I", "A"), "the keys prompt and completion"),
    ({"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "Q"},
                   {"role": "assistant", "content": "A"}]}, ("Q", "", "A"), "chats (messages)"),
    ({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}, ("Q", "", "A"),
     "chats (messages)"),
    ({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"},
                   {"role": "assistant", "content": "A"}]}, ("S\n\nQ", "", "A"), "chats (messages)"),
    ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, ("Q", "", "A"),
     "chats (conversations)")])
def test_every_format_becomes_an_entry(read, record, expected, format_name):
    entries, found = read([record, record | {"id": 7}])
    wanted = dict(zip(("instruction", "input", "output"), expected))
    assert entries == [wanted, wanted | {"id": 7}]
    assert found.startswith(f"2 entries, JSON list, {format_name}")


def test_outputs_are_stripped_of_whitespace_and_counted(read):
    entries, found = read([ENTRY, ENTRY | {"output": "\n Blue. \n"}])
    assert entries == [ENTRY, ENTRY] and found.endswith("; outputs stripped of whitespace: 1")


def test_placeholders_for_an_empty_input_are_removed_and_counted(read):
    _, found = read([ENTRY, ENTRY | {"input": "N/A"}])
    assert found.endswith("; placeholders for an empty input removed: 1")


# --- Entries and files that can't be used ---


def test_everything_wrong_is_listed_at_once(read):
    records = [ENTRY] * 30
    records[3:15] = [ENTRY | {"output": " "}] * 12
    records[21] = ENTRY | {"output": "a" * 200_000}
    records[22] = ENTRY | {"instruction": "\ud83d"}
    records[23] = {"messages": [{"role": "user", "content": "Q"}] * 3}
    records[24] = {"question": "Q"}
    records[25] = "text"
    records[26] = ENTRY | {"output": 3}
    records[27] = ENTRY | {"input": "a", "context": "b"}
    records[28] = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": ""},
                                {"role": "assistant", "content": "A"}]}
    records[29] = ENTRY | {"task": "\ud83d"}
    with pytest.raises(ValueError) as error:
        read(records)
    message = str(error.value)
    for part in ("21 of 30 entries can't be used (numbered from 0)",
                 "12 with an empty output (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, …)",
                 "1 that are far too long (21)",
                 "2 with text that can't be encoded in UTF-8 (22, 29)",
                 "1 with a chat that isn't one question and one answer (23)",
                 "1 without the keys of a known format (24)", "1 that aren't JSON objects (25)",
                 "1 with an output that isn't text (26)", "1 with both an input and a context (27)",
                 "1 with an empty instruction (28)", "SKIP_BAD_ENTRIES=1"):
        assert part in message
    entries, found = read(records, skip_bad=True)
    assert entries == [ENTRY] * 9 and "left out: 12 with an empty output" in found


def test_csv_rows_with_more_fields_than_the_header(read):
    with pytest.raises(ValueError, match=r"1 with more fields than the header \(1\)"):
        read("instruction,output\na,b\nName, please,Blue\n")


def test_a_text_far_too_long_never_reaches_the_tokenizer(read, tokenizer):
    with pytest.raises(ValueError, match=r"1 that are far too long \(1\)"):
        read([ENTRY, ENTRY | {"output": "a" + " " * 10**6 + "b"}])
    longest = 1024 * 128 - len(ENTRY["instruction"]) - 2  # what does reach it is counted
    entries, _ = read([ENTRY, ENTRY | {"output": "a" + " " * longest + "b"}])
    assert len(InstructionDataset(entries, tokenizer)[1]) > 1024


def test_texts_longer_than_the_model_reads_are_counted(capsys):
    entries = [ENTRY | {"output": f"Answer {i}"} for i in range(30)]
    lengths = [41 if i in (3, 20) else 40 for i in range(30)]
    with pytest.raises(ValueError, match=r"2 of 30 entries have more than the model's 40 tokens \(numbered from 0: 3, "
                                         r"20\): shorten or remove them, or set SKIP_BAD_ENTRIES=1"):
        check_lengths(entries, lengths, 40)
    assert check_lengths(entries, lengths, 41) == entries
    kept = check_lengths(entries, lengths, 40, skip_bad=True)
    assert [e["output"] for e in kept] == [f"Answer {i}" for i in range(30) if i not in (3, 20)]
    assert "left out: 2 of 30 entries" in capsys.readouterr().out
    with pytest.raises(ValueError, match="30 of 30 entries.*9, ….*: shorten or remove them$"):
        check_lengths(entries, lengths, 39, skip_bad=True)


@pytest.mark.parametrize("content, looks_like", [
    (b"", "an empty file"), (b" \n", "an empty file"), (b"[", "damaged JSON"), (b"[]", "JSON list without entries"),
    (b'[{"instruction": "a", "output": "b"}', "damaged JSON"), (b"[" * 100_000, "damaged JSON"),
    (b"3", "some other text"), (b"\x00\xff", "binary data"), ("[\u00e9]".encode("latin-1"), "isn't in UTF-8"),
    (json.dumps([ENTRY]).encode("utf-16"), "UTF-16"), (b"<!DOCTYPE html><html>", "a web page"),
    (b"\n<html></html>", "a web page"), (b"version https://git-lfs.github.com/spec/v1\noid x", "a Git LFS pointer"),
    (b"PK\x03\x04xx", "a zip archive"), (b"\x1f\x8bxx", "a gzip archive"), (b"PAR1xx", "a Parquet file"),
    (b"Dear all,\nhello\n", "some other text"), (b"instruction,output\n", "CSV without entries"),
    (b'instruction,output\n"a,b\nc,d', "damaged CSV"), (b"\xef\xbb\xbf<!doctype html>", "a web page")])
def test_a_file_that_is_something_else_is_called_what_it_is(read, content, looks_like):
    with pytest.raises(ValueError, match=f"data.txt looks like .*{looks_like}.*expected instructions and their"):
        read(content)


@pytest.mark.parametrize("content", [[{"question": "Q", "answer": "A"}] * 3, "question,answer\nQ,A\n"])
def test_unknown_keys_are_named(read, content):
    with pytest.raises(ValueError, match="data.txt has entries with the keys 'question', 'answer'; expected "):
        read(content)


def test_no_message_is_longer_than_800_characters(read):
    texts = ["x" * 10_000, "\ud800" * 5000, {"a": "b" * 10_000}, ["c" * 10_000]]
    for content in ([{text: 1} for text in texts[:2]], [ENTRY | {"output": text} for text in texts],
                    [{f"key {i}" * 100: 1 for i in range(100)}], [ENTRY, *texts] * 1000):
        with pytest.raises(ValueError) as error:
            read(content)
        assert len(str(error.value)) <= 800


def test_no_entry_left_is_an_error_even_when_they_may_be_skipped(read):
    with pytest.raises(ValueError, match="2 of 2 entries can't be used.*Correct or remove them$"):
        read([ENTRY | {"output": ""}] * 2, skip_bad=True)


keys = st.sampled_from(["instruction", "input", "output", "context", "response", "prompt", "completion", "messages",
                        "conversations", "task", "role", "content", "from", "value"]) | st.text(max_size=3)
values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30)
                      | st.characters(categories=["Cs"]), lambda inner: st.lists(inner, max_size=3)
                      | st.dictionaries(keys, inner, max_size=3), max_leaves=6)
records = st.lists(st.tuples(keys, values), max_size=6) | values  # pairs of a key and its value: keys may be doubled


def as_json(record):
    """A record in JSON, a list of pairs as an object."""
    if isinstance(record, list) and record and all(isinstance(pair, tuple) for pair in record):
        return "{" + ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record) + "}"
    return json.dumps(record)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(records | st.just(ENTRY) | st.fixed_dictionaries(
    {"instruction": st.text(min_size=1), "output": st.text(min_size=1)}, optional={"input": values, "task": values}),
    min_size=1, max_size=6), skip_bad=st.booleans(), lines=st.booleans())
def test_random_entries_raise_nothing_but_value_errors(tokenizer, tmp_path, data, skip_bad, lines):
    """Through reading, encoding, batching and scoring."""
    path = tmp_path / "data"
    path.write_text("\n".join(map(as_json, data)) if lines else f"[{', '.join(map(as_json, data))}]")
    try:
        entries, found = load_entries(path, skip_bad=skip_bad)
    except ValueError as error:
        assert len(str(error)) <= 800
        return
    assert len(found) <= 800
    dataset = InstructionDataset(entries, tokenizer, mask_instruction=True)
    inputs, targets = custom_collate_fn(list(dataset))
    assert inputs.shape == targets.shape and len(inputs) == len(entries)
    table = score_table([entry | {"before": "", "after": entry["output"]} for entry in entries])
    assert table["all"][:3] == (len(entries), 0, 1) and count_known(entries, entries) == len(entries)


# --- Keys that change the meaning, and keys that don't ---


QUESTION, ANSWER = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}


def test_keys_without_effect_are_named(read):
    entries, found = read([
        ENTRY | {"id": 7, "task": "colours", "source": None, "note": ""}, ENTRY | {"id": 8, "a\nb": 1}])
    assert entries == [ENTRY | {"id": 7, "task": "colours"}, ENTRY | {"id": 8, "a\nb": 1}]
    assert found == r"2 entries, JSON list, Alpaca's keys; other keys: id, task, 'a\nb'"
    _, found = read([{"messages": [QUESTION | {"name": "Ann"}, ANSWER | {"weight": 1}], "input": "I"}])
    assert found.endswith("; other keys: input, messages[].name")
    _, found = read([ENTRY | {f"key {i}": 1 for i in range(1000)}])
    assert "other keys: key 0, key 1," in found and len(found) <= 800


@pytest.mark.parametrize("record", [
    {"instruction": "Q", "output": "A"}, {"instruction": "Q", "response": "A"}, {"prompt": "Q", "completion": "A"},
    {"messages": [QUESTION, ANSWER]}, {"conversations": [QUESTION, ANSWER]}])
def test_a_system_message_beside_any_format_goes_in_front(read, record):
    entries, found = read([record | {"system": "Be brief."}, record | {"system": ""}, record | {"system": None}])
    assert [entry["instruction"] for entry in entries] == ["Be brief.\n\nQ", "Q", "Q"]
    assert found.endswith("; system messages put before the instruction: 1")
    assert all("system" not in entry for entry in entries)
    with pytest.raises(ValueError, match="1 with a system message that isn't text"):
        read([record | {"system": 3}])


def test_a_system_message_that_is_given_twice(read):
    chat = {"messages": [{"role": "system", "content": "S"}, QUESTION, ANSWER]}
    entries, _ = read([chat | {"system": "S"}, chat | {"system": "T"}])
    assert [entry["instruction"] for entry in entries] == ["S\n\nQ", "T\n\nS\n\nQ"]


@pytest.mark.parametrize("history", [[["Q", "A"]], [{"role": "user", "content": "Q"}], "[['Q', 'A']]", 1, {"a": 1}])
@pytest.mark.parametrize("record", [ENTRY, {"messages": [QUESTION, ANSWER]}])
def test_a_history_makes_it_a_chat_of_several_questions(read, record, history):
    with pytest.raises(ValueError, match=r"1 with a chat that isn't one question and one answer \(2\)"):
        read([record | {"history": []}, record | {"history": None}, record | {"history": history}])
    entries, found = read([record | {"history": []}, record | {"history": history}], skip_bad=True)
    assert len(entries) == 1 and "history" not in entries[0] and "ignored" not in found


@pytest.mark.parametrize("record", [
    {"messages": [QUESTION, ANSWER | {"weight": 0}]}, {"messages": [QUESTION, ANSWER | {"weight": 0.0}]},
    {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A", "weight": False}]},
    ENTRY | {"weight": 0}, ENTRY | {"weight": "0"}, ENTRY | {"weight": "0.00"}, ENTRY | {"weight": " 0,0"},
    ENTRY | {"weight": "False"}, {"messages": [QUESTION, ANSWER | {"weight": "-0."}]}])
def test_an_answer_of_weight_zero_is_not_trained(read, record):
    entries, found = read([ENTRY, record], skip_bad=True)
    assert entries == [ENTRY] and "left out: 1 with an answer of weight 0, which isn't to be trained (1)" in found


@pytest.mark.parametrize("weight", ["0.5", "10", "0,05", "1.0", "true", "", "0 kg", -1, [0], None])
def test_an_answer_of_another_weight_is_trained(read, weight):
    assert len(read([ENTRY | {"weight": weight}])[0]) == 1


# --- Null, missing and empty ---


@pytest.mark.parametrize("value", [0, False, [], {}, 3, 0.5, float("inf")])
@pytest.mark.parametrize("key", ["instruction", "input", "output", "context", "system"])
def test_only_null_and_a_missing_key_are_empty(read, key, value):
    assert read([ENTRY | {"input": None}, {"instruction": "Q", "output": "A"}])[0][0] == ENTRY
    what = {"context": "an input", "system": "a system message"}.get(key, f"an {key}")
    with pytest.raises(ValueError, match=rf"1 with {what} that isn't text \(1\)"):
        read([ENTRY, ENTRY | {key: value}])


@pytest.mark.parametrize("word", ["nan", "NaN", "NULL", "null", "<NA>", " nan ", "Null", "#N/A"])
def test_words_for_a_missing_value(read, word):
    entries, found = read([ENTRY, ENTRY | {"input": word}, ENTRY | {"context": word}, ENTRY | {"input": f"{word} is"}])
    assert [entry["input"] for entry in entries] == ["", "", "", f"{word} is"]
    assert found.endswith("; placeholders for an empty input removed: 2")
    for key in ("instruction", "output"):
        with pytest.raises(ValueError, match=rf"1 with an {key} that is a missing value, such as nan or NULL \(1\)"):
            read([ENTRY, ENTRY | {key: word}])
    entries, _ = read(f"instruction,input,output\nQ,{word},A\n")
    assert entries == [{"instruction": "Q", "input": "", "output": "A"}]


@pytest.mark.parametrize("word", ["none", "nano", "Na", "nullify"])
def test_words_that_only_resemble_one(read, word):
    assert read([ENTRY | {"output": word}])[0][0]["output"] == word


def test_jsons_nan(read):
    entries, found = read('[{"instruction": "Q", "input": NaN, "output": "A", "messages": NaN, "id": NaN}]')
    assert entries == [{"instruction": "Q", "input": "", "output": "A"}]
    assert found == "1 entries, JSON list, Alpaca's keys; placeholders for an empty input removed: 1"
    with pytest.raises(ValueError, match="1 with an output that is a missing value.*1 with an output that isn't text"):
        read('[{"instruction": "Q", "output": NaN}, {"instruction": "Q", "output": Infinity}]')


@pytest.mark.parametrize("nothing", [None, "", float("nan"), "nan"])
def test_keys_without_a_value_do_not_tell_the_format(read, nothing):
    others = ["messages", "conversations", "instruction", "output", "response", "prompt", "completion", "input",
              "system"]
    for record in ({"messages": [QUESTION, ANSWER]}, {"prompt": "Q", "completion": "A"},
                   {"instruction": "Q", "response": "A"}):
        entries, found = read([dict.fromkeys(others, nothing) | record])
        assert entries == [{"instruction": "Q", "input": "", "output": "A"}] and "ignored" not in found
    with pytest.raises(ValueError, match=r"1 with an (empty output|output that is a missing value)"):
        read([{"messages": nothing, "instruction": "Q", "output": nothing}])


@pytest.mark.parametrize("text", [
    "\u200b", "\ufeff\u2060", " \u200d\n", "\u00ad", "\u3164", "\ufe0f", "\u2800\u2800", "\u200e\u202c", "\x00\x1b",
    "\u3000", "\U000e0020"])
def test_invisible_characters_alone_are_no_text(read, text):
    with pytest.raises(ValueError, match=r"1 with an empty output \(1\); 1 with an empty instruction \(2\)"):
        read([ENTRY, ENTRY | {"output": text}, ENTRY | {"instruction": text}])
    chat = {"messages": [{"role": "system", "content": text}, QUESTION, ANSWER]}
    assert [entry["instruction"] for entry in read([ENTRY | {"input": text}, chat])[0]] == ["Name a colour.", "Q"]
    assert read([ENTRY | {"input": text}])[0] == [ENTRY]


@pytest.mark.parametrize("text", ["0", ".", "\u263a\ufe0f", "\u0e01", "\u4f60", "\ue000", "\u0301", "👩\u200d🚀"])
def test_a_single_visible_character_is_a_text(read, text):
    assert read([ENTRY | {"output": text}])[0][0]["output"] == text


@pytest.mark.parametrize("key", ["instruction", "input", "output", "system"])
def test_line_ends_become_line_feeds(read, key):
    entries, found = read([ENTRY | {key: "one\r\ntwo\rthree\n\r\nfour"}, ENTRY | {"input": "a\nb"}])
    assert "one\ntwo\nthree\n\nfour" in entries[0]["instruction" if key == "system" else key]
    assert r"; line ends changed to \n: 1" in found and entries[1]["input"] == "a\nb"


# --- Chats ---


@pytest.mark.parametrize("key", ["messages", "conversations"])
@pytest.mark.parametrize("turns", [
    [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
    [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
    [{"from": "user", "value": "Q"}, {"role": "assistant", "content": "A"}],
    [{"role": "User", "content": "Q"}, {"role": "ASSISTANT", "content": "A"}],
    [{"from": "Human ", "value": "Q"}, {"from": "GPT", "value": "A"}],
    [{"role": None, "from": "human", "content": None, "value": "Q"}, {"role": "assistant", "content": "A"}],
    [{"role": "system", "content": None}, QUESTION, ANSWER], [{"role": "system", "content": []}, QUESTION, ANSWER],
    [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, {"role": "assistant", "content": ["A"]}],
    [QUESTION, {"role": "assistant", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": " "}]}],
    json.dumps([QUESTION, ANSWER]), json.dumps([QUESTION, ANSWER], indent=2)])
def test_every_way_to_write_a_chat(read, key, turns):
    assert read([{key: turns}])[0] == [{"instruction": "Q", "input": "", "output": "A"}]


def test_parts_of_a_text_are_joined(read):
    content = [{"type": "text", "text": "Q: "}, "what", {"type": "text", "text": "?", "image_url": None}]
    assert read([{"messages": [{"role": "user", "content": content}, ANSWER]}])[0][0]["instruction"] == "Q: what?"


@pytest.mark.parametrize("turns, fault", [
    ([QUESTION, {"role": "assistant", "content": [{"type": "image_url", "image_url": {}}]}], "has more than text"),
    ([QUESTION, {"role": "assistant", "content": [{"type": "text", "text": 3}]}], "has more than text"),
    ([QUESTION, {"role": "assistant", "content": {"text": "A"}}], "with an output that isn't text"),
    ([QUESTION, {"role": "assistant"}], "with an empty output"), ([QUESTION, {"content": "A"}], "lack a speaker"),
    ([QUESTION, {"role": 1, "content": "A"}], "lack a speaker"),
    ([QUESTION, {"role": "tool", "content": "A"}], "with a chat of other speakers than system"),
    ([ANSWER, QUESTION], "isn't one question and one answer"), ([], "isn't one question and one answer"),
    ([QUESTION, ANSWER] * 2, "isn't one question and one answer"),
    ({"role": "user"}, "isn't a list of turns"), ("", "a chat that is a text"), (0, "isn't a list of turns"),
    (["Q", "A"], "isn't a list of turns"), ('"Q"', "isn't a list of turns"),
    ("[{'role': 'user', 'content': 'Q'}, {'role': 'assistant', 'content': 'A'}]", "that is a text, but not JSON"),
    ("[{'role': 'user', 'content': 'Q'}\n {'role': 'assistant', 'content': 'A'}]", "that is a text, but not JSON"),
    ("Q A", "a chat that is a text"), ("[" * 100_000, "a chat that is a text")])
def test_chats_that_can_not_be_used(read, turns, fault):
    with pytest.raises(ValueError, match=f"data.txt: 1 of 2 .*: 1 .*{fault}"):
        read([{"messages": [QUESTION, ANSWER]}, {"messages": turns}])


# --- CSV as people write it ---


ROWS = [{"instruction": "Q", "input": "", "output": "A, b"}, {"instruction": "R", "input": "", "output": "C"}]


@pytest.mark.parametrize("text", [
    'instruction, output\nQ, "A, b"\nR, "C"\n', '"instruction" , "output"\n"Q" , "A, b" \n"R","C"\n',
    'instruction,output\nQ,\t"A, b"\t\nR,C', 'output,instruction\n"A, b",Q\n"C","R"',
    'sep=,\ninstruction,output\nQ,"A, b"\nR,C', "sep=;\r\ninstruction;output\r\nQ;A, b\r\nR;C",
    '"sep=;"\ninstruction;output\nQ;A, b\nR;C', "SEP=|\ninstruction|output\nQ|A, b\nR|C\n",
    "sep=\t\ninstruction\toutput\nQ\tA, b\nR\tC", "\n\nsep=;\n\ninstruction;output\nQ;A, b\nR;C",
    "\ninstruction;output\nQ;A, b\nR;C", "\r\n \r\ninstruction;output\r\nQ;A, b\r\n\r\nR;C\r\n\r\n",
    ";;\ninstruction;output;\nQ;A, b;\n;;\nR;C;\n;;", "Instruction; OUTPUT \nQ;A, b\nR;C",
    "instruction;output\rQ;A, b\rR;C"])
def test_every_way_to_write_a_table(read, text):
    entries, found = read(text)
    assert entries == ROWS and found == "2 entries, CSV, Alpaca's keys"


@pytest.mark.parametrize("text, expected", [
    ('instruction\toutput\n"Who?" he asked.\tA man\nQ\t"A', ['"Who?" he asked.', "A man", "Q", '"A']),
    ('instruction\toutput\nSay "hi".\t"hi\nSay "ho".\t"ho', ['Say "hi".', '"hi', 'Say "ho".', '"ho']),
    ('instruction\toutput\n"tis so\tyes\nor not"\tno\n', ['"tis so', "yes", 'or not"', "no"])])
def test_literal_quotes_between_tabs(read, text, expected):
    entries, found = read(text)
    assert [entry[key] for entry in entries for key in ("instruction", "output")] == expected
    assert found == "2 entries, CSV with literal quotes, Alpaca's keys"


def test_quotes_that_are_not_literal_between_tabs(read):
    entries, found = read('instruction\toutput\n"Q\n""R"""\t"A\tB"\nSay "hi".\t12" pipe\nS\t"if x:\n\ty"\n')
    assert [entry["instruction"] for entry in entries] == ['Q\n"R"', 'Say "hi".', "S"]
    assert [entry["output"] for entry in entries] == ["A\tB", '12" pipe', "if x:\n\ty"] and ", CSV, " in found


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("rows, line", [
    ('Q|A\nQ|"B\nQ|C\nQ|D\n', 3), ('Q|A\nQ|"B\nQ|C\n"Q"|D\n', 3), ('Q|"B\nQ|"C\nQ|D\n', 2), ('Q|"B"" end\nQ|C\n', 2),
    ('\n"Q" is it?|C\nQ|D\n', 3), ('Q|"A ""b"""\nQ|"C" d\n', 3), ('Q|"A\nB\nC"\nQ| "B\n', 5)])
def test_a_quote_in_a_wrong_place_is_named_by_its_line(read, delimiter, rows, line):
    header = "instruction|output\n" if delimiter != "\t" else '"instruction"|output\n'  # so that they aren't literal
    with pytest.raises(ValueError, match=rf"damaged CSV \(the quote in line {line} isn't closed, or text follows its"):
        read((header + rows).replace("|", delimiter))


@pytest.mark.parametrize("text, line", [
    ('instruction,output\nQ,A\nQ,"B\nQ,C"\nQ,D\n', 3), ('instruction;output\nQ;"B\nQ;\nQ;"\nQ;D\n', 2),
    ('\ninstruction,input,output\r\nQ,,"B\r\nR, s,,C"\r\nQ,,D\r\n', 3),
    ('instruction,input,output\nQ,"I,A\nQ,J",B\nQ,,D\n', 2),
    ('instruction,output\r\r\nQ,"B\r\r\nQ,C"\r\r\nQ,D\r\r\n', 3)])  # as Python writes it on Windows without newline=""
def test_rows_that_an_answer_swallows_without_breaking_the_rules(read, text, line):
    with pytest.raises(ValueError, match=rf"1 that may be several rows with a quote missing, line {line} \("):
        read(text)
    entries, found = read(text, skip_bad=True)
    assert entries and "left out: 1 that may be several rows" in found


@pytest.mark.parametrize("answer", [
    "Roses are red,\nviolets are blue", "Old pond\n\nfrogs, splash", "name,price\napple,1\npear,2", "one\ntwo\nthree",
    "Paris has\n2,102,650", "def f(a,b):\n    return a", "a,b\nc,d"])
def test_answers_of_several_lines_are_not_rows(read, answer):
    entries, _ = read(f'instruction,output\nQ,"{answer}"\nR,C\n')
    assert [entry["output"] for entry in entries] == [answer, "C"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_that_were_put_together(read, mark, delimiter):
    """The second one's header and its byte-order mark are no entry."""
    table = mark + 'Instruction|Output\nQ|"A"\nR|B\n'.replace("|", delimiter)
    with pytest.raises(ValueError, match=r"1 of 5 .*: 1 that repeat the header, line 4 \(2\)\. Correct"):
        read(table + table)
    entries, _ = read("\n" + table + table, skip_bad=True)
    assert [entry["output"] for entry in entries] == ["A", "B"] * 2


def test_json_lines_that_were_put_together(read):
    entries, _ = read(f"\ufeff{GOOD}\n\ufeff{GOOD}\r\n")
    assert entries == [ENTRY, ENTRY]
    assert read(json.dumps([ENTRY | {"input": "\ufeffa\n\ufeffb"}]))[0][0]["input"] == "\ufeffa\n\ufeffb"


@pytest.mark.parametrize("header, names", [
    ("instruction,output,Output", "output"), ("instruction,output,note,,note,, INSTRUCTION", "instruction, note")])
def test_several_columns_of_one_name_are_an_error(read, header, names):
    with pytest.raises(ValueError, match=f"looks like CSV with several columns {names}: keep the one you want"):
        read(header + "\nQ,A,B\n")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(*[st.text(alphabet='a",;\t\n |', max_size=8)] * 2), min_size=1, max_size=5),
       delimiter=st.sampled_from(",;\t"), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
       end=st.sampled_from(["\n", "\r\n"]))
def test_what_pythons_csv_writes_is_read(tmp_path, rows, delimiter, quoting, end):
    assume(delimiter != "\t" or not any("\n" in text and "\t" in text for row in rows for text in row))
    rows = [[f"Q{number} {question}", answer + "."] for number, (question, answer) in enumerate(rows)]
    with (tmp_path / "data").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
        writer.writerows([["prompt", "completion"], *rows])
    try:
        entries, found = load_entries(tmp_path / "data")
    except ValueError as error:  # only what looks like rows that were swallowed
        assert "several rows" in str(error)
    else:
        assert [[entry["instruction"], entry["output"]] for entry in entries] == [[q, a.strip()] for q, a in rows]
        assert "literal" not in found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), delimiter=st.sampled_from(",;\t"), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_a_quote_too_many_or_too_few_loses_no_row(tmp_path, data, delimiter, quoting):
    """Either it is an error, or all rows are there, and all but one as they were."""
    texts = st.sampled_from(["An apple.", "A crow, a robin.", 'Say "hi".', '"Hi", Bob.', "Roses,\nviolets.", "2,501",
                             "a\n\nb"])
    rows = [[f"Q{number} {data.draw(texts)}", data.draw(texts)] for number in range(data.draw(st.integers(2, 6)))]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\n")
    writer.writerows([["prompt", "completion"], *rows])
    text, header = file.getvalue(), len("prompt,completion\n") + 4 * (quoting == csv.QUOTE_ALL)
    places = [place for place in range(header, len(text)) if text[place] == '"' or text[place - 1] in delimiter + "\n"]
    place = data.draw(st.sampled_from(places))
    removed = text[place] == '"' and data.draw(st.booleans())
    (tmp_path / "data").write_text(text[:place] + ("" if removed else '"') + text[place + removed:], encoding="utf-8")
    try:
        entries, _ = load_entries(tmp_path / "data")
    except ValueError as error:
        assert "line " in str(error) or "numbered" in str(error)
    else:
        assert len(entries) == len(rows)
        assert sum([entry["instruction"], entry["output"]] != row for entry, row in zip(entries, rows)) <= 1


# --- JSON as people have it ---


@pytest.mark.parametrize("text, place", [
    (f"[\n{GOOD}\n{GOOD}\n]", "Expecting ',' delimiter: line 3 column 1"), (f"[{GOOD},\n{GOOD},\n]", "line 3 column 1"),
    (f"[\n{GOOD},\n{GOOD[:-9]}", "line 3 column"), ('{\n "data": [\n' + f"{GOOD}\n{GOOD}\n]}}", "line 4 column 1"),
    ('{\n "instruction": "Q",\n output: "A"\n}', "line 3 column 2"), (f"[{GOOD}] x", "line 1 column"),
    ('[{"instruction": "Q\n", "output": "A"}]', "Invalid control character at: line 1 column"),
    (f'{{"data": [\n{GOOD},\n{GOOD}', "line 3 column"), (f"[{GOOD},\n{GOOD},\nx\n]", "line 3 column"),
    (json.dumps(ENTRY, indent=1) + "\n" + json.dumps(ENTRY, indent=1), "Extra data: line 6 column 1"),
    ('[{"id": ' + "1" * 5000 + "}]", "4300 digits")])
def test_where_json_breaks_off(read, text, place):
    with pytest.raises(ValueError, match=rf"data.txt looks like damaged JSON \(.*{place}"):
        read(text)


@pytest.mark.parametrize("data, names", [
    ({"train": [ENTRY], "test": [ENTRY]}, r"\(train, test\)"),
    ({"version": 1, "a": {"b": [ENTRY], "c": [ENTRY]}}, r"\(a\.b, a\.c\)"),
    ({"x": {"y": {"z": [ENTRY]}}, "w": [{"a": 1}]}, r"\(w, x\.y\.z\)"),
    ({f"list {i}": [ENTRY] for i in range(500)}, r"\(list 0, list 1, .*…\)")])
def test_several_lists_are_named(read, data, names):
    with pytest.raises(ValueError, match=f"looks like JSON with several lists {names}: save the one you want"):
        read(data)


@pytest.mark.parametrize("data", [
    {"data": {"train": [ENTRY, ENTRY]}}, {"labels": ["a", "b"], "data": [ENTRY, ENTRY], "train": []},
    {"a": {"b": {"c": [ENTRY, ENTRY]}}}, {"messages": None, "data": [ENTRY, ENTRY], "test": None}])
def test_the_only_list_of_entries_is_read(read, data):
    entries, found = read(data)
    assert entries == [ENTRY, ENTRY] and found == "2 entries, JSON object with one list, Alpaca's keys"


@pytest.mark.parametrize("data, kind", [
    ({"instruction": {"0": "Q"}, "output": {"0": "A"}}, "by columns"),
    ({"prompt": ["Q", "R"], "completion": ["A", "B"]}, "by columns"),
    ({"messages": {"0": [QUESTION, ANSWER]}}, "by columns"), ({"conversations": [[QUESTION, ANSWER]]}, "by columns"),
    ({"train": {"instruction": ["Q"], "output": ["A"]}}, "by columns"),
    ({"columns": ["instruction", "output"], "index": [0], "data": [["Q", "A"]]}, "by columns"),
    ({"0": ENTRY, "1": ENTRY}, "by index")])
def test_tables_as_pandas_writes_them_to_json(read, data, kind):
    with pytest.raises(ValueError, match=rf"JSON {kind}: save it as a list of entries \(pandas: orient='records'\)"):
        read(data)


def test_one_chat_is_no_column(read):
    assert len(read({"messages": [QUESTION, ANSWER]})[0]) == 1


@pytest.mark.parametrize("lines, reason", [
    (["oops", GOOD, GOOD], r"1 that aren't JSON, line 1 \(0\)"),
    ([GOOD[:30], GOOD, GOOD], r"1 that aren't JSON, line 1 \(0\)"),
    (['{"instruction": "Q", "output":', GOOD], r"1 that aren't JSON, line 1 \(0\)"),
    (["instruction output", "", GOOD], r"1 that aren't JSON, line 1 \(0\)"),
    ([GOOD, "", GOOD[5:], GOOD, "{"], r"2 that aren't JSON, lines 3, 5 \(1, 3\)"),
    ([GOOD + ",", GOOD + ",", GOOD], r"2 that end with a comma, lines 1, 2 \(0, 1\)"),
    ([GOOD + " ,", "x,", GOOD], r"1 that end with a comma, line 1 \(0\); 1 that aren't JSON, line 2 \(1\)"),
    (["[1]", GOOD, "null"], r"2 that aren't JSON objects \(0, 2\)"),
    ([GOOD + GOOD, GOOD], r"1 that aren't JSON, line 1 \(0\)"),
    (["x"] * 12 + [GOOD], r"12 that aren't JSON, lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, … \(0, 1,")])
def test_damaged_lines_of_json_lines_are_named_and_left_out(read, lines, reason):
    with pytest.raises(ValueError, match=f"data.txt: .*{reason}.*SKIP_BAD_ENTRIES"):
        read("\n".join(lines))
    entries, found = read("\n".join(lines), skip_bad=True)
    assert entries == [ENTRY] * lines.count(GOOD) and f"{len(entries)} entries, JSON Lines, " in found


# --- Files that are something else ---


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", [
    "instruction;output\nQ;A", json.dumps([ENTRY]),
    json.dumps({"instruction": "你" * 20, "output": "一" * 40}, ensure_ascii=False),
    "编号,instruction,output\n一,你好,你好\n"])
def test_wide_encodings_are_recognized_without_a_mark(read, text, encoding):
    with pytest.raises(ValueError, match=f"data.txt looks like text in {encoding[:6].upper()};"):
        read(text.encode(encoding))


@pytest.mark.parametrize("content, looks_like", [
    (b"PK\x03\x04" + b"-" * 26 + b"docProps/app.xml ... xl/workbook.xml", "an Excel workbook: save it as CSV UTF-8"),
    (b"PK\x03\x04" + b"-" * 26 + b"[Content_Types].xml ... word/document.xml", "a Word document"),
    (b"PK\x03\x04" + b"-" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "a spreadsheet: save it"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"), (b"%PDF-1.7", "a PDF"),
    (b"\x00" * 1000, "binary data"), (b"instruction,output\na,b\x00c\n", "binary data"),
    (b"SQLite format 3\x00", "an SQLite database"), (b"BZh91AY", "bzip2"),
    (b"\xff\xff\xff\xff\x10\x00", "an Arrow file"), (b"{\\rtf1\\ansi}", "an RTF document"),
    ("instruction,output\na,b\nc,ß\n".encode("cp1252"), r"isn't in UTF-8 \(line 3\)")])
def test_more_files_that_are_something_else(read, content, looks_like):
    with pytest.raises(ValueError, match=f"data.txt looks like .*{looks_like}.*; expected instructions and their"):
        read(content)


@pytest.mark.parametrize("key", ["Par1", "bzh-id", "%pdf", "arrow1"])
def test_a_key_that_resembles_a_magic_number_is_a_key(read, key):
    """Unlike HTML's tags, magic numbers are bytes: their case counts."""
    entries, found = read(f"{key},instruction,output\n,Q,A\n")
    assert entries == [{"instruction": "Q", "input": "", "output": "A"}] and ", CSV, " in found
    with pytest.raises(ValueError, match="looks like a web page"):
        read("<!DocType HTML>")


def test_keys_of_a_table_are_lower_cased_and_those_of_json_are_not(read):
    assert read("Instruction,OUTPUT,Source\nQ,A,me\n")[0][0]["source"] == "me"
    assert read([ENTRY | {"Source": "me"}])[0][0]["Source"] == "me"
    with pytest.raises(ValueError, match="with the keys 'Instruction', 'OUTPUT'"):
        read([{"Instruction": "Q", "OUTPUT": "A"}])


def test_a_row_with_two_faults_is_reported_once(read):
    with pytest.raises(ValueError, match=r"1 of 3 .*1 that may be several rows with a quote missing, line 3 \(1\)\. "):
        read('instruction,output\nQ,A\nQ,"B\nR", C,D\nQ,D\n')


@pytest.mark.parametrize("depth", [5, 100, 300, 450, 900, 1100, 3000, 30_000])
@pytest.mark.parametrize("key", ["output", "input", "system", "history", "messages", "task", "weight", "id"])
def test_values_that_are_nested_deeply(read, key, depth):
    for value in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        text = json.dumps(ENTRY)[:-1] + f', "{key}": {value}}}'
        for content in (text, f"[{text}]", f"{GOOD}\n{text}", json.dumps([ENTRY | {key: value}])):
            try:
                assert load_or_refuse(read, content)
            except ValueError as error:
                assert type(error) is ValueError and len(str(error)) <= 800


def load_or_refuse(read, content):
    entries, found = read(content, skip_bad=True)
    return len(found) <= 800 and all(isinstance(entry[key], str) for entry in entries for key in ENTRY)


# --- Random files of all these shapes ---


words = st.sampled_from([
    "", " ", "Q", "An apple.", "nan", "NULL", "NaN", "<NA>", "\u200b", "a\r\nb", "caf\u00e9", 'say "hi"', "a, b", "x;y",
    "tab\tbed", "[]", "[{'role': 'user'}]", "\ud83d", "\x00", "0", "sep=;"]) | st.text(max_size=4)
odd = words | st.sampled_from([None, 0, 1, False, [], {}, float("nan"), float("inf"), "long " * 300]) | values
speakers = st.sampled_from(["user", "assistant", "system", "Human", "GPT", "tool", None, 3])
contents = odd | st.lists(words.map(lambda text: {"type": "text", "text": text}) | odd, max_size=2)
turns = st.fixed_dictionaries({}, optional={"role": speakers, "from": speakers, "content": contents, "value": contents,
                                            "weight": st.sampled_from([0, 1, "0", None, 0.5]), "name": odd})
chats = st.lists(turns, max_size=4) | st.just([QUESTION, ANSWER]) | st.just(json.dumps([QUESTION, ANSWER])) | odd
data_keys = ["instruction", "input", "output", "context", "response", "prompt", "completion", "system", "history",
             "weight", "task", "id"]
entry_like = st.fixed_dictionaries({}, optional=dict.fromkeys(data_keys, odd) | {
    "messages": chats, "conversations": chats})
entry_lists = st.lists(entry_like | st.just(ENTRY) | odd, max_size=5)


@st.composite
def files(draw):
    """The bytes of a file of some shape, often damaged."""
    entries = draw(entry_lists)
    shape = draw(st.sampled_from(["list", "lines", "object", "columns", "index", "csv", "csv", "text"]))
    if shape == "lines":
        text = "".join(json.dumps(entry) + draw(st.sampled_from(["", "", ",", "\r", "x"])) + "\n" for entry in entries)
    elif shape == "csv":
        delimiter = draw(st.sampled_from([",", ";", "\t", "|", ", "]))
        header = draw(st.lists(st.sampled_from([*data_keys, "messages", "Output "]), max_size=4))
        fields = words | st.sampled_from(['"', '"a', '"a"', ' "a, b"', '"a"" b', 'a\nb"'])
        rows = draw(st.lists(st.lists(fields, max_size=4), max_size=6))
        end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
        text = draw(st.sampled_from(["", "", "\n", "sep=;\n", f"sep={delimiter}\r\n", '"sep=|"'])) + end.join(
            delimiter.join(row) for row in [header, *rows])
    elif shape == "text":
        text = draw(st.text(max_size=40))
    else:
        column_names = draw(st.lists(st.sampled_from(data_keys), max_size=3))
        column = draw(st.sampled_from([dict(enumerate(entries)), entries]))
        data = {"list": entries, "object": {"train": entries, "x": {"test": draw(entry_lists)}, "meta": draw(odd)},
                "columns": dict.fromkeys(column_names, column), "index": dict(enumerate(entries))}[shape]
        text = json.dumps(data, indent=draw(st.sampled_from([None, 1])))
    encoding = draw(st.sampled_from(["utf-8"] * 5 + [
        "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "latin-1"]))
    content = text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    if draw(st.booleans()):  # damaged, or cut
        place, length = draw(st.integers(0, len(content))), draw(st.sampled_from([0, 0, 1, len(content)]))
        content = content[:place] + draw(st.sampled_from([
            b"", b'"', b",", b"\n", b"\x00", b"\xff", b"["])) + content[place + length:]
    return draw(st.sampled_from([b""] * 12 + [b"PK\x03\x04", b"\xff\xfe", b"\n\n", b" ["])) + content


@settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", 500)), deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=files() | st.binary(max_size=60), skip_bad=st.booleans())
def test_random_files_raise_nothing_but_short_value_errors(tmp_path, content, skip_bad):
    (tmp_path / "data").write_bytes(content)
    try:
        entries, found = load_entries(tmp_path / "data", skip_bad=skip_bad)
    except ValueError as error:
        assert type(error) is ValueError and str(error).startswith("data") and len(str(error)) <= 800
        str(error).encode()  # it can be printed
        return
    assert entries and len(found) <= 800 and found.encode()
    for entry in entries:
        texts = [entry["instruction"], entry["input"], entry["output"]]
        assert not any("\r" in text for text in texts) and entry["output"] == entry["output"].strip()
        assert entry["instruction"].strip() and entry["output"]
        "".join(texts).encode()


# --- Files that people reported ---


@pytest.mark.parametrize("name, number", [
    ("lines.jsonl", 2), ("input_key_missing.json", 20), ("input_null.json", 20), ("dolly_like.json", 20),
    ("messages.json", 20)])
def test_reported_files_are_read(name, number):
    entries, _ = load_entries(CASES / name)
    assert len(entries) == number and all(entry["input"] == "" for entry in entries)


def test_bad_entries_of_a_reported_file_are_counted():
    with pytest.raises(ValueError, match=r"14 of 100 .*14 with an empty output \(3, 10, 17, 24, 31, 38, 45, 52, 59, "):
        load_entries(CASES / "some_empty_outputs.json")
    assert len(load_entries(CASES / "some_empty_outputs.json", skip_bad=True)[0]) == 86


def test_texts_are_cut_visibly():
    assert shorten("three", 5) == "three" and shorten("seventeen", 5) == "seve…"


@pytest.mark.parametrize("name, outputs, found", [
    ("input_nan.json", ["An apple."], "placeholders for an empty input removed: 1"),
    ("crlf_in_texts.json", ["apple\npear"], r"line ends changed to \n: 1"),
    ("conversations_role_content.json", ["An apple."], "chats (conversations)"),
    ("chat_as_text.csv", ["An apple."], "CSV, chats (messages)"),
    ("union_of_columns.jsonl", ["An apple.", "A saw."], "Alpaca's keys and the keys prompt and completion"),
    ("excel_sep_line.csv", ["An apple."], "CSV"), ("blank_first_line.csv", ["An apple."], "CSV"),
    ("missing_value_words.csv", ["An apple.", "A saw."], "left out: 1 with an output that is a missing value"),
    ("system_and_history.jsonl", ["AN APPLE."] * 2, "left out: 1 with a chat that isn't one question and one answer"),
    ("first_line_damaged.jsonl", ["An apple."], "left out: 1 that aren't JSON, line 1 (0)")])
def test_more_reported_files_are_read(name, outputs, found):
    entries, line = load_entries(CASES / name, skip_bad=True)
    assert [entry["output"] for entry in entries] == outputs and found in line
    if "left out" in found:
        with pytest.raises(ValueError, match="1 of . entries can't be used"):
            load_entries(CASES / name)


@pytest.mark.parametrize("name, message", [
    ("weight_zero.jsonl", "1 with an answer of weight 0"), ("invisible_answer.json", "1 with an empty output"),
    ("two_lists.json", r"several lists \(train, test\): save the one you want"),
    ("missing_comma.json", "damaged JSON .*line 3 column 1"),
    ("lines_with_commas.jsonl", r"2 that end with a comma, lines 1, 2"),
    ("workbook.xlsx", "an Excel workbook: save it as CSV UTF-8"), ("utf16_without_mark.csv", "text in UTF-16"),
    ("pandas_columns.json", "JSON by columns.*orient='records'")])
def test_reported_files_that_can_not_be_used(name, message):
    for skip_bad in (False, True):
        with pytest.raises(ValueError, match=f"{name}.*{message}"):
            load_entries(CASES / name, skip_bad=skip_bad)
