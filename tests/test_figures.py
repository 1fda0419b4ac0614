"""What the figures show."""

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from previous_chapters import plot_losses
from tutorial import figures
from tutorial.figures import GREEN, GREY, drawable, set_up_figures


@pytest.fixture
def set_up():
    with plt.rc_context():
        set_up_figures()
        yield
    plt.close("all")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", [
    "$x$", "$\\frac{1", "a_b^c", "100% \\alpha", "$" * 50, "x" * 1000, "a\nb\tc", "", "\x00", "\ufffd",
    "你好", "日本語", "한국어", "👩‍👩‍👧‍👦", "مرحبا", "हिन्दी"])
def test_any_text_is_drawn_as_it_is_or_replaced(set_up, text):
    shown = drawable(text, 1234)
    assert shown != "1234" or not text.isascii() or "\x00" in text
    assert shown == "1234" or shown == text.replace("\n", "\\n").replace("\t", "\\t")[:len(shown) - 1] + shown[-1:]
    assert len(shown) <= 40
    fig, ax = plt.subplots(figsize=(10, 3.2))
    ax.barh([shown], [1])
    ax.set(title=shown)
    fig.tight_layout()
    fig.canvas.draw()
    assert [label.get_text() for label in ax.get_yticklabels()] == [shown]
    plt.close(fig)


def texts(fig):
    return [text.get_text() for ax in fig.axes for text in ax.texts]


def test_a_figure_is_translated_when_it_is_shown(set_up, monkeypatch):
    """Its titles, axis labels and legends, also those of the textbook's `plot_losses`; texts from data stay."""
    monkeypatch.setattr("IPython.display.display", lambda image: None)
    monkeypatch.setattr(figures, "LABELS", {
        "epochs": "Epochen", "training": "Training", "entries": "Einträge", "loss per token (nats)": "Verlust",
        "tokens read, without padding": "Tokens", "What is asked": "Fragen"})
    fig = plot_losses([0, 1], [100, 200], [3.0, 2.0], [3.5, 2.0])
    figures.show(fig, "losses")
    lower, upper = fig.axes
    assert (lower.get_xlabel(), lower.get_ylabel(), upper.get_xlabel()) == ("Epochen", "Verlust", "Tokens")
    assert [text.get_text() for text in lower.get_legend().get_texts()] == ["Training", "validation"]
    fig = figures.draw_data([1], [1], [("training", 1), ("entries", 2)])
    figures.show(fig, "data")
    assert fig.axes[1].get_title() == "Fragen" and fig.axes[1].get_xlabel() == "Einträge"
    assert [text.get_text() for text in fig.axes[1].get_yticklabels()] == ["training", "entries"]
    fig = figures.draw_tokens({"a text": ["training"]}, "title", values={"a text": [0.5]})
    figures.show(fig, "tokens")
    assert texts(fig) == ["a text", "training"]


def test_a_figure_is_shown_once_with_its_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    fig, _ = plt.subplots()
    figures.show(fig, "what is to be seen")
    figures.show_progress(2)
    first, second = shown
    assert first.data.startswith(b"\x89PNG") and first.alt == "what is to be seen"
    assert second.alt == "Section 2 of 12: prompt."
    assert not plt.get_fignums(), "nothing is left that a notebook would show again"


def test_every_length_has_its_bar(set_up):
    fig = figures.draw_data([2, 3, 3, 20], [1, 7, 40, 40], [("plural", 9), ("sum", 4), ("漢\ufffd", 1)])
    lengths, tasks = fig.axes
    bars = [(int(patch.get_x() // 2), patch.get_height()) for patch in lengths.patches if patch.get_height()]
    assert bars == [(1, 3), (10, 1), (0, 1), (3, 1), (20, 2)]  # the number of a bar, for two lengths, and its height
    assert [patch.get_width() for patch in tasks.patches] == [9, 4, 1]
    assert [text.get_text() for text in tasks.get_yticklabels()] == ["plural", "sum", "(not drawable)"]


def test_functions_are_drawn_as_they_are(set_up):
    fig = figures.plot_functions({"square": torch.square, "cut": torch.relu})
    square, cut = fig.axes[0].lines
    assert square.get_ydata() == pytest.approx(square.get_xdata() ** 2)
    assert max(cut.get_ydata()) == 4 and min(cut.get_ydata()) == 0
    assert [square.get_label(), cut.get_label()] == ["square", "cut"]


def test_cells_have_their_texts_and_colours(set_up):
    fig = figures.draw_cells({"one": [[("7", GREEN), ("8", GREY)]], "two": [[("$9", GREY)]]})
    assert texts(fig) == ["7", "8", "$9"] and [ax.get_title() for ax in fig.axes] == ["one", "two"]
    assert [to_hex(patch.get_facecolor()) for ax in fig.axes for patch in ax.patches] == [GREEN, GREY, GREY]


def test_tokens_are_wrapped_and_shaded(set_up):
    tokens = [f" word{i}" for i in range(40)]
    fig = figures.draw_tokens({"a text": tokens}, "title", values={"a text": [i / 39 for i in range(40)]})
    [ax] = fig.axes
    assert texts(fig) == ["a text", *tokens]
    assert all(patch.get_x() + patch.get_width() <= ax.get_xlim()[1] for patch in ax.patches)
    assert len({patch.get_y() for patch in ax.patches}) > 2
    red, green = ax.patches[0].get_facecolor(), ax.patches[-1].get_facecolor()
    assert red[0] > red[1] and green[1] > green[0]
    plt.close(fig)
    fig = figures.draw_tokens({"a": ["x"]}, "losses", values={"a": [9.0]}, low=8.0, high=0.0)
    assert fig.axes[0].patches[0].get_facecolor() == red


def test_wide_characters_have_room_and_a_font(set_up):
    fig = figures.draw_tokens({"a": ["你好", "four"]}, "title", colours={"a": [GREEN, GREEN]})
    chinese, latin = fig.axes[0].patches
    assert chinese.get_width() == latin.get_width()
    assert set(plt.rcParams["font.family"]) < set(fig.axes[0].texts[1].get_fontfamily())
    plt.close(fig)


def test_probabilities_are_bars_with_one_highlighted(set_up):
    fig = figures.draw_probabilities({"before": [("a", 0.9), ("b", 0.1)], "after": [("b", 1.0)]}, highlight="b")
    before, after = fig.axes
    assert [patch.get_width() for patch in before.patches] == [0.9, 0.1] and texts(fig) == ["90%", "10%", "100%"]
    assert before.patches[1].get_facecolor() == after.patches[0].get_facecolor() != before.patches[0].get_facecolor()


def test_the_parts_of_a_model_are_all_of_it(set_up):
    shares = figures.parameter_shares({"vocab_size": 50257, "context_length": 1024, "emb_dim": 768, "n_layers": 12})
    assert sum(shares.values()) == 124_439_808
    fig = figures.draw_parameters({"one": shares})
    assert sum(patch.get_width() for patch in fig.axes[0].patches) == pytest.approx(1)
    assert fig.axes[0].get_yticklabels()[0].get_text() == "one: 124,439,808"


def test_the_architecture_has_the_shapes_of_the_batch(set_up):
    cfg = {"vocab_size": 50257, "emb_dim": 768, "n_heads": 12, "n_layers": 12}
    shapes = texts(figures.draw_architecture(8, 61, cfg))
    for shape in ("(8, 61)", "(8, 61, 768)", "(8, 12, 61, 61)", "(8, 61, 3072)", "(8, 61, 50,257)"):
        assert shape in shapes


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_every_head_is_drawn_and_one_cell_ringed(set_up, heads):
    fig = figures.draw_attention(torch.rand(heads, 5, 5), list("abcde"), ringed=(0, 4, 1))
    assert [len(ax.images) for ax in fig.axes] == [1] * heads
    assert [[tuple(line.get_xydata()[0]) for line in ax.lines] for ax in fig.axes] == [[(1, 4)]] + [[]] * (heads - 1)


def test_what_is_learned_when(set_up):
    fig = figures.plot_learning([0, 1, 2, 4, 116], {"one": [0, 0, 0.5, 1, 1], "two": [0, 1, 1, 1, 1]})
    assert [line.get_label() for line in fig.axes[0].lines] == ["one", "two"]
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["0", "1", "2", "4", "116"]
