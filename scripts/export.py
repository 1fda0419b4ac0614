"""Write a fine-tuned model in Hugging Face's format, for other programs.

    python scripts/export.py build/gpt2-instruct.pt my-model

`transformers` reads the folder, and so do programs that convert from its format, such as CTranslate2 and llama.cpp.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gpt_download import END_OF_TEXT, tensor_shapes
from previous_chapters import openai_names
from scripts import saved_model
from tutorial import MINIATURE_DIR
from tutorial.instructions import format_prompt
from weights.files import atomic_write
from weights.huggingface_export import write_model
from weights.sizes import openai_settings
from weights.tokenizer import TOKENIZER_SHA256

CARD = """---
library_name: transformers
pipeline_tag: text-generation
---

# GPT-2, fine-tuned to follow instructions

{parameters:,} parameters, {n_layer} layers, width {n_embd}, context {n_ctx}. A pretrained GPT-2, fine-tuned with the
tutorial "Instruction fine-tuning GPT-2 from scratch", and written by

    {command}

The tokenizer's chat template is the prompt of the training, Alpaca's. It takes one question, with or without a system
message before it. An input goes below the instruction, after an empty line and a line `### Input:`. Licence: that of
the pretrained weights (OpenAI's GPT-2: Modified MIT License) and of the data the model was fine-tuned on.
"""

# The body of the chat template. It treats texts as tutorial/entries.py treated the training data: a message's content
# may be a list of parts, line ends become \n, an invisible system message is skipped, and the answer is stripped.
CONVERSATION = r"""
{%- macro text_of(content) -%}
  {%- set parts = content or [] -%}
  {%- if parts is string or parts is mapping or parts is not iterable -%}{%- set parts = [parts] -%}{%- endif -%}
  {%- for part in parts -%}
    {%- set text = part['text'] if part is mapping and part['type'] | default('text', true) == 'text' else part -%}
    {%- if text is not string -%}{{ raise_exception('this model reads text only') }}{%- endif -%}
    {{- text | replace('\r\n', '\n') | replace('\r', '\n') -}}
  {%- endfor -%}
{%- endmacro -%}
{%- set roles = messages | map(attribute='role') | join(' ') -%}
{%- if roles not in ['user', 'system user', 'user assistant', 'system user assistant'] -%}
  {{ raise_exception('expected one question: this model was trained on single questions and answers') }}
{%- endif -%}
{{- before -}}
{%- for message in messages -%}
  {%- set text = text_of(message['content']) -%}
  {%- set visible = text | replace('\u200b', '') | replace('\ufeff', '') | replace('\u2060', '') | trim -%}
  {%- if message['role'] == 'system' -%}
    {%- if visible -%}{{- text + '\n\n' -}}{%- endif -%}
  {%- elif message['role'] == 'user' -%}
    {%- if not visible -%}{{ raise_exception('the question is empty') }}{%- endif -%}
    {{- text -}}
  {%- else -%}
    {{- after + text | trim + eos_token -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- after -}}{%- endif -%}
"""


def openai_tensors(weights, settings):
    """A GPTModel's weights, matrices (D_out, D_in), by OpenAI's names and in OpenAI's shapes, matrices
    (1, D_in, D_out): {name: float32 array}."""
    tensors, shapes = {}, tensor_shapes(settings)
    for path, ours in openai_names(settings["n_layer"]).items():
        name = f"ln_f/{path}" if path in ("g", "b") else path.replace("blocks/", "h")
        weight = weights[ours].T if path.endswith("/w") else weights[ours]
        tensors[name] = weight.reshape(shapes[name]).float().numpy()
    return tensors


def chat_template():
    """The notebook's prompt as a chat template in Jinja. It takes one question, with or without a system message before
    it, and with or without its answer."""
    before, after = format_prompt({"instruction": "\0", "input": ""}).split("\0")
    return f"{{%- set before = {json.dumps(before)} -%}}\n{{%- set after = {json.dumps(after)} -%}}{CONVERSATION}"


def main():
    """Write the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a file that save_model wrote, such as build/gpt2-instruct.pt")
    parser.add_argument("folder", help="where the files go")
    arguments = parser.parse_args()
    model, config = saved_model(arguments.model)
    if not config["qkv_bias"]:
        sys.exit(f"{arguments.model} lacks the biases for queries, keys and values that GPT-2 has (qkv_bias=False)")
    settings = openai_settings(config)
    card = CARD.format(**settings, parameters=sum(p.numel() for p in model.parameters()),
                       command=shlex.join(["python", "scripts/export.py", arguments.model, arguments.folder]))
    try:
        write_model(arguments.folder, openai_tensors(model.state_dict(), settings), settings,
                    [MINIATURE_DIR / name for name in TOKENIZER_SHA256], END_OF_TEXT, chat_template())
        with atomic_write(Path(arguments.folder, "README.md")) as unfinished:
            unfinished.write_bytes(card.encode())
    except OSError as error:
        sys.exit(f"can't write {arguments.folder}: {error}")
    print(f"wrote {arguments.folder}: AutoModelForCausalLM.from_pretrained({arguments.folder!r}) reads it")


if __name__ == "__main__":
    main()
