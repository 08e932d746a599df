"""Random trees of the whole language, and questions that people could write."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import strategies as st

from flowobs import schema
from flowobs.filters import And, Filter, Match, Not, Op, Or, Value, network
from flowobs.rows import ip_text

TEXTS = ["", "a", "ab", "a%b", "a_b", "a\\b", "a'b", 'a"b', "é", "ab\n", "a\tb", "web-0", "WEB-0"]
LISTS = [
    "",
    "a=b",
    "a=b,ab=b",
    "ab=a,web-0=",
    "é=a b,x",
    ",",
    "a,b",
    "a\n,b",
    "a.b=c/d",
    "a=%,_=\\",
]
TEXTS += ["{f0:String}", "*", "a,b", "a..b", "(", "not", ":"]
ADDRESSES = [bytes(10) + b"\xff\xff" + bytes([10, 0, 0, n]) for n in range(3)] + [bytes(16)]


def filters(now_ns: int) -> st.SearchStrategy[Filter]:
    """Trees over all columns, operators and shapes, with few values: they hit often."""
    matches = st.sampled_from(schema.COLUMNS).flatmap(lambda c: matches_of(c, now_ns))

    def grow(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        parts = st.lists(inner, max_size=3).map(tuple)
        return st.one_of(parts.map(And), parts.map(Or), inner.map(Not))

    return st.recursive(matches, grow, max_leaves=6)


def matches_of(column: schema.Column, now_ns: int) -> st.SearchStrategy[Filter]:
    """Comparisons of one column by every operator that it has."""

    def each(op: Op, values: st.SearchStrategy[Value]) -> st.SearchStrategy[Filter]:
        return st.builds(Match, st.just(column.name), st.just(op), values)

    def several(values: st.SearchStrategy[Value]) -> st.SearchStrategy[Filter]:
        return each(Op.any_of, st.lists(values, max_size=3).map(tuple))

    if column.unit == "list":
        globs = st.text(st.sampled_from("ab=,*?.é%_\\ \n[^"), max_size=5)
        return st.one_of(
            each(
                Op.item, st.sampled_from(["", "a=b", "ab=*", "*=b", "a", "?", "a=?", "*", "é=a b"])
            ),
            each(Op.item, globs),
            each(Op.contains, st.text(st.sampled_from("aB=%_,é"), max_size=3)),
        )
    if column.type == "string":
        return st.one_of(
            each(Op.eq, st.sampled_from(TEXTS)),
            several(st.sampled_from(TEXTS)),
            each(Op.glob, st.text(st.sampled_from("ab%_\\'*?é\n\t"), max_size=4)),
            each(Op.contains, st.text(st.sampled_from("aB%_\\'éÉ*-0\n"), max_size=3)),
        )
    if column.type == "ip":
        addresses = st.sampled_from(ADDRESSES)
        v4 = st.builds(lambda a, n: f"{ip_text(a)}/{n}", addresses, st.integers(0, 32))
        v6 = st.builds(lambda a, n: f"{IPv6Address(a)}/{n}", addresses, st.integers(0, 128))
        networks = st.one_of(v4, v6).map(network)
        return st.one_of(each(Op.eq, addresses), several(addresses), each(Op.inside, networks))
    base = now_ns - 4 if column.type == "time" else 0
    most = {"u8": 255, "u16": 65535, "u32": 2**32 - 1, "u64": 2**64 - 1, "time": 2**63 - 1}
    numbers = st.one_of(st.integers(base, base + 4), st.just(most[column.type]))
    ranges = st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair)))
    compared = st.sampled_from([Op.eq, Op.ge, Op.gt, Op.le, Op.lt]).flatmap(
        lambda op: each(op, numbers)
    )
    bits = [each(Op.bits, st.integers(1, 255))] if column.unit == "flags" else []
    return st.one_of(compared, each(Op.between, ranges), several(numbers), *bits)


_VALUES = [
    *("shop/web-*", "shop", "web-0", '""', '"a*b"', "a?", "10.0.0.1", "10.0.0.0/31", "10.0.*"),
    *("::ffff:10.0.0.2", "::/0", "443", "0", "1-3", "1..", "..2", "drop", "dropped", "tcp", "re*"),
    *("50ms", "1.5s", "1kB", "2MiB", "yes", "no", "SYN+ACK", "a,b", "1,2,3", "open,close", "é"),
    *("a=b", "a", "ab=*", "a=b,x=y", "*=?", '"a=b"', "a=", "30s"),
    *("2026-11-22T10:00:00Z", "18446744073709551615", "..", "-", "unknown", ",", "", "'"),
]
_NAMES = [
    *("pod", "src.pod", "to.pod", "ns", "src.ns", "port", "dst.port", "from", "to", "end", "ip"),
    *("verdict", "kind", "proto", "reply", "bytes", "duration", "workload", "service", "node"),
    *("src.node", "process", "reason", "flags", "time", "dst.kind", "pid", "label", "http.status"),
    *("prot", "name", "src.name", "ns.src", "vlan", "src.label", "labels", "zone", "identity"),
    *("services", "dst.services", "identity_age"),
]


def questions() -> st.SearchStrategy[str]:
    """Texts made of the language's pieces; most of them parse."""
    signs = st.sampled_from([":", ":", "=", "!=", ">", ">=", "<", "<=", "~"])
    term = st.builds(
        lambda name, sign, value: f"{name}{sign}{value}",
        st.sampled_from(_NAMES),
        signs,
        st.sampled_from(_VALUES),
    )
    words = st.sampled_from([*_VALUES, ":443", "web-0:80", "[::1]:443", "10.0.0.1:2", "/a", "*"])
    pieces = st.one_of(term, term, words, st.sampled_from(["and", "or", "not", "!", "(", ")"]))
    return st.lists(pieces, max_size=8).map(" ".join)
