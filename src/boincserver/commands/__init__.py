"""What the command line can do, each command a thin edge over the library."""
