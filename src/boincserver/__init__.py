"""A complete BOINC project server that is one Python dependency.

`boincserver.project` makes and opens projects, `boincserver.control` is the client of a running server,
`boincserver.validator` says how results are compared, `boincserver.testing` has volunteers for tests.
"""
