"""The weight loader: against TensorFlow, against another tokenizer, over HTTP, and with every kind of damaged file."""

import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st
from transformers import GPT2Tokenizer

import gpt_download
from conftest import flip, truncate, write_checkpoint
from gpt_download import (CheckpointError, FILES, download_and_load_gpt2, download_file,
                          load_settings, load_tokenizer, masked_crc32c, read_index, read_varint)
from previous_chapters import flatten_params

SMALL = {"n_vocab": 11, "n_ctx": 6, "n_embd": 4, "n_head": 2, "n_layer": 2}
DATA, INDEX = "model.ckpt.data-00000-of-00001", "model.ckpt.index"


@pytest.fixture(scope="session")
def small_dir(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("written") / "small", SMALL)


@pytest.fixture
def model_dir(small_dir, tmp_path):
    """A copy of the small model to damage."""
    return shutil.copytree(small_dir, tmp_path / "small", ignore=shutil.ignore_patterns("*.verified"))


def load(model_dir, reader="memmap"):
    return download_and_load_gpt2(model_dir.name, model_dir.parent, reader)


# --- The weights, against TensorFlow ---


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_both_readers_give_what_tensorflow_wrote(dtype, tmp_path):
    import tensorflow as tf
    folder = write_checkpoint(tmp_path / "small", SMALL, dtype, seed=1)
    settings, params = load(folder)
    assert settings == SMALL
    ours, theirs = dict(flatten_params(params)), dict(flatten_params(load(folder, "tensorflow")[1]))
    written = tf.train.load_checkpoint(str(folder / "model.ckpt"))
    assert ours.keys() == theirs.keys() and len(ours) == 4 + 12 * 2 == len(written.get_variable_to_shape_map())
    for path, array in ours.items():
        name = re.sub(r"^blocks/(\d+)", r"h\1", path)
        expected = written.get_tensor("model/" + {"g": "ln_f/g", "b": "ln_f/b"}.get(name, name))
        assert expected.dtype == dtype
        expected = expected[0] if expected.ndim == 3 else expected
        assert array.dtype == theirs[path].dtype == np.float32 and array.shape == theirs[path].shape == expected.shape
        assert (array == expected).all() and (theirs[path] == expected).all() and np.ptp(array) > 0


def test_writing_to_the_arrays_leaves_the_file_alone(model_dir):
    before = (model_dir / DATA).read_bytes()
    _, params = load(model_dir)
    for _, array in flatten_params(params):
        array[...] = 7
    assert (params["wte"] == 7).all()
    del params, array
    assert (model_dir / DATA).read_bytes() == before
    assert not (load(model_dir)[1]["wte"] == 7).any()


def test_checksum_of_the_published_test_vector():
    crc = 0xE3069283  # CRC-32C of "123456789"
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


# --- The tokenizer, against that of transformers ---


@pytest.fixture(scope="session")
def another_tokenizer(small_dir):
    merges = [tuple(line.split()) for line in (small_dir / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]]
    vocab = json.loads((small_dir / "encoder.json").read_text(encoding="utf-8"))
    return GPT2Tokenizer(vocab=vocab, merges=merges)


@pytest.mark.parametrize("text", [
    "Hello, world! The quick brown fox.", "I'm sure they've said it's what we'd do, but you're wrong; he'll DON'T 'S",
    "🤖 emoji 👩‍👩‍👧‍👦🏳️‍🌈!", "把这句话翻译成英文。日本語も", "  two   spaces\n\n\n\tand tabs \t\n end   ", "3.14159 12345678 x²½ Ⅷ",
    "naïve Ünïcödé ß ﬁ Ωμέγα привет مرحبا हिन्दी", "a\u00a0b\u3000c\u2028d\r\n", "def f(x):\n    return x**2  # !!!???",
    "<|endoftext|>", "", "\x00\x7f\ufffd"])
def test_tokenizer_equals_another(tokenizer, another_tokenizer, text):
    ids = tokenizer.encode(text, disallowed_special=())
    if "<|" not in text:
        assert ids == another_tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text, allowed_special="all") == another_tokenizer(text)["input_ids"]


def test_tokenizer_special_token(tokenizer):
    assert tokenizer.eot_token == 50256 and tokenizer.n_vocab == 50257
    assert len(tokenizer.encode("<|endoftext|>", disallowed_special=())) > 1


@pytest.mark.parametrize("name", ["vocab.bpe", "encoder.json"])
def test_damaged_tokenizer_file_is_named(model_dir, name):
    flip(model_dir / name, 1000)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        load_tokenizer(model_dir)
    (model_dir / name).unlink()
    with pytest.raises(CheckpointError, match=f"can't read .*{name}"):
        load_tokenizer(model_dir)


# --- Fetching, from a server in this process ---


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files` with ETag and Range; `server.faults` holds what goes wrong first, for each path."""

    def do_GET(self):
        server, name = self.server, self.path
        server.requests.append((name, dict(self.headers)))
        fault = server.faults[name].pop(0) if server.faults.get(name) else None
        if fault == "hang up":
            return
        if isinstance(fault, int) or name not in server.files:
            self.send_response(fault or 404)
            if server.retry_after:
                self.send_header("Retry-After", server.retry_after)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = server.files[name]
        start, version = 0, server.version_of(body)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and server.knows_ranges and self.headers["If-Range"] in version.values():
            start = int(wanted[1])
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        for header, value in version.items():
            self.send_header(header, value)
        self.send_header("Content-Type", "text/html; charset=utf-8" if fault == "page" else "application/octet-stream")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        try:
            self.wfile.write(body[start:(start + len(body)) // 2] if fault in ("cut", "stall") else body[start:])
            if fault == "stall":
                server.stalled.set()
                server.go_on.wait(60)
        except ConnectionError:
            pass  # the client didn't want all of it

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GPT2_MIRROR", raising=False)
    monkeypatch.setattr("urllib3.util.retry.time.sleep", lambda seconds: None)  # waiting between attempts
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.faults, server.requests, server.retry_after, server.knows_ranges = {}, {}, [], None, True
    server.version_of = lambda body: {"ETag": etag_of(body)}
    server.stalled, server.go_on = threading.Event(), threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr(gpt_download, "BASE_URL", server.url)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


CHUNK = 1 << 16  # what the download takes at a time: less than that is lost where a connection breaks
BODY = np.random.default_rng(0).bytes(80 * CHUNK)


@pytest.fixture
def target(server, tmp_path):
    """Where /file goes, in a folder that doesn't exist yet."""
    server.files["/file"] = BODY
    return tmp_path / "new" / "folder" / "file"


def start_part(target, body, etag=None):
    """What an interrupted download leaves behind."""
    target.parent.mkdir(parents=True)
    target.with_name("file.part").write_bytes(body)
    if etag is not None:
        target.with_name("file.part-version").write_text(etag)


def etag_of(body):
    return f'"{hashlib.md5(body).hexdigest()}"'


def ranges(server):
    return [headers.get("Range") for _, headers in server.requests]


def is_complete(target, body=BODY):
    return target.read_bytes() == body and [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_model_is_downloaded_once(server, small_dir, tmp_path):
    for name in FILES:
        server.files[f"/124M/{name}"] = (small_dir / name).read_bytes()
    settings, params = download_and_load_gpt2("124M", tmp_path)
    assert [path for path, _ in server.requests] == [f"/124M/{name}" for name in FILES]
    assert {path.name for path in (tmp_path / "124M").iterdir()} == {*FILES, "model.ckpt.verified"}
    expected = dict(flatten_params(load(small_dir)[1]))
    assert settings == SMALL and all((expected[path] == array).all() for path, array in flatten_params(params))
    server.requests.clear()
    download_and_load_gpt2("124M", tmp_path)
    assert server.requests == []
    (tmp_path / "124M" / "vocab.bpe").unlink()
    download_and_load_gpt2("124M", tmp_path)
    assert [path for path, _ in server.requests] == ["/124M/vocab.bpe"]


def test_resumes_where_an_earlier_process_stopped(server, target):
    start_part(target, BODY[:123_456], etag_of(BODY))
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server) == ["bytes=123456-"]


@pytest.mark.parametrize("etag", [None, '"another"'])
def test_starts_over_when_the_file_may_have_changed(server, target, etag):
    start_part(target, b"x" * 1000, etag)
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and len(server.requests) == 1


def test_a_longer_part_of_an_older_file_is_cut(server, target):
    server.files["/file"] = BODY[:5000]
    start_part(target, BODY, etag_of(BODY))
    download_file(f"{server.url}/file", target)
    assert is_complete(target, BODY[:5000])


@pytest.mark.parametrize("extra", [b"", b"rubbish"])
def test_a_part_with_nothing_left_to_fetch(server, target, extra):
    start_part(target, BODY + extra, etag_of(BODY))
    download_file(f"{server.url}/file", target)
    assert is_complete(target)


def test_a_connection_cut_in_the_middle_is_resumed(server, target):
    server.faults["/file"] = ["cut", "cut"]
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server) == [None, f"bytes={40 * CHUNK}-", f"bytes={60 * CHUNK}-"]


LAST_MODIFIED = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}


@pytest.mark.parametrize("version", [LAST_MODIFIED, {"ETag": 'W/"weak"'} | LAST_MODIFIED])
def test_a_date_will_do_where_there_is_no_strong_etag(server, target, version):
    server.version_of, server.faults["/file"] = lambda body: version, ["cut"]
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server) == [None, f"bytes={40 * CHUNK}-"]


def test_a_file_that_changes_during_the_download_starts_over(server, target):
    server.faults["/file"] = ["cut"] * 5
    with pytest.raises(CheckpointError):
        download_file(f"{server.url}/file", target)
    server.files["/file"] = BODY[::-1]
    download_file(f"{server.url}/file", target)
    assert is_complete(target, BODY[::-1])


def test_a_server_that_ignores_ranges_starts_over(server, target):
    server.knows_ranges, server.faults["/file"] = False, ["cut"]
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server) == [None, f"bytes={40 * CHUNK}-"]


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_leaves_a_resumable_state(server, target, death):
    """Another process downloads half of the file, then is killed or gets Ctrl-C."""
    server.faults["/file"] = ["stall"]
    code = ("import signal, sys, gpt_download; "
            "signal.signal(signal.SIGINT, signal.default_int_handler); "  # ignored where the tests run in the background
            "gpt_download.download_file(*sys.argv[1:])")
    process = subprocess.Popen([sys.executable, "-c", code, f"{server.url}/file", str(target)], stderr=subprocess.DEVNULL,
                               cwd=os.path.dirname(gpt_download.__file__))
    part = target.with_name("file.part")
    assert server.stalled.wait(60)
    while not part.exists() or part.stat().st_size < 30 * CHUNK:  # until it has written what was sent
        assert process.poll() is None
    process.send_signal(death)
    assert process.wait() != 0 and not target.exists()
    server.go_on.set()
    download_file(f"{server.url}/file", target)
    assert is_complete(target)
    assert 30 * CHUNK <= int(re.fullmatch(r"bytes=(\d+)-", ranges(server)[-1])[1]) <= 40 * CHUNK


def test_a_server_that_stops_sending_is_asked_again(server, target, monkeypatch):
    right = gpt_download.requests.Session.get
    monkeypatch.setattr(gpt_download.requests.Session, "get",
                        lambda *args, **options: right(*args, **options | {"timeout": 0.2}))
    server.faults["/file"] = ["stall"]
    download_file(f"{server.url}/file", target)
    server.go_on.set()
    assert is_complete(target) and len(server.requests) == 2 and ranges(server)[1]


def test_a_cut_connection_without_etag_starts_over(server, target):
    server.version_of, server.faults["/file"] = lambda body: {}, ["cut"]
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server) == [None, None]


def test_a_connection_cut_every_time_keeps_what_arrived(server, target):
    server.faults["/file"] = ["cut"] * 5
    with pytest.raises(CheckpointError, match="could not download .*/file.*put the file at"):
        download_file(f"{server.url}/file", target)
    assert len(server.requests) == 5 and not target.exists()
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server)[-1] == f"bytes={77 * CHUNK}-"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, target, status):
    server.faults["/file"] = [status, status]
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and len(server.requests) == 3


def test_the_server_says_when_to_ask_again(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waits.append)
    server.faults["/file"], server.retry_after = [429], "17"
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and waits == [17]


@pytest.mark.parametrize("fault", [503, "hang up"])
def test_a_server_that_stays_down_is_given_up(server, target, fault):
    server.faults["/file"] = [fault] * 100
    with pytest.raises(CheckpointError, match="could not download"):
        download_file(f"{server.url}/file", target)
    assert len(server.requests) == 6 and not target.exists()  # the first request and five more


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_file_is_asked_for_once(server, target, status):
    server.faults["/file"] = [status]
    with pytest.raises(CheckpointError, match=f"could not download {server.url}/file: {status}"):
        download_file(f"{server.url}/file", target)
    assert len(server.requests) == 1 and not target.exists()


def test_a_web_page_is_rejected(server, target):
    server.faults["/file"] = ["page"]
    with pytest.raises(CheckpointError, match="/file answered with a web page"):
        download_file(f"{server.url}/file", target)
    assert len(server.requests) == 1 and not target.exists()


def test_a_full_disk_is_noticed_first(server, target, monkeypatch):
    monkeypatch.setattr(gpt_download.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(CheckpointError, match="file.part needs 5,242,880 bytes, but .* has 1 free"):
        download_file(f"{server.url}/file", target)


def test_the_room_of_an_older_part_counts_as_free(server, target, monkeypatch):
    start_part(target, BODY, '"another"')
    room = len(BODY) + 10
    monkeypatch.setattr(gpt_download.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(
        room, 0, room - sum(path.stat().st_size for path in folder.glob("*.part"))))
    download_file(f"{server.url}/file", target)
    assert is_complete(target)


def test_a_place_that_can_not_be_written_to_is_named(server, tmp_path):
    (tmp_path / "folder").write_text("is a file")
    with pytest.raises(CheckpointError, match="can't write .*folder/file.part"):
        download_file(f"{server.url}/file", tmp_path / "folder" / "file")


def test_the_mirror_is_tried_second(server, small_dir, tmp_path, monkeypatch, capsys):
    for name in FILES:
        server.files[f"/mirror/124M/{name}"] = (small_dir / name).read_bytes()
    monkeypatch.setenv("GPT2_MIRROR", f"{server.url}/mirror/")
    server.files["/124M/vocab.bpe"] = (small_dir / "vocab.bpe").read_bytes()
    settings, _ = download_and_load_gpt2("124M", tmp_path)
    assert settings == SMALL
    printed = capsys.readouterr().out
    assert f"could not download {server.url}/124M/hparams.json: 404" in printed
    assert printed.count(f"Falling back to the mirror {server.url}/mirror") == len(FILES) - 1


def test_missing_files_of_an_unknown_size_are_an_error(server, model_dir):
    (model_dir / "vocab.bpe").unlink()
    with pytest.raises(CheckpointError, match="vocab.bpe is missing, and 'small' is none of OpenAI's sizes 124M, 355M"):
        load(model_dir)
    assert server.requests == []


# --- Damaged and mismatched files ---


@pytest.mark.parametrize("damage", ["a web page", "a flipped bit", "nothing left"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_only_that_is_fetched_again(server, small_dir, tmp_path, name, damage):
    for file in FILES:
        server.files[f"/124M/{file}"] = (small_dir / file).read_bytes()
    download_and_load_gpt2("124M", tmp_path)
    path = tmp_path / "124M" / name
    if damage == "a flipped bit":
        flip(path, 0)
    else:
        path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>" * 9 if damage == "a web page" else "")
    for _ in range(2):  # a file that was found damaged once is not trusted later
        with pytest.raises(CheckpointError, match=f"{name}.*(delete|fetch)"):
            download_and_load_gpt2("124M", tmp_path)
            load_tokenizer(tmp_path / "124M")
    path.unlink()
    server.requests.clear()
    download_and_load_gpt2("124M", tmp_path)
    load_tokenizer(tmp_path / "124M")
    assert [path for path, _ in server.requests] == [f"/124M/{name}"]


@pytest.mark.parametrize("name", ["checkpoint", DATA])
def test_a_file_that_can_not_be_read_is_named(model_dir, name):
    (model_dir / name).unlink()
    (model_dir / name).mkdir()
    with pytest.raises(CheckpointError, match=f"can't read the files in .*{name}"):
        load(model_dir)


@pytest.mark.parametrize("name", ["model/wte", "model/h0/attn/c_attn/w", "model/h1/ln_2/b", "model/ln_f/g"])
@pytest.mark.parametrize("reader", ["memmap", "tensorflow"])
def test_one_flipped_bit_in_a_tensor_is_named(model_dir, name, reader):
    _, _, offset, size, _ = read_index(model_dir / INDEX)[name]
    flip(model_dir / DATA, offset + size - 1)
    with pytest.raises(CheckpointError, match=f"{name if reader == 'memmap' else 'model.ckpt'}.*damaged"):
        load(model_dir, reader)


@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("reader", ["memmap", "tensorflow"])
def test_one_flipped_bit_in_the_index_is_noticed(model_dir, place, reader):
    flip(model_dir / INDEX, int(place * (model_dir / INDEX).stat().st_size))
    with pytest.raises(CheckpointError, match="model.ckpt"):
        load(model_dir, reader)


def test_a_truncated_index_is_noticed_at_any_length(model_dir):
    data = (model_dir / INDEX).read_bytes()
    for size in [*range(0, 60), *range(60, len(data), 37), len(data) - 1]:
        (model_dir / INDEX).write_bytes(data[:size])
        with pytest.raises(CheckpointError, match="model.ckpt.index is no sound TensorFlow index"):
            load(model_dir)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_data_file_is_noticed(model_dir, keep):
    truncate(model_dir / DATA, keep)
    with pytest.raises(CheckpointError, match=f"places model/.* doesn't fit the .* bytes of {DATA}"):
        load(model_dir)


@pytest.mark.parametrize("hparams, message", [
    ("", "hparams.json is not"), ("[1]", "hparams.json is not"), ("null", "hparams.json is not"),
    ("<html></html>", "hparams.json is not"), ("\udcff", "hparams.json is not"),
    ({"n_vocab": None}, "n_vocab is None"), ({"n_ctx": 0}, "n_ctx is 0"), ({"n_embd": -4}, "n_embd is -4"),
    ({"n_head": 2.0}, "n_head is 2.0"), ({"n_layer": True}, "n_layer is True"), ({"n_layer": "2"}, "n_layer is '2'"),
    ({"n_layer": 10**9}, "n_layer is 1000000000"), ({"n_vocab": 10**7}, "n_vocab is 10000000"),
    ({"n_head": 3}, "n_head 3 does not divide n_embd 4")])
def test_absurd_hparams(model_dir, hparams, message):
    text = hparams if isinstance(hparams, str) else json.dumps(SMALL | hparams)
    (model_dir / "hparams.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=message):
        load(model_dir)


@pytest.mark.parametrize("name", SMALL)
def test_missing_hparams(model_dir, name):
    (model_dir / "hparams.json").write_text(json.dumps({key: SMALL[key] for key in SMALL if key != name}))
    with pytest.raises(CheckpointError, match=f"hparams.json.*{name}"):
        load_settings(model_dir)


@pytest.mark.parametrize("change, message", [
    ({"n_layer": 3}, "lacks the tensor model/h2/attn/c_attn/b"),
    ({"n_layer": 1}, "has an unexpected tensor model/h1/attn/c_attn/b"),
    ({"n_embd": 8}, r"has model/h0/attn/c_attn/b of shape \(12,\); hparams.json asks for \(24,\)"),
    ({"n_ctx": 7}, r"has model/wpe of shape \(6, 4\); hparams.json asks for \(7, 4\)")])
@pytest.mark.parametrize("reader", ["memmap", "tensorflow"])
def test_a_checkpoint_of_another_size(model_dir, change, message, reader):
    (model_dir / "hparams.json").write_text(json.dumps(SMALL | change))
    with pytest.raises(CheckpointError, match=message):
        load(model_dir, reader)


@pytest.mark.parametrize("content", ['model_checkpoint_path: "/home/me/model.ckpt"\n', 'model_checkpoint_path: "other"',
                                     "", "<html>", "\x00\xff"])
def test_a_checkpoint_file_that_names_something_else(model_dir, content):
    (model_dir / "checkpoint").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match="checkpoint doesn't name model.ckpt"):
        load(model_dir)


def block_places(data):
    """(offset, size) of the data block and of the block that points to it, from the footer and that block's entry."""
    footer, at, numbers = data[-48:-8], 0, []
    for _ in range(4):
        number, at = read_varint(footer, at)
        numbers.append(number)
    offset, size = numbers[2:]
    block, at = data[offset:offset + size], 0
    _, at = read_varint(block, at)
    rest, at = read_varint(block, at)
    _, at = read_varint(block, at)
    start, at = read_varint(block, at + rest)
    length, _ = read_varint(block, at)
    return (start, length), (offset, size)


def sign_blocks(data, places):
    """The index with the checksums of its blocks made right again."""
    data = bytearray(data)
    for offset, size in places:
        struct.pack_into("<I", data, offset + size + 1, masked_crc32c(bytes(data[offset:offset + size + 1])))
    return bytes(data)


def change_index(model_dir, change):
    path = model_dir / INDEX
    data = bytearray(path.read_bytes())
    places = block_places(bytes(data))
    change(data, places)
    path.write_bytes(sign_blocks(data, places))


def test_signing_an_unchanged_index_changes_nothing(model_dir):
    before = (model_dir / INDEX).read_bytes()
    change_index(model_dir, lambda data, places: None)
    assert (model_dir / INDEX).read_bytes() == before


def varint(number):
    """The same format as `read_varint` reads, written from its definition."""
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def message(fields):
    """A protocol buffer of numbers (kind 0) and bytes (kind 2)."""
    return b"".join(varint(number << 3) + varint(value) if isinstance(value, int)
                    else varint(number << 3 | 2) + varint(len(value)) + value for number, value in fields)


def block(pairs):
    """A block of keys that share nothing, with one restart point and its trailer."""
    body = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in pairs)
    body += struct.pack("<II", 0, 1) + b"\0"
    return body + struct.pack("<I", masked_crc32c(body))


def write_table(path, pairs):
    """A table with one block of (key, value) pairs, sorted, and an empty metaindex block."""
    data, meta = block(pairs), block([])
    index = block([(b"z", varint(0) + varint(len(data) - 5))])
    handles = varint(len(data)) + varint(len(meta) - 5) + varint(len(data) + len(meta)) + varint(len(index) - 5)
    path.write_bytes(data + meta + index + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))


def write_index(path, header, tensors):
    """An index of one block, with the tensors {name: (dtype, shape, offset, size, checksum)}."""
    def entry(dtype, shape, offset, size, checksum):
        dims = b"".join(message([(2, message([(1, n)]))]) for n in shape)
        return message([(1, dtype), (2, dims), (4, offset), (5, size)]) + b"\x35" + struct.pack("<I", checksum)

    write_table(path, [(b"", message(header)), *((name.encode(), entry(*values)) for name, values in sorted(tensors.items()))])


LITTLE_ENDIAN, BIG_ENDIAN = [(1, 1), (2, 0)], [(1, 1), (2, 1)]


def tensors_of(model_dir):
    return {name: (1, *values) for name, (_, *values) in read_index(model_dir / INDEX).items()}


def test_an_index_written_from_the_definition_is_read(model_dir):
    expected = dict(flatten_params(load(model_dir)[1]))
    write_index(model_dir / INDEX, LITTLE_ENDIAN, tensors_of(model_dir))
    assert all((expected[path] == array).all() for path, array in flatten_params(load(model_dir)[1]))


@pytest.mark.parametrize("lie, message", [
    (dict(offset=10**6), "doesn't fit"), (dict(offset=2**63), "doesn't fit"), (dict(offset=0), "doesn't fit"),
    (dict(size=2**60), "doesn't fit"), (dict(shape=(2**40, 2**40)), "doesn't fit"), (dict(shape=(1,) * 40), "doesn't fit"),
    (dict(shape=(2**40, 0), size=0), "model/wpe"), (dict(shape=(4, 6)), "hparams.json asks for"),
    (dict(dtype=2), "neither float32 nor float16")])
def test_an_entry_that_lies_is_an_error(model_dir, lie, message):
    """Beyond the file, over another tensor, with sizes that no memory could hold."""
    tensors = tensors_of(model_dir)
    entry = dict(zip(("dtype", "shape", "offset", "size", "checksum"), tensors["model/wpe"])) | lie
    write_index(model_dir / INDEX, LITTLE_ENDIAN, tensors | {"model/wpe": tuple(entry.values())})
    with pytest.raises(CheckpointError, match=message):
        load(model_dir)


def test_big_endian_numbers_are_an_error(model_dir):
    write_index(model_dir / INDEX, BIG_ENDIAN, tensors_of(model_dir))
    with pytest.raises(CheckpointError, match="model.ckpt.index .*big-endian"):
        load(model_dir)


def test_a_foreign_table_is_an_error(model_dir):
    """The same format with other content: no header under the empty key."""
    write_table(model_dir / INDEX, [(b"key", b"value")])
    with pytest.raises(CheckpointError, match="model.ckpt.index .*no header"):
        load(model_dir)


@pytest.mark.parametrize("block", [0, 1])
def test_a_compressed_block_is_an_error(model_dir, block):
    def compress(data, places):
        data[sum(places[block])] = 1
    change_index(model_dir, compress)
    with pytest.raises(CheckpointError, match="model.ckpt.index .*a compressed block"):
        load(model_dir)


def test_two_data_files_are_an_error(model_dir):
    def say_two(data, places):
        at = places[0][0] + 3  # the header's value follows the three lengths and its empty key
        assert data[at:at + 2] == b"\x08\x01"
        data[at + 1] = 2
    change_index(model_dir, say_two)
    with pytest.raises(CheckpointError, match="model.ckpt.index .*more than one data file"):
        load(model_dir)


def test_a_tensor_of_another_type_is_an_error(model_dir):
    def say_double(data, places):
        at = data.index(b"\x08\x01\x12", places[0][0] + 8)  # dtype 1, then the shape: the first tensor's
        data[at + 1] = 2
    change_index(model_dir, say_double)
    with pytest.raises(CheckpointError, match="model/h0/attn/c_attn/b is neither float32 nor float16"):
        load(model_dir)


def test_bytes_where_a_number_belongs_are_an_error(model_dir):
    def say_bytes(data, places):
        at = data.index(b"\x28\xc0\x01", places[0][0])  # field 5, the size of a tensor: 192
        data[at:at + 3] = b"\x2a\x01\xc0"  # the same field as a string of one byte
    change_index(model_dir, say_bytes)
    with pytest.raises(CheckpointError, match="model.ckpt.index is no sound TensorFlow index"):
        load(model_dir)


mutations = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)


@hypothesis_settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", 200)), deadline=None,
                     suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=mutations, signed=st.booleans())
def test_mutated_indexes_raise_nothing_but_checkpoint_errors(small_dir, tmp_path, changes, signed):
    """Some bytes are set; in half the cases the checksums are made right again, so that the parser is reached."""
    original = (small_dir / INDEX).read_bytes()
    places = block_places(original)
    data = bytearray(original)
    for place, value in changes:
        data[int(place * (places[0][1] + 9 if signed else len(data)))] = value
    folder = tmp_path / "small"
    if not folder.exists():
        shutil.copytree(small_dir, folder)
    (folder / INDEX).write_bytes(sign_blocks(data, places) if signed else data)
    try:
        load(folder)
    except CheckpointError:
        pass


# --- Verifying once ---


@pytest.fixture
def checksums(monkeypatch):
    """The sizes of what checksums are computed of."""
    sizes, right = [], gpt_download.masked_crc32c
    monkeypatch.setattr(gpt_download, "masked_crc32c", lambda data: sizes.append(len(data)) or right(data))
    return sizes


TENSORS = 4 + 12 * SMALL["n_layer"]


def verified(model_dir, checksums):
    """How many tensors a load verifies; the index's two blocks are checked at every load."""
    checksums.clear()
    load(model_dir)
    return len(checksums) - 2


def test_a_second_load_does_not_verify_again(model_dir, checksums):
    assert [verified(model_dir, checksums) for _ in range(3)] == [TENSORS, 0, 0]
    assert sum(checksums) < (model_dir / INDEX).stat().st_size


@pytest.mark.parametrize("name", [DATA, INDEX])
def test_a_changed_file_is_verified_again(model_dir, checksums, name):
    verified(model_dir, checksums)
    (model_dir / name).write_bytes((model_dir / name).read_bytes())
    assert [verified(model_dir, checksums) for _ in range(2)] == [TENSORS, 0]


def test_damage_after_verifying_is_noticed(model_dir):
    load(model_dir)
    flip(model_dir / DATA, 50)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="damaged"):
            load(model_dir)


@pytest.mark.parametrize("content", [b"", b"something else", b"\xff\xfe"])
def test_a_stamp_that_says_something_else_does_not_count(model_dir, checksums, content):
    (model_dir / "model.ckpt.verified").write_bytes(content)
    assert [verified(model_dir, checksums) for _ in range(2)] == [TENSORS, 0]


def test_a_folder_that_can_not_be_written_to_is_verified_every_time(model_dir, checksums, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError("read-only")
    for method in ("write_text", "write_bytes"):
        monkeypatch.setattr(gpt_download.Path, method, refuse)
    assert [verified(model_dir, checksums) for _ in range(2)] == [TENSORS, TENSORS]
    assert not (model_dir / "model.ckpt.verified").exists()
