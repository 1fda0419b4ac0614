"""Downloads that go on where they stopped, whatever stopped them."""

import re
import shutil
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

BUSY = (429, 500, 502, 503, 504)  # answers after which a server is asked again
ATTEMPTS = 5  # at a transfer, however each of them ends


class CheckpointError(RuntimeError):
    """A file that can't be fetched, or isn't what it should be; says what to do."""


class SourceError(CheckpointError):
    """A file that can't be had from the address that was asked; another one may have it."""


def download_file(url, destination):
    """Download a file, with a progress bar; `destination` appears only when it is complete.

    The bytes collect in `<destination>.part`. After an interruption, in this process or an earlier one, the download
    goes on where it stopped, if the server still has the same file (ETag or Last-Modified), else from the start.
    Requests without an answer, or with 429 (and its Retry-After), 500, 502, 503 or 504, are tried again up to five
    times, and transfers that break off up to four. Raises CheckpointError when all fail, for any other answer, such as
    a web page instead of a file, and when the disk is too small or can't be written to.
    """
    destination = Path(destination)
    unfinished = destination.with_name(destination.name + ".part")
    version_file = unfinished.with_suffix(".part-version")  # which version of the file those bytes belong to
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=Retry(5, backoff_factor=0.5, status_forcelist=BUSY)))
    try:
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                if fetch_rest(session, url, unfinished, version_file):
                    unfinished.replace(destination)
                    version_file.unlink(missing_ok=True)
                    return
            except requests.RequestException as error:
                if not broken_off(error) or not attempts_left:
                    raise SourceError(f"could not download {url}: {error}. Check the network and try again (it goes on "
                                      f"where it stopped), or put the file at {destination} by hand") from error
    except OSError as error:
        raise CheckpointError(f"can't write {unfinished}: {error}") from error
    raise SourceError(f"could not download {url}: its server sends other parts of the file than it is asked for")


def broken_off(error):
    """Whether a transfer ended in the middle. A MaxRetryError means no answer to any of six requests."""
    return (isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.ConnectionError))
            and not isinstance(error.args[0], MaxRetryError))


def fetch_rest(session, url, unfinished, version_file):
    """Append to the file `unfinished` what it lacks of what lies at `url`. Returns whether it is complete; otherwise it
    is gone, as the server had nothing to append to it, and the next attempt begins anew."""
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    version = version_file.read_text() if unfinished.exists() and version_file.exists() else ""
    have = unfinished.stat().st_size if version else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-", "If-Range": version} if have else {})
    with session.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
        if response.status_code == 416 and have:  # nothing is left to send, or the file is shorter now
            unfinished.unlink()
            return False
        response.raise_for_status()
        if "text/html" in response.headers.get("Content-Type", ""):
            raise SourceError(f"{url} answered with a web page instead of the file: is a proxy in between?")
        length = response.headers.get("Content-Length", "")
        length = int(length) if length.isdigit() else 0  # 0: unknown
        if response.status_code == 206:  # bytes <first>-<last>/<length of the file>, RFC 9110, section 14.4
            sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not sent or int(sent[1]) != have or version_of(response) != version:
                unfinished.unlink(missing_ok=True)
                return False
            length = int(sent[2])
        else:
            have = 0
            unfinished.unlink(missing_ok=True)  # of another version
        append_body(response, unfinished, have, length, version_file)
    return True


def version_of(response):
    """What tells one version of a file from another: the ETag, unless it is weak, which doesn't promise the same bytes;
    else the date; else nothing."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def append_body(response, unfinished, have, length, version_file):
    """Write the body of a response to a file, after its first `have` bytes, with a progress bar. Raises ConnectionError
    unless the file then has its `length`, where that is known (not 0)."""
    if (free := shutil.disk_usage(unfinished.parent).free) < length - have:
        raise CheckpointError(f"{unfinished.name} needs {length - have:,} bytes, but {unfinished.parent} has {free:,} "
                              "free")
    with open(unfinished, "r+b" if have else "wb") as file, tqdm(
            desc=unfinished.stem, total=length or None, initial=have, unit="B", unit_scale=True) as bar:
        file.seek(have)
        version_file.write_text(version_of(response))
        for chunk in response.iter_content(1 << 16):
            file.write(chunk)
            bar.update(len(chunk))
        file.truncate()
    if length and unfinished.stat().st_size != length:
        raise requests.exceptions.ConnectionError(f"{unfinished.stat().st_size:,} of {length:,} bytes arrived")
