"""Take a fine-tuned model to other programs: writes it in Hugging Face's format.

    python scripts/export.py build/gpt2-instruct.pt my-model

`transformers` reads the folder, and so does whatever converts from its format, such as CTranslate2 and llama.cpp.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.huggingface import write_model
from gpt_download import END_OF_TEXT, TOKENIZER_SHA256, tensor_shapes
from previous_chapters import SIZE_NAMES, openai_names
from scripts.tutorial import MINIATURE_DIR, notebook_definitions, saved_model

CARD = """---
library_name: transformers
pipeline_tag: text-generation
---

# GPT-2, fine-tuned to follow instructions

{parameters:,} parameters, {n_layer} layers, width {n_embd}, context {n_ctx}. A pretrained GPT-2, fine-tuned with the
tutorial "Instruction fine-tuning GPT-2 from scratch", and written by

    {command}

The tokenizer's chat template is the prompt it was trained on, Alpaca's. It takes one question, which a system message
may precede; an input goes below the instruction, after an empty line and a line `### Input:`. Licence: that of the
pretrained weights (OpenAI's GPT-2: Modified MIT License) and of the data it was fine-tuned on.
"""


def openai_tensors(weights, sizes):
    """Our weights, (D_out, D_in), by OpenAI's names and in OpenAI's shapes, (1, D_in, D_out): {name: array}."""
    tensors, shapes = {}, tensor_shapes(sizes)
    for path, ours in openai_names(sizes["n_layer"]).items():
        name = f"ln_f/{path}" if path in ("g", "b") else path.replace("blocks/", "h")
        weight = weights[ours].T if path.endswith("/w") else weights[ours]
        tensors[name] = weight.reshape(shapes[name]).numpy()
    return tensors


def chat_template():
    """The notebook's prompt as a chat template: a conversation has one question, which a system message may precede."""
    before, after = notebook_definitions()["format_prompt"]({"instruction": "\0", "input": ""}).split("\0")
    return (
        "{%- set roles = messages | map(attribute='role') | join(' ') -%}"
        "{%- if roles not in ['user', 'system user', 'user assistant', 'system user assistant'] -%}"
        "{{ raise_exception('want one question: this model was trained on single questions and answers') }}"
        "{%- endif -%}"
        f"{{{{- {json.dumps(before)} -}}}}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'system' -%}{{ message['content'] + '\\n\\n' }}"
        "{%- elif message['role'] == 'user' -%}{{ message['content'] }}"
        f"{{%- else -%}}{{{{ {json.dumps(after)} + message['content'] + eos_token }}}}{{%- endif -%}}"
        "{%- endfor -%}"
        f"{{%- if add_generation_prompt -%}}{{{{ {json.dumps(after)} }}}}{{%- endif -%}}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a file that save_model wrote, such as build/gpt2-instruct.pt")
    parser.add_argument("folder", help="where the files go")
    arguments = parser.parse_args()
    model, cfg = saved_model(arguments.model)
    if not cfg["qkv_bias"]:
        sys.exit(f"{arguments.model} lacks the biases for queries, keys and values that GPT-2 has (qkv_bias=False)")
    sizes = {theirs: cfg[ours] for ours, theirs in SIZE_NAMES.items()}
    write_model(arguments.folder, openai_tensors(model.state_dict(), sizes), sizes,
                [MINIATURE_DIR / name for name in TOKENIZER_SHA256], END_OF_TEXT, chat_template())
    card = CARD.format(**sizes, parameters=sum(p.numel() for p in model.parameters()),
                       command=shlex.join(["python", "scripts/export.py", arguments.model, arguments.folder]))
    Path(arguments.folder, "README.md").write_text(card, encoding="utf-8")
    print(f"wrote {arguments.folder}: AutoModelForCausalLM.from_pretrained({arguments.folder!r}) reads it")


if __name__ == "__main__":
    main()
