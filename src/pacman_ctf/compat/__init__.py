"""The names by which students' agents know the game: both spellings, flat modules and `contest.*`.

The modules here are written in snake_case; `spelling` adds the other spelling, `modules` puts them where agents look.
"""
