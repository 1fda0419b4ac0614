"""Talk to the fine-tuned model in the terminal.

    python scripts/chat.py              # the model that `make run` saved
    python scripts/chat.py my.pt        # another one that save_model wrote

Each question is put into the prompt of the training, without the questions before it: the model was fine-tuned on
single questions, not on conversations. The answer is shown token by token, as it is generated.
"""

import argparse
import contextlib
import json
import sys
import unicodedata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from engine.generation import sampler, stream, text_pieces
from engine.models import context_length
from gpt_download import END_OF_TEXT, load_tokenizer
from scripts import saved_model
from tutorial import MINIATURE_DIR, ROOT
from tutorial.data_files import LONGEST_TEXT
from tutorial.instructions import format_prompt
from weights.sizes import is_miniature

BY_ITSELF = "Each question is asked by itself, as in training: the model doesn't see what was said before."
THE_MINIATURE = ("This is the miniature. It knows some 1,500 words of simple English: their plurals, past tenses, "
                 "opposites, categories, spellings and definitions, and how to rewrite a sentence made of them. To "
                 "anything else it says something that only sounds like an answer.")
SETTINGS = {"temperature": 0.0, "top_p": 1.0}  # at the start: always the most likely token
RANGES = {"temperature": "0 (always the most likely token) or more", "top_p": "above 0, and at most 1 (all tokens)"}


def prompt_ids(question, model, tokenizer):
    """The ids of a question in the prompt of the training: a list. Raises ValueError for an empty question, or for one
    that leaves no room for an answer."""
    if not question.strip():
        raise ValueError("an empty question: ask something")
    limit = context_length(model)
    if len(question) <= LONGEST_TEXT:  # far longer texts can crash the tokenizer
        ids = tokenizer.encode_ordinary(format_prompt({"instruction": question.strip(), "input": ""}))
        if len(ids) < limit:
            return ids
    raise ValueError(f"the question is too long: prompt and answer together have at most {limit} tokens; shorten it")


def answer(question, model, tokenizer, **sampling):
    """The model's answer as a generator of pieces of text. It ends at the end-of-text token, or when the context is
    full. sampling: the arguments of `generate` that SETTINGS names."""
    ids, limit = prompt_ids(question, model, tokenizer), context_length(model)
    new = stream(model, ids, limit - len(ids), limit, eos_id=END_OF_TEXT, **sampling)
    yield from text_pieces(new, tokenizer)


def notes_on(config):
    """What to tell the user about a model of this config: a list of texts."""
    return [BY_ITSELF, THE_MINIATURE] if is_miniature(config) else [BY_ITSELF]


def example_questions(model_path):
    """Up to four questions of different tasks, without an input, from the file of test answers that the notebook saves
    beside the model. An empty list if there is no such file, or one of another program's."""
    try:
        entries = json.loads(model_path.with_name("responses.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    by_task = {}
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        match entry:
            case {"instruction": str(question), "input": ""} if question.strip():
                by_task[str(entry.get("task", number))] = without_control_characters(question)
    return list(by_task.values())[:4]


def without_control_characters(text):
    """A text with U+FFFD in the place of control characters except line feeds and tabs, which could move the cursor or
    change the terminal's colours, and of lone surrogates, which can't be encoded."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c for c in text)


def change_setting(settings, command):
    """Carry out a line such as "/top_p 0.9". Raises ValueError for any other line."""
    name, _, value = command[1:].partition(" ")
    if name not in settings:
        raise ValueError(f"/{name} is no command: expected " + " or ".join(f"/{name}" for name in settings))
    try:
        changed = settings | {name: float(value)}
        sampler(top_k=None, **changed)  # raises ValueError for a number out of its range
    except ValueError:
        raise ValueError(f"{name} is {settings[name]}; to change it, write /{name} and a number: "
                         f"{RANGES[name]}") from None
    settings.update(changed)


def talk(model, tokenizer, notes, examples):
    """Answer questions until the input ends. Ctrl-C stops an answer."""
    with contextlib.suppress(ImportError):  # Windows has no readline
        import readline  # noqa: F401  gives input() a history, and arrow keys
    sys.stdout.reconfigure(errors="replace")  # a terminal may not have all characters
    print(*notes, sep="\n")
    print("Ctrl-C stops an answer, Ctrl-D ends the chat. /temperature 0.7 samples tokens instead of taking the most "
          "likely one, and /top_p 0.9 then takes them from the likely ones only.")
    if examples:
        print("For example:", *examples, sep="\n  ")
    settings = dict(SETTINGS)
    while True:
        try:
            line = input("\n> ")
            if line.startswith("/"):
                change_setting(settings, line)
                continue
            for piece in answer(line, model, tokenizer, **settings):
                print(without_control_characters(piece), end="", flush=True)
            print()
        except ValueError as error:
            print(error)
        except KeyboardInterrupt:
            print(" (stopped; Ctrl-D ends the chat)")
        except EOFError:
            print()
            return


def main():
    """Talk to the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", type=Path, default=ROOT / "build/gpt2-instruct.pt",
                        help="a file that save_model wrote (default: the one that `make run` writes)")
    arguments = parser.parse_args()
    model, config = saved_model(arguments.model)
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    talk(model.to(device), load_tokenizer(MINIATURE_DIR), notes_on(config),
         example_questions(arguments.model))


if __name__ == "__main__":
    main()
