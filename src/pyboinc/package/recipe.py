"""What the Linux interpreter is made of: sources with their pins, and the commands for each.

Everything that can change a byte of the result stands in this package, so its digest names the result.
All sources are Debian's, with Debian's patches. A .dsc file names the digests of all files of its package,
so pinning it pins them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

PYTHON_VERSION = "3.13.5"
ZIG_VERSION = "0.17.1"
GLIBC = "2.17"
"""The oldest C library that runs the result: that of CentOS 7, of the year 2012."""
BUILD_DATE = 1_750_000_000
"""The time that compilers see, so that two builds are the same."""


@dataclass(frozen=True, slots=True)
class Source:
    """One Debian source package."""

    package: str
    version: str
    release: str
    dsc_sha256: str

    @property
    def dsc(self) -> str:
        """The name of its .dsc file, which leaves out a version's epoch."""
        return f"{self.package}_{self.version.partition(':')[2] or self.version}.dsc"


@dataclass(frozen=True, slots=True)
class Library:
    """A static library and the shell commands that put it into $PREFIX."""

    name: str
    source: Source
    commands: str


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of machine, by the names that its makers of tools gave it."""

    platform: str
    """BOINC's name."""
    short: str
    gnu: str
    openssl: str
    configure: tuple[str, ...] = ()
    """What CPython's configure cannot find out when it builds for another machine."""

    @property
    def zig(self) -> str:
        """The compiler's name, with the C library's version."""
        return f"{self.gnu}.{GLIBC}"


X86_64 = Target("x86_64-pc-linux-gnu", "linux-x86_64", "x86_64-linux-gnu", "linux-x86_64")
AARCH64 = Target(
    "aarch64-unknown-linux-gnu",
    "linux-aarch64",
    "aarch64-linux-gnu",
    "linux-aarch64",
    ("ac_cv_file__dev_ptmx=yes", "ac_cv_file__dev_ptc=no", "ac_cv_buggy_getaddrinfo=no"),
)
TARGETS = {target.short: target for target in (X86_64, AARCH64)}

# Patched sources are newer than the files generated from them; without this, make would want autotools.
_KEEP_GENERATED = """
touch aclocal.m4; sleep 1
find . -name configure -o -name config.h.in -o -name Makefile.in -o -name fficonfig.h.in | xargs touch
"""

LIBRARIES = (
    Library(
        "zlib",
        Source(
            "zlib",
            "1:1.3.dfsg+really1.3.1-1",
            "trixie",
            "ede2791e29c1d3b422f9208bdd7edf040c20445ea1e7453a72037576e64fa197",
        ),
        """
        CHOST=$HOST ./configure --static --prefix=$PREFIX
        make -j$JOBS libz.a
        cp libz.a $PREFIX/lib; cp zlib.h zconf.h $PREFIX/include
        """,
    ),
    Library(
        "bzip2",
        Source("bzip2", "1.0.8-6", "trixie", "cd3bfd77254a6b5ef1be144bdc90a0dd374bc8206afd98ba4abf828741b79820"),
        """
        make -j$JOBS libbz2.a CC=$CC AR=$AR RANLIB=$RANLIB CFLAGS="$CFLAGS -D_FILE_OFFSET_BITS=64"
        cp libbz2.a $PREFIX/lib; cp bzlib.h $PREFIX/include
        """,
    ),
    Library(
        "xz",
        Source(
            "xz-utils",
            "5.8.1-1+deb13u1",
            "trixie",
            "ddadd9d9f7c4bb80b08f9f17409e2701a29a4cf8fe25e15d19605e5281c1fc1b",
        ),
        _KEEP_GENERATED
        + """
        ./configure --host=$HOST --prefix=$PREFIX --disable-shared --enable-static --disable-xz --disable-xzdec \\
            --disable-lzmadec --disable-lzmainfo --disable-scripts --disable-doc --disable-nls
        make -j$JOBS install
        """,
    ),
    Library(
        "libffi",
        # Later source packages come without a configure script.
        Source("libffi", "3.4.4-1", "bookworm", "21c9ef156b6766535cb014e0765142c8104ffbcd73f003ecfa80cfb314baa4f0"),
        _KEEP_GENERATED
        + """
        ./configure --host=$HOST --prefix=$PREFIX --disable-shared --enable-static --disable-docs \\
            --disable-multi-os-directory --disable-exec-static-tramp
        make -j$JOBS install
        """,
    ),
    Library(
        "sqlite",
        Source(
            "sqlite3",
            "3.46.1-7+deb13u2",
            "trixie",
            "46e1eec171e11108fc436e45309b635b601029726b6ffd3bf435bb474e511638",
        ),
        """
        # The one file of all sources is put together by programs that have to run here, whatever the target.
        CC=$NATIVE_CC ./configure --disable-tcl --disable-shared
        make sqlite3.c BCC=$NATIVE_CC
        $CC $CFLAGS -DSQLITE_ENABLE_FTS5 -DSQLITE_ENABLE_RTREE -DSQLITE_ENABLE_MATH_FUNCTIONS \\
            -DSQLITE_ENABLE_COLUMN_METADATA -DSQLITE_THREADSAFE=1 -c sqlite3.c -o sqlite3.o
        $AR rcs $PREFIX/lib/libsqlite3.a sqlite3.o; cp sqlite3.h sqlite3ext.h $PREFIX/include
        """,
    ),
    Library(
        "openssl",
        Source(
            "openssl",
            "3.5.7-1~deb13u2",
            "trixie",
            "25904642004d30c5c3da4642a72a7d09f8d9eb6e5ce62dab53c0371114faf8f2",
        ),
        """
        ./Configure $OPENSSL_TARGET --prefix=/usr --libdir=lib --openssldir=/etc/ssl no-shared no-tests no-apps \\
            no-docs no-engine no-dso no-module no-legacy no-ssl3 no-comp CC=$CC AR=$AR RANLIB=$RANLIB
        make -s build_generated
        make -s -j$JOBS libssl.a libcrypto.a
        cp libssl.a libcrypto.a $PREFIX/lib; cp -r include/openssl $PREFIX/include/
        """,
    ),
)

PYTHON = Source(
    "python3.13", "3.13.5-2+deb13u5", "trixie", "4be84e20fb902354fa86955e2fbea6e8bdbd158f54833423488308a9b3532662"
)
# Terminals and desktops: nothing that a job needs, and libraries that a host may lack.
_LEFT_OUT = ("_uuid", "_tkinter", "_gdbm", "_dbm", "_curses", "_curses_panel", "readline")
# configure calls nice() broken where the build itself runs at the lowest priority.
PYTHON_COMMANDS = """
cp $MAIN_C Programs/python.c
mkdir build; cd build
../configure --prefix=/pyboinc --host=$HOST --build=$BUILD_HOST $BUILD_PYTHON --disable-shared --disable-test-modules \\
    --with-openssl=$PREFIX --with-ensurepip=no --without-readline \\
    ac_cv_broken_nice=no ac_cv_working_openssl_hashlib=yes ac_cv_working_openssl_ssl=yes $CONFIGURE $LEFT_OUT
cp Modules/Setup.stdlib Modules/Setup.local
make -j$JOBS python
"""

TZDATA = ("tzdata", "2026.6", "0a10eec6e13ef16b627fabed9a5f2ba61a62b1c67f327305f4e7e412a70b4aec")
"""Time zones for hosts that have none: package, version and digest of its wheel."""

NOT_SHIPPED = frozenset(
    {"test", "tests", "idlelib", "turtledemo", "tkinter", "ensurepip", "venv", "pydoc_data", "curses", "turtle.py"}
)
"""Parts of the standard library that need a terminal, a desktop or a network, or test the rest."""


def python_variables(prefix: str) -> dict[str, str]:
    """Where CPython's configure finds the libraries, which it would otherwise ask pkg-config for."""
    variables = {"MODULE_BUILDTYPE": "static", "PKG_CONFIG": "/bin/false", "LIBUUID_CFLAGS": " ", "LIBUUID_LIBS": " "}
    libraries = {"ZLIB": "-lz", "BZIP2": "-lbz2", "LIBLZMA": "-llzma", "LIBSQLITE3": "-lsqlite3 -lm", "LIBFFI": "-lffi"}
    for name, flags in libraries.items():
        variables[f"{name}_CFLAGS"] = f"-I{prefix}/include"
        variables[f"{name}_LIBS"] = f"-L{prefix}/lib {flags}"
    return variables | {"LEFT_OUT": " ".join(f"py_cv_module_{name}=n/a" for name in _LEFT_OUT)}


def libraries_digest(target: Target) -> str:
    """Names the libraries built for a target."""
    parts = [asdict(library) for library in LIBRARIES]
    here = Path(__file__).parent
    compiler = (here / "toolchain.py").read_text()
    return _digest(json.dumps([parts, asdict(target), ZIG_VERSION, GLIBC, BUILD_DATE, compiler], sort_keys=True))


def digest(target: Target) -> str:
    """Names the interpreter built for a target."""
    here = Path(__file__).parent
    files = {
        name: (here / name).read_text() for name in ("recipe.py", "build.py", "stdlib.py", "toolchain.py", "main.c")
    }
    return _digest(json.dumps([files, asdict(target)], sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
