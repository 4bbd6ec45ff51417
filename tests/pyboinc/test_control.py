"""The supervisor's state machine, by a clock of its own."""

from __future__ import annotations

from pyboinc.control import ASK, CRITICAL_LIMIT, KILL, RESUME, SUSPEND, Control


def test_suspend_and_resume() -> None:
    control = Control()
    assert control.decide(0) is None
    control.hear("suspend")
    assert control.decide(1) == SUSPEND
    assert control.decide(2) is None
    control.hear("resume")
    assert control.decide(3) == RESUME
    assert control.decide(4) is None


def test_a_resume_cancels_a_suspend_that_was_not_acted_on() -> None:
    control = Control()
    control.hear("suspend")
    control.hear("resume")
    assert control.decide(0) is None


def test_quit_asks_then_kills() -> None:
    control = Control(grace=5)
    control.hear("quit")
    assert control.decide(10) == ASK
    assert control.decide(14.9) is None
    assert control.decide(15) == KILL
    assert control.exit_code == 0


def test_a_saved_state_ends_the_grace() -> None:
    control = Control(grace=5)
    control.saved(9)
    control.hear("quit")
    assert control.decide(10) == ASK
    control.saved(11)
    assert control.decide(11) == KILL


def test_who_stands_still_is_not_asked() -> None:
    control = Control()
    control.hear("suspend")
    control.decide(0)
    control.hear("quit")
    assert control.decide(1) == KILL


def test_abort_is_at_once_and_final() -> None:
    control = Control()
    control.hear("quit")
    control.decide(0)
    control.hear("abort")
    control.hear("dead")
    assert control.decide(0.1) == KILL
    assert control.exit_code == 194


def test_the_clients_death_is_a_quit() -> None:
    control = Control()
    control.hear("dead")
    control.hear("dead")
    assert control.decide(0) == ASK
    assert control.exit_code == 0


def test_a_critical_section_holds_everything_up_but_not_for_ever() -> None:
    for word, action in (("suspend", SUSPEND), ("quit", ASK), ("abort", KILL)):
        control = Control()
        control.critical(True, 0)
        control.hear(word)
        assert control.decide(1) is None
        assert control.decide(CRITICAL_LIMIT) == action
        control = Control()
        control.critical(True, 0)
        control.hear(word)
        control.critical(False, 1)
        assert control.decide(1) == action


def test_one_critical_section_after_the_other_makes_nobody_deaf() -> None:
    for word, action in (("suspend", SUSPEND), ("quit", ASK), ("abort", KILL)):
        control = Control()
        control.critical(True, 0)
        control.hear(word)
        assert control.decide(0.5) is None
        for second in range(1, int(CRITICAL_LIMIT)):
            control.critical(False, second)
            control.critical(True, second)
            assert control.decide(second) is None
        control.critical(True, CRITICAL_LIMIT + 1)
        assert control.decide(CRITICAL_LIMIT + 1) == action


def test_resume_waits_for_nothing() -> None:
    control = Control()
    control.hear("suspend")
    control.decide(0)
    control.critical(True, 1)
    control.hear("resume")
    assert control.decide(1) == RESUME
