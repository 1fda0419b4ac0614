"""TensorFlow's V2 checkpoints, read by memory map: `<path>.index` says where each tensor is stored, and
`<path>.data-00000-of-00001` has the tensors' bytes, one after another.

The index is a table of sorted keys (tensorflow/core/lib/io/format.cc, table/block.cc) whose values are protocol buffers
(tensorflow/core/protobuf/tensor_bundle.proto). It has a checksum of every tensor, which shows damage. TensorFlow itself
is imported only to write, or on request as an independent reader. Whatever is wrong in the files is reported as
CheckpointError; a data file that can't be opened, as OSError.
"""

import math
import os
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
from tqdm import tqdm

from weights.errors import CheckpointError

INDEX, DATA = ".index", ".data-00000-of-00001"  # the endings of the two files
MAGIC = 0xDB4775248B80FB57
DTYPES = {1: np.dtype("<f4"), 19: np.dtype("<f2")}  # tensorflow/core/framework/types.proto: DT_FLOAT, DT_HALF


class Entry(NamedTuple):
    """What the index says about a tensor."""

    dtype: np.dtype
    shape: tuple
    offset: int  # of its first byte in the data file
    nbytes: int
    checksum: int


# --- The table ---


def read_varint(data, pos):
    """Decode the number at a position of `data`: (value, position after it). Each byte holds 7 bits, the lowest first;
    its top bit says that another byte follows."""
    value = 0
    for shift in range(0, 64, 7):
        value |= (data[pos] & 0x7F) << shift
        pos += 1
        if data[pos - 1] < 0x80:
            return value, pos
    raise ValueError("a number longer than 64 bits")


def masked_crc32c(data):
    """The checksum that TensorFlow stores: CRC-32C, rotated right by 15 bits, plus a constant (lib/hash/crc32c.h)."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_block(data, handle):
    """The (key, value) pairs of one block; `handle` is its offset and size as two varints.

    A key is stored as the number of leading bytes it shares with the key before it, and the remaining bytes. Raises
    ValueError for a damaged block.
    """
    offset, pos = read_varint(handle, 0)
    size, _ = read_varint(handle, pos)
    block, trailer = data[offset:offset + size], data[offset + size:offset + size + 5]
    compression, checksum = struct.unpack("<BI", trailer)  # the kind of compression, 0 for none
    if masked_crc32c(data[offset:offset + size + 1]) != checksum:
        raise ValueError("a block with a wrong checksum")
    if compression:
        raise ValueError("a compressed block")
    # At the end of a block are its restart points, the places of keys that are stored whole, and their number.
    end = len(block) - 4 * (1 + struct.unpack_from("<I", block, len(block) - 4)[0])
    if end < 0:
        raise ValueError("a block without its restart points")
    key, pos = b"", 0
    while pos < end:
        shared, pos = read_varint(block, pos)
        rest, pos = read_varint(block, pos)
        length, pos = read_varint(block, pos)
        if shared > len(key) or pos + rest + length > end:
            raise ValueError("a key or value that is cut off")
        key = key[:shared] + block[pos:pos + rest]
        yield key, block[pos + rest:pos + rest + length]
        pos += rest + length


def read_table(data):
    """All (key, value) pairs of a table. It ends in a footer of 48 bytes: the handles of the metaindex block and of the
    index block, which lists the handles of the data blocks, then a magic number."""
    if len(data) < 48 or data[-8:] != struct.pack("<Q", MAGIC):
        raise ValueError("it doesn't end in the magic number of a TensorFlow index")
    footer, pos = data[-48:-8], 0
    for _ in range(2):  # skip the handle of the metaindex block
        _, pos = read_varint(footer, pos)
    return [pair for _, handle in read_block(data, footer[pos:]) for pair in read_block(data, handle)]


# --- Its values ---


def read_message(data):
    """The fields of a protocol buffer: {field number: [values]}. Varint and fixed32 fields have numbers as values,
    others bytes."""
    fields, pos = {}, 0
    while pos < len(data):
        key, pos = read_varint(data, pos)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, pos = read_varint(data, pos)
        elif kind == 2:
            size, pos = read_varint(data, pos)
            value, pos = data[pos:pos + size], pos + size
        elif kind == 5:
            value, pos = struct.unpack_from("<I", data, pos)[0], pos + 4
        else:
            raise ValueError(f"a field of the unknown wire type {kind}")
        if pos > len(data):
            raise ValueError("a field that is cut off")
        fields.setdefault(number, []).append(value)
    return fields


def check_header(message):
    """Raise ValueError unless there is one data file (field 1), in little-endian byte order (field 2 is 0)."""
    header = read_message(message)
    if header.get(1) != [1] or header.get(2, [0]) != [0]:
        raise ValueError("more than one data file, or big-endian numbers")


def read_entry(name, message):
    """The Entry of the tensor `name`. Fields: 1 dtype, 2 shape, 4 offset, 5 size, 6 checksum."""
    fields = read_message(message)
    if fields[1][0] not in DTYPES:
        raise ValueError(f"{name} is neither float32 nor float16")
    shape = tuple(read_message(dim).get(1, [0])[0] for dim in read_message(fields[2][0]).get(2, []))
    entry = Entry(DTYPES[fields[1][0]], shape, fields.get(4, [0])[0], fields[5][0], fields[6][0])
    if not all(type(number) is int for number in (*shape, *entry[2:])):
        raise ValueError(f"{name} has bytes where a number belongs")
    return entry


def read_index(path):
    """What a checkpoint's index says: {name: Entry}. Raises CheckpointError when the file is damaged."""
    try:
        pairs = read_table(Path(path).read_bytes())
        if not pairs or pairs[0][0] != b"":
            raise ValueError("no header")
        check_header(pairs[0][1])
        return {key.decode(): read_entry(key.decode(), message) for key, message in pairs[1:]}
    except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise CheckpointError(f"{path} is not a valid TensorFlow index ({error}): delete it to download it "
                              "again") from error


# --- The tensors ---


def check_places(entries, index_path, data_path):
    """Raise CheckpointError unless each tensor has bytes of its own in the data file, as many as its shape needs."""
    size, end = data_path.stat().st_size, 0
    for name, (dtype, shape, offset, nbytes, _) in sorted(entries.items(), key=lambda item: item[1].offset):
        if offset < end or offset + nbytes > size or nbytes != dtype.itemsize * math.prod(shape):
            raise CheckpointError(f"{index_path} places {name} of shape {shape} at bytes {offset:,} to "
                                  f"{offset + nbytes:,}, which doesn't fit the {size:,} bytes of {data_path.name}: "
                                  "delete the file that is wrong to download it again")
        end = offset + nbytes


def verify_once(ckpt_path, entries, data):
    """Compare every tensor with its checksum. Files that passed aren't verified again: `<ckpt_path>.verified` records
    their sizes and modification times. Raises CheckpointError for a damaged tensor."""
    files = [Path(f"{ckpt_path}{ending}").stat() for ending in (INDEX, DATA)]
    stamp, passed = Path(f"{ckpt_path}.verified"), repr([(file.st_size, file.st_mtime_ns) for file in files])
    if stamp.exists() and stamp.read_bytes() == passed.encode():
        return
    for name, entry in tqdm(entries.items(), desc="verifying", leave=False):
        if masked_crc32c(data[entry.offset:entry.offset + entry.nbytes]) != entry.checksum:
            raise CheckpointError(f"{name} in {ckpt_path}{DATA} is damaged (wrong checksum): delete that file to "
                                  "download it again")
    try:
        stamp.write_text(passed)
    except OSError:
        pass  # in a folder that can't be written to, files are verified at every load


def map_tensors(ckpt_path):
    """A checkpoint's tensors as views of the mapped data file: {name: array}. Writing to an array changes memory, never
    the file. Raises CheckpointError when a file is damaged."""
    index_path, data_path = Path(f"{ckpt_path}{INDEX}"), Path(f"{ckpt_path}{DATA}")
    entries = read_index(index_path)
    check_places(entries, index_path, data_path)
    data = np.memmap(data_path, mode="c")  # copy-on-write
    verify_once(ckpt_path, entries, data)
    return {name: np.asarray(data[offset:offset + nbytes]).view(dtype).reshape(shape)
            for name, (dtype, shape, offset, nbytes, _) in entries.items()}


def read_with_tensorflow(ckpt_path):
    """The same tensors in the same order, read by TensorFlow. Raises CheckpointError when it can't read them."""
    with silent_libraries():
        import tensorflow as tf  # only here: importing it takes seconds
        try:
            reader = tf.train.load_checkpoint(str(ckpt_path))
            return {name: reader.get_tensor(name) for name in sorted(reader.get_variable_to_shape_map())}
        except (tf.errors.OpError, ValueError) as error:
            raise CheckpointError(f"TensorFlow can't read {ckpt_path}, it may be damaged ({error}): delete its files "
                                  "to download them again") from error


@contextmanager
def silent_libraries():
    """Hide what C libraries write to standard error inside the `with` block, such as TensorFlow's notes on its build.
    Exceptions are shown."""
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def write_with_tensorflow(ckpt_path, tensors):
    """Write {name: array} with TensorFlow's Saver, which also writes the file `checkpoint` that names them."""
    import tensorflow.compat.v1 as tf  # only here, as above
    ckpt_path.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as session:
        for name, array in tensors.items():
            tf.get_variable(name, initializer=array)
        session.run(tf.global_variables_initializer())
        tf.train.Saver(save_relative_paths=True).save(session, str(ckpt_path), write_meta_graph=False)
