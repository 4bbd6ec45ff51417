"""A complete BOINC project server in one Python dependency."""
