"""Downloads from a local web server, and everything that can go wrong with them."""

import gzip
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import weights.transfer
from tests.web_server import etag_of, ranges
from tutorial import ROOT
from weights.errors import CheckpointError, SourceError
from weights.transfer import NETWORK_SETTINGS, download_file

CHUNK = 1 << 16  # bytes that are written at a time: fewer than that are lost when a connection breaks
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


def is_complete(target, body=BODY):
    return target.read_bytes() == body and [path.name for path in target.parent.iterdir()] == [target.name]


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


def test_a_part_that_is_shorter_than_asked_is_no_end(server, target):
    server.faults["/file"] = ["cut", "short part"]
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server)[1:] == [f"bytes={40 * CHUNK}-", f"bytes={40 * CHUNK + 4096}-"]


@pytest.mark.parametrize("fault", ["other part", "other version"])
def test_a_part_of_something_else_starts_over(server, target, fault):
    server.faults["/file"] = ["cut", fault]
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server) == [None, f"bytes={40 * CHUNK}-", None]


def test_a_server_that_never_sends_the_right_part_is_given_up(server, target):
    server.faults["/file"] = ["cut", "other part"] * 3
    with pytest.raises(CheckpointError, match="could not download"):
        download_file(f"{server.url}/file", target)
    assert len(server.requests) == 5 and not target.exists()


def download_in_another_process(server, target):
    code = ("import signal, sys, weights.transfer; "
            "signal.signal(signal.SIGINT, signal.default_int_handler); "  # in the background it is ignored
            "weights.transfer.download_file(*sys.argv[1:])")
    return subprocess.Popen([sys.executable, "-u", "-c", code, f"{server.url}/file", str(target)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_leaves_a_resumable_state(server, target, death):
    """Another process downloads half of the file, then is killed or gets Ctrl-C."""
    server.faults["/file"] = ["stall"]
    process = download_in_another_process(server, target)
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


@pytest.mark.parametrize("first_one", ["ends", "is killed"])
def test_of_two_processes_one_downloads_and_the_other_waits(server, target, first_one):
    server.faults["/file"] = ["stall"]
    first = download_in_another_process(server, target)
    assert server.stalled.wait(60)
    second = download_in_another_process(server, target)
    assert second.stdout.readline() == f"Waiting for another download into {target.parent}\n"
    if first_one == "is killed":
        first.kill()
        first.wait()
    server.go_on.set()
    assert second.wait() == 0 and is_complete(target)
    assert first.wait() == (0 if first_one == "ends" else -signal.SIGKILL)
    assert len(server.requests) == 2 and ranges(server)[1], "the second part is downloaded once"


def test_without_locks_a_download_does_not_wait(server, target, monkeypatch):
    def no_locks(descriptor, wait=False):
        raise OSError("Bad file descriptor")
    monkeypatch.setattr("weights.transfer.lock", no_locks)
    download_file(f"{server.url}/file", target)
    assert is_complete(target)


def test_a_server_that_stops_sending_is_asked_again(server, target, monkeypatch):
    right = weights.transfer.requests.Session.get
    monkeypatch.setattr(weights.transfer.requests.Session, "get",
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


def compress(server, **headers):
    """Have the server send its file compressed, asked for or not, with the length of that."""
    server.files["/file"] = gzip.compress(BODY)
    server.version_of = lambda body: {"ETag": etag_of(BODY), "Content-Encoding": "gzip"} | headers


def test_a_compressed_answer_is_not_compared_with_its_compressed_length(server, target):
    compress(server)
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and len(server.requests) == 1
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_a_compressed_answer_that_breaks_off_starts_over(server, target):
    """How many of its bytes are in the part can't be known."""
    compress(server)
    server.faults["/file"] = ["cut"]
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server) == [None, None]
    server.faults["/file"] = ["cut"] * 5
    with pytest.raises(SourceError, match="could not download .*/file"):
        download_file(f"{server.url}/file", target.with_name("another"))
    assert not target.with_name("another").exists()


def test_a_compressed_rest_of_a_file_starts_over(server, target):
    compress(server)
    start_part(target, BODY[:123_456], etag_of(BODY))
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server) == ["bytes=123456-", None]


def test_an_answer_in_an_encoding_that_is_none_has_its_length(server, target):
    server.version_of = lambda body: {"ETag": etag_of(BODY), "Content-Encoding": "utf-8"}
    server.faults["/file"] = ["cut"]
    download_file(f"{server.url}/file", target)
    assert is_complete(target) and ranges(server) == [None, f"bytes={40 * CHUNK}-"]


@pytest.mark.parametrize("name, value, message", [
    ("REQUESTS_CA_BUNDLE", "/none.pem", "certificate bundle, invalid path: /none.pem"),
    ("https_proxy", "socks://127.0.0.1:9", "SOCKS"), ("ALL_PROXY", "socks5h://127.0.0.1:9", "SOCKS"),
    ("HTTPS_PROXY", "ftp://127.0.0.1:9", "unsupported scheme ftp"), ("HTTPS_PROXY", "http://", "proxy URL"),
    ("HTTPS_PROXY", "http://proxy:port", "'proxy:port' is not a valid host or port"),
    ("HTTPS_PROXY", "http://127.0.0.1:9", "Unable to connect to proxy.*refused")])
def test_a_proxy_or_certificates_that_can_not_be_used_are_named(target, monkeypatch, name, value, message):
    monkeypatch.setattr("urllib3.util.retry.time.sleep", lambda seconds: None)
    for other in (*NETWORK_SETTINGS, "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.lower(), raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(SourceError, match=rf"could not download https://somewhere.invalid/file: .*{message}.*Check the "
                                          rf"network and the environment variable {name.upper()}\b"):
        download_file("https://somewhere.invalid/file", target)
    assert not target.exists()


def test_a_full_disk_is_noticed_first(server, target, monkeypatch):
    monkeypatch.setattr(weights.transfer.shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(CheckpointError, match="file.part needs 5,242,880 bytes, but .* has 1 free"):
        download_file(f"{server.url}/file", target)


def test_the_room_of_an_older_part_counts_as_free(server, target, monkeypatch):
    start_part(target, BODY, '"another"')
    room = len(BODY) + 10
    monkeypatch.setattr(weights.transfer.shutil, "disk_usage", lambda folder: SimpleNamespace(
        free=room - sum(path.stat().st_size for path in folder.glob("*.part"))))
    download_file(f"{server.url}/file", target)
    assert is_complete(target)


def test_a_place_that_can_not_be_written_to_is_named(server, tmp_path):
    (tmp_path / "folder").write_text("is a file")
    with pytest.raises(CheckpointError, match="can't write .*folder/file.part"):
        download_file(f"{server.url}/file", tmp_path / "folder" / "file")
