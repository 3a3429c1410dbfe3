import pytest

from backends.server.kernels import SETTING, UnknownLevel, chosen_level, possible_levels


def test_the_best_level_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    assert chosen_level() == possible_levels()[0]


def test_a_setting_forces_each_level(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in possible_levels():
        monkeypatch.setenv(SETTING, level.name.upper())
        assert chosen_level() == level


def test_a_setting_forces_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "torch")
    assert chosen_level() is None


def test_an_unknown_level_is_refused_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SETTING, "sse9")
    with pytest.raises(UnknownLevel, match=r"TWOPANE_KERNELS is 'sse9', but .*avx2, torch"):
        chosen_level()
