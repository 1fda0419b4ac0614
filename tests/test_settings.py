"""Settings from the environment."""

import pytest

from engine.settings import override_from_environment


def test_settings_keep_their_kind(monkeypatch, capsys):
    settings = {"NAME": "a", "COUNT": 3, "RATE": 0.5, "SAME": 1.0, "OTHER": 7, "path": "b", "FUNCTION": print}
    for name, value in {"NAME": "5", "COUNT": "4", "RATE": "1", "SAME": "1", "path": "c", "FUNCTION": "d",
                        "UNKNOWN": "e"}.items():
        monkeypatch.setenv(name, value)
    override_from_environment(settings)
    assert settings == {"NAME": "5", "COUNT": 4, "RATE": 1.0, "SAME": 1.0, "OTHER": 7, "path": "b", "FUNCTION": print}
    assert type(settings["RATE"]) is float
    assert capsys.readouterr().out.splitlines() == [
        "NAME = '5' (from the environment)", "COUNT = 4 (from the environment)", "RATE = 1.0 (from the environment)"]


def test_what_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("COUNT", "many")
    with pytest.raises(ValueError, match="COUNT is 'many': want a whole number such as 3"):
        override_from_environment({"COUNT": 3})
