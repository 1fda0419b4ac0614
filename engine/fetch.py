"""Downloads that go on where they stopped, whatever stopped them."""

import shutil
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

BUSY = (429, 500, 502, 503, 504)  # answers after which a server is asked again


class CheckpointError(RuntimeError):
    """A file that can't be fetched, or isn't what it should be; says what to do."""


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
    session.mount(url, HTTPAdapter(max_retries=Retry(5, backoff_factor=0.5, status_forcelist=BUSY)))
    attempts_left = 5
    while True:
        try:
            if fetch_rest(session, url, unfinished, version_file):
                break
        except requests.RequestException as error:
            attempts_left -= 1
            if not broken_off(error) or not attempts_left:
                raise CheckpointError(f"could not download {url}: {error}. Check the network and try again (it goes on "
                                      f"where it stopped), or put the file at {destination} by hand") from error
        except OSError as error:
            raise CheckpointError(f"can't write {unfinished}: {error}") from error
    unfinished.replace(destination)
    version_file.unlink(missing_ok=True)


def broken_off(error):
    """Whether a transfer ended in the middle. A MaxRetryError means no answer to any of six requests."""
    return (isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.ConnectionError))
            and not isinstance(error.args[0], MaxRetryError))


def fetch_rest(session, url, unfinished, version_file):
    """Append to the file `unfinished` what it lacks of what lies at `url`. Returns whether it is complete; it isn't
    where the server had nothing to append, which makes the next request begin anew."""
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
            raise CheckpointError(f"{url} answered with a web page instead of the file: is a proxy in between?")
        if response.headers.get("Content-Range", "").split("-")[0] != f"bytes {have}":
            have = 0
            unfinished.unlink(missing_ok=True)  # of another version
        etag = response.headers.get("ETag", "W/")  # a weak tag doesn't promise the same bytes
        version = response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag
        append_body(response, unfinished, have, version_file, version)
    return True


def append_body(response, unfinished, have, version_file, version):
    """Write the body of a response to a file, after its first `have` bytes, with a progress bar."""
    missing = int(response.headers.get("Content-Length", 0))
    if (free := shutil.disk_usage(unfinished.parent).free) < missing:
        raise CheckpointError(f"{unfinished.name} needs {missing:,} bytes, but {unfinished.parent} has {free:,} free")
    total = have + missing
    with open(unfinished, "r+b" if have else "wb") as file, tqdm(
            desc=unfinished.stem, total=total or None, initial=have, unit="B", unit_scale=True) as bar:
        file.seek(have)
        version_file.write_text(version)
        for chunk in response.iter_content(1 << 16):
            file.write(chunk)
            bar.update(len(chunk))
    if missing and unfinished.stat().st_size != total:
        raise requests.exceptions.ConnectionError(f"{unfinished.stat().st_size:,} of {total:,} bytes arrived")
