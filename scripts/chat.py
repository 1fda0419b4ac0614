"""Talk to the fine-tuned model: in the terminal, or with --web on a page that only this machine sees.

    python scripts/chat.py                  # the model that `make run` saved
    python scripts/chat.py --web my.pt      # another one that save_model wrote, on a page

Each question goes into the prompt of the training, by itself: the model was fine-tuned on single questions, not on
conversations. The answer is shown while it is made.
"""

import argparse
import contextlib
import html
import json
import os
import sys
import unicodedata
from itertools import accumulate
from math import nan
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from engine.entries import LONGEST_TOKEN
from engine.generation import stream, whole_text
from gpt_download import END_OF_TEXT, load_settings, load_tokenizer
from previous_chapters import gpt_config
from scripts.tutorial import MINIATURE_DIR, ROOT, notebook_definitions, saved_model

BY_ITSELF = "Each question is asked by itself, as in training: the model doesn't see what was said before."
THE_MINIATURE = ("This is the miniature. It knows some 1,500 words of simple English: their plurals, past tenses, "
                 "opposites, categories, spellings and definitions, and how to rewrite a sentence made of them. To "
                 "anything else it says something that only sounds like an answer.")
SETTINGS = {"temperature": 0.0, "top_p": 1.0}  # as they are at the start: always the most likely token
WANTED = {"temperature": "0 (always the most likely token) or more", "top_p": "above 0, and at most 1 (all tokens)"}

format_prompt = notebook_definitions()["format_prompt"]


def prompt_ids(question, model, tokenizer):
    """A question's ids, in the prompt of the training. Raises ValueError for no question, or one too long to answer."""
    if not question.strip():
        raise ValueError("an empty question: ask something")
    limit = model.pos_emb.num_embeddings
    absurd = len(question) > LONGEST_TOKEN * limit  # too much for the tokenizer, even
    ids = [] if absurd else tokenizer.encode_ordinary(format_prompt({"instruction": question.strip(), "input": ""}))
    if absurd or len(ids) >= limit:
        raise ValueError(f"a question too long for a model that reads {limit} tokens, with what stands around it and "
                         "the answer: shorten it")
    return ids


def answer(question, model, tokenizer, temperature, top_p):
    """The model's answer in pieces, as they come. It ends where the model ends it, or where its context is full."""
    ids, limit = prompt_ids(question, model, tokenizer), model.pos_emb.num_embeddings
    yield from whole_text(stream(model, ids, limit - len(ids), limit, temperature, top_p=top_p, eos_id=END_OF_TEXT),
                          tokenizer)


def what_it_knows(config):
    """A line about the miniature, if the model is that."""
    of_the_miniature = gpt_config(load_settings(MINIATURE_DIR))
    return [THE_MINIATURE] if config | {"drop_rate": 0.0} == of_the_miniature else []


def example_questions(model_path):
    """Up to four questions of different tasks, from the test answers that the notebook saved beside the model, if they
    are there. They need no input, for which there is no place here."""
    answers = model_path.with_name("responses.json")
    entries = json.loads(answers.read_text(encoding="utf-8")) if answers.exists() else []
    by_task = {str(entry.get("task", number)): entry["instruction"]
               for number, entry in enumerate(entries) if not entry["input"]}
    return list(by_task.values())[:4]


# --- In the terminal ---


def without_control_characters(text):
    """What a model says can't move the cursor or change colours: only line feeds and tabs of its control characters
    are kept."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


def change_setting(settings, command):
    """Carry out a line such as "/top_p 0.9". Raises ValueError for any other line."""
    name, _, value = command[1:].partition(" ")
    if name not in settings:
        raise ValueError(f"/{name} is no command; there are " + " and ".join(f"/{name}" for name in settings))
    try:
        number = float(value)
    except ValueError:
        number = nan  # in no range
    if not (number >= 0 if name == "temperature" else 0 < number <= 1):
        raise ValueError(f"{name} is {settings[name]}; to change it, write /{name} and a number: {WANTED[name]}")
    settings[name] = number


def talk(model, tokenizer, notes, examples):
    """Answer question after question, until the input ends. Ctrl-C stops an answer."""
    with contextlib.suppress(ImportError):  # there is none on Windows
        import readline  # noqa: F401  gives input() a history, and arrow keys
    sys.stdout.reconfigure(errors="replace")  # a terminal may not have all characters
    print(*notes, sep="\n")
    print("Ctrl-C stops an answer, Ctrl-D ends the talk. With /temperature 0.7 tokens are drawn by chance, with "
          "/top_p 0.9 from the likely ones only.")
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
            print(" (stopped; Ctrl-D ends the talk)")
        except EOFError:
            print()
            return


# --- On a page ---


def show_as_text(chatbot):
    """gradio takes messages for HTML, and shows of it what it thinks harmless. Escape them on their way to the page, so
    that they are shown as they were written, and back."""
    to_page, from_page = chatbot.postprocess, chatbot.preprocess

    def changed(messages, change):
        for message in messages.root:
            for part in message.content:
                part.text = change(part.text)
        return messages
    chatbot.postprocess = lambda messages: changed(to_page(messages), html.escape)
    chatbot.preprocess = lambda messages: from_page(changed(messages, html.unescape))
    return chatbot


def page(model, tokenizer, notes, examples):
    """The same as a page of gradio's."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: it would report to its makers
    try:
        import gradio as gr
    except ModuleNotFoundError:
        sys.exit("The page needs gradio: `make chat WEB=1` installs it, or `pip install -r scripts/requirements.txt`")

    def reply(question, history, temperature, top_p):
        yield from accumulate(answer(question, model, tokenizer, temperature, top_p))

    def check(question):
        try:
            prompt_ids(question, model, tokenizer)
        except ValueError as error:
            return gr.validate(False, str(error))
        return gr.validate(True, "")

    return gr.ChatInterface(
        reply, title="Talk to your GPT-2", description="\n\n".join(notes), validator=check,
        chatbot=show_as_text(gr.Chatbot(label="Questions and answers", render_markdown=False, buttons=[], scale=1)),
        additional_inputs=[
            gr.Slider(0, 3, SETTINGS["temperature"], step=0.1, label="temperature", info=WANTED["temperature"]),
            gr.Slider(0.05, 1, SETTINGS["top_p"], step=0.05, label="top_p", info=WANTED["top_p"])],
        additional_inputs_accordion=gr.Accordion("How the next token is chosen", open=True),
        examples=[[question] for question in examples], cache_examples=False)


def open_page(model, tokenizer, notes, examples):
    """Serve the page on this machine alone, and open it in the browser, until Ctrl-C."""
    page(model, tokenizer, notes, examples).launch(
        inbrowser=True, share=False, server_name="127.0.0.1", footer_links=[])
    sys.stdout.flush()
    os._exit(0)  # at once: an answer may be in the making, in a thread that Python's orderly end would abort


def main():
    parser = argparse.ArgumentParser(description="Talk to a fine-tuned model.")
    parser.add_argument("model", nargs="?", type=Path, default=ROOT / "build/gpt2-instruct.pt",
                        help="a file that save_model wrote (default: the one that `make run` writes)")
    parser.add_argument("--web", action="store_true", help="on a page in the browser")
    arguments = parser.parse_args()
    model, config = saved_model(arguments.model)
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    (open_page if arguments.web else talk)(
        model.to(device), load_tokenizer(MINIATURE_DIR), [BY_ITSELF, *what_it_knows(config)],
        example_questions(arguments.model))


if __name__ == "__main__":
    main()
