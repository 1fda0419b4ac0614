"""What the figures show."""

import base64
import html
import io
import json
import math
import re
from itertools import combinations
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from previous_chapters import plot_losses
from tests.small_models import EOT
from tutorial import figure_style, figures
from tutorial.figure_style import ANSWER, END, INK, MEANINGS, PADDING, PROMPT, SILVER, SLATE, WIDTH, cjk_fonts, drawable
from tutorial.figures import set_up_figures
from tutorial.instructions import custom_collate_fn
from tutorial.intervals import wilson

CONFIG = {"vocab_size": 50257, "emb_dim": 768, "n_heads": 12, "n_layers": 12}
ODD = ["", "x" * 200, "请把下面的句子改成被动语态：" * 9, "a\nb\t$c$", "\x00\ufffd"]
LONGER = "这个译文比英文长一点"  # a translation: ten characters, as wide as twenty


@pytest.fixture
def set_up(monkeypatch):
    monkeypatch.setattr("engine.texts.TRANSLATIONS", {})
    with plt.rc_context():
        set_up_figures()
        yield
    plt.close("all")


SEEN = {step: {"chances": [0.1] * 8, "right": [True] * 8, "exact": 0.5, "stop": 0.9}
        for step in (0, 1, 2, 4, 8, 16, 32, 64, 116)}


def examples():
    """{name: one of each figure, not yet made}."""
    tokens = ["\n", " The", " opposite", " of", " weak", " is", " strong", "."]
    weights = torch.rand(8, 8).softmax(dim=-1)
    losses = {step: 3 * 0.9**step for step in range(1, 20)}
    ids = [[(str(i), END if i == 50256 else PROMPT) for i in (7, 8, 50256, 50256, 50256)]] * 3
    return {
        "map": figures.draw_map,
        "cells": lambda: figures.draw_cells({"inputs": ids, "targets": [[("-100", PADDING), ("9", ANSWER)]], "": ids}),
        "tokens": lambda: figures.draw_tokens({"row 0": tokens * 5}, colours={"row 0": [PROMPT, ANSWER] * 20}),
        "values": lambda: figures.draw_tokens({"before": tokens}, values={"before": weights[0].tolist()}),
        "probabilities": lambda: figures.draw_probabilities(tokens * 5, {"before": [0.001, 1] * 20, "after": [0] * 40}),
        "next token": lambda: figures.draw_next_token(
            {name: [(repr(t), 0.1) for t in tokens] for name in ("before", "after")}, highlight="'.'"),
        "one head": lambda: figures.draw_one_head(tokens, [-1.3, -2.5, 2.1, 0, 4.5, 4.2, 9, 1.3], weights[0].tolist()),
        "attention": lambda: figures.draw_attention(torch.rand(16, 16), tokens * 2),
        "architecture": lambda: figures.draw_architecture(8, 61, CONFIG),
        "functions": lambda: figures.plot_functions({"GELU": torch.square, "ReLU": torch.relu}),
        "lora": lambda: figures.draw_lora(128, 384, 8, factor=2),
        "learning": lambda: figures.plot_learning(SEEN),
        "answers": lambda: figures.draw_answers_by_step(["What is the plural of knife?"] * 8, SEEN),
        "wordings": lambda: figures.draw_wordings({"plural": ((3, 4), (1, 5)), "past tense": ((4, 4), (5, 5))}),
        "shares": lambda: figures.draw_shares({name: {"known": (55, 55), "new": (0, 55)} for name in ("one", "two")}),
        "curves": lambda: figures.draw_curves(dict.fromkeys("ABCDEFGHIJ", losses)),
        "losses": lambda: plot_losses([0, 1], [100, 200], [3.0, 2.0], [3.5, 2.0]),
    }


def texts(fig):
    return [text.get_text() for ax in fig.axes for text in ax.texts]


def cells(fig):
    """{text: the colour of the rectangle that it stands in}."""
    return {text.get_text(): to_hex(patch.get_facecolor()) for ax in fig.axes for text in ax.texts
            for patch in ax.patches
            if patch.get_window_extent().contains(*text.get_transform().transform(text.get_position()))}


def drawn(fig):
    """The texts that matplotlib draws, with their boxes in dots."""
    found, draw = [], Text.draw

    def note(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            found.append((self, self.get_window_extent(renderer)))
        return draw(self, renderer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        fig.canvas.draw()
    return found


def overlaps(one, other):
    return min(one.x1, other.x1) - max(one.x0, other.x0) > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1


# --- All figures ---


@pytest.mark.parametrize("language", ["English", "a longer Chinese"])
@pytest.mark.parametrize("name", examples())
def test_every_text_is_legible(set_up, monkeypatch, recwarn, name, language):
    """It has at least 9 points, no other text on top of it, stays in its box, and the figure fits the page."""
    if language != "English":
        if not cjk_fonts():
            pytest.skip("no font for Chinese")
        for module in (figures, figure_style):
            monkeypatch.setattr(module, "label", lambda text: LONGER[:len(text) * 2 // 3] + "{}" * text.count("{}"))
    fig = examples()[name]()
    figures.translate_labels(fig)
    found = drawn(fig)
    assert found and not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert min(text.get_fontsize() for text, _ in found) >= 9
    for (one, here), (other, there) in combinations(found, 2):
        assert not overlaps(here, there), (one.get_text(), other.get_text())
    for ax in fig.axes:
        boxes = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, Rectangle)]
        for text, extent in found if not ax.axison else ():
            around = [box for box in boxes if box.contains((extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2)]
            assert all(box.x0 - 1 <= extent.x0 and extent.x1 <= box.x1 + 1 for box in around), text.get_text()
    assert fig.get_tightbbox().width <= WIDTH + 0.1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", ODD)
def test_odd_texts_are_drawn_or_replaced(set_up, odd):
    for fig in (figures.draw_cells({"title": [[(odd, PROMPT)] * 3]}), figures.draw_tokens({odd: []}, {odd: []}),
                figures.draw_tokens({odd: [odd] * 3}, {odd: [END] * 3}),
                figures.draw_probabilities([odd] * 3, {odd: [0.0, 0.5, 1.0]}),
                figures.draw_next_token({"": [(odd, 1.0)]}, highlight=odd),
                figures.draw_one_head([odd] * 9, [0.0] * 9, [1 / 9] * 9),
                figures.draw_one_head([odd], [99.0], [1.0]),
                figures.draw_attention([[1.0]], [odd]),
                figures.draw_answers_by_step([odd], {0: {"chances": [1.0], "right": [False]}}),
                figures.draw_wordings({odd: ((0, 0), (1, 1))}), figures.draw_shares({odd: {"": (0, 0)}}),
                figures.draw_curves({odd: {1: 1.0, 2: math.nan}})):
        found = drawn(fig)
        for (one, here), (other, there) in combinations(found, 2):
            assert not overlaps(here, there), (one.get_text(), other.get_text())
        plt.close(fig)


def lab(colour, sight):
    """CIELAB of a colour after the matrix of a kind of sight on linear RGB."""
    rgb = np.array([int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)])
    rgb = np.clip(sight @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    x, y, z = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", [
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
], ids=["usual", "protanopia", "deuteranopia"])
def test_colours_differ_for_everybody(sight):
    """By 20 or more in CIELAB, simulated with the matrices of Machado, Oliveira and Fernandes (2009)."""
    for one, other in combinations(MEANINGS, 2):
        assert np.linalg.norm(lab(one, sight) - lab(other, sight)) >= 20, (one, other)


def test_shades_are_even():
    """Equal steps of a number are equal steps of lightness, but for a tenth of the whole."""
    lightness = [lab(to_hex(figures.shades()(share)), np.eye(3))[0] for share in np.linspace(0, 1, 11)]
    assert np.diff(lightness) == pytest.approx(np.full(10, (lightness[-1] - lightness[0]) / 10), abs=0.8)


# --- Texts and showing ---


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", [
    "$x$", "$\\frac{1", "a_b^c", "100% \\alpha", "$" * 50, "x" * 1000, "a\nb\tc", "", "\x00", "\ufffd",
    "你好", "日本語", "한국어", "👩‍👩‍👧‍👦", "مرحبا", "हिन्दी"])
def test_any_text_is_drawn_as_it_is_or_replaced(set_up, text):
    shown = drawable(text, 1234)
    assert shown != "1234" or not text.isascii() or "\x00" in text
    assert shown == "1234" or shown == text.replace("\n", "↵").replace("\t", "\\t")[:len(shown) - 1] + shown[-1:]
    assert len(shown) <= 40
    fig, ax = plt.subplots(figsize=(10, 3.2))
    ax.barh([shown], [1])
    ax.set(title=shown)
    fig.tight_layout()
    fig.canvas.draw()
    assert [label.get_text() for label in ax.get_yticklabels()] == [shown]
    plt.close(fig)



def test_a_foreign_figure_is_translated_when_it_is_shown(set_up, monkeypatch):
    """The axis labels and legends of the textbook's `plot_losses`."""
    monkeypatch.setattr("IPython.display.display", lambda *args, **kwargs: None)
    monkeypatch.setattr("engine.texts.TRANSLATIONS", {"epochs": "Epochen", "training": "Training"})
    fig = plot_losses([0, 1], [100, 200], [3.0, 2.0], [3.5, 2.0])
    figures.show(fig, "losses")
    assert (fig.axes[0].get_xlabel(), fig.axes[0].get_ylabel()) == ("Epochen", "loss per token (nats)")
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["Training", "validation"]


def test_texts_from_data_are_not_translated(set_up, monkeypatch):
    monkeypatch.setattr("engine.texts.TRANSLATIONS", {
        "all": "alle", "of": "von", "the rest": "Rest", "score": "Punkte"})
    assert {"alle", "of"} <= set(texts(figures.draw_tokens({"all": ["of"]}, {"all": [END]})))  # the row's name is
    fig = figures.draw_next_token({"all": [("score", 0.5)]})
    assert fig.axes[0].get_title(loc="left") == "alle"
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["score", "Rest"]


@pytest.mark.parametrize("live", [None, {"application/x+json": {"steps": [0, 1]}}])
def test_a_figure_is_shown_once_with_its_caption(set_up, monkeypatch, live):
    """Half as wide as it has dots, with its alternative text and, below it, the caption."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda what, **kwargs: shown.append((what, kwargs)))
    fig, _ = plt.subplots(figsize=(6, 2))
    figures.show(fig, "Blue: a_b and <end>, 5 * 3 * 2.", live)
    (bundle, kwargs), (caption, _) = shown
    assert kwargs["raw"] and {name: data for name, data in bundle.items() if name != "image/png"} == (live or {})
    assert not plt.get_fignums(), "nothing is left that a notebook would show again"
    outputs = [nbformat.v4.new_output("display_data", bundle, metadata=kwargs["metadata"]),
               nbformat.v4.new_output("display_data", {"text/markdown": caption.data})]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("show()", outputs=outputs)])
    nbformat.validate(json.loads(nbformat.writes(notebook)))
    text = "Blue: a_b and <end>, 5 * 3 * 2."
    assert kwargs["metadata"]["image/png"]["alt"] == text and html.unescape(caption.data) == f"*{text}*"
    assert not re.search(r"[_*<]", caption.data[1:-1]), "nothing in it is markup"
    width = plt.imread(io.BytesIO(base64.b64decode(bundle["image/png"]))).shape[1]
    assert kwargs["metadata"]["image/png"]["width"] == width // 2 and 500 < width // 2 < 610


@pytest.mark.parametrize("share, shown", [
    (0, "0%"), (0.0002, "<0.1%"), (0.004, "0.4%"), (0.0996, "10%"), (0.5, "50%"), (0.997, "99.7%"), (0.99996, ">99.9%"),
    (1, "100%")])
def test_only_nothing_and_all_are_0_and_100_percent(share, shown):
    assert figures.percent(share) == shown


# --- Each figure ---


def test_the_map_has_its_stages_in_order(set_up):
    fig = figures.draw_map()
    places = {text.get_text(): text.get_position()[0] for text in fig.axes[0].texts}
    assert places["pretraining"] < places["supervised fine-tuning"] < places["preference tuning"]
    assert places["▼ you are here"] == places["supervised fine-tuning"]


def test_cells_have_their_texts_and_colours(set_up):
    fig = figures.draw_cells({"one": [[("7", ANSWER), ("50256", END)]], "two": [[("$9", PADDING)]]})
    assert texts(fig) == ["one", "7", "50256", "two", "$9"]
    assert cells(fig) == {"7": ANSWER, "50256": END, "$9": PADDING}
    key = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert key == ["counts in the loss", "end of text", "ignored"]


def test_the_cells_of_a_very_wide_table_are_cut_to_one_column(set_up):
    """100 columns leave each less than one; a cell's text is never shorter than the dots that stand for it."""
    fig = figures.draw_cells({"one": [[("7", ANSWER), ("50256", END)] * 50]})
    assert texts(fig) == ["one", *["7", "…"] * 50]


def test_tables_that_do_not_fit_go_on_below(set_up):
    row = [("50256", END)] * 10
    fig = figures.draw_cells({"one": [row], "two": [row], "three": [row]})
    places = {text.get_text(): text.get_position() for text in fig.axes[0].texts}
    assert places["one"][0] == places["two"][0] == places["three"][0]
    assert places["one"][1] < places["two"][1] < places["three"][1]


def test_tokens_are_wrapped_and_shaded(set_up):
    tokens = [f" word{i}" for i in range(40)]
    fig = figures.draw_tokens({"a text": tokens}, values={"a text": [i / 39 for i in range(40)]})
    [ax] = fig.axes
    assert texts(fig) == ["a text", *tokens]
    assert all(patch.get_x() + patch.get_width() <= ax.get_xlim()[1] for patch in ax.patches)
    assert len({patch.get_y() for patch in ax.patches}) > 2
    brightness = [sum(patch.get_facecolor()[:3]) for patch in ax.patches]
    assert brightness == sorted(brightness, reverse=True) and brightness[0] > 2.5 > 1 > brightness[-1]
    assert ax.texts[1].get_color() == INK and ax.texts[-1].get_color() == "white"


def test_strips_of_a_batch_by_hand(set_up):
    tokenizer = SimpleNamespace(eot_token=EOT, decode=lambda ids: "".join("abcdefg"[i] for i in ids))
    inputs, targets = custom_collate_fn([([0, 1, 2, 3], 2), ([4, 5], 1)], pad_token_id=EOT)
    assert figures.batch_strips(inputs, targets, tokenizer) == (
        {"row 0": ["a", "b", "c", "d", "■", "0 × padding"], "row 1": ["e", "f", "■", "2 × padding"]},
        {"row 0": [PROMPT, PROMPT, ANSWER, ANSWER, END, PADDING], "row 1": [PROMPT, ANSWER, END, PADDING]})


def test_wide_characters_have_room_and_a_font(set_up):
    fig = figures.draw_tokens({"a": ["你好", "four"]}, colours={"a": [ANSWER, ANSWER]})
    chinese, latin = fig.axes[0].patches
    assert chinese.get_width() == latin.get_width()
    assert set(plt.rcParams["font.family"]) < set(fig.axes[0].texts[1].get_fontfamily())


def test_probabilities_stand_below_their_tokens(set_up):
    tokens = [f"word{i}" for i in range(30)]
    fig = figures.draw_probabilities(tokens, {"before": [0.0, 0.001] * 15, "after": [0.25] * 30})
    places = {}
    for text in fig.axes[0].texts:
        places.setdefault(text.get_text(), []).append(text.get_position())
    assert len(places["before"]) == len(places["after"]) == len({y for token in tokens for _, y in places[token]}) > 1
    assert len(places["0.00"]) == len(places["1e-3"]) == 15 and len(places["0.25"]) == 30
    for number in range(30):
        [(x, y)] = places[f"word{number}"]
        assert (x, y + 1) in places["1e-3" if number % 2 else "0.00"] and (x, y + 2) in places["0.25"]


def test_nine_tokens_fit_the_width(set_up):
    fig = figures.draw_one_head(["a long token"] * 9, [0.0] * 9, [1 / 9] * 9)
    assert fig.get_figwidth() <= WIDTH


def test_the_next_token_and_the_rest(set_up):
    """The likeliest and the highlighted token have a bar each as long as its probability; all bars together are 1."""
    fig = figures.draw_next_token({"before": [("a", 0.5), ("b", 0.25), ("c", 0.125), ("end", 0.0625), ("d", 0.01)],
                                   "after": [("end", 0.875), ("a", 0.125)]}, highlight="end", n=2)
    bars = [[(label.get_text(), patch.get_width(), to_hex(patch.get_facecolor()))
             for label, patch in zip(ax.get_yticklabels(), ax.patches)] for ax in fig.axes]
    assert bars[0] == [("a", 0.5, SLATE), ("b", 0.25, SLATE), ("end", 0.0625, END), ("the rest", 0.1875, SILVER)]
    assert bars[1] == [("end", 0.875, END), ("a", 0.125, SLATE), ("the rest", 0, SILVER)]
    assert texts(fig) == ["50%", "25%", "6.2%", "19%", "88%", "12%", "0%"]


@pytest.mark.parametrize("scores, unit", [([-1.98, -3.03, -2.94, -1.45], "¹"), ([-8.03, -6.94, -9.98, -7.45], "³"),
                                          ([0.98, 1.07, 0.12, -0.45], ""), ([1.98, 3.03, 2.94, 1.45], "⁻¹")])
def test_softmax_can_be_checked_by_hand(set_up, scores, unit):
    """From the printed scores and sums alone, within their rounding; the thickest arc has the greatest weight."""
    weights = torch.tensor(scores).softmax(dim=0).tolist()
    fig = figures.draw_one_head([" weak", " is", " strong", "."], scores, weights)
    rows = {}
    for text in fig.axes[0].texts:
        rows.setdefault(text.get_position()[1], []).append((text.get_position()[0], text.get_text()))
    tokens, score, exps, shares = [[text for _, text in sorted(rows[y])] for y in sorted(rows)]
    assert tokens == [" weak", " is", " strong", "."]
    assert score == ["score", *map("{:.2f}".format, scores), "sum"] and shares[-1] == "1.00"
    assert exps[0] == "exp(score)" + (f" × 10{unit}" if unit else "")
    for s, e, w in zip(score[1:-1], exps[1:-1], shares[1:-1]):
        factor = {"": 1, "¹": 10, "³": 1000, "⁻¹": 0.1}[unit]
        assert float(e) == pytest.approx(factor * math.exp(float(s)), rel=5e-3)
        assert f"{float(e) / float(exps[-1]):.2f}" == w, "a reader's division gives what is printed"
    arcs = {line.get_xdata()[0]: line.get_linewidth() for line in fig.axes[0].lines}
    assert [arcs[x] for x in sorted(arcs)] == pytest.approx([0.5 + 9 * weight for weight in weights])


def test_what_is_later_is_hidden(set_up):
    weights = torch.rand(5, 5)
    fig = figures.draw_attention(weights, list("abcde"))
    ax = fig.axes[0]
    [image] = ax.images
    assert image.get_array().tolist() == weights.tolist() and image.get_clim() == (0, 1)
    assert image.norm(0.5) == 0.5, "linear"
    hatched = {(row, column) for patch in ax.patches if patch.get_hatch() for row in range(5) for column in range(5)
               if patch.get_x() < column < patch.get_x() + patch.get_width()
               and patch.get_y() < row < patch.get_y() + patch.get_height()}
    assert hatched == {(row, column) for row in range(5) for column in range(row + 1, 5)}
    assert [text.get_text() for text in ax.get_yticklabels()] == list("abcde")


def test_the_architecture_has_the_shapes_of_the_batch(set_up):
    shapes = texts(figures.draw_architecture(8, 61, CONFIG))
    for shape in ("(8, 61)", "(8, 61, 768)", "(8, 12, 61, 61)", "(8, 61, 3072)", "(8, 61, 50,257)"):
        assert shape in shapes


def test_functions_are_drawn_as_they_are(set_up):
    fig = figures.plot_functions({"square": torch.square, "cut": torch.relu})
    square, cut = fig.axes[0].lines
    assert square.get_ydata() == pytest.approx(square.get_xdata() ** 2)
    assert max(cut.get_ydata()) == 4 and min(cut.get_ydata()) == 0
    assert [square.get_label(), cut.get_label()] == ["square", "cut"]


def test_each_of_several_functions_has_a_line_of_its_own(set_up):
    lines = figures.plot_functions({str(n): lambda x, n=n: n * x for n in range(5)}).axes[0].lines
    assert len({(line.get_linestyle(), line.get_color()) for line in lines}) == 5


@pytest.mark.parametrize("d_in, d_out, rank", [(128, 384, 16), (768, 768, 64), (100, 50, 50)])
def test_lora_is_drawn_to_scale(set_up, d_in, d_out, rank):
    fig = figures.draw_lora(d_in, d_out, rank, factor=2)
    W, B, A = [(patch.get_height(), patch.get_width()) for patch in fig.axes[0].patches]
    unit = W[0] / d_out
    assert np.array([W, B, A]) / unit == pytest.approx(np.array([(d_out, d_in), (d_out, rank), (rank, d_in)]))
    assert f"{d_out:,} × {d_in:,}\n{d_out * d_in:,} parameters" in texts(fig)
    assert "+ 2 ×" in texts(fig)


def test_what_is_learned_when(set_up):
    fig = figures.plot_learning({0: {"exact": 0.0, "stop": 0.25}, 4: {"exact": 0.5, "stop": 1.0}})
    assert [list(line.get_ydata()) for line in fig.axes[0].lines] == [[0.0, 0.5], [0.25, 1.0]]
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["0", "4"]


def test_answers_by_step(set_up):
    fig = figures.draw_answers_by_step(["one", "two"], {0: {"chances": [0.01, 0.25], "right": [False, False]},
                                                        116: {"chances": [0.99, 0.5], "right": [True, False]}})
    found = cells(fig)
    assert set(found) == {"0.01 ", "0.99✓", "0.25 ", "0.50 "}
    for text, colour in found.items():
        assert colour == to_hex(figures.shades()(float(text[:4])))
    places = {text.get_text(): text.get_position() for text in fig.axes[0].texts}
    assert places["0.99✓"][0] == places["116"][0] and places["0.99✓"][1] == places["one"][1]


def test_wordings_are_points_and_their_sum_has_intervals(set_up):
    fig = figures.draw_wordings({"plural": ((3, 4), (1, 5)), "rare": ((2, 2), (0, 0))})
    [ax] = fig.axes
    points = [(line.get_xdata()[0], round(line.get_ydata()[0])) for line in ax.lines if line.get_marker() == "o"]
    assert points[:3] == [(0.75, 0), (0.2, 0), (1, 1)] and math.isnan(points[3][0])
    assert points[4:] == [(pytest.approx(5 / 6), 2), (0.2, 2)]
    drawn = [tuple(line.get_xdata()) for line in ax.lines if line.get_linewidth() == 1.5 and len(line.get_xdata()) == 2]
    assert wilson(5, 6) in drawn and wilson(1, 5) in drawn
    assert texts(fig) == ["3/4", "1/5", "2/2", "0/0", "5/6", "1/5", "known", "new"]


def test_shares_are_bars_with_intervals(set_up):
    fig = figures.draw_shares({"pretrained": {"known": (53, 55), "new": (46, 55)},
                               "random": {"known": (0, 55), "new": (0, 0)}})
    [ax] = fig.axes
    assert [patch.get_width() for patch in ax.patches] == [53 / 55, 0, 46 / 55, 0]
    assert [tuple(line.get_xdata()) for line in ax.lines] == [wilson(53, 55), wilson(0, 55), wilson(46, 55), (0, 0)]
    assert texts(fig) == ["53 of 55", "0 of 55", "46 of 55", "0 of 0"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["known", "new"]


def test_curves_have_the_same_axes(set_up):
    curves = {name: {1: 3.0, 2: 2.0, 8: 1.0 + i} for i, name in enumerate("ABCDEF")}
    fig = figures.draw_curves(curves)
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == list("ABCDEF")
    for ax, losses in zip(shown, curves.values()):
        [line] = ax.lines
        assert dict(zip(*line.get_data())) == losses
        assert (ax.get_yscale(), ax.get_ylim()) == ("log", shown[0].get_ylim())
