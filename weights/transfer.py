"""Downloads that resume where they stopped, whatever stopped them."""

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.response import HTTPResponse
from urllib3.util import Retry

from weights.errors import CheckpointError, SourceError
from weights.files import lock

BUSY = (429, 500, 502, 503, 504)  # status codes after which a request is sent again
ATTEMPTS = 5  # to transfer a file; each resumes where the one before broke off
NETWORK_SETTINGS = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",  # the environment variables of requests, and of httpx
                    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


def download_file(url, destination):
    """Download a file, with a progress bar; `destination` appears only when it is complete.

    Until then its bytes are in `<destination>.part`. After an interruption, in this process or an earlier one, the
    download resumes there if the server still has the same version (ETag or Last-Modified), and otherwise starts over.
    A request that gets no answer, or the status 429 (whose Retry-After is respected), 500, 502, 503 or 504, is sent
    again up to five times; a transfer that breaks off is resumed up to four times. When another process downloads into
    the same folder, this one waits for it, and uses its file.

    Raises SourceError when all attempts fail, for any other answer, such as a web page instead of a file, and for a
    proxy or certificates that can't be used; CheckpointError, its base class, when the disk is full or can't be written
    to.
    """
    destination = Path(destination)
    # A file that was there is replaced; one that appeared while we waited is another process's download.
    replaces = destination.exists()
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(destination.parent):
            if replaces or not destination.exists():
                transfer(url, destination)
    except OSError as error:
        raise CheckpointError(f"can't write {destination}.part: {error}") from error


def download_from_first(urls, destination):
    """Download a file from the first of several addresses, at least one, that has it, and return that address. Prints
    why others failed. Raises SourceError, that of the last address, if none has the file, and CheckpointError as
    `download_file` does."""
    *others, last = urls
    for url in others:
        try:
            download_file(url, destination)
            return url
        except SourceError as error:
            print(error)
    download_file(last, destination)
    return last


@contextmanager
def one_at_a_time(folder):
    """Lock a folder for the `with` block, after its present holder has released it. On Windows, and on file systems
    without locks, this does nothing."""
    if os.name == "nt":  # Windows can't open a folder
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            lock(descriptor)
        except BlockingIOError:
            print(f"Waiting for another download into {folder}")
            lock(descriptor, wait=True)
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def transfer(url, destination):
    """Download a file in several attempts, if need be. Raises SourceError, and OSError when it can't be written."""
    unfinished = destination.with_name(destination.name + ".part")
    version_file = unfinished.with_suffix(".part-version")  # says which version of the file these bytes are of
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=Retry(5, backoff_factor=0.5, status_forcelist=BUSY)))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if fetch_rest(session, url, unfinished, version_file):
                unfinished.replace(destination)
                version_file.unlink(missing_ok=True)
                return
        except requests.RequestException as error:
            if not broken_off(error) or attempt == ATTEMPTS:
                raise SourceError(f"could not download {url}: {error}. Check {network_in_words()} and try again (it "
                                  f"resumes where it stopped), or put the file at {destination} by hand") from error
    raise SourceError(f"could not download {url}: the server sends other parts of the file than requested")


def network_in_words():
    """What to check when no server answers: the network, and the environment variables that configure it."""
    names = [name for name in NETWORK_SETTINGS if os.environ.get(name) or os.environ.get(name.lower())]
    if not names:
        return "the network"
    return f"the network and the environment variable{'s' if len(names) > 1 else ''} {', '.join(names)}"


def broken_off(error):
    """Whether a transfer broke off in the middle. (A MaxRetryError means that none of six requests was answered.)"""
    return (isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.ConnectionError))
            and not isinstance(error.args[0], MaxRetryError))


def fetch_rest(session, url, unfinished, version_file):
    """Append the missing bytes of `url` to the file `unfinished`. Returns False if the partial file was useless and has
    been deleted, so that the next attempt starts over."""
    version = version_file.read_text() if unfinished.exists() and version_file.exists() else ""
    n_received = unfinished.stat().st_size if version else 0
    headers = {"Accept-Encoding": "identity"}
    if n_received:
        headers |= {"Range": f"bytes={n_received}-", "If-Range": version}
    with request(session, url, headers) as response:
        if response.status_code == 416 and n_received:  # nothing follows these bytes: start over
            unfinished.unlink()
            return False
        response.raise_for_status()
        if "text/html" in response.headers.get("Content-Type", ""):
            raise SourceError(f"{url} answered with a web page instead of the file: a login page, or a proxy's?")
        if response.status_code == 206:  # these bytes; "bytes <first>-<last>/<length of the file>" (RFC 9110, 14.4)
            sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not sent or int(sent[1]) != n_received or version_of(response) != version:  # not the rest of this file
                unfinished.unlink(missing_ok=True)
                return False
            length = int(sent[2])
        else:  # the whole file, perhaps in another version
            n_received, length = 0, body_length(response)
            unfinished.unlink(missing_ok=True)
        append_body(response, unfinished, n_received, length, version_file)
    return True


def body_length(response):
    """The number of bytes in a response's body; 0 if it isn't known."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() and not is_decoded(response) else 0


def request(session, url, headers):
    """The answer to a request, with the body still to be read. Raises RequestException, or SourceError for a proxy or
    certificates for which the library raises errors of another kind."""
    try:
        return session.get(url, headers=headers, stream=True, timeout=(10, 60))
    except requests.RequestException:
        raise
    except (OSError, ValueError, HTTPError) as error:
        raise SourceError(f"could not download {url}: {error}. Check {network_in_words()}") from error


def is_decoded(response):
    """Whether the body arrives compressed, though this wasn't asked for. requests decompresses it: its bytes aren't
    those that the headers count."""
    encodings = response.headers.get("Content-Encoding", "").lower().replace(",", " ").split()
    return any(encoding in HTTPResponse.CONTENT_DECODERS for encoding in encodings)


def version_of(response):
    """What identifies a version of a file: the ETag, unless it is weak, as that doesn't promise the same bytes; else
    the date; else an empty text, as for a compressed body, which can't be resumed in the middle."""
    if is_decoded(response):
        return ""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def append_body(response, unfinished, n_received, length, version_file):
    """Write the body of a response to a file, after its first `n_received` bytes, with a progress bar. Raises
    ConnectionError unless the file then has `length` bytes (0 if that is unknown), and CheckpointError when the disk is
    too small."""
    if (free := shutil.disk_usage(unfinished.parent).free) < length - n_received:
        raise CheckpointError(f"{unfinished.name} needs {length - n_received:,} bytes, but {unfinished.parent} has "
                              f"{free:,} free")
    with open(unfinished, "r+b" if n_received else "wb") as file, tqdm(
            desc=unfinished.stem, total=length or None, initial=n_received, unit="B", unit_scale=True) as bar:
        file.seek(n_received)
        version_file.write_text(version_of(response))
        for chunk in response.iter_content(1 << 16):
            file.write(chunk)
            bar.update(len(chunk))
        file.truncate()
    if length and unfinished.stat().st_size != length:
        raise requests.exceptions.ConnectionError(f"{unfinished.stat().st_size:,} of {length:,} bytes arrived")
