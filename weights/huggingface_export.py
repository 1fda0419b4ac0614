"""GPT-2 to Hugging Face's format, which `weights/huggingface.py` describes."""

import json
import struct
from pathlib import Path

import numpy as np

from weights.files import atomic_write
from weights.huggingface import ARCHITECTURE, SIZES, WEIGHTS, huggingface_name

OTHER_MODELS_FILES = (  # a program would read them instead of the files that `write_model` writes, or beside them
    "tokenizer*", "*.model", "tekken.json", "special_tokens_map.json", "added_tokens.json", "chat_template*",
    "additional_chat_templates", "adapter_*", "*.safetensors", "*.safetensors.index.json", "hparams.json",
    "model.ckpt.*",
)


def write_model(folder, tensors, sizes, tokenizer_files, end_of_text, chat_template):
    """Write a model to a folder from which transformers' GPT2LMHeadModel and AutoTokenizer load it.

    tensors: float32 arrays by OpenAI's names and in OpenAI's shapes; sizes: as in `hparams.json`; tokenizer_files: the
    paths of `encoder.json` and `vocab.bpe`; end_of_text: the id of that token; chat_template: a Jinja template with
    which the tokenizer writes a conversation as a prompt. Raises FileExistsError, before anything is written, if the
    folder holds files of another model that would be mixed up with these, and OSError when it can't be written.
    """
    folder = Path(folder)
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_of_text)
    config = {
        **{key: values[0] for key, values in ARCHITECTURE.items()}, **special,
        **{hub: sizes[openai] for openai, hub in SIZES.items()},
        "architectures": ["GPT2LMHeadModel"], "dtype": "float32",
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
    }
    tokenizer = {
        "tokenizer_class": "GPT2Tokenizer", "model_max_length": sizes["n_ctx"], "add_prefix_space": False,
        "chat_template": chat_template, "clean_up_tokenization_spaces": False,
        **dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>"),
    }
    settings = {"config.json": config, "generation_config.json": special, "tokenizer_config.json": tokenizer}
    contents = {name: json.dumps(content, indent=2).encode() + b"\n" for name, content in settings.items()}
    contents |= {name: Path(source).read_bytes() for name, source in zip(("vocab.json", "merges.txt"), tokenizer_files)}
    check_folder(folder, {WEIGHTS, *contents})
    arrays = {f"transformer.{huggingface_name(name)}": array[0] if array.ndim == 3 else array
              for name, array in tensors.items()}
    with atomic_write(folder / WEIGHTS) as unfinished:  # the largest file first: the disk may be too small for it
        write_safetensors(unfinished, arrays)
    for name, content in contents.items():
        with atomic_write(folder / name) as unfinished:
            unfinished.write_bytes(content)


def write_safetensors(path, arrays):
    """Write float32 arrays, {name: array}, in the format of safetensors: the length of the header in 8 bytes, the
    header in JSON, then the arrays' bytes (https://github.com/huggingface/safetensors#format). Unlike the library's
    function, this needs no copy of all arrays and no second unfinished file."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned in memory
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, dtype="<f4"))


def check_folder(folder, own):
    """Raise FileExistsError if a folder has files of another model, besides `own`, a set of names."""
    others = {path.name for pattern in OTHER_MODELS_FILES for path in folder.glob(pattern)} - own
    if others:
        raise FileExistsError(f"{folder} holds files of another model, which would be mixed up with this one: "
                              f"{', '.join(sorted(others))}. Move them away, or name another folder")
