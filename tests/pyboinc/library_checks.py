"""What an interpreter has to be able to do, run by it in an empty place; each check prints its name when it holds.

Names on the command line are left out.
"""

import sys


def check_sqlite():
    import sqlite3

    db = sqlite3.connect("db")
    db.execute("create table t (name text, n integer)")
    db.executemany("insert into t values (?, ?)", [("a", 1), ("b", 2), ("a", 3)])
    db.commit()
    assert db.execute("select name, sum(n) from t group by name order by 1").fetchall() == [("a", 4), ("b", 2)]
    assert db.execute("select json_extract(?, '$.x'), sqrt(16)", ('{"x": 7}',)).fetchone() == (7, 4.0)
    db.execute("create virtual table texts using fts5(body)")
    db.execute("insert into texts values ('volunteers compute')")
    assert db.execute("select count(*) from texts where texts match 'volunteers'").fetchone() == (1,)


def check_ssl():
    import socket
    import ssl
    import threading

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in (server, client):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("PSK")
    server.set_psk_server_callback(lambda identity: b"secret")
    client.set_psk_client_callback(lambda hint: ("me", b"secret"))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener.accept()[0] as plain, server.wrap_socket(plain, server_side=True) as secure:
            secure.sendall(secure.recv(100).upper())

    thread = threading.Thread(target=serve)
    thread.start()
    with socket.create_connection(listener.getsockname()) as plain, client.wrap_socket(plain) as secure:
        secure.sendall(b"hello")
        assert secure.recv(100) == b"HELLO"
    thread.join()


def check_ctypes():
    import ctypes

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
    ctypes.CDLL(None).qsort(numbers, 5, ctypes.sizeof(ctypes.c_int), kind(lambda a, b: a[0] - b[0]))
    assert list(numbers) == [1, 2, 3, 4, 5]


def check_compression():
    import bz2
    import lzma
    import zlib

    data = b"data" * 10000
    for module in (bz2, lzma, zlib):
        packed = module.compress(data)
        assert len(packed) < 1000 and module.decompress(packed) == data


def check_hashlib():
    import hashlib

    for name in ("md5", "sha256", "sha3_512", "blake2b"):
        assert getattr(hashlib, name)(b"x").digest() == hashlib.new(name, b"x").digest()
    assert len(hashlib.scrypt(b"p", salt=b"s", n=16, r=8, p=1)) == 64


def check_decimal():
    import decimal

    decimal.getcontext().prec = 50
    assert str(decimal.Decimal(2).sqrt()).startswith("1.41421356237309504880168872420969807856967187537")
    assert decimal.Decimal.__module__ == "decimal" and "_decimal" in sys.modules


def check_multiprocessing():
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, range(-3, 0)) == [3, 2, 1]


def check_starting_itself():
    import asyncio
    import multiprocessing

    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(abs, range(-3, 0)) == [3, 2, 1], method

    async def shout():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('hi')", stdout=-1)
        return (await process.communicate())[0]

    assert asyncio.run(shout()) == b"hi\n"


def check_asyncio():
    import asyncio

    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def talk():
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hi\n")
            assert await reader.readline() == b"hi\n"
            writer.close()

    asyncio.run(talk())


def check_zoneinfo():
    import datetime
    import zoneinfo

    summer = datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Stockholm"))
    assert summer.utcoffset() == datetime.timedelta(hours=2)
    assert len(zoneinfo.available_timezones()) > 400


def check_texts():
    import unicodedata
    import xml.etree.ElementTree

    assert sys.flags.utf8_mode and sys.getfilesystemencoding() == "utf-8"
    assert (
        unicodedata.normalize("NFD", "\u00e9") == "e\u0301" and "\u00e9".encode("cp1252").decode("latin-1") == "\u00e9"
    )
    assert xml.etree.ElementTree.fromstring("<a><b>1</b></a>").findtext("b") == "1"
    assert "\u4f60".encode("gb18030").decode("gb18030") == "\u4f60"


def check_everything_imports():
    import importlib
    import sysconfig

    gone = {
        "antigravity",
        "this",
        "idlelib",
        "tkinter",
        "turtle",
        "turtledemo",
        "ensurepip",
        "venv",
        "pydoc_data",
        "curses",
        "readline",
        "msvcrt",
        "winreg",
        "winsound",
        "nt",
        "ntpath",
        "_winapi",
        "lib2to3",
        "test",
    }
    for name in sorted(sys.stdlib_module_names - gone):
        if not name.startswith("_"):
            importlib.import_module(name)
    assert sysconfig.get_config_var("EXT_SUFFIX").endswith(".so")


if __name__ == "__main__":
    for name in sorted(name for name in globals() if name.startswith("check_")):
        if name not in sys.argv:
            globals()[name]()
            print(name)
