"""PyMW: one Python function, one call, any number of machines."""
