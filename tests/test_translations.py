"""The Chinese edition: nothing in it is stale, missing or left over, its code is the English code, and it runs."""

import ast
import copy
import io
import json
import re
import shutil
import tokenize

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

from previous_chapters import plot_losses
from scripts.translate import BUILT, LINK, TRANSLATION, build, problems, translated_code
from tests.helpers import execute, web_page
from tutorial import NOTEBOOK, ROOT, figures


@pytest.fixture
def english():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture
def chinese():
    return json.loads(TRANSLATION.read_text(encoding="utf-8"))


def test_the_chinese_edition_is_up_to_date(english, chinese):
    assert list(problems(english, chinese)) == []


def without(table, name):
    del table[name]


def replace(chinese, name, old, new):
    lines = chinese["markdown"][name]["chinese"]
    assert any(old in line for line in lines)
    chinese["markdown"][name]["chinese"] = [line.replace(old, new) for line in lines]


def change(english, name, old, new):
    [cell] = [cell for cell in english.cells if cell.id == name]
    assert old in cell.source
    cell.source = cell.source.replace(old, new)


@pytest.mark.parametrize("fault, problem", [
    (lambda en, zh: change(en, "split", "entries", "rows"), "split: the English has changed"),
    (lambda en, zh: without(zh["markdown"], "split"), "split: not translated"),
    (lambda en, zh: zh["markdown"].update(old=zh["markdown"]["split"]), "old: the notebook has no such cell"),
    (lambda en, zh: zh["drawn"].update(old={}), "old: the notebook has no such cell"),
    (lambda en, zh: replace(zh, "result-first", "(#7.-", "(#70.-"), "result-first: the link #70.-训练 leads nowhere"),
    (lambda en, zh: replace(zh, "training", "## 7. 训练", "## 7. 训练模型"), "result-first: the link #7.-训练 leads"),
    (lambda en, zh: replace(zh, "title", "(gpt_download.py)", "(gpt.py)"), "title: the link gpt.py leads nowhere"),
    (lambda en, zh: replace(zh, "split", "85%", "58%"), "split: numbers that the English doesn't have: 58"),
    (lambda en, zh: replace(zh, "split", "5%", "五个百分点"), "split: numbers of the English that are missing: 85, 5"),
    (lambda en, zh: zh["markdown"]["exercises-data"]["chinese"].remove("```"), "exercises-data: the English has 3"),
    (lambda en, zh: change(en, "train", "minutes", "min"), "train: there is no text 'Fine-tuning took"),
    (lambda en, zh: change(en, "train", "minutes", "min"), "train: not translated, nor null to keep the English: 'F"),
    (lambda en, zh: zh["printed"].update(train=dict.fromkeys(zh["printed"]["train"], "{x} 分钟")),
     "train: other fields in '{x} 分钟'"),
    (lambda en, zh: zh["printed"].update(outside=dict.fromkeys(zh["printed"]["outside"], "莎士比亚 3")),
     "outside: other numbers in '莎士比亚 3'"),
])
def test_what_does_not_fit_is_named_with_its_cell(english, chinese, fault, problem):
    fault(english, chinese)
    assert any(found.startswith(problem) for found in problems(english, chinese))


def bare(source):
    """The code without its strings, and the comments."""
    tree = ast.parse(source)

    class Strings(ast.NodeTransformer):
        def visit_Constant(self, node):
            return ast.Constant("") if isinstance(node.value, str) else node

        def visit_JoinedStr(self, node):
            fields = sorted(ast.unparse(part.value) for part in node.values if isinstance(part, ast.FormattedValue))
            return ast.Constant(tuple(fields) or "")

    comments = [token.string for token in tokenize.generate_tokens(io.StringIO(source).readline)
                if token.type == tokenize.COMMENT]
    return ast.dump(Strings().visit(tree)), comments


def test_code_is_the_english_notebooks(english, chinese):
    """But for its strings, the folder it starts in, and the labels of the drawings."""
    built = build(copy.deepcopy(english), chinese)
    assert [cell.id for cell in built.cells] == [cell.id for cell in english.cells]
    added = []
    for ours, theirs in zip(built.cells, english.cells):
        if ours.cell_type == "markdown":
            assert re.findall(r"```python\n.*?\n```", ours.source, re.DOTALL) == re.findall(
                r"```python\n.*?\n```", theirs.source, re.DOTALL)
        elif bare(ours.source) != bare(theirs.source):
            added.append(ours.source.replace(theirs.source, "<the English>"))
    assert added == [
        'import os\n\nif os.path.exists("../translations/zh.json"):  # from build/ to the project\'s folder\n'
        '    os.chdir("..")\n\n<the English>',
        '<the English>\nfigures.read_labels("translations/zh.json")']


def test_without_a_font_figures_stay_english(english, chinese):
    drawn = {text for table in chinese["drawn"].values() for text in table.values()}
    printed = {text for table in chinese["printed"].values() for text in table.values()}
    source = "".join(cell.source for cell in build(english, chinese, drawn=False).cells if cell.cell_type == "code")
    assert "read_labels" not in source and not any(f'"{text}"' in source for text in drawn - printed)


@pytest.mark.parametrize("source, table, expected", [
    ('print("√", "rows")  # rows', {"rows": "行"}, 'print("√", "行")  # rows'),
    ('r["after"], ["after"]', {"after": "后"}, 'r["after"], ["后"]'),
    ('raise ValueError("rows")', {"rows": "行"}, 'raise ValueError("rows")'),
    ('print(f"{n:5} of {d[\'k\']!r}\\n")', {"{n:5} of {d['k']!r}\n": "\"{d['k']!r}\" 中有 {n:5}\n"},
     'print(f"\\"{d[\'k\']!r}\\" 中有 {n:5}\\n")'),
    ('print(f"{{}} {a != b}")', {"{{}} {a != b}": "{a != b} {{}}"}, 'print(f"{a != b} {{}}")'),
    ('print("rows", "rows")', {"rows": None}, 'print("rows", "rows")'),
])
def test_texts_in_code_are_replaced_and_nothing_else(source, table, expected):
    assert translated_code(source, table) == expected


def test_a_text_of_several_lines_stays_one():
    source = 'show(fig, f"{n} rows "\n          "of cells")'
    table = {"{n} rows of cells": "格" * 50 + " {n} " + "行" * 30}
    first, second, third = translated_code(source, table).splitlines()
    assert first == f'show(fig, "{"格" * 37}"' and second.startswith(f'          f"{"格" * 13} {{n}} 行')
    assert third == f'          "{"行" * 9}")'
    code = "\n".join([first, second, third])
    assert eval(code, {"show": lambda fig, text: text, "fig": 0, "n": 7}) == "格" * 50 + " 7 " + "行" * 30


def test_every_label_of_the_figures_is_translated(chinese, monkeypatch):
    asked = set()
    monkeypatch.setattr(figures, "label", lambda text: asked.add(text) or text)
    monkeypatch.setattr(figures, "show", lambda fig, alt: None)
    monkeypatch.setitem(plt.rcParams, "font.family", ["DejaVu Sans"])
    config = {"vocab_size": 50257, "context_length": 1024, "emb_dim": 768, "n_heads": 12, "n_layers": 12}
    for section in range(len(figures.SECTIONS)):
        figures.show_progress(section)
    for fig in (figures.draw_data([1], [1], [("a", 1)]),
                figures.draw_parameters({"one": figures.parameter_shares(config)}),
                figures.draw_architecture(8, 61, config),
                figures.draw_attention(torch.rand(1, 5, 5), list("abcde"), ringed=(0, 4, 1)),
                figures.plot_learning([0, 1], {"training": [0, 1]}),
                plot_losses([0, 1], [100, 200], [3.0, 2.0], [3.5, 2.0])):
        figures.translate_labels(fig)
    plt.close("all")
    assert asked - {"", "head 0"} == set(chinese["labels"])


@pytest.mark.filterwarnings("ignore:Glyph")  # where no font has Chinese
def test_labels_are_drawn_in_chinese(monkeypatch):
    monkeypatch.setattr("IPython.display.display", lambda image: None)
    monkeypatch.setattr(figures, "LABELS", {})
    figures.read_labels(TRANSLATION)
    fig = plot_losses([0, 1], [100, 200], [3.0, 2.0], [3.5, 2.0])
    figures.show(fig, "损失")
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["训练", "验证"]
    assert fig.axes[0].get_xlabel() == "轮（epoch）" and fig.axes[1].get_xlabel().startswith("读入的 token 数")


def prose(text):
    """Markdown without code, addresses of links, HTML and titles in book marks."""
    return re.sub(r"```.*?```|`[^`]*`|<[^>]*>|《[^》]*》", "", LINK.sub("]", text), flags=re.DOTALL)


@pytest.mark.parametrize("fault", [
    "[一-鿿][,;:!?()]", "[,;:!?()][一-鿿]", "[一-鿿][A-Za-z0-9]", "[A-Za-z0-9][一-鿿]"
], ids=["half-width after", "half-width before", "no space before", "no space after"])
def test_it_is_set_as_chinese_is(chinese, fault):
    texts = {name: "\n".join(entry["chinese"]) for name, entry in chinese["markdown"].items()}
    texts["README.zh.md"] = (ROOT / "README.zh.md").read_text(encoding="utf-8")
    found = {name: re.findall(f".{{0,5}}{fault}.{{0,5}}", prose(text)) for name, text in texts.items()}
    assert not any(found.values()), {name: places for name, places in found.items() if places}


def test_the_readmes_link_to_each_other_and_to_files():
    for name, other in (("README.md", "README.zh.md"), ("README.zh.md", "README.md")):
        links = LINK.findall((ROOT / name).read_text(encoding="utf-8"))
        assert other in links
        assert all(link.startswith("https://") or (ROOT / link).exists() for link in links), name


@pytest.mark.slow
def test_it_runs_with_the_scores_of_the_english_notebook(english, chinese, executed, tmp_path):
    """In a copy of the project whose files can't be written to, without ipywidgets and a display."""
    project, blocker = tmp_path / "project", tmp_path / "blocker"
    (project / "build").mkdir(parents=True)
    for name in ("engine", "weights", "tutorial", "data", "gpt2/7M", "miniature", "translations"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("*.verified", "__pycache__"))
    for name in ("gpt_download.py", "previous_chapters.py"):
        shutil.copy(ROOT / name, project)
    nbformat.write(build(english, chinese, drawn=bool(figures.cjk_fonts())), project / "build" / BUILT.name)
    blocker.mkdir()
    (blocker / "ipywidgets.py").write_text("raise ImportError('not installed')\n")
    before = sorted(project.rglob("*"))
    for path in [project, *before]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        _, records = execute(tmp_path / "results", project / "build" / BUILT.name, NUM_EPOCHS=1,
                             MAX_NEW_TOKENS=24, PYTHONPATH=blocker, PYTHONDONTWRITEBYTECODE=1)
        written = set(project.rglob("*")).difference(before)
    finally:
        for path in [project, *before]:
            path.chmod(path.stat().st_mode | 0o200)
    assert records == executed[2]
    assert all(path.suffix == ".verified" for path in written), "root may write where it must not"
    html = web_page(tmp_path / "results", BUILT.name, "zh")
    links = re.findall(r'href="#([^"]+)"', html)
    assert len(links) > 20 and all(f'id="{link}"' in html for link in links)
    main = html[html.index("<main"):html.index("</main>")]
    assert "**" not in re.sub(r"<pre.*?</pre>", "", main, flags=re.DOTALL), "bold that isn't"
