"""The Chinese edition: nothing in it is missing or out of date, its code is the English code, and it runs."""

import ast
import copy
import io
import json
import re
import shutil
import sys
import tokenize

import matplotlib.pyplot as plt
import nbformat
import polib
import pytest

from engine import texts
from miniature import recipe
from miniature.experiments import findings, results
from previous_chapters import plot_losses
from scripts import translate
from scripts.translation import BUILT, TRANSLATION
from scripts.translation.build import SET_UP, SET_UP_CHINESE, build, translated_code
from scripts.translation.check import problems
from scripts.translation.extract import NOT_SHOWN, SHOWN, WITH_KEYS, ShownTexts, messages, texts_of_modules
from scripts.translation.markdown import LINK
from scripts.translation.merge import update
from scripts.translation.write import source_hash, write
from tests.helpers import execute, web_page
from tests.test_figures import examples
from tutorial import NOTEBOOK, ROOT, figures, tables
from tutorial.data_files import load_entries
from tutorial.figure_style import cjk_fonts, label
from tutorial.instructions import generate_responses, split
from tutorial.overlap import describe_overlap


@pytest.fixture
def english():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture
def chinese():
    return polib.pofile(str(TRANSLATION), wrapwidth=100)


@pytest.fixture
def in_chinese(monkeypatch):
    monkeypatch.setattr(texts, "TRANSLATIONS", {})
    texts.read_translation(TRANSLATION)


def found(english, chinese):
    update(chinese, messages(english))
    return list(problems(english, chinese))


def test_the_chinese_edition_is_up_to_date(english, chinese):
    before = str(chinese)
    assert found(english, chinese) == []
    assert str(chinese) == before, "python scripts/translate.py brings the file up to date"


def change(english, name, old, new):
    [cell] = [cell for cell in english.cells if cell.id == name]
    assert old in cell.source
    cell.source = cell.source.replace(old, new)


def replace(chinese, context, old, new):
    [entry] = [entry for entry in chinese if entry.msgctxt == context and old in entry.msgstr]
    entry.msgstr = entry.msgstr.replace(old, new)


@pytest.mark.parametrize("fault, problem", [
    (lambda en, zh: change(en, "split", "We train on", "Training has"), "split: fuzzy, the English has changed: "),
    (lambda en, zh: change(en, "split", "We train on", "Une phrase tout autre.\n\nWe train on"),
     "split: not translated: 'Une phrase"),
    (lambda en, zh: replace(zh, "contents", "(#6.-", "(#60.-"), "contents: the link #60.-微调 leads nowhere"),
    (lambda en, zh: replace(zh, "fine-tuning", "## 6. 微调", "## 6. 训练"), "contents: the link #6.-微调 leads"),
    (lambda en, zh: replace(zh, "fine-tuning", "## 6. 微调", "6. 微调"), "fine-tuning: no heading of the same level"),
    (lambda en, zh: replace(zh, "weights", "(previous_chapters.py)", "(gpt.py)"), "weights: other links: "),
    (lambda en, zh: replace(zh, "weights", "(previous_chapters.py)", "(gpt.py)"), "weights: the link ../gpt.py leads"),
    (lambda en, zh: replace(zh, "split", "85%", "58%"), "split: numbers that the English doesn't have: 58"),
    (lambda en, zh: replace(zh, "split", "85%", "大部分"), "split: numbers of the English that are missing: 85"),
    (lambda en, zh: replace(zh, "dataset", "`InstructionDataset`", "这个类"), "dataset: code of the English that is"),
    (lambda en, zh: replace(zh, "first-question-note", "> **", "**"), "first-question-note: no box"),
    (lambda en, zh: replace(zh, "takeaways", "| LoRA |", "LoRA "), "takeaways: another number of rows"),
    (lambda en, zh: change(en, "train", "minutes", "min"), "train: code: fuzzy, the English has changed: 'Fine-tuning"),
    (lambda en, zh: replace(zh, "optimizer: code", "{steps}", "{step}"), "optimizer: code: other fields: "),
    (lambda en, zh: replace(zh, "modules", "{change:.1%}", "2%"), "modules: other fields: "),
    (lambda en, zh: replace(zh, "modules", "弧线", "2 条弧线"), "modules: numbers that the"),
])
def test_what_does_not_fit_is_named_with_its_place(english, chinese, fault, problem):
    fault(english, chinese)
    assert any(line.startswith(problem) for line in found(english, chinese))


def test_a_changed_text_keeps_its_translation_and_the_old_english(english, chinese):
    """Until somebody has looked at it, the edition has the new English. What was away and comes back is as before."""
    [old] = [entry for entry in chinese if entry.msgctxt == "pad"]
    translation, number = old.msgstr, len(chinese)
    for new in ("four made-up texts", "four texts"):
        change(english, "pad", "three made-up texts" if new == "four made-up texts" else "four made-up texts", new)
        update(chinese, messages(english))
        [entry] = [entry for entry in chinese if entry.msgctxt == "pad"]
        assert (entry.msgstr, entry.previous_msgid, entry.flags) == (translation, old.msgid, ["fuzzy"])
        assert "four" in next(cell.source for cell in build(english, chinese).cells if cell.id == "pad")
    assert len(chinese) == number
    english.cells = [cell for cell in english.cells if cell.id != "dataset"]
    update(chinese, messages(english))
    assert {entry.msgctxt for entry in chinese.obsolete_entries()} == {"dataset"}
    update(chinese, messages(nbformat.read(NOTEBOOK, as_version=4)))
    assert not chinese.obsolete_entries() and all(entry.msgstr for entry in chinese if entry.msgctxt == "dataset")


def test_what_is_not_translated_stays_english(english):
    """But for links from the folder that the edition lies in, and its file of translations, which has nothing."""
    built = build(copy.deepcopy(english), polib.POFile())
    for ours, theirs in zip(built.cells, english.cells):
        if ours.cell_type == "code":
            assert ours.source.replace(SET_UP_CHINESE, SET_UP) == theirs.source
        else:
            assert ours.source.replace("](../", "](") == theirs.source
    source = "".join(cell.source for cell in built.cells)
    assert source.count(SET_UP_CHINESE) == 1 and "](../previous_chapters.py)" in source


def test_the_committed_notebook_is_up_to_date(english, chinese):
    committed = nbformat.read(BUILT, as_version=4)
    built = build(copy.deepcopy(english), chinese)
    assert [(cell.id, cell.source) for cell in committed.cells] == [(cell.id, cell.source) for cell in built.cells], (
        "python scripts/translate.py brings it up to date, where a font has Chinese")
    assert committed.metadata["built"] == source_hash(built)


def bare(source):
    """The code without its strings and comments."""
    class Strings(ast.NodeTransformer):
        def visit_Constant(self, node):
            return ast.Constant("") if isinstance(node.value, str) else node

        def visit_JoinedStr(self, node):
            fields = sorted(re.sub(r"tables\.translate\((\w+)\)", r"\1", ast.unparse(part.value))
                            for part in node.values if isinstance(part, ast.FormattedValue))
            return ast.Constant(tuple(fields) or "")

    return ast.dump(Strings().visit(ast.parse(source)))


def bare_blocks(source):
    return [bare(block) for block in re.findall(r"```python\n(.*?)\n```", source, re.DOTALL)]


def test_code_is_the_english_notebooks(english, chinese):
    """But for its texts and comments."""
    built = build(copy.deepcopy(english), chinese)
    assert [cell.id for cell in built.cells] == [cell.id for cell in english.cells]
    for ours, theirs in zip(built.cells, english.cells):
        if ours.cell_type == "markdown":
            assert bare_blocks(ours.source) == bare_blocks(theirs.source)
        else:
            source = ours.source.replace(SET_UP_CHINESE, SET_UP)
            assert bare(source) == bare(theirs.source), ours.id
            comments = [[token.string for token in tokenize.generate_tokens(io.StringIO(cell.source).readline)
                         if token.type == tokenize.COMMENT] for cell in (ours, theirs)]
            assert len(comments[0]) == len(comments[1]), "a comment has become code"


def test_the_notebook_calls_what_the_rules_name(english):
    """The functions whose texts are found or left out, and the one that translates a word in a field."""
    code = "".join(cell.source for cell in english.cells if cell.cell_type == "code")
    assert all(re.search(rf"\b{name}\(", code) for name in SHOWN | NOT_SHOWN | {WITH_KEYS})
    assert tables.translate is texts.translate


def test_keys_of_records_stay_as_they_are(english, chinese):
    """They are translated in the head of a table, not where they look something up."""
    [cell] = [cell for cell in build(english, chinese).cells if cell.id == "answers-after"]
    assert '{"标准答案": "output", "微调前": "before", "微调后": "after"}' in cell.source


def test_without_a_font_figures_stay_english(english, chinese, monkeypatch, in_chinese):
    drawn = {text for cell in english.cells if cell.cell_type == "code" for found in [ShownTexts(cell.source)]
             for node, text in found.found.items() if node in found.drawn}
    source = "".join(cell.source for cell in build(english, chinese, drawn=False).cells if cell.cell_type == "code")
    assert "targets, answers only" in drawn and '"targets, answers only"' in source
    assert label("score") == ("分数" if cjk_fonts() else "score")
    monkeypatch.setattr("tutorial.figure_style.cjk_fonts", list)
    assert label("score") == "score" and label("$x$") == "$x$"


@pytest.mark.parametrize("source, table, expected", [
    ('print("√", "rows")  # rows', {"rows": "行"}, 'print("√", "行")  # 行'),
    ('print("nh")  # (B, nh)', {"(B, nh)": "行", "nh": "头"}, 'print("头")  # (B, nh)'),
    ('print(r["after"], ["after"])', {"after": "后"}, 'print(r["after"], ["后"])'),
    ('print([r[name] for name in ("after",)])', {"after": "后"}, 'print([r[name] for name in ("after",)])'),
    ('show(answers(r, {"after": "after"}))', {"after": "后"}, 'show(answers(r, {"后": "after"}))'),
    ('raise ValueError("rows")', {"rows": "行"}, 'raise ValueError("rows")'),
    ('figures.show(f, "rows", live("rows", {}))', {"rows": "行"}, 'figures.show(f, "行", live("rows", {}))'),
    ('figures.show(f, caption("rows", n="rows"))', {"rows": "行"}, 'figures.show(f, caption("rows", n="rows"))'),
    ('a = "行"  # from rows to columns', {"from rows to columns": "行变列"}, 'a = "行"  # 行变列'),
    ('print(f"{n:5} of {d[\'k\']!r}\\n")', {"{n:5} of {d['k']!r}\n": "\"{d['k']!r}\" 中有 {n:5}\n"},
     'print(f"\\"{d[\'k\']!r}\\" 中有 {n:5}\\n")'),
    ('print(f"{{of}} {a != b}")', {"{{of}} {a != b}": "{a != b} {{的}}"}, 'print(f"{a != b} {{的}}")'),
    ('print("rows", "rows")', {}, 'print("rows", "rows")'),
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


def test_every_label_of_the_figures_is_found(monkeypatch):
    """By reading the modules, without drawing anything. Names that a caller gives stand in the caller's cell."""
    asked, given = set(), {"known", "one", "two", "row 0", "inputs", "targets", "", *"ABCDEFGHIJ"}
    for module in ("figures", "figure_style"):
        monkeypatch.setattr(f"tutorial.{module}.label", lambda text: asked.add(text) or text)
    with plt.rc_context():
        figures.set_up_figures()
        for draw in examples().values():
            figures.translate_labels(draw())
    plt.close("all")
    own = {text for text in asked if not text.startswith(("GELU", "ReLU", "head"))} - given
    assert own - set(texts_of_modules()) == set()


def test_what_modules_say_is_chinese(in_chinese):
    found = results.read()
    entries, line = load_entries(ROOT / "data/mini-instructions.json")
    said = [line, describe_overlap({"training": entries[:935], "test": entries[935:1045]}).splitlines()[0],
            *(about(found) for name, about in vars(findings).items() if name.startswith("about_")),
            *(table(found).splitlines()[0] for table in (
                findings.fault_atlas, findings.rates, findings.examples, findings.never_shown_table))]
    assert all(re.search("[一-鿿]", text) for text in said)
    assert not re.search("[a-z]{3,} [a-z]{3,}", re.sub(r"\*[A-Z].*?\*", "", "".join(said[:-1])))


@pytest.mark.filterwarnings("ignore:Glyph")  # where no font has Chinese
def test_labels_are_drawn_in_chinese(monkeypatch, in_chinese):
    monkeypatch.setattr("IPython.display.display", lambda *args, **kwargs: None)
    monkeypatch.setattr(figures, "cjk_fonts", lambda: ["one"])
    fig = plot_losses([0, 1], [100, 200], [3.0, 2.0], [3.5, 2.0])
    figures.show(fig, "损失")
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["训练", "验证"]
    assert fig.axes[0].get_xlabel() == "轮（epoch）" and fig.axes[1].get_xlabel().startswith("读入的 token 数")


def test_a_built_notebook_keeps_its_outputs_until_its_cells_change(tmp_path, english):
    built, path = build(english, polib.POFile()), tmp_path / "built.ipynb"
    write(built, path)
    executed = nbformat.read(path, as_version=4)
    code = next(number for number, cell in enumerate(executed.cells) if cell.cell_type == "code")
    executed.cells[code].outputs = [nbformat.v4.new_output("stream", text="done")]
    nbformat.write(executed, path)
    write(built, path)
    assert nbformat.read(path, as_version=4).cells[code].outputs
    built.cells[0].source += " 新"
    write(built, path)
    there = nbformat.read(path, as_version=4)
    assert there.cells[0].source.endswith(" 新") and not there.cells[code].outputs


def test_a_notebook_that_a_reader_has_edited_is_left_alone(tmp_path, monkeypatch, capsys):
    shutil.copy(TRANSLATION, tmp_path)
    monkeypatch.setattr(translate, "TRANSLATION", tmp_path / TRANSLATION.name)
    monkeypatch.setattr(translate, "BUILT", tmp_path / BUILT.name)
    monkeypatch.setattr(sys, "argv", ["translate.py"])
    translate.main()
    translate.main()
    notebook = nbformat.read(tmp_path / BUILT.name, as_version=4)
    notebook.cells[0].source += " 我的笔记"
    nbformat.write(notebook, tmp_path / BUILT.name)
    with pytest.raises(SystemExit, match="was edited since it was built"):
        translate.main()
    assert "我的笔记" in (tmp_path / BUILT.name).read_text(encoding="utf-8")


def prose(text):
    """Markdown without code, addresses of links, HTML and titles in book marks."""
    return re.sub(r"```.*?```|`[^`]*`|<[^>]*>|《[^》]*》", "", LINK.sub("]", text), flags=re.DOTALL)


@pytest.mark.parametrize("fault", [
    "[一-鿿][,;:!?()]", "[,;:!?()][一-鿿]", "[一-鿿][A-Za-z0-9]", "[A-Za-z0-9][一-鿿]"
], ids=["half-width after", "half-width before", "no space before", "no space after"])
def test_it_is_set_as_chinese_is(chinese, fault):
    said = {(entry.msgctxt, entry.msgid): entry.msgstr for entry in chinese if not entry.msgctxt.endswith(": code")}
    said["README.zh.md"] = (ROOT / "README.zh.md").read_text(encoding="utf-8")
    found = {name: re.findall(f".{{0,5}}{fault}.{{0,5}}", prose(text)) for name, text in said.items()}
    assert not any(found.values()), {name: places for name, places in found.items() if places}


def test_the_readmes_link_to_each_other_and_to_files():
    for name, other in (("README.md", "README.zh.md"), ("README.zh.md", "README.md")):
        links = LINK.findall((ROOT / name).read_text(encoding="utf-8"))
        assert other in links
        assert all(link.startswith("https://") or (ROOT / link).exists() for link in links), name


@pytest.fixture
def read_only_project(english, chinese, tmp_path):
    """A copy of the project, with the edition in translations/, whose files can't be written to."""
    project = tmp_path / "project"
    for name in ("engine", "weights", "tutorial", "data", "gpt2/7M", "miniature", "translations"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("*.verified", "__pycache__"))
    for name in ("gpt_download.py", "previous_chapters.py"):
        shutil.copy(ROOT / name, project)
    nbformat.write(build(english, chinese, drawn=bool(cjk_fonts())), project / "translations" / BUILT.name)
    paths = [project, *project.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    yield project
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)


def records_of(entries, monkeypatch):
    """What a run on a few entries with one epoch writes, by the functions behind the notebook."""
    train_data, test_data, val_data = split(entries)
    monkeypatch.setattr(recipe, "TRAIN", train_data)
    monkeypatch.setattr(recipe, "VALIDATION", val_data)
    before, after = (generate_responses(model, test_data, recipe.TOKENIZER, 16) for model in (
        recipe.pretrained(), recipe.fine_tuned(recipe.RECIPE | {"num_epochs": 1}, seed=123)))
    return [entry | {"before": one, "after": other} for entry, one, other in zip(test_data, before, after)]


@pytest.mark.slow
def test_it_runs_and_answers_as_the_english_functions_do(read_only_project, tmp_path, monkeypatch, one_thread):
    """On every eighteenth entry, without ipywidgets, TensorFlow and a display."""
    data = json.loads((ROOT / "data/mini-instructions.json").read_text(encoding="utf-8"))[::18]
    (tmp_path / "data.json").write_text(json.dumps(data))
    blocker, before = tmp_path / "blocker", set(read_only_project.rglob("*"))
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(  # which Python imports when it starts
        "import sys\nsys.modules['ipywidgets'] = sys.modules['tensorflow'] = None  # can't be imported\n")
    _, records = execute(tmp_path / "results", read_only_project / "translations" / BUILT.name, NUM_EPOCHS=1,
                         DATA_FILE=tmp_path / "data.json", MAX_NEW_TOKENS=16, PYTHONPATH=blocker,
                         PYTHONDONTWRITEBYTECODE=1)
    assert records == records_of(data, monkeypatch) and any(r["before"] != r["after"] for r in records)
    written = set(read_only_project.rglob("*")) - before
    assert all(path.suffix == ".verified" for path in written), "root may write where it must not"
    html = web_page(tmp_path / "results", BUILT.name, "zh")
    links = re.findall(r'href="#([^"]+)"', html)
    assert len(links) > 20 and all(f'id="{link}"' in html for link in links)
    main = html[html.index("<main"):html.index("</main>")]
    assert "**" not in re.sub(r"<pre.*?</pre>", "", main, flags=re.DOTALL), "bold that isn't"
