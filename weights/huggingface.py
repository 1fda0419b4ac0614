"""GPT-2 from and to Hugging Face's format: a folder with `model.safetensors` (the tensors), `config.json` (the sizes),
`vocab.json` and `merges.txt` (the tokenizer).

The names are those of GPT2LMHeadModel in transformers (models/gpt2/modeling_gpt2.py), with or without `transformer.` in
front; matrices are input-first, as OpenAI's. Tensors come from a memory map, through the library `safetensors`. What
isn't GPT-2, or isn't whole, is reported as CheckpointError.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .checkpoints import whole_file
from .fetch import CheckpointError

WEIGHTS = "model.safetensors"
FILES = ("config.json", "vocab.json", "merges.txt", WEIGHTS)
SIZES = {"n_vocab": "vocab_size", "n_ctx": "n_positions", "n_embd": "n_embd", "n_head": "n_head", "n_layer": "n_layer"}
ARCHITECTURE = {  # what a config may say; where it says nothing, it means the first
    "model_type": ("gpt2",), "activation_function": ("gelu_new", "gelu_pytorch_tanh"), "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,),
    "tie_word_embeddings": (True,), "vocab_size": (50257,),
}
WANTED = (f"wanted are {', '.join(FILES)}. Weights in several files or in another format must be saved as one such "
          "file first, for instance by transformers' save_pretrained(folder, max_shard_size='99GB')")
MASKS = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # constants that older versions stored with the weights
VOCABULARY_SHA256 = "189a8db8c2678d0d6b7eebf20882214d46b7cce5c56cc1ea3f8008e710f8fcbd"  # see check_vocabulary
PUBLISHED_SHA256 = {  # of the file with the weights, where several independent copies agree
    "openai-community/gpt2": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
}


# --- From the format ---


def download_from_hub(repository, folder=None):
    """The folder with the files of a repository on Hugging Face's hub, such as distilbert/distilgpt2.

    They are fetched by `huggingface_hub`, into its cache or into `folder`, unless they are there already: HF_ENDPOINT,
    HF_TOKEN and HF_HOME work as its documentation says. Raises CheckpointError when they can't be had, or the weights
    aren't the published ones.
    """
    import httpx2  # only here: importing them takes a while
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError
    try:
        folder = Path(snapshot_download(repository, allow_patterns=FILES, local_dir=folder))
    except (httpx2.HTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(f"could not get {repository!r} from Hugging Face: {error}. Check the name and the "
                              "network; HF_ENDPOINT names another host") from error
    if missing_files(folder):
        raise CheckpointError(f"{repository!r} on Hugging Face has no {missing_files(folder)}, or it can't be reached; "
                              + WANTED)
    if repository in PUBLISHED_SHA256:
        path = (folder / WEIGHTS).resolve()  # in the cache, the name is a link
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != PUBLISHED_SHA256[repository]:
            path.unlink()  # or it would be trusted the next time
            raise CheckpointError(f"{path} wasn't the published file of {repository} (wrong sha256), so it was "
                                  "deleted: run this again to fetch it anew")
    return folder


def missing_files(folder):
    """The names of the files that a folder in this format lacks, as a text: empty if all are there."""
    return ", ".join(name for name in FILES if not Path(folder, name).exists())


def read_sizes(folder):
    """The sizes in a folder's `config.json`, by the names of OpenAI's `hparams.json`. Raises CheckpointError unless all
    files are there and both architecture and tokenizer are GPT-2's."""
    if missing_files(folder):
        raise CheckpointError(f"{folder} has no {missing_files(folder)}; " + WANTED)
    path = Path(folder, "config.json")
    config = read_json(path)
    allowed = ARCHITECTURE | {"n_inner": (None, 4 * config["n_embd"] if type(config.get("n_embd")) is int else None)}
    for key, values in allowed.items():
        if config.get(key, values[0]) not in values:
            raise CheckpointError(f"{path} is not OpenAI's GPT-2: {key} is {config[key]!r}, wanted is "
                                  + " or ".join(map(repr, values)))
    check_vocabulary(folder)
    return {ours: config.get(theirs) for ours, theirs in SIZES.items()}


def read_json(path):
    """The object in a JSON file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"can't read {path}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


def check_vocabulary(folder):
    """Raise CheckpointError unless `vocab.json` and `merges.txt` have GPT-2's tokens and merges, in any layout."""
    try:
        lines = Path(folder, "merges.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"can't read {Path(folder, 'merges.txt')}: {error}") from error
    merges = [line for line in lines if line and not line.startswith("#version")]
    content = json.dumps([read_json(Path(folder, "vocab.json")), merges], sort_keys=True)
    if hashlib.sha256(content.encode()).hexdigest() != VOCABULARY_SHA256:
        raise CheckpointError(f"{folder} has another vocabulary than GPT-2's (vocab.json, merges.txt), which this "
                              "project's tokenizer doesn't know")


def map_tensors(folder, names):
    """The tensors of `model.safetensors` by OpenAI's `names`, as float32 arrays in OpenAI's shapes: {name: array}.

    OpenAI's linear layers are convolutions of width 1, with a first dimension for that. Float32 tensors are views of
    the mapped file, copied only where written to; float16 and bfloat16 ones are converted. Tensors that are none of
    `names` keep their own. Raises CheckpointError when the file is damaged.
    """
    path, ours = Path(folder, WEIGHTS), {huggingface_name(name): name for name in names}
    tensors = {}
    try:
        with safe_open(path, framework="pt") as file:
            for full_name in file.keys():  # noqa: SIM118  it is no dictionary
                name = full_name.removeprefix("transformer.")
                if not MASKS.fullmatch(name):
                    array = file.get_tensor(full_name).to(torch.float32).numpy()
                    name = ours.get(name, name)
                    tensors[name] = array[None] if name.endswith("/w") else array
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.resolve()} is damaged or no safetensors file ({error}): delete it and get it "
                              "again") from error
    head = tensors.pop("lm_head.weight", None)
    if head is not None and not np.array_equal(head, tensors.get("wte")):
        raise CheckpointError(f"{path} has an output head, lm_head.weight, that differs from the token embedding; in "
                              "GPT-2 they are one")
    return tensors


def huggingface_name(name):
    """OpenAI's name of a tensor in Hugging Face's words: h0/attn/c_attn/w is h.0.attn.c_attn.weight."""
    *path, kind = re.sub(r"^h(\d+)", r"h/\1", name).split("/")
    return ".".join([*path, {"w": "weight", "g": "weight", "b": "bias"}.get(kind, f"{kind}.weight")])


# --- To the format ---


def write_model(folder, tensors, sizes, tokenizer_files, end_of_text, chat_template):
    """Write a model as transformers' GPT2LMHeadModel and AutoTokenizer read it.

    tensors: float32 arrays by OpenAI's names and in OpenAI's shapes; sizes: as `hparams.json` has them;
    tokenizer_files: the paths of `encoder.json` and `vocab.bpe`; end_of_text: the id of that token; chat_template: how
    the tokenizer writes a conversation as a prompt, in Jinja's language.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in zip(tokenizer_files, ("vocab.json", "merges.txt")):
        shutil.copyfile(source, folder / name)
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_of_text)
    config = {key: values[0] for key, values in ARCHITECTURE.items()} | special | {
        theirs: sizes[ours] for ours, theirs in SIZES.items()} | {
        "architectures": ["GPT2LMHeadModel"], "dtype": "float32",
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    tokenizer = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": sizes["n_ctx"], "add_prefix_space": False,
                 "chat_template": chat_template, "clean_up_tokenization_spaces": False} | dict.fromkeys(
                     ("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    for name, content in (("config.json", config), ("generation_config.json", special),
                          ("tokenizer_config.json", tokenizer)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with whole_file(folder / WEIGHTS) as unfinished:
        save_file({f"transformer.{huggingface_name(name)}": torch.from_numpy(np.ascontiguousarray(
                   array[0] if array.ndim == 3 else array)) for name, array in tensors.items()},
                  unfinished, metadata={"format": "pt"})
