"""The web page, in a real browser as a reader uses it: its model against `generate`, its tokenizer against tiktoken."""

import copy
import json
import random
import re
import shutil
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import nbformat
import pytest
import torch
from bs4 import BeautifulSoup
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import expect, sync_playwright

from engine.fast import packed_loss
from engine.generation import generate
from gpt_download import END_OF_TEXT
from miniature import recipe
from miniature.corpus import documents
from previous_chapters import GPTModel
from tutorial import ROOT, figures
from tutorial.instructions import format_prompt
from tutorial.page import html, models
from tutorial.page.__main__ import main
from tutorial.page.live import KEYS, live, training_for_page
from weights.saved import save_model
from weights.sizes import MODELS

CONFIG = MODELS["gpt2-mini (7M)"].config()
ATTACK = "<b>bold</b><script>document.title = 'attacked'</script>"
QUESTION = {"task": "past tense", "instruction": "Put this into the past.", "input": "The queen rides the old horse."}
DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")  # 1 by 1
HEN = format_prompt({"instruction": "What is a hen?", "input": ""})
SAID = [[["The", 0.25], [" bridge", 0.5], ["\n", 0.1]], [["A", 0.9], [" bridge", 0.8], ["<|endoftext|>", 1.0]]]
DATA = {
    "ask": {"questions": [QUESTION, {"task": ATTACK, "instruction": "What is the opposite of cold?", "input": ""}]},
    "token": {"prompt": HEN,
              "ids": [*recipe.TOKENIZER.encode_ordinary("A hen is a bird that lays eggs."), END_OF_TEXT]},
    "training": {"steps": [0, 8], "losses": {"train": [[0, 2.5], [1, 2.0], [8, 0.5]], "val": [[0, 2.25], [8, 0.75]]},
                 "answers": [{"question": ATTACK, "answer": "A bridge", "said": SAID}]},
    "batch": {"texts": [["Opposite of big?", " small."], ["Past of go?", " went."], ["Leaf?", " leaves"]]},
    "attention": {"prompt": HEN},
}
PROSE = """\
# A small tutorial of GPT-2

The first paragraph.

## 1. First

A token is a piece; another token has no note. See [the textbook](previous_chapters.py) and [this](#2.-Second).

> **In the article** it is otherwise.

| left | right |
|---|---:|
| a | 1 |

**Glossary**

| term | meaning |
|---|---|
| token | a piece of text |
"""


def picture(figure):
    return new_output("display_data", {"image/png": DOT, "text/plain": "a picture", **live(figure, DATA[figure])},
                      metadata={"image/png": {"alt": f"What {figure} shows."}})


@pytest.fixture(scope="module")
def notebook():
    """A notebook with everything that the page treats in its own way, executed by nobody."""
    plain = [new_output("display_data", {"image/png": DOT}, metadata={"image/png": {"alt": "A dot.", "width": 9}}),
             new_output("display_data", {"text/markdown": "*A dot.*"})]
    printed = [new_output("stream", text="a    table\n"), new_output("stream", text=f"{ATTACK}\n")]
    cells = [new_markdown_cell(PROSE), new_code_cell("x = 1\n" * 14, outputs=plain, metadata={"tags": ["plot"]}),
             new_code_cell(f"print('{ATTACK}')\nif x:\n    y = 2", outputs=printed), new_markdown_cell("## 2. Second")]
    last = new_markdown_cell("## 3. Third\n\n" + "A line.\n\n" * 40)
    return new_notebook(cells=[*cells, *(new_code_cell("", outputs=[picture(figure)]) for figure in KEYS), last])


@pytest.fixture(scope="module")
def two_models():
    """The base model and one whose blocks were fine-tuned for 5 steps, on the CPU."""
    base = recipe.pretrained()
    tuned = copy.deepcopy(base).requires_grad_(False)
    torch.manual_seed(0)
    loader = recipe.loader_of(recipe.TRAIN, recipe.RECIPE, batch_size=8, shuffle=True)
    optimizer = torch.optim.AdamW(tuned.trf_blocks.requires_grad_(True).parameters(), lr=1e-3)
    for _, batch in zip(range(5), loader):
        optimizer.zero_grad()
        packed_loss(*batch, tuned, torch.device("cpu")).backward()
        optimizer.step()
    return {"base": base, "tuned": tuned.eval()}


@pytest.fixture(scope="module")
def site(notebook, two_models, shared_folder):
    """The site in both languages, as the command writes it. When several processes share the tests, the first one
    writes it for all."""
    folder = shared_folder / "page"
    with FileLock(shared_folder / "page.lock"):
        if not folder.exists():
            write_site(folder, notebook, two_models["tuned"])
    return folder / "site"


def write_site(folder, notebook, tuned):
    folder.mkdir()
    nbformat.write(notebook, folder / "small.ipynb")
    nbformat.write(notebook, folder / "small.zh.ipynb")
    save_model(tuned, CONFIG, folder / "tuned.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["page", *map(str, (folder / "site", *sorted(folder.glob("*.ipynb")))),
                                   "--tuned", str(folder / "tuned.pt"), "--address", "https://example.org/"])
        main()


@pytest.fixture(scope="module")
def chromium():
    paths = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not paths:
        pytest.skip("no Chromium here (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        expect.set_options(timeout=60_000)
        # Without the two pages that it would load behind the address bar of each new window, for a second.
        yield playwright.chromium.launch(executable_path=paths[0], args=[
            "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup"])


@contextmanager
def opener(chromium, site):
    """A function that opens a page of the site: it must ask for nothing outside its folder, and complain of nothing."""
    contexts, complaints = [], []

    def start(address=None, **options):
        address = address or (site / "index.html").as_uri()
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # a busy machine draws slowly

        def check(request):
            if not request.url.startswith((address.rpartition("/")[0], "data:")):
                complaints.append(request.url)
        page.on("request", check)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        return page
    yield start
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def open_page(chromium, site):
    with opener(chromium, site) as start:
        yield start


@pytest.fixture(scope="module")
def unchanged_page(chromium, site):
    """An open page for the tests that only call its functions."""
    with opener(chromium, site) as start:
        yield start()


def figure(page, name):
    """A figure, once it is alive."""
    found = page.locator(f"figure[data-figure={name}]")
    found.scroll_into_view_if_needed()
    expect(found).to_have_class("live")
    return found


def answers(page):
    """What both models have said in the demonstration, when they have ended: two texts."""
    said = figure(page, "ask").locator(".said")
    for column in (0, 1):
        expect(said.nth(column)).not_to_have_attribute("aria-busy", "true")
        expect(said.nth(column)).to_have_text(re.compile("■ end|stopped after 40"))
    return [" ".join(column.locator(".new").all_text_contents()).split() for column in said.all()]


def answer(model, entry, max_new_tokens=64):
    """The ids of a model's greedy answer, with the end, by `generate`."""
    ids = recipe.TOKENIZER.encode_ordinary(format_prompt(entry))
    return generate(model, [ids], max_new_tokens, 256, eos_id=END_OF_TEXT)[0][len(ids):]


# --- The model and its tokenizer ---


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "tuned"])
def test_greedy_answers_equal_pythons_id_for_id(unchanged_page, two_models, name):
    prompts = [recipe.TOKENIZER.encode_ordinary(format_prompt(entry)) for entry in recipe.TEST]
    rows = generate(two_models[name], prompts, 64, 256, eos_id=END_OF_TEXT)
    said = unchanged_page.evaluate("""async ([entries, model]) => {
        const answers = [];
        for (const {instruction, input} of entries) answers.push(await miniature.ask(instruction, {input, model}));
        return answers;
    }""", [recipe.TEST, name])
    assert len(rows) == 110
    for prompt, row, given in zip(prompts, rows, said, strict=True):
        ids = row[len(prompt):]
        assert given["ids"] == [i for i in ids if i != END_OF_TEXT]
        assert given["ended"] == (len(given["ids"]) < 64)
        assert given["text"] == recipe.TOKENIZER.decode(given["ids"]).strip()


def test_a_temperature_draws_and_a_long_question_is_an_error(unchanged_page):
    drawn = {unchanged_page.evaluate("async () => (await miniature.ask('Tell me.', {temperature: 2})).text")
             for _ in range(4)}
    assert len(drawn) > 1
    message = unchanged_page.evaluate("miniature.ask('word '.repeat(300)).catch(error => error.message)")
    assert "too long" in message and "256" in message


def random_texts(number):
    """Pieces of the pretraining text, of entries, and of random characters of any script, spaces and line ends."""
    rng = random.Random(7)
    known = "\n".join([next(iter(documents(seed))) for seed in range(20)] + [entry["output"] for entry in recipe.TRAIN])
    anything = [chr(rng.choice([rng.randrange(32, 127), rng.randrange(160, 0x3100), rng.randrange(0x4E00, 0x9FA5),
                                rng.randrange(0x1F300, 0x1F600), *b" \n\t'"])) for _ in range(50_000)]
    odd = ["\u0085", "\u00a0", "\u2028", "\u3000", "\ufeff", "\u200d", "'ll", "'LL", "  ", "\r\n", "<|endoftext|>", "é"]
    for n in range(number):
        pool = (known, anything)[n % 2]
        start, length = rng.randrange(len(pool) - 60), rng.randrange(60)
        yield "".join(pool[start:start + length]) + rng.choice(["", *odd]) + rng.choice(["", " ", "x"])


def test_the_tokenizer_equals_tiktoken(unchanged_page):
    texts = [*random_texts(5_000), ""]
    encoded, decoded = unchanged_page.evaluate("""texts => {
        const ids = texts.map(text => tokenizer.encode(text));
        return [ids, ids.map(list => tokenizer.decode(list))];
    }""", texts)
    assert encoded == recipe.TOKENIZER.encode_ordinary_batch(texts)
    assert decoded == [text.removeprefix("\ufeff") for text in texts]


def test_a_token_outside_the_world_is_read_as_its_two_halves(unchanged_page):
    left_out = recipe.TOKENIZER.encode_single_token(b" Copenhagen")
    read = unchanged_page.evaluate("async id => { const model = await load('base'); "
                                   "return model.rowsOf(id).map(row => model.ids[row]); }", left_out)
    assert left_out not in read and recipe.TOKENIZER.decode(read) == " Copenhagen"


# --- The five things to do ---


def test_asking_both_models(open_page, two_models):
    page = open_page()
    for entry in (QUESTION, {"instruction": "What is the plural of leaf?", "input": ""}):
        ask = figure(page, "ask")
        ask.get_by_label("Instruction").fill(entry["instruction"])
        ask.get_by_label("Input").fill(entry["input"])
        ask.get_by_label("Input").press("Enter")
        expected = [recipe.TOKENIZER.decode([i for i in answer(two_models[name], entry, 40) if i != END_OF_TEXT])
                    for name in ("base", "tuned")]
        assert ["".join(said) for said in answers(page)] == ["".join(text.split()) for text in expected]
    expect(ask.locator(".strangers")).to_be_empty()


def test_words_from_outside_the_world_are_marked_before_they_are_asked(open_page):
    page = open_page()
    ask = figure(page, "ask")
    ask.get_by_label("Instruction").fill("Who is Hamlet, the prince of Denmark?")
    expect(ask.locator(".strangers")).to_contain_text("Hamlet, Denmark")
    assert ask.locator(".mirror u").all_text_contents() == ["Hamlet", "Denmark"]
    ask.get_by_label("Instruction").fill("Please tell me: What is the PLURAL of Dog in France? How? And of dog?")
    expect(ask.locator(".strangers")).to_contain_text("PLURAL, Dog")  # it has read "plural" and "dog"
    assert ask.locator(".mirror u").all_text_contents() == ["PLURAL", "Dog"]


def test_typed_text_and_data_are_never_markup(open_page):
    page = open_page()
    ask = figure(page, "ask")
    ask.get_by_label("Instruction").fill(ATTACK)
    ask.get_by_role("button", name="Ask", exact=True).click()
    answers(page)
    batch = figure(page, "batch")
    batch.get_by_label("Question of row 1").fill(ATTACK[:30])
    assert ATTACK in figure(page, "training").inner_text()
    assert page.locator("main .stage").locator("b:not(.right), script").count() == 0
    assert page.title() == "A small tutorial of GPT-2"


def test_opening_a_token(open_page, two_models):
    page = open_page()
    token = figure(page, "token")
    line, bars = token.locator(".tokens .t"), token.locator(".bars button")
    assert line.all_text_contents() == ["A", "hen", "is", "a", "bird", "that", "lays", "eggs", ".", "■ end"]
    line.nth(1).click()
    prompt = torch.tensor([recipe.TOKENIZER.encode_ordinary(HEN + "A")])
    hen = recipe.TOKENIZER.encode_single_token(b" hen")
    with torch.no_grad():
        before, after = (float(model(prompt)[0, -1].softmax(-1)[hen]) for model in two_models.values())
    label = token.get_by_role("button", pressed=True).get_attribute("aria-label")
    shown = [float(number) / 100 for number in re.findall(r"([\d.]+)%", label)]
    assert label.startswith("·hen") and shown == pytest.approx([before, after], abs=0.011)
    other = bars.filter(has_not_text="hen").first
    word = other.locator(".what").text_content().strip("·")
    other.click()  # the answer goes on from there
    expect(line.nth(1)).to_have_text(word)
    slider = token.get_by_role("slider")
    expect(slider).to_have_value("1")
    label = token.get_by_role("button", pressed=True).get_attribute("aria-label")
    slider.press("ArrowRight")
    expect(token.locator("output")).to_have_text("1.1")
    assert token.get_by_role("button", pressed=True).get_attribute("aria-label") != label
    token.get_by_role("button", name="The likeliest again").click()
    expected = recipe.TOKENIZER.decode(answer(two_models["tuned"], {"instruction": "What is a hen?", "input": ""}))
    expect(line.first).to_have_text(expected.split()[0])
    line.first.press("ArrowRight")
    expect(line.nth(1)).to_be_focused()
    slider.fill("0.2")
    page.evaluate("Math.random = () => 0.5")  # the likeliest, where it has more than half of the probability
    token.get_by_role("button", name="Draw").click()
    drawn = token.locator("span[role=status]")
    expect(drawn).to_have_text("Drawn: the likeliest one again.")
    page.evaluate("Math.random = () => 0")  # the first token of all
    token.get_by_role("button", name="Draw").click()
    expect(line.first).to_have_text("!")
    expect(drawn).to_be_empty()
    assert page.evaluate("[0, 3e-6, 0.0006, 0.5].map(percent)") == [
        "0%", "<0.1%", "0.1%", "50%"]


def test_dragging_the_training(open_page):
    page = open_page()
    training = figure(page, "training")
    expect(training.locator(".says")).to_have_text(
        "Step 0: training loss 2.50, validation loss 2.25; exact answers: 0 of 1.")
    expect(training.locator(".said")).to_have_text("The bridge↵ …")
    mark = training.locator("line.mark")
    at_first = float(mark.get_attribute("x1"))
    training.get_by_role("slider").press("ArrowRight")
    expect(training.locator(".said")).to_have_text("✓ A bridge■")
    expect(training.locator(".says")).to_have_text(
        "Step 8: training loss 0.50, validation loss 0.75; exact answers: 1 of 1.")
    assert float(mark.get_attribute("x1")) > at_first
    assert training.locator(".said .filled").first.evaluate("node => node.style.getPropertyValue('--p')") == "0.9"
    chart = training.locator("svg")
    for x, step in ((45, 0), (chart.bounding_box()["width"] - 20, 8)):
        chart.click(position={"x": x, "y": 60})
        expect(training.locator(".says")).to_contain_text(f"Step {step}")
    training.get_by_role("button", name="Play").click()
    expect(training.locator(".says")).to_contain_text("Step 0")


def test_building_a_batch(open_page):
    page = open_page()
    batch = figure(page, "batch")
    batch.get_by_role("radio", name="tokenize").click()
    rows = batch.locator(".lines")
    expect(rows.first.locator("small")).to_have_text(
        [str(i) for i in recipe.TOKENIZER.encode_ordinary("Opposite of big? small.")])
    batch.get_by_role("radio", name="tokenize").press("ArrowRight")
    expect(batch.get_by_role("radio", name="pad")).to_be_focused()
    expect(batch.locator(".lines .cell")).to_have_count(24)  # three rows of seven tokens and an end
    batch.get_by_role("radio", name="shift").click()
    batch.get_by_label("Question of row 2").fill("Past of see?")
    batch.get_by_label("Answer of row 2").fill("saw")
    expect(rows.nth(1).locator(".line").nth(1)).to_contain_text("·saw")
    guesses = rows.nth(1).locator(".line").nth(1).locator(".cell")
    expect(guesses.locator("small").nth(6)).to_have_text("50256")
    batch.get_by_role("radio", name="mask").click()
    expect(guesses.locator("small").nth(6)).to_have_text("-100")
    batch.get_by_role("radio", name="answers only").click()
    expect(guesses.locator("small")).to_have_text(["-100"] * 3 + ["2497", "50256", "-100", "-100"])
    guesses.nth(3).hover()
    expect(batch.locator(".says")).to_have_text("It reads Past of see? and should guess saw.")
    guesses.nth(0).focus()
    expect(batch.locator(".says")).to_have_text("It reads Past. Next comes of, part of the question: it doesn’t count.")
    batch.get_by_label("Question of row 2").fill("What is the past tense of see?")
    batch.get_by_label("Answer of row 2").fill("The past tense of see is saw.")
    expect(batch.locator(".says")).to_have_text("Row 2 has 16 tokens; this table shows 14. Shorten it.")
    batch.get_by_label("Answer of row 2").fill("It is saw.")
    expect(batch.locator(".says")).not_to_contain_text("Shorten it")


def test_pointing_at_attention(open_page, two_models):
    page = open_page()
    attention = figure(page, "attention")
    said = [i for i in answer(two_models["tuned"], {"instruction": "What is a hen?", "input": ""}) if i != END_OF_TEXT]
    ids, looks = recipe.TOKENIZER.encode_ordinary(HEN) + said, {}

    def record(name, queries_keys_values):  # the weights of the last layer's first head, (T, T)
        q, k, _ = queries_keys_values.unbind(2)
        scores = q[0, :, 0] @ k[0, :, 0].T / k.shape[-1] ** 0.5
        future = torch.ones_like(scores).triu(1).bool()
        looks[name] = scores.masked_fill(future, -torch.inf).softmax(-1)
    for name, model in two_models.items():
        with torch.no_grad():
            stream = model.tok_emb(torch.tensor([ids])) + model.pos_emb.weight[:len(ids)]
            for block in model.trf_blocks[:-1]:
                stream = block(stream)
            block = model.trf_blocks[-1]
            record(name, block.att.qkv(block.norm1(stream)).unflatten(2, (3, 4, 32)))
    attention.get_by_role("radio", name="layer 4, head 1").click()
    last = attention.locator(".tokens button").last
    last.hover()
    for name, choice in (("base", "before"), ("tuned", "after")):
        attention.get_by_role("radio", name=choice).click()
        expect(attention.get_by_role("radio", name=choice)).to_have_attribute("aria-checked", "true")
        shown = attention.locator(".tokens button").evaluate_all(
            "nodes => nodes.map(node => Number(node.style.getPropertyValue('--p')))")
        assert shown == pytest.approx(looks[name][-1, -len(shown):].tolist(), abs=2e-3)
    expect(attention.locator(".says")).to_contain_text("head 1 of layer 4 looked most at")
    attention.get_by_role("radio", name="layer 1, head 1").click()
    for token in attention.locator(".tokens button").all():  # the sentence says what the picture shows
        token.hover()
        shown = attention.locator(".tokens .t").evaluate_all(
            "nodes => nodes.map(node => [Number(node.style.getPropertyValue('--p')), node.textContent, node.title])")
        _, most, weight = max(shown)
        says = attention.locator(".says")
        expect(says.locator("q").last).to_have_text(most)
        expect(says).to_contain_text(f"{most} ({weight}) after it")


def test_opening_a_token_of_an_answer_to_ones_own_question(open_page, two_models):
    page = open_page()
    ask, hen = figure(page, "ask"), {"instruction": "What is a hen?", "input": ""}
    ask.get_by_label("Instruction").fill(hen["instruction"])
    ask.get_by_label("Input").fill("")
    ask.get_by_label("Input").press("Enter")
    answers(page)
    ask.get_by_role("button", name="What else could it have said?").click()
    said = [recipe.TOKENIZER.decode([i]).strip() for i in answer(two_models["tuned"], hen) if i != END_OF_TEXT]
    expect(ask.locator(".token .t")).to_have_text([*said, "■ end"])
    expect(ask.locator(".token .asked")).to_have_text("What is a hen?")
    expect(ask.locator(".token .bars")).to_be_in_viewport()
    ask.get_by_label("Instruction").fill("What is the plural of leaf?")
    ask.get_by_label("Instruction").press("Enter")
    expect(ask.locator(".token")).to_be_empty()


def test_an_empty_question_clears_the_answers_and_one_that_is_too_long_is_said(open_page):
    page = open_page()
    answers(page)
    ask = figure(page, "ask")
    instruction, said = ask.get_by_label("Instruction"), ask.locator(".said")
    instruction.fill(" ")
    ask.get_by_role("button", name="Ask", exact=True).click()
    expect(said).to_have_text(["", ""])
    expect(instruction).to_be_focused()
    instruction.fill("word " * 300)
    instruction.press("Enter")
    expect(said.last).to_contain_text("The question is too long")


def test_while_a_model_is_loaded_the_page_says_so(chromium, address):
    page, held = chromium.new_page(), []
    page.route("**/tuned.js", lambda route: held.append(route))
    page.goto(address)
    before, after = page.locator(".said").all()
    expect(before).to_contain_text(re.compile("end of text|stopped"))
    expect(after).to_have_text("The model is on its way: 4 MB, once.")
    expect(after.locator(".late")).to_have_css("opacity", "1")
    held[0].continue_()
    answers(page)
    expect(after).not_to_contain_text("on its way")
    page.close()


def test_on_a_phone_the_answers_come_into_view_when_the_reader_asks(open_page):
    page = open_page(viewport={"width": 390, "height": 664})
    expect(page.locator(".said").last).to_contain_text("What else")
    assert page.evaluate("scrollY") == 0  # not before
    instruction = page.get_by_label("Instruction")
    instruction.fill("What is a hen?")
    instruction.press("Enter")
    expect(instruction).not_to_be_focused()
    for said in page.locator(".said").all():
        expect(said).to_contain_text(re.compile("end of text|stopped"))
        expect(said).to_be_in_viewport(ratio=1)


# --- The page itself ---


@pytest.fixture(scope="module")
def address(site):
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *arguments: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=site)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_it_works_from_a_web_server_in_both_languages(open_page, address):
    page = open_page(address + "index.html")
    answers(page)
    page.locator("nav a[lang=zh]").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    expect(figure(page, "ask").get_by_role("button", name="提问")).to_be_visible()
    page.locator("nav a[lang=en]").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_a_model_that_is_missing_is_said_and_pictures_stay(chromium, site, tmp_path):
    shutil.copy(site / "index.html", tmp_path)
    page = chromium.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    expect(page.locator(".said").first).to_have_text(re.compile("base.js could not be loaded"))
    page.locator("figure[data-figure=token]").scroll_into_view_if_needed()
    expect(page.locator("figure[data-figure=token] .fine")).to_have_text(re.compile("base.js could not be loaded"))
    expect(page.get_by_alt_text("What token shows.")).to_be_visible()
    page.close()


def test_without_scripts_pictures_captions_and_contents_are_there(open_page):
    page = open_page(java_script_enabled=False)
    for name in KEYS:
        expect(page.get_by_alt_text(f"What {name} shows.")).to_be_visible()
        expect(page.locator("figcaption", has_text=f"What {name} shows.")).to_be_visible()
    assert page.locator("nav li").all_text_contents() == ["1. First1 min", "2. Second2 min", "3. Third1 min"]
    expect(page.locator("details.fold summary")).to_have_text("14 lines: draws the figure")
    page.locator("details.fold summary").click()
    expect(page.locator("details.fold .code")).to_be_visible()


def test_nothing_is_wider_than_the_screen(open_page):
    page = open_page(viewport={"width": 390, "height": 800})
    answers(page)
    for name in KEYS:
        figure(page, name)
    for width in (390, 1000, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_living_figure_has_a_caption_of_its_own_and_on_paper_its_picture(open_page):
    page = open_page()
    batch = figure(page, "batch")
    expect(batch.locator(".fine")).to_contain_text("Three texts become one batch.")
    expect(batch.locator("figcaption")).to_be_hidden()
    page.emulate_media(media="print")
    expect(batch.get_by_alt_text("What batch shows.")).to_be_visible()
    expect(batch.locator("figcaption")).to_be_visible()
    expect(batch.locator(".stage")).to_be_hidden()
    expect(figure(page, "ask").locator(".answer").first).to_be_visible()
    expect(page.locator("main").get_by_role("button")).to_have_count(0)


def test_folding_copying_contents_and_notes(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.locator("nav").get_by_role("button", name="Show all code").click()
    expect(page.locator("details.fold .code")).to_be_visible()
    page.locator("nav").get_by_role("button", name="Fold code again").click()
    expect(page.locator("details.fold .code")).not_to_be_visible()
    page.locator(".code", has_text="if x").get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".code", has_text="if x").get_by_role("button")).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == f"print('{ATTACK}')\nif x:\n    y = 2\n"
    page.locator("nav").get_by_role("button", name="Text only").click()
    for hidden in (".code", ".out"):
        expect(page.locator(f"main > {hidden}").first).not_to_be_visible()
    expect(page.get_by_alt_text("A dot.")).to_be_visible()
    page.locator("nav").get_by_role("button", name="Text and code").click()
    expect(page.locator("main > .code").first).to_be_visible()
    page.locator("nav").get_by_role("link", name="2. Second").click()
    expect(page.locator("nav [aria-current]")).to_have_text("2. Second")
    page.locator(".term").focus()
    expect(page.get_by_role("tooltip")).to_have_text("a piece of text")
    page.keyboard.press("Escape")
    expect(page.locator(".note")).not_to_be_visible()


def test_links_lead_to_their_headings_whatever_grows_on_the_way(open_page, site):
    page = open_page()
    page.locator("nav").get_by_role("link", name="3. Third").click()
    expect(page.locator("nav [aria-current]")).to_have_text("3. Third")
    page.evaluate("""() => new MutationObserver(() => {  // what is above grows in the frame in which it comes alive
        document.querySelector('main p').style.height = '200px';
    }).observe(document.querySelector('#try-token'), {attributes: true})""")
    figure(page, "ask").get_by_role("link", name="open a token").click()
    expect(page.locator("#try-token")).to_have_class("live")
    page.wait_for_timeout(500)
    assert page.locator("#try-token").bounding_box()["y"] == pytest.approx(28, abs=2)
    page.locator("nav").get_by_role("link", name="3. Third").click()
    direct = open_page((site / "index.html").as_uri() + "#3.-Third")
    for opened in (page, direct):
        expect(opened.locator("figure[data-figure=attention]")).to_have_class("live")
        opened.wait_for_timeout(500)
        assert opened.get_by_role("heading", name="3. Third").bounding_box()["y"] == pytest.approx(28, abs=2)


def test_a_language_that_the_page_lacks_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["page", str(tmp_path / "site"), "small.ipynb", "small.de.ipynb"])
    with pytest.raises(SystemExit):
        main()
    assert "the page has no language de; it has en, zh" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_one_chinese_character_is_a_term_only_alone():
    """In 默认值 and 多轮对话 it is part of a word."""
    soup = BeautifulSoup("<main><p>取默认值；多轮对话；键有<b>值</b>；一轮（epoch）。</p><strong>术语表</strong>"
                         "<table><tr></tr><tr><td>键、值</td><td>1</td></tr><tr><td>轮（epoch）</td><td>2</td></tr>"
                         "</table></main>", "html.parser")
    html.set_glossary_notes(soup, soup.main)
    assert [term.contents[0] for term in soup.select(".term")] == ["值", "epoch"]


def test_terms_that_share_a_row_of_the_glossary_have_their_own_meanings():
    rows = {"validation set, test set": "to choose by; for the score", "贪心解码、温度": "取最大；抽取",
            "query, key, value": "what a token looks for, has, passes on", "logits": "scores; not probabilities"}
    terms = "</p><p>".join(re.split(", |、", "、".join(rows)))
    soup = BeautifulSoup(f"<main><p>{terms}</p><strong>Glossary</strong><table><tr></tr>" + "".join(
        f"<tr><td>{term}</td><td>{meaning}</td></tr>" for term, meaning in rows.items()) + "</table></main>",
        "html.parser")
    html.set_glossary_notes(soup, soup.main)
    assert [note.text for note in soup.select(".note")] == [
        "to choose by", "for the score", "取最大", "抽取", *["what a token looks for, has, passes on"] * 3,
        "scores; not probabilities"]


def test_the_keyboard_alone_reaches_every_control(open_page):
    page = open_page()
    answers(page)
    for name in KEYS:
        figure(page, name)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        where = page.evaluate("""() => { const node = document.activeElement, style = getComputedStyle(node);
            return [node.closest('figure')?.dataset.figure ?? node.className ?? node.tagName,
                    node === document.body || node.matches('.grow textarea') || style.outlineStyle !== 'none']; }""")
        assert where[1], f"the focus isn't seen in {where[0]}"
        reached.add(where[0])
    assert {"skip", "unfold", "prose", "term", "copy", *KEYS} <= reached


def test_axe_finds_nothing(open_page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="tests/requirements.txt has it")
    page = open_page()
    answers(page)
    for name in KEYS:
        figure(page, name)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = axe.Axe().run(page).response["violations"]
        assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found] == [], scheme


def test_files_are_small_and_the_head_is_for_sharing(site):
    assert (site / "index.html").stat().st_size < 3e6
    assert sum((site / f"{name}.js").stat().st_size for name in ("base", "tuned")) < 9e6
    assert sorted(path.name for path in site.iterdir()) == [
        "base.js", "index.html", "index.zh.html", "share.en.png", "share.zh.png", "tuned.js"]
    head = (site / "index.html").read_text(encoding="utf-8").partition("</head>")[0]
    for part in ("<title>A small tutorial of GPT-2</title>", 'content="https://example.org/share.en.png"',
                 'name="description"', "default-src 'none'"):
        assert part in head
    assert "unsafe" not in head


def test_the_page_and_the_figures_have_the_same_colours():
    for name, colour in (("read", figures.PROMPT), ("counts", figures.ANSWER), ("end", figures.END),
                         ("pad", figures.PADDING)):
        assert f"--{name}-fill: {colour};" in html.read("page.css")


def test_links_of_the_chinese_edition_point_at_the_same_files(notebook):
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        cell.source = cell.source.replace("](previous_chapters.py", "](../previous_chapters.py")
    text = html.page(notebook, "zh", html.Site(["zh"], source="https://example.org/files"))
    assert 'href="https://example.org/files/previous_chapters.py"' in text and "../" not in text


def test_what_the_template_makes_of_a_notebook(notebook):
    text = html.page(notebook, "en", html.Site(["en"], source="https://example.org/files"))
    soup = html.BeautifulSoup(text, "html.parser")
    assert soup.find("a", string="the textbook")["href"] == "https://example.org/files/previous_chapters.py"
    assert soup.find("a", string="this")["href"] == "#2.-Second"
    assert soup.select_one(".margin").text.split()[:3] == ["In", "the", "article"]
    assert [note.text for note in soup.select(".note")] == ["a piece of text"]  # at the first of two uses
    assert soup.find("td", string="1")["class"] == ["right"] and not soup.find(style=True)
    assert soup.select_one(".out.table").text == "a    table\n" and not soup.select(".out script, .code script")
    [dot] = soup.find_all(string="A dot.")
    assert dot.parent.name == "figcaption" and dot.find_previous("img")["width"] == "9"
    assert soup.main.find_all(True)[1].text == "The first paragraph."
    assert soup.main.p.find_next_sibling().name == "figure"  # the demonstration


def test_code_in_markdown_is_shown_as_that_of_cells():
    """Its lines keep their indent where they are broken, which they can be after brackets that aren't text."""
    cell = new_markdown_cell("# A title\n\n```python\ndef f(x):\n    return g([x], '(')  # [1]\n```")
    text = html.page(new_notebook(cells=[cell]), "en", html.Site(["en"]))
    code = html.BeautifulSoup(text, "html.parser").select_one("div.code code")
    assert code.text == "def f(x):\n    return g([x], '(')  # [1]\n"
    assert [line.find(class_="in") and line.find(class_="in").text for line in code.select(".l")] == [None, "    "]
    assert [wbr.find_previous(string=True) for wbr in code.select("wbr")] == ["(", "(", "["]


def test_what_would_be_broken_or_torn_apart_is_not():
    cells = [new_markdown_cell("# A title\n\n用GPT-2和 `run -m x`，得 **-100** ，如此。"),
             new_code_cell("1", outputs=[new_output("stream", text="\r   \r")], metadata={"tags": ["setup"]})]
    soup = html.BeautifulSoup(html.page(new_notebook(cells=cells), "zh", html.Site(["zh"])), "html.parser")
    assert [part.text for part in soup.main.select(".nb")] == ["GPT-2", "-m", "-100"]
    assert "-100，如此" in soup.main.p.text
    assert not soup.select(".out"), "an erased progress bar isn't shown"
    assert soup.select_one("details.fold summary").text.startswith("1 行：")


def test_after_another_models_run_the_page_says_so_and_keeps_its_pictures(notebook, site, open_page, tmp_path):
    words, merges = ["put", "this"], models.merges()
    other = shutil.copytree(site, tmp_path / "site") / "index.html"
    other.write_text(html.page(notebook, "en", html.Site(["en"], merges, words, other=True)), encoding="utf-8")
    page = open_page(other.as_uri())
    expect(figure(page, "ask")).to_contain_text("This demonstration is the miniature’s")
    expect(figure(page, "ask").get_by_role("link")).to_have_text(["drag the training", "build a batch"])
    for name in ("token", "attention"):
        page.get_by_alt_text(f"What {name} shows.").scroll_into_view_if_needed()
    figure(page, "training")
    expect(page.locator("figure[data-figure=token] img")).to_be_visible()


def test_where_the_fine_tuned_model_is_missing_or_another_one_a_miniature_is_trained(tmp_path, monkeypatch, two_models):
    monkeypatch.setattr(recipe, "fine_tuned", lambda settings, seed: "a fresh one")
    assert models.fine_tuned(tmp_path / "none.pt") == ("a fresh one", False)
    small = CONFIG | {"n_layers": 1, "vocab_size": 64}
    save_model(GPTModel(small), small, tmp_path / "small.pt")
    assert models.fine_tuned(tmp_path / "small.pt") == ("a fresh one", True)


def test_live_data_has_a_figure_of_the_page_and_its_keys():
    assert live("batch", {"texts": []}) == {"application/vnd.gpt2-tutorial+json": {"figure": "batch", "texts": []}}
    with pytest.raises(ValueError, match="no figure 'map', only ask"):
        live("map", {})
    with pytest.raises(ValueError, match=r"expects \['ids', 'prompt'\], not \['prompt'\]"):
        live("token", {"prompt": ""})


def test_a_watched_training_for_the_page():
    seen = {0: {"said": [[("a\n", 0.5), ("<|endoftext|>", 0.9)]], "loss": 2.0},
            4: {"said": [[("b", 0.25)]], "loss": 1.5}}
    entry = {"instruction": "Say b.", "input": "", "output": "b"}
    data = training_for_page(seen, [entry], [(0, 2.5), (1, 2.0)])
    assert live("training", data)
    assert data == {"steps": [0, 4], "losses": {"train": [(0, 2.5), (1, 2.0)], "val": [[0, 2.0], [4, 1.5]]},
                    "answers": [{"question": "Say b.", "answer": "b",
                                 "said": [[("a\n", 0.5), ("<|endoftext|>", 0.9)], [("b", 0.25)]]}]}


def test_both_languages_have_the_same_texts():
    for key, texts in json.loads(html.read("strings.json")).items():
        assert len(texts) == 2 and all(texts), key
        assert sorted(re.findall(r"\{\w+\}", texts[0])) == sorted(re.findall(r"\{\w+\}", texts[1])), key
    scripts = "".join(html.read(f"{name}.js") for name in html.SCRIPTS)
    used = set(re.findall(r"(?:say|plain)\('([^']+)'", scripts))
    assert used and used <= set(html.strings("en"))


def test_the_page_stays_small_enough_to_be_read():
    folder = ROOT / "tutorial/page"
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*")
                if path.suffix in (".js", ".css", ".j2"))
    assert lines <= 1500
