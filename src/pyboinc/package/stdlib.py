"""The standard library as a zip of bytecode, made by the interpreter that will read it.

It is not compressed: whoever sends it compresses the whole file, which packs better, and no start unpacks modules.
Run as a program: `python stdlib.py LIB EXTRA OUT SKIP...`. The same input gives the same bytes.
"""

import importlib.util
import marshal
import os
import sys
import zipfile

_UNCHECKED = 1
"""Bytecode that is valid by itself: nobody looks for a source file beside it."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def bytecode(source: bytes, name: str) -> bytes:
    """What stands in a .pyc file."""
    code = compile(source, f"<pyboinc>/{name}", "exec", dont_inherit=True, optimize=0)
    flags = _UNCHECKED.to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(source) + marshal.dumps(code)


def files(root: str, skip: set[str]) -> list[str]:
    """Paths below `root` in a fixed order, without what is not shipped."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - skip - {"__pycache__"})
        found += [os.path.relpath(os.path.join(folder, name), root) for name in sorted(set(names) - skip)]
    return found


def write(roots: list[str], out: str, skip: set[str]) -> None:
    """All modules of `roots` as bytecode; other files of the second and later ones as they are."""
    with zipfile.ZipFile(out, "w") as archive:
        for number, root in enumerate(roots):
            for name in files(root, skip):
                with open(os.path.join(root, name), "rb") as file:
                    data = file.read()
                compiled = name.endswith(".py")
                if not compiled and number == 0:
                    continue
                if compiled:
                    data = bytecode(data, name)
                archive.writestr(zipfile.ZipInfo(name + "c" * compiled, _EPOCH), data)


if __name__ == "__main__":
    lib, extra, out, *skip = sys.argv[1:]
    write([lib, extra], out, set(skip))
