"""The errors of files and downloads."""


class CheckpointError(RuntimeError):
    """A file can't be downloaded, or isn't what it should be. The message says what to do."""


class SourceError(CheckpointError):
    """A file can't be downloaded from one address. Another one may have it."""
