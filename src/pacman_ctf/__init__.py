"""Pacman capture-the-flag tournaments, refereed on lent computers."""
