"""Makes what volunteers' computers get: interpreters, and applications on top of them.

This side runs where the application is made, not on volunteers' computers.
"""
