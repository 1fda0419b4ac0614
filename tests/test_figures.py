"""What the drawings show."""

import matplotlib.pyplot as plt
import pytest

from engine.figures import drawable, plot_losses, set_up_figures


@pytest.fixture
def set_up():
    with plt.rc_context():
        set_up_figures()
        yield


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


def test_plot_losses():
    fig = plot_losses([0, 1, 2], [100, 200, 300], [3.0, 2.0, 1.0], [3.5, 2.5, 2.0])
    lower, upper = fig.axes
    assert [line.get_label() for line in lower.lines] == ["training", "validation"]
    assert [list(line.get_ydata()) for line in lower.lines] == [[3, 2, 1], [3.5, 2.5, 2]]
    assert lower.get_xlabel() == "epochs" and "loss" in lower.get_ylabel() and lower.get_legend() is not None
    assert upper.get_xlabel().startswith("tokens") and upper.get_xlim()[0] < 100 < 300 < upper.get_xlim()[1]
    plt.close(fig)
