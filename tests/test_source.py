"""The source of classes and functions as the notebook displays it."""

from previous_chapters import FeedForward
from tutorial import source
from tutorial.instructions import custom_collate_fn


def test_source_is_shown_as_it_stands(monkeypatch):
    shown = []
    monkeypatch.setattr(source, "display", lambda markdown: shown.append(markdown.data))
    source.show_source(FeedForward, custom_collate_fn)
    assert shown[0].startswith("```python\nclass FeedForward(nn.Module):") and "def custom_collate_fn(batch" in shown[0]


def test_only_in_long_lines_of_source_comments_move_to_the_left(monkeypatch):
    shown, line = [], "    x = '#   #'" + " " * 60 + "# (B, T)"
    monkeypatch.setattr(source, "display", lambda markdown: shown.append(markdown.data))
    lines = ["def f():", line, line.replace("x", "y" * 9), f"    # {'x' * 90}"]
    monkeypatch.setattr(source.inspect, "getsource", lambda thing: "\n".join(lines))
    source.show_source(None)
    assert shown[0].split("\n")[1:-1] == ["def f():", line, f"    {'y' * 9} = '#   #'  # (B, T)", lines[3]]
    monkeypatch.setattr(source.inspect, "getsource", lambda thing: "    def g(self):\n        pass\n")
    source.show_source(None)
    assert shown[1].split("\n")[1:-1] == ["def g(self):", "    pass"], "a method begins at the left"


def test_folded_source_has_a_summary(monkeypatch):
    shown = []
    monkeypatch.setattr(source, "display", lambda markdown: shown.append(markdown.data))
    source.fold_source(FeedForward, custom_collate_fn)
    summary, code = shown[0].split("\n\n", 1)
    assert summary == ('<details class="fold"><summary><code>FeedForward</code>, <code>custom_collate_fn</code> '
                       "(previous_chapters.py)</summary>")
    assert code.startswith("```python\nclass FeedForward(nn.Module):") and code.endswith("\n```\n\n</details>")
