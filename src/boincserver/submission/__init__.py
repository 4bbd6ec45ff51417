"""Remote job submission: the official web calls of submitters, answered from a running project."""
