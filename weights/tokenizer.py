"""GPT-2's tokenizer, read from the two files beside OpenAI's weights: `encoder.json` and `vocab.bpe`."""

import hashlib
import json
from pathlib import Path

import tiktoken

from weights.errors import CheckpointError

TOKENIZER_SHA256 = {  # the same for every size; tiktoken pins the same two
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
END_OF_TEXT = 50256  # GPT-2's only special token, which separates the documents of its pretraining text
# How GPT-2 splits a text before it merges bytes: contractions; words, numbers and punctuation, each with the space
# before it; other white space. Source: OpenAI's gpt-2, src/encoder.py.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def load_tokenizer(model_dir):
    """GPT-2's tokenizer, built from the `encoder.json` and `vocab.bpe` of a model folder. Uses no network.

    Equal to `tiktoken.get_encoding("gpt2")`. Raises CheckpointError when a file is missing or isn't GPT-2's.
    """
    contents = {}
    for name, sha256 in TOKENIZER_SHA256.items():
        path = Path(model_dir, name)
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"can't read {path}: {error}") from error
        if hashlib.sha256(contents[name]).hexdigest() != sha256:
            raise CheckpointError(f"{path} is damaged (wrong sha256): delete it to download it again")
    # encoder.json numbers the tokens in the order of vocab.bpe's merges: these ids are the ranks that tiktoken expects.
    # (tiktoken's function for these two files isn't used, as it leaves copies of them in a cache folder.)
    byte_of = bytes_of_characters()
    ranks = {token.translate(byte_of).encode("latin-1"): rank
             for token, rank in json.loads(contents["encoder.json"]).items() if rank != END_OF_TEXT}
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks,
                             special_tokens={"<|endoftext|>": END_OF_TEXT})


def bytes_of_characters():
    """The byte that each character of a token in `encoder.json` stands for, {number of the character: byte}. A byte is
    written as the character with its number, if that is printable in Latin-1, else as the next one from 256 on. Source:
    bytes_to_unicode in OpenAI's gpt-2, src/encoder.py."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)).difference(printable))
    return {byte: byte for byte in printable} | {256 + i: byte for i, byte in enumerate(others)}
