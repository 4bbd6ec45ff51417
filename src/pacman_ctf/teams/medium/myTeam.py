"""The medium team: the plain one that `baselineTeam` is, one raider and one guard."""

from contest.baseline_team import create_team

__all__ = ["create_team"]
