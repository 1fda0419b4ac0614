"""Settings from the environment."""

import pytest

from tutorial.settings import setting


def test_a_setting_has_the_type_of_its_default(monkeypatch, capsys):
    for name, value in {"NAME": "5", "COUNT": "4", "RATE": "1"}.items():
        monkeypatch.setenv(name, value)
    values = [setting("NAME", "a"), setting("COUNT", 3), setting("RATE", 0.5)]
    assert values == ["5", 4, 1.0] and [type(value) for value in values] == [str, int, float]
    assert capsys.readouterr().out.splitlines() == [
        "NAME = '5' (from the environment)", "COUNT = 4 (from the environment)", "RATE = 1.0 (from the environment)"]


def test_without_a_variable_the_default_holds_and_nothing_is_printed(monkeypatch, capsys):
    monkeypatch.delenv("COUNT", raising=False)
    monkeypatch.setenv("SAME", "1")
    assert setting("COUNT", 7) == 7 and setting("SAME", 1.0) == 1.0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text, default, expected", [
    ("many", 3, "expected a whole number, such as 3"), ("0.5", 3, "expected a whole number, such as 3"),
    ("", 8, "expected a whole number, such as 8"), ("fast", 0.5, "expected a number, such as 0.5")])
def test_text_in_place_of_a_number_is_an_error(monkeypatch, text, default, expected):
    monkeypatch.setenv("COUNT", text)
    with pytest.raises(ValueError, match=f"the environment variable COUNT is '{text}': {expected}"):
        setting("COUNT", default)
