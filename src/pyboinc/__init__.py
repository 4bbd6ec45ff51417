"""BOINC's application side in pure Python: standard library only."""
