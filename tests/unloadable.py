"""A module that loads where a certain variable is set, and nowhere else."""

import os

if "PYMW_TEST_HOME" not in os.environ:
    raise RuntimeError("this module loads only at home")


def answer():
    return 42
