"""OpenAI's GPT-2 weights: fetch the files, verify them, read the TensorFlow checkpoint, hand out numpy arrays.

A model folder, such as gpt2/124M, holds six files: `hparams.json` (the sizes), `encoder.json` and `vocab.bpe` (the
tokenizer), and a TensorFlow V2 checkpoint: `checkpoint` (its name), `model.ckpt.index` (which tensor lies where) and
`model.ckpt.data-00000-of-00001` (the tensors' bytes, one after another). The data file is mapped into memory, so that
opening 6 GB takes no time and no copy; TensorFlow itself is only needed on request, as an independent reader.

Whatever is wrong with a folder's files, or with getting them, is reported as `CheckpointError`.
"""

import hashlib
import json
import math
import os
import shutil
import struct
from pathlib import Path

import google_crc32c
import numpy as np
import requests
import tiktoken
from requests.adapters import HTTPAdapter
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

BASE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"
OPENAI_SIZES = ("124M", "355M", "774M", "1558M")
FILES = ("hparams.json", "encoder.json", "vocab.bpe", "checkpoint", "model.ckpt.index",
         "model.ckpt.data-00000-of-00001")
TOKENIZER_SHA256 = {  # the same for every size; tiktoken pins the same two
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
DTYPES = {1: np.dtype("<f4"), 19: np.dtype("<f2")}  # tensorflow/core/framework/types.proto: DT_FLOAT, DT_HALF
HPARAMS_LIMITS = {"n_vocab": 10**6, "n_ctx": 10**6, "n_embd": 10**5, "n_head": 10**4, "n_layer": 10**3}


class CheckpointError(RuntimeError):
    """A model folder that can't be fetched, or whose files are not what they should be; says what to do."""


# --- Fetching ---


def download_file(url, destination):
    """Download a file, with a progress bar; `destination` appears only when it is complete.

    The bytes collect in `<destination>.part`. After an interruption, in this process or an earlier one, the download
    goes on where it stopped, if the server still has the same file (ETag or Last-Modified), else from the start.
    Requests without an answer, or with 429 (and its Retry-After), 500, 502, 503 or 504, are tried again up to five times, and
    transfers that break off up to four. Raises CheckpointError when all fail, for any other answer, such as a web page instead
    of a file, and when the disk is too small or can't be written to.
    """
    destination = Path(destination)
    session = requests.Session()
    session.mount(url, HTTPAdapter(max_retries=Retry(5, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))))
    part = destination.with_name(destination.name + ".part")
    for attempts_left in reversed(range(5)):
        try:
            fetch_part(session, url, part)
            break
        except requests.RequestException as error:
            # Broken off in the middle: go on from what has arrived. A MaxRetryError means no answer to any of six requests.
            broken_off = isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.ConnectionError))
            if not broken_off or isinstance(error.args[0], MaxRetryError) or not attempts_left:
                raise CheckpointError(f"could not download {url}: {error}. Check the network and try again (it goes on where "
                                      f"it stopped), or put the file at {destination} by hand") from error
        except OSError as error:
            raise CheckpointError(f"can't write {part}: {error}") from error
    part.replace(destination)
    part.with_suffix(".part-version").unlink(missing_ok=True)


def fetch_part(session, url, part):
    """Bring the file `part` to the full length of what lies at `url`."""
    part.parent.mkdir(parents=True, exist_ok=True)
    version_file = part.with_suffix(".part-version")  # which version of the file the bytes in `part` belong to
    version = version_file.read_text() if part.exists() and version_file.exists() else ""
    have = part.stat().st_size if version else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-", "If-Range": version} if have else {})
    with session.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
        if response.status_code == 416:  # nothing is left to send, or the file is shorter now: start over
            part.unlink()
            return fetch_part(session, url, part)
        response.raise_for_status()
        if "text/html" in response.headers.get("Content-Type", ""):
            raise CheckpointError(f"{url} answered with a web page instead of the file: is a proxy in between?")
        if response.headers.get("Content-Range", "").split("-")[0] != f"bytes {have}":
            have = 0
            part.unlink(missing_ok=True)  # of another version
        total = have + int(response.headers.get("Content-Length", 0))
        if (free := shutil.disk_usage(part.parent).free) < total - have:
            raise CheckpointError(f"{part.name} needs {total - have:,} bytes, but {part.parent} has {free:,} free")
        with open(part, "r+b" if have else "wb") as file, tqdm(
                desc=part.stem, total=total or None, initial=have, unit="B", unit_scale=True) as progress:
            file.seek(have)
            etag = response.headers.get("ETag", "W/")  # a weak tag doesn't promise the same bytes
            version_file.write_text(response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag)
            for chunk in response.iter_content(1 << 16):
                file.write(chunk)
                progress.update(len(chunk))
    if total and part.stat().st_size != total:
        raise requests.exceptions.ConnectionError(f"{part.stat().st_size:,} of {total:,} bytes arrived")


def download_model_file(model_size, name, destination):
    """Fetch one of OpenAI's files; where GPT2_MIRROR names a mirror's base address, that is tried second."""
    if model_size not in OPENAI_SIZES:
        raise CheckpointError(f"{destination} is missing, and {model_size!r} is none of OpenAI's sizes "
                              f"{', '.join(OPENAI_SIZES)}, so it can't be downloaded")
    mirror = os.environ.get("GPT2_MIRROR")
    try:
        download_file(f"{BASE_URL}/{model_size}/{name}", destination)
    except CheckpointError as error:
        if not mirror:
            raise
        print(f"{error}\nFalling back to the mirror {mirror}")
        download_file(f"{mirror.rstrip('/')}/{model_size}/{name}", destination)


# --- The small files ---


def load_settings(model_dir):
    """The sizes in a folder's `hparams.json`: a dictionary with n_vocab, n_ctx, n_embd, n_head and n_layer."""
    path = Path(model_dir, "hparams.json")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        for name, limit in HPARAMS_LIMITS.items():
            if type(settings[name]) is not int or not 0 < settings[name] <= limit:
                raise ValueError(f"{name} is {settings[name]!r}, expected a whole number from 1 to {limit}")
        if settings["n_embd"] % settings["n_head"]:
            raise ValueError(f"n_head {settings['n_head']} does not divide n_embd {settings['n_embd']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not GPT-2's hparams.json ({error!r}): delete it to fetch it again") from error
    return settings


def load_tokenizer(model_dir):
    """GPT-2's tokenizer, built from the `encoder.json` and `vocab.bpe` of a model folder without any network.

    Equal to `tiktoken.get_encoding("gpt2")`. Raises CheckpointError when a file is missing or isn't GPT-2's.
    """
    paths = {name: str(Path(model_dir, name)) for name in TOKENIZER_SHA256}
    for name, path in paths.items():
        try:
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError as error:
            raise CheckpointError(f"can't read {path}: {error}") from error
        if digest != TOKENIZER_SHA256[name]:
            raise CheckpointError(f"{path} is damaged (wrong sha256): delete it to fetch it again")
    ranks = data_gym_to_mergeable_bpe_ranks(paths["vocab.bpe"], paths["encoder.json"], TOKENIZER_SHA256["vocab.bpe"],
                                            TOKENIZER_SHA256["encoder.json"])
    # How GPT-2 cuts text before merging, as a pattern: contractions, then words, numbers and signs, each with a space
    # before it if there is one, then the remaining space. Source: OpenAI's gpt-2, src/encoder.py.
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})


# --- The checkpoint's index: a table of sorted keys (tensorflow/core/lib/io/format.cc, table/block.cc) whose values are
# protocol buffers (tensorflow/core/protobuf/tensor_bundle.proto) ---


def read_varint(data, at):
    """A number of 7 bits a byte, the lowest first; the top bit says that more follow: (value, next position)."""
    value = 0
    for shift in range(0, 64, 7):
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("a number longer than 64 bits")


def read_message(data):
    """The fields of a protocol buffer, {number: [values]}: numbers for varint and fixed32 fields, bytes for others."""
    fields, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = read_varint(data, at)
        elif kind == 2:
            size, at = read_varint(data, at)
            value, at = data[at:at + size], at + size
        elif kind == 5:
            value, at = struct.unpack_from("<I", data, at)[0], at + 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if at > len(data):
            raise ValueError("a field that is cut off")
        fields.setdefault(number, []).append(value)
    return fields


def masked_crc32c(data):
    """The checksum that TensorFlow stores: CRC-32C, rotated right by 15 bits, plus a constant (lib/hash/crc32c.h)."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_block(data, handle):
    """The (key, value) pairs of one block; `handle` is its offset and size as two varints.

    Each key is stored as the number of bytes it shares with the key before it, and the rest.
    """
    offset, at = read_varint(handle, 0)
    size, _ = read_varint(handle, at)
    block, trailer = data[offset:offset + size], data[offset + size:offset + size + 5]
    compression, checksum = struct.unpack("<BI", trailer)
    if masked_crc32c(data[offset:offset + size + 1]) != checksum:
        raise ValueError("a block with a wrong checksum")
    if compression:
        raise ValueError("a compressed block")
    end = len(block) - 4 * (1 + struct.unpack_from("<I", block, len(block) - 4)[0])  # restart points, then their number
    if end < 0:
        raise ValueError("a block without its restart points")
    key, at = b"", 0
    while at < end:
        shared, at = read_varint(block, at)
        rest, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if shared > len(key) or at + rest + length > end:
            raise ValueError("a key or value that is cut off")
        key = key[:shared] + block[at:at + rest]
        yield key, block[at + rest:at + rest + length]
        at += rest + length


def read_index(path):
    """What a checkpoint's index says of each tensor: {name: (dtype, shape, offset, size in bytes, checksum)}."""
    try:
        data = Path(path).read_bytes()
        if len(data) < 48 or data[-8:] != struct.pack("<Q", 0xDB4775248B80FB57):
            raise ValueError("the end mark of a TensorFlow index is missing")
        footer, at = data[-48:-8], 0
        for _ in range(2):  # skip the handle of the metaindex block
            _, at = read_varint(footer, at)
        pairs = [pair for _, handle in read_block(data, footer[at:]) for pair in read_block(data, handle)]
        if not pairs or pairs[0][0] != b"":
            raise ValueError("no header")
        header = read_message(pairs[0][1])  # 1: number of data files; 2: byte order, 0 is little-endian
        if header.get(1) != [1] or header.get(2, [0]) != [0]:
            raise ValueError("more than one data file, or big-endian numbers")
        tensors = {}
        for key, value in pairs[1:]:
            entry = read_message(value)  # 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 checksum
            if entry[1][0] not in DTYPES:
                raise ValueError(f"{key.decode()} is neither float32 nor float16")
            shape = [read_message(dim).get(1, [0])[0] for dim in read_message(entry[2][0]).get(2, [])]
            numbers = entry.get(4, [0])[0], entry[5][0], entry[6][0]
            if not all(type(number) is int for number in (*shape, *numbers)):
                raise ValueError(f"{key.decode()} has bytes where a number belongs")
            tensors[key.decode()] = DTYPES[entry[1][0]], tuple(shape), *numbers
        return tensors
    except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise CheckpointError(f"{path} is no sound TensorFlow index ({error}): delete it to fetch it again") from error


# --- The weights ---


def tensor_shapes(settings):
    """The variables of OpenAI's GPT-2 checkpoints: {path below "model/": shape}."""
    D = settings["n_embd"]
    block = {"attn/c_attn/b": (3 * D,), "attn/c_attn/w": (1, D, 3 * D), "attn/c_proj/b": (D,),
             "attn/c_proj/w": (1, D, D), "ln_1/b": (D,), "ln_1/g": (D,), "ln_2/b": (D,), "ln_2/g": (D,),
             "mlp/c_fc/b": (4 * D,), "mlp/c_fc/w": (1, D, 4 * D), "mlp/c_proj/b": (D,), "mlp/c_proj/w": (1, 4 * D, D)}
    shapes = {f"h{i}/{name}": shape for i in range(settings["n_layer"]) for name, shape in block.items()}
    return shapes | {"ln_f/b": (D,), "ln_f/g": (D,), "wpe": (settings["n_ctx"], D), "wte": (settings["n_vocab"], D)}


def verify_once(ckpt_path, index, data):
    """Check every tensor against its checksum in the index, once: `<ckpt_path>.verified` remembers what passed."""
    files = [Path(f"{ckpt_path}{ending}").stat() for ending in (".index", ".data-00000-of-00001")]
    stamp, passed = Path(f"{ckpt_path}.verified"), repr([(file.st_size, file.st_mtime_ns) for file in files])
    if stamp.exists() and stamp.read_bytes() == passed.encode():
        return
    for name, (_, _, offset, nbytes, checksum) in tqdm(index.items(), desc="verifying", leave=False):
        if masked_crc32c(data[offset:offset + nbytes]) != checksum:
            raise CheckpointError(f"{name} in {ckpt_path}.data-00000-of-00001 is damaged (wrong checksum): delete that "
                                  "file to fetch it again")
    try:
        stamp.write_text(passed)
    except OSError:
        pass  # a folder that can't be written to is verified at every load


def map_tensors(ckpt_path):
    """A checkpoint's tensors as arrays over the mapped data file, copied only where written to: {name: array}."""
    index_path, data_path = Path(f"{ckpt_path}.index"), Path(f"{ckpt_path}.data-00000-of-00001")
    index = read_index(index_path)
    size, end = data_path.stat().st_size, 0
    for name, (dtype, shape, offset, nbytes, _) in sorted(index.items(), key=lambda item: item[1][2]):
        if offset < end or offset + nbytes > size or nbytes != dtype.itemsize * math.prod(shape):
            raise CheckpointError(f"{index_path} places {name} of shape {shape} at bytes {offset:,} to "
                                  f"{offset + nbytes:,}, which doesn't fit the {size:,} bytes of {data_path.name}: "
                                  "delete the file that is wrong to fetch it again")
        end = offset + nbytes
    data = np.memmap(data_path, mode="c")  # copy-on-write: changes stay in memory, the file never changes
    verify_once(ckpt_path, index, data)
    return {name: np.asarray(data[offset:offset + nbytes]).view(dtype).reshape(shape)
            for name, (dtype, shape, offset, nbytes, _) in index.items()}


def read_tensors_with_tensorflow(ckpt_path):
    """The same, read by TensorFlow."""
    import tensorflow as tf  # only here: importing it takes seconds
    try:
        reader = tf.train.load_checkpoint(str(ckpt_path))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, ValueError) as error:
        raise CheckpointError(f"TensorFlow can't read {ckpt_path}, it may be damaged ({error}): delete its files to "
                              "fetch them again") from error


def load_gpt2_params_from_tf_ckpt(ckpt_path, settings, reader="memmap"):
    """A checkpoint's weights as float32 arrays in the nested dictionary that `load_weights_into_gpt` takes.

    {"wte" (n_vocab, D), "wpe" (n_ctx, D), "g" (D,), "b" (D,), "blocks": [{"attn": {"c_attn": {"w" (D, 3D), "b" (3D,)},
    "c_proj": …}, "mlp": {"c_fc": …, "c_proj": …}, "ln_1": {"g", "b"}, "ln_2": …}, …]}, where D is n_embd. Float32
    tensors are views of the mapped file, float16 ones are converted. `reader` is "memmap" or "tensorflow".
    Raises CheckpointError when the files are damaged or don't hold the tensors that `settings` asks for.
    """
    readers = {"memmap": map_tensors, "tensorflow": read_tensors_with_tensorflow}
    tensors, expected = readers[reader](ckpt_path), tensor_shapes(settings)
    for name in sorted(tensors.keys() ^ {f"model/{name}" for name in expected}):
        raise CheckpointError(f"{ckpt_path} {'has an unexpected' if name in tensors else 'lacks the'} tensor {name}: "
                              "it is no GPT-2 of the size in hparams.json")
    params = {"blocks": [{} for _ in range(settings["n_layer"])]}
    for name, shape in expected.items():
        array = tensors[f"model/{name}"]
        if array.shape != shape:
            raise CheckpointError(f"{ckpt_path} has model/{name} of shape {array.shape}; hparams.json asks for {shape}")
        *path, last = name.removeprefix("ln_f/").split("/")
        place = params
        for part in path:
            place = params["blocks"][int(part[1:])] if part[0] == "h" else place.setdefault(part, {})
        # The matrices of linear layers are stored as convolutions of width 1: drop that first dimension.
        place[last] = (array[0] if array.ndim == 3 else array).astype(np.float32, copy=False)
    return params


def download_and_load_gpt2(model_size, models_dir, reader="memmap"):
    """The sizes and weights of the model in the folder `models_dir`/`model_size`: (settings, params).

    Files that are missing are downloaded first, if `model_size` is one of OpenAI's: 124M, 355M, 774M or 1558M; when all
    are there, no network is used. `settings` is as `load_settings` gives it, `params` as
    `load_gpt2_params_from_tf_ckpt` does. Raises CheckpointError for anything wrong with the files or the download.
    """
    model_dir = Path(models_dir, model_size)
    for name in FILES:
        if not (model_dir / name).exists():
            download_model_file(model_size, name, model_dir / name)
    settings = load_settings(model_dir)
    try:
        if not (model_dir / "checkpoint").read_text(errors="replace").startswith('model_checkpoint_path: "model.ckpt"\n'):
            raise CheckpointError(f"{model_dir / 'checkpoint'} doesn't name model.ckpt: delete it to fetch it again")
        return settings, load_gpt2_params_from_tf_ckpt(model_dir / "model.ckpt", settings, reader)
    except OSError as error:
        raise CheckpointError(f"can't read the files in {model_dir}: {error}") from error
