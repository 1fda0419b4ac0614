"""The checkpoint reader: every kind of damage, and files written from the format's definition."""

import os
import shutil
import struct

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import weights.tf_checkpoint
from previous_chapters import flatten_params
from tests.helpers import DATA, INDEX, SMALL, flip, load, truncate
from weights.errors import CheckpointError
from weights.tf_checkpoint import masked_crc32c, read_index, read_varint, read_with_tensorflow


def test_checksum_of_the_published_test_vector():
    crc = 0xE3069283  # CRC-32C of "123456789"
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


@pytest.mark.parametrize("name", ["model/wte", "model/h0/attn/c_attn/w", "model/h1/ln_2/b", "model/ln_f/g"])
def test_one_flipped_bit_in_a_tensor_is_named(model_dir, name):
    _, _, offset, size, _ = read_index(model_dir / INDEX)[name]
    flip(model_dir / DATA, offset + size - 1)
    with pytest.raises(CheckpointError, match=f"{name}.*damaged"):
        load(model_dir)
    with pytest.raises(CheckpointError, match="model.ckpt.*damaged"):
        read_with_tensorflow(model_dir / "model.ckpt")


@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.5, 0.7])
def test_one_flipped_bit_in_the_index_is_noticed(model_dir, place):
    flip(model_dir / INDEX, int(place * (model_dir / INDEX).stat().st_size))
    with pytest.raises(CheckpointError, match="model.ckpt"):
        load(model_dir)
    with pytest.raises(CheckpointError, match="model.ckpt"):
        read_with_tensorflow(model_dir / "model.ckpt")


def test_a_truncated_index_is_noticed_at_any_length(model_dir):
    data = (model_dir / INDEX).read_bytes()
    for size in [*range(0, 60), *range(60, len(data), 37), len(data) - 1]:
        (model_dir / INDEX).write_bytes(data[:size])
        with pytest.raises(CheckpointError, match="model.ckpt.index is not a valid TensorFlow index"):
            load(model_dir)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_data_file_is_noticed(model_dir, keep):
    truncate(model_dir / DATA, keep)
    with pytest.raises(CheckpointError, match=f"places model/.* doesn't fit the .* bytes of {DATA}"):
        load(model_dir)


# --- Indexes that lie ---


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

    entries = [(name.encode(), entry(*values)) for name, values in sorted(tensors.items())]
    write_table(path, [(b"", message(header)), *entries])


LITTLE_ENDIAN, BIG_ENDIAN = [(1, 1), (2, 0)], [(1, 1), (2, 1)]


def tensors_of(model_dir):
    return {name: (1, *values) for name, (_, *values) in read_index(model_dir / INDEX).items()}


def test_an_index_written_from_the_definition_is_read(model_dir):
    expected = flatten_params(load(model_dir)[1])
    write_index(model_dir / INDEX, LITTLE_ENDIAN, tensors_of(model_dir))
    assert all((expected[path] == array).all() for path, array in flatten_params(load(model_dir)[1]).items())


@pytest.mark.parametrize("lie, message", [
    (dict(offset=10**6), "doesn't fit"), (dict(offset=2**63), "doesn't fit"), (dict(offset=0), "doesn't fit"),
    (dict(size=2**60), "doesn't fit"), (dict(shape=(2**40, 2**40)), "doesn't fit"),
    (dict(shape=(1,) * 40), "doesn't fit"),
    (dict(shape=(2**40, 0), size=0), "model/wpe"), (dict(shape=(4, 6)), r"of shape \(4, 6\), not \(6, 4\)"),
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
    with pytest.raises(CheckpointError, match="model.ckpt.index is not a valid TensorFlow index"):
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
    sizes, right = [], weights.tf_checkpoint.masked_crc32c
    monkeypatch.setattr(weights.tf_checkpoint, "masked_crc32c", lambda data: sizes.append(len(data)) or right(data))
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
        monkeypatch.setattr(weights.tf_checkpoint.Path, method, refuse)
    assert [verified(model_dir, checksums) for _ in range(2)] == [TENSORS, TENSORS]
    assert not (model_dir / "model.ckpt.verified").exists()
