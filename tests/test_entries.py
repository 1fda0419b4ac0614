"""People's data files, of every kind that is read and of those that are not, and the scores of answers."""

import json
import re
from html import unescape

import mistune
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.entries import count_known, exact_match, load_entries, markdown_table, score_table, shorten, token_f1, words
from scripts.tutorial import ROOT

CASES = ROOT / "tests/cases"
ENTRY = {"instruction": "Name a colour.", "input": "", "output": "Blue."}


@pytest.fixture
def read(tmp_path):
    """Reads the entries in bytes, a text, or what json.dumps makes of anything else."""
    def read(content, **options):
        content = content if isinstance(content, (bytes, str)) else json.dumps(content)
        (tmp_path / "data.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_entries(tmp_path / "data.txt", **options)
    return read


def count_words(entry):
    return len((entry["instruction"] + " " + entry["output"]).split())


# --- Formats and keys ---


@pytest.mark.parametrize("content, kind", [
    ([ENTRY, ENTRY], "JSON list"), ({"version": 1, "data": [ENTRY, ENTRY]}, "JSON object with one list"),
    (json.dumps(ENTRY) + "\n" + json.dumps(ENTRY), "JSON Lines"),
    (json.dumps(ENTRY) + "\r\n\r\n" + json.dumps(ENTRY) + "\r\n", "JSON Lines"),
    (json.dumps(ENTRY) + "\r" + json.dumps(ENTRY) + "\r", "JSON Lines"),
    ("instruction,input,output\nName a colour.,,Blue.\nName a colour.,,Blue.\n", "CSV"),
    ("output;instruction;id\r\nBlue.;Name a colour.;1\r\nBlue.;Name a colour.;2", "CSV"),
    ("instruction\toutput\n\"Name a colour.\"\tBlue.\nName a colour.\tBlue.", "CSV")])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_format_gives_the_same_entries(read, content, kind, mark):
    content = content if isinstance(content, str) else json.dumps(content, indent=1)
    entries, found = read(mark + content.encode())
    assert [{key: entry[key] for key in ENTRY} for entry in entries] == [ENTRY, ENTRY]
    assert found == f"2 entries, {kind}, Alpaca's keys"


def test_a_csv_field_may_have_lines_and_quotes(read):
    entries, _ = read('instruction,output\n"Say ""hi"",\nplease.","Hi\nthere"\n')
    assert entries == [{"instruction": 'Say "hi",\nplease.', "input": "", "output": "Hi\nthere"}]


def test_a_line_separator_within_a_text_ends_no_line(read):
    entries, _ = read('{"prompt": "a\u2028b\x85c", "completion": "d"}\n{"prompt": "e", "completion": "f"}')
    assert [entry["instruction"] for entry in entries] == ["a\u2028b\x85c", "e"]


@pytest.mark.parametrize("record, expected, form", [
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
def test_every_form_becomes_an_entry(read, record, expected, form):
    entries, found = read([record, record | {"id": 7}])
    wanted = dict(zip(("instruction", "input", "output"), expected))
    assert entries == [wanted, wanted | {"id": 7}]
    assert found.startswith(f"2 entries, JSON list, {form}")


def test_white_space_at_the_ends_of_outputs_is_dropped_and_said(read):
    entries, found = read([ENTRY, ENTRY | {"output": "\n Blue. \n"}], count_tokens=count_words, max_tokens=10)
    assert entries == [ENTRY, ENTRY] and found.endswith("outputs whose white space at the ends was dropped: 1")


def test_an_input_that_says_there_is_none_is_said(read):
    _, found = read([ENTRY, ENTRY | {"input": "N/A"}])
    assert found.endswith("inputs that say there is none: 1")


# --- Faults ---


def test_all_faults_are_listed_at_once(read):
    records = [ENTRY] * 30
    records[3:15] = [ENTRY | {"output": " "}] * 12
    records[20] = ENTRY | {"output": "word " * 50}
    records[21] = ENTRY | {"output": "a" * 10_000}
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
        read(records, count_tokens=count_words, max_tokens=40)
    message = str(error.value)
    for part in ("22 of 30 entries are at fault (their numbers count from 0)",
                 "12 with an empty output (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, …)",
                 "1 with more than the model's 40 tokens (20)", "1 of absurd length (21)",
                 "2 with text that can't be encoded (22, 29)",
                 "1 with a chat that isn't one question and one answer (23)",
                 "1 without the keys of a known form (24)", "1 that are no JSON objects (25)",
                 "1 with an output that is no text (26)", "1 with both an input and a context (27)",
                 "1 with an empty instruction (28)", "SKIP_BAD_ENTRIES=1"):
        assert part in message
    entries, found = read(records, count_tokens=count_words, max_tokens=40, skip_bad=True)
    assert entries == [ENTRY] * 8 and "left out: 12 with an empty output" in found


def test_csv_rows_with_more_fields_than_the_header_are_at_fault(read):
    with pytest.raises(ValueError, match=r"1 with more fields than the header \(1\)"):
        read("instruction,output\na,b\nName, please,Blue\n")


def test_a_text_of_absurd_length_never_reaches_the_tokenizer(read, tokenizer):
    def count(entry):
        return len(tokenizer.encode_ordinary(entry["instruction"] + entry["output"]))
    with pytest.raises(ValueError, match=r"1 of absurd length \(1\)"):
        read([ENTRY, ENTRY | {"output": "a" + " " * 10**6 + "b"}], count_tokens=count, max_tokens=1024)
    longest = 1024 * 128 - len(ENTRY["instruction"]) - 2  # what does reach it is counted
    with pytest.raises(ValueError, match=r"1 with more than the model's 1,024 tokens \(1\)"):
        read([ENTRY, ENTRY | {"output": "a" + " " * longest + "b"}], count_tokens=count, max_tokens=1024)


@pytest.mark.parametrize("content, looks_like", [
    (b"", "an empty file"), (b" \n", "an empty file"), (b"[", "damaged JSON"), (b"[]", "JSON without entries"),
    (b'[{"instruction": "a", "output": "b"}', "damaged JSON"), (b"[" * 100_000, "damaged JSON"),
    (b"3", "some other text"), (b"\x00\xff", "another encoding"), ("[\u00e9]".encode("latin-1"), "another encoding"),
    (json.dumps([ENTRY]).encode("utf-16"), "UTF-16"), (b"<!DOCTYPE html><html>", "a web page"),
    (b"\n<html></html>", "a web page"), (b"version https://git-lfs.github.com/spec/v1\noid x", "a Git LFS pointer"),
    (b"PK\x03\x04xx", "a zip archive"), (b"\x1f\x8bxx", "a gzip archive"), (b"PAR1xx", "a Parquet file"),
    (b"Dear all,\nhello\n", "some other text"), (b"instruction,output\n", "CSV without entries"),
    (b'instruction,output\n"a,b\nc,d', "damaged CSV"), (b"\xef\xbb\xbf<!doctype html>", "a web page")])
def test_a_file_that_is_something_else_is_called_by_its_name(read, content, looks_like):
    with pytest.raises(ValueError, match=f"data.txt looks like .*{looks_like}.*wanted are instructions and their"):
        read(content)


@pytest.mark.parametrize("content", [[{"question": "Q", "answer": "A"}] * 3, "question,answer\nQ,A\n"])
def test_unknown_keys_are_named(read, content):
    with pytest.raises(ValueError, match="data.txt has entries with the keys 'question', 'answer'; wanted are"):
        read(content)


def test_no_message_is_longer_than_800_characters(read):
    texts = ["x" * 10_000, "\ud800" * 5000, {"a": "b" * 10_000}, ["c" * 10_000]]
    for content in ([{text: 1} for text in texts[:2]], [ENTRY | {"output": text} for text in texts],
                    [{f"key {i}" * 100: 1 for i in range(100)}], [ENTRY, *texts] * 1000):
        with pytest.raises(ValueError) as error:
            read(content, count_tokens=count_words, max_tokens=9)
        assert len(str(error.value)) <= 800


def test_no_entry_left_is_an_error_even_when_they_may_be_skipped(read):
    with pytest.raises(ValueError, match="2 of 2 entries are at fault.*Mend or remove them$"):
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
def test_random_entries_raise_nothing_but_value_errors(notebook, tokenizer, tmp_path, data, skip_bad, lines):
    """Through reading, encoding, batching and scoring."""
    def count(entry):
        return sum(len(tokenizer.encode_ordinary(text)) for text in (notebook["format_prompt"](entry), entry["output"]))
    path = tmp_path / "data"
    path.write_text("\n".join(map(as_json, data)) if lines else f"[{', '.join(map(as_json, data))}]")
    try:
        entries, found = load_entries(path, count_tokens=count, max_tokens=60, skip_bad=skip_bad)
    except ValueError as error:
        assert len(str(error)) <= 800
        return
    assert len(found) <= 800
    dataset = notebook["InstructionDataset"](entries, tokenizer, mask_instruction=True, max_length=60)
    inputs, targets = notebook["custom_collate_fn"](list(dataset))
    assert inputs.shape == targets.shape and len(inputs) == len(entries)
    table = score_table([entry | {"before": "", "after": entry["output"]} for entry in entries])
    assert table["all"][:3] == (len(entries), 0, 1) and count_known(entries, entries) == len(entries)


# --- The cases that people reported ---


@pytest.mark.parametrize("name, number", [
    ("lines.jsonl", 2), ("input_key_missing.json", 20), ("input_null.json", 20), ("dolly_like.json", 20),
    ("messages.json", 20)])
def test_reported_files_are_read(name, number):
    entries, _ = load_entries(CASES / name)
    assert len(entries) == number and all(entry["input"] == "" for entry in entries)


def test_reported_faults_are_counted():
    with pytest.raises(ValueError, match=r"14 of 100 .*14 with an empty output \(3, 10, 17, 24, 31, 38, 45, 52, 59, "):
        load_entries(CASES / "some_empty_outputs.json")
    assert len(load_entries(CASES / "some_empty_outputs.json", skip_bad=True)[0]) == 86


# --- Scores ---


def test_scores_by_hand():
    assert exact_match(" A  cat\n", "a CAT") == 1.0 and exact_match("a cat.", "a cat") == 0.0
    assert token_f1("the the cat", "the cat sat") == pytest.approx(2 * 2 / 6)
    assert token_f1("", "a") == 0.0
    long = [{"output": "a", "before": "", "after": "a", "task": "x" * 60 + end} for end in "12"]
    assert len(score_table(long)) == 3
    records = [{"output": "a b", "before": "", "after": "A b", "task": "x"},
               {"output": "c", "before": "c d", "after": "d", "task": "y"}]
    assert score_table(records)["all"] == (2, 0.0, 0.5, pytest.approx(1 / 3), 0.5)
    without = [{key: record[key] for key in ("output", "before", "after")} for record in records]
    assert set(score_table(without)) == set(score_table([record | {"task": ["z"]} for record in without])) == {"all"}


@pytest.mark.parametrize("text, expected", [
    ("I'm here, now.", ["I'm", "here,", "now."]), ("你好。", ["你", "好", "。"]), ("GPT-2是", ["GPT-2", "是"]),
    ("ありがとう", list("ありがとう")), ("고맙습니다 여러분", ["고맙습니다", "여러분"]), ("a\u3000b", ["a", "b"])])
def test_words_of_scripts_with_and_without_spaces(text, expected):
    assert words(text) == expected


def test_a_missing_full_stop_in_chinese_costs_little():
    assert token_f1("主动语态变成被动语态", "主动语态变成被动语态。") == pytest.approx(20 / 21)


def test_texts_are_cut_visibly():
    assert shorten("three", 5) == "three" and shorten("seventeen", 5) == "seve…"


def test_entries_that_are_in_training_are_counted():
    data = json.loads((CASES / "test_entries_in_training.json").read_text())
    train, test = data[:51], data[51:57]
    assert count_known(test, train) == 6
    train = [ENTRY | {"instruction": f"Name colour {i}."} for i in range(5)] + [ENTRY]
    assert count_known([ENTRY, ENTRY | {"instruction": " name  a COLOUR."}, ENTRY | {"input": "x"}], train) == 2


@pytest.mark.parametrize("text", ["a | b", "*a* _b_ `c`", "<script>x</script>", "# a\n- b", "[a](b)", "$x$ ~~y~~",
                                  "![a](b)", "&amp;", "\\", "a\nb", "It isn't \"so\""])
def test_no_text_of_a_table_is_markup(text):
    table = markdown_table(["one", "two"], [[text, "plain"]])
    html = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "math"])(table)
    [cells] = re.findall(r"<tbody>\s*<tr>\s*<td>(.*?)</td>\s*<td>plain</td>", html, flags=re.DOTALL)
    assert unescape(cells) == " ".join(text.split()) and "<" not in cells
