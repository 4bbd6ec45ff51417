"""The wire formats of BOINC as pure functions: bytes to frozen records and back, no files, no sockets, no clock.

Clients do not send XML that an XML parser accepts (a program's output stands raw in it), so requests are read by
lines and patterns, as BOINC itself does. Nothing here raises for what a client sent: what cannot be read is missing.
"""
