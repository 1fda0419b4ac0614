"""What the drawings show."""

import matplotlib.pyplot as plt

from engine.figures import plot_losses


def test_plot_losses():
    fig = plot_losses([0, 1, 2], [100, 200, 300], [3.0, 2.0, 1.0], [3.5, 2.5, 2.0])
    lower, upper = fig.axes
    assert [line.get_label() for line in lower.lines] == ["training", "validation"]
    assert [list(line.get_ydata()) for line in lower.lines] == [[3, 2, 1], [3.5, 2.5, 2]]
    assert lower.get_xlabel() == "epochs" and "loss" in lower.get_ylabel() and lower.get_legend() is not None
    assert upper.get_xlabel().startswith("tokens") and upper.get_xlim()[0] < 100 < 300 < upper.get_xlim()[1]
    plt.close(fig)
