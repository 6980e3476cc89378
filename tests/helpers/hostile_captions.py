"""Captions with their records, and names of shards, made to break what reads them."""

from collections.abc import Iterator

from hostile_cases import Case, bytes_case


def records() -> Iterator[Case]:
    """The json of a sample, whose label is its caption."""
    bad = "BadSample: "
    contents = {
        "10,000 brackets": (b"[" * 10_000, bad + "bad json"),
        "10,000 objects in one another": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, bad + "bad json"),
        "a million brackets in a string": (b'{"label": "' + b"[" * 10**6 + b'"}', bad + "bad json"),
        "349,000 empty lists": (b'{"label": "x", "a": [' + b"[]," * 349_000 + b"0]}", "caption 'x'"),
        "NaN": (b'{"label": NaN}', bad + "bad json"),
        "endless number": (b'{"label": "x", "n": -Infinity}', bad + "bad json"),
        "number of 100,000 digits": (b'{"label": "x", "n": ' + b"9" * 10**5 + b"}", bad + "bad json"),
        "exponent of 10^9": (b'{"label": "x", "n": 1e999999999}', "caption 'x'"),
        "one name twice": (b'{"label": "first", "label": "second"}', "caption 'second'"),
        "half a surrogate": (b'{"label": "\\ud800"}', bad + "bad utf-8"),
        "surrogate in UTF-8": (b'{"label": "\xed\xa0\x80"}', bad + "bad utf-8"),
        "overlong UTF-8": (b'{"label": "\xc0\xaf"}', bad + "bad utf-8"),
        "UTF-16": ('{"label": "x"}'.encode("utf-16"), bad + "bad utf-8"),
        "mark of byte order": (b'\xef\xbb\xbf{"label": "x"}', bad + "bad json"),
        "NUL in a caption": (b'{"label": "a\\u0000b"}', r"caption 'a\\x00b'"),
        "text turned around": ('{"label": "a\u202eb"}'.encode(), r"caption 'a\\u202eb'"),
        "spaces alone": (b'{"label": " \\u3000 \\n"}', bad + "empty caption"),
        "caption of a megabyte": (b'{"label": "' + b"x" * 10**6 + b'"}', bad + "caption too long"),
        "number as a caption": (b'{"label": 1}', bad + "no caption"),
        "list as a record": (b"[1, 2]", bad + "bad json"),
        "object as a caption": (b'{"label": {"__class__": "os.system"}}', bad + "no caption"),
        "80,000 names": (
            b'{"label": "x"' + b"".join(b',"%06x":0' % n for n in range(80_000)) + b"}", "caption 'x'"
        ),
        "JSON cut short": (b'{"label": "x', bad + "bad json"),
        "nothing": (b"", bad + "bad json"),
    }  # fmt: skip
    for name, (content, expected) in contents.items():
        yield bytes_case("record", name, content, expected)


# --- names of shards


def specs() -> Iterator[Case]:
    """What stands where shards are named; `good.tar` is in the working folder."""
    error = "UserError: "
    command = error + ".*commands are never run"
    texts = {
        "command": ("pipe:touch canary", command),
        "command in capitals": ("PIPE:touch canary", command),
        "command behind a space": (" pipe:touch canary", command),
        "command behind colons": ("::pipe:touch canary", error),
        "command behind a pack": ("emoji:pipe:touch canary", error),
        "command behind a shard": ("good.tar,pipe:touch canary", command),
        "command behind two colons": ("good.tar::pipe:touch canary", error),
        "command in braces": ("{pipe:touch canary,good.tar}", error),
        "command half in braces": ("{p,q}ipe:touch canary", error),
        "bar in front": ("|touch canary", command),
        "bar behind": ("touch canary |", command),
        "command for a shell": ("$(touch canary).tar", error),
        "backticks": ("`touch canary`.tar", error),
        "semicolon": ("good.tar;touch canary", error),
        "variable": ("${HOME}/x.tar", error),
        "home": ("~root/x.tar", error),
        "address of a file": ("file:///etc/passwd", error),
        "address of a file, short": ("file:etc/passwd", error),
        "address with a command": ("gopher://x/pipe:touch", error),
        "range of 10^9": ("x-{0..999999999}.tar", error + ".*limit"),
        "range of 5,000 digits": ("x-{0.." + "9" * 5000 + "}.tar", error),
        "product of ranges": ("{0..99}" * 20, error + ".*limit"),
        "product of pairs": ("{a,b}" * 200, error + ".*limit"),
        "a million commas in braces": ("{" + "," * 10**6 + "}", error),
        "a hundred thousand long names": ("{0..99999}" + "x" * 10_000, error),
        "every name long, and as many as may be": ("{0..99999}" + "x" * 4000, error),
        "50,000 files that are missing": ("x-{00000..49999}.tar", error + ".*are missing"),
        "100,000 globs to nowhere": ("/nowhere/{0..99999}/*.tar", error),
        "200,000 names": (",".join(f"x-{n}.tar" for n in range(200_000)), error),
        "nested braces": ("{a,{b,{c,d}}}" * 50, error),
        "ten thousand open braces": ("{" * 10_000, error),
        "range that runs backwards": ("{9..0}", error),
        "name of 5,000 letters": ("x" * 5000, error),
        "glob of 5,000 letters": ("*" * 5000, error),
        "glob to nowhere": ("/nowhere/**/*.tar", error + "no file matches"),
        "glob of brackets": ("[" * 3000, error),
        "NUL": ("good.tar\0", error),
        "NUL in a glob": ("*\0.tar", error),
        "NUL in a range": ("{0..3}\0.tar", error),
        "half a surrogate": ("\udcff.tar", error),
        "device without an end": ("/dev/zero", error),
        "device by a glob": ("/dev/zer[o]", error),
        "pipe in the file system": ("fifo.tar", error),
        "link to a device": ("link.tar", error),
        "folder": ("/etc", error + ".*is a folder"),
        "line break": ("good.tar\nerror: all is well", error),
    }
    for name, (text, expected) in texts.items():
        yield bytes_case("spec", name, text.encode("utf-8", "surrogateescape"), expected)
