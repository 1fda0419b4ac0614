"""Files that are written whole or not at all, by one process or several."""

import errno
import glob
import os
import re
import secrets
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which has no such locks, but deletes no file that is open
    fcntl = None

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # the disk is full, or a quota or a limit on files is reached


@contextmanager
def atomic_write(path):
    """Write a file whole or not at all: `with atomic_write(path) as unfinished:` gives a path to write to, and at the
    end of the block that file replaces `path`. If the block fails or the process dies, `path` is as it was before.
    Folders that are missing are made.

    Each writer has an unfinished file of its own, `<path>.<8 random hex digits>.part`; with several writers, the whole
    file of the last to finish is at `path`. The unfinished file is locked while it is written, so that the next writer
    can tell that a file without a lock is a dead writer's, and deletes it. (So the block must write into this file, and
    not replace it.) Raises OSError if the disk is full, also when the block raised something else because of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):
        unlink_unlocked(leftover)
    file = create_part(path)
    unfinished = Path(file.name)
    try:
        yield unfinished
        with open(unfinished, "rb+") as written:
            os.fsync(written.fileno())  # or the new name could reach the disk before the bytes do
        if os.name == "nt":
            file.close()  # Windows renames no file that is open
        unfinished.replace(path)
    except Exception as error:
        if number := disk_full_errno(error, unfinished):
            raise OSError(number, f"no room for {path} ({os.strerror(number)}). What was there before is unharmed: "
                          "free some space and save again") from error
        raise
    finally:
        file.close()
        unfinished.unlink(missing_ok=True)


def create_part(path):
    """A new file beside `path`, open and locked, with a name that no other writer has.

    Before it is locked, another writer may take it for a leftover and delete it. So if it is gone then, the next one is
    made.
    """
    while True:
        name = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        file = open(name, "xb")  # noqa: SIM115  it stays open, and so locked
        try:
            lock(file)
            if name.exists():
                return file
        except BlockingIOError:  # another writer has locked it, to delete it
            pass
        except OSError:
            return file  # a file system without locks: leftovers stay there
        file.close()


def disk_full_errno(error, path):
    """The number of the system error if a full disk, or a limit, caused an `error` while a file was written; else None.

    PyTorch reports a full disk as "unexpected pos", without a number. So for any other error, 16 MB are written as a
    test.
    """
    numbers = [getattr(error, "errno", None), *map(int, re.findall(r"os error (\d+)", str(error)))]  # as Rust writes it
    if not DISK_FULL.intersection(numbers):
        try:
            with open(path, "ab") as file:
                file.write(bytes(1 << 24))
                file.flush()
                os.fsync(file.fileno())
        except OSError as refused:
            numbers = [refused.errno]
    return next((number for number in numbers if number in DISK_FULL), None)


def lock(file, wait=False):
    """Lock an open file, or a folder by its descriptor, until it is closed or the process ends. On Windows this does
    nothing.

    If it is locked already, raises BlockingIOError, or waits with `wait`. Raises OSError on file systems without locks.
    """
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def unlink_unlocked(path):
    """Delete a file whose writer, which had locked it, has died. A file that is still locked or open stays."""
    try:
        if fcntl is None:
            return os.unlink(path)
        with open(path, "rb") as file:
            lock(file)
            os.unlink(path)
    except OSError:
        pass
