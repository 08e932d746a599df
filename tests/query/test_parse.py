"""What questions select, and what they say when they make no sense."""

import numpy as np
import pytest

from flowobs import schema
from flowobs.batch import Endpoint, Endpoints, FlowBatch, Strings
from flowobs.filters import EVERYTHING, Mask, Match, Op
from flowobs.query import QueryError, fields, parse
from flowobs.query.values import address, number
from flowobs.query.words import Word, split
from flowobs.schema import EndpointKind, Kind

POD = EndpointKind.pod


@pytest.fixture(scope="module")
def batch() -> FlowBatch:
    """Four records.

    0: shop/web-0 -> shop/api-1:8080, open; 1: shop/web-0 -> 203.0.113.9:443, drop;
    2: ops/web-0 -> shop/api-1, an ICMP echo 8080; 3: nginx on laptop -> service shop/api, IPv6
    """
    endpoints = Endpoints(Strings())
    text = endpoints.strings.id
    web = endpoints.id(
        Endpoint(
            POD, "", "shop", "web-0", "web", "Deployment", "", "node-1",
            zone="z1", labels="app=web,app.kubernetes.io/name=shop", identity=300,
        )
    )  # fmt: skip
    api = endpoints.id(
        Endpoint(
            POD, "", "shop", "api-1", "api", "Deployment", "api", "node-2",
            labels="app=api,tier=web", services="api,backend,web-api",
        )
    )  # fmt: skip
    ops = endpoints.id(Endpoint(POD, "", "ops", "web-0"))
    laptop = endpoints.id(Endpoint(EndpointKind.host, "", "", "laptop", "nginx.service"))
    service = endpoints.id(Endpoint(EndpointKind.service, "", "shop", "api"))
    made = FlowBatch.zeros(4, endpoints)
    made.columns["src_endpoint"][:] = [web, web, ops, laptop]
    made.columns["dst_endpoint"][:] = [api, 0, api, service]
    made.columns["src_port"][:] = [40000, 40001, 8080, 50000]
    made.columns["dst_port"][:] = [8080, 443, 8080, 80]
    made.columns["proto"][:] = [6, 6, 1, 17]
    made.columns["kind"][:] = [Kind.open, Kind.drop, Kind.update, Kind.close]
    made.columns["verdict"][:] = [1, 2, 1, 1]
    made.columns["reply"][:] = [0, 1, 0, 0]
    made.columns["tcp_flags"][:] = [2, 18, 0, 0]
    made.columns["bytes"][:] = [100, 1_500, 2**20, 5_000_000]
    made.columns["duration"][:] = [0, 49_999_999, 50_000_000, 90_000_000_000]
    made.columns["time"][:] = np.arange(4) + 1_800_000_000 * 10**9
    made.columns["drop_reason"][:] = [0, text("NETFILTER_DROP"), 0, 0]
    made.columns["src_process"][:] = [0, 0, 0, text("nginx")]
    made.columns["node"][:] = text("node-1")
    sources = ["10.0.0.1", "10.0.0.1", "10.1.0.1", "fd00::1"]
    peers = ["10.0.0.2", "203.0.113.9", "10.0.0.2", "fd00::2"]
    for name, texts in (("src_ip", sources), ("dst_ip", peers)):
        packed = [address(t) for t in texts]
        made.columns[name][:] = [np.frombuffer(p, "u1") for p in packed if isinstance(p, bytes)]
    return made


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("", [0, 1, 2, 3]),
        ("   ", [0, 1, 2, 3]),
        ("*", [0, 1, 2, 3]),
        ("label:app=web", [0, 1]),
        ("label:app=a*", [0, 2]),
        ("label:app=web,tier=web", [0, 1, 2]),
        ("label:app=we", []),
        ("label:pp=web", []),
        ("label:tier", [0, 2]),
        ("label:app", [0, 1, 2]),
        ("label!=app=web", [2, 3]),
        ("src.label:app.kubernetes.io/name=shop", [0, 1]),
        ("src.label:app=api", []),
        ("label~KUBERNETES", [0, 1]),
        ("label:''", [1, 2, 3]),
        ("service:backend", [0, 2]),
        ("dst.service:shop/web-*", [0, 2]),
        ("service:back", []),
        ("services:web-api", [0, 2]),
        ("zone:z1", [0, 1]),
        ("src.identity:256..400", [0, 1]),
        ("pod:web-0", [0, 1, 2]),
        ("pod:shop/web-*", [0, 1]),
        ("pod:shop/*", [0, 1, 2, 3]),
        ("pod:laptop/nginx.service", [3]),
        ("pod:ops/*,laptop", [2, 3]),
        ("src.pod:shop/*", [0, 1]),
        ("ns:ops", [2]),
        ("src.ns:shop", [0, 1]),
        ("from.namespace:shop to.ns:shop", [0]),
        ("ns!=ops", [0, 1, 3]),
        ('dst.ns:""', [1]),
        ("port:8080", [0]),
        ("dst.port:8080", [0]),
        ("dst_port:8080", [0, 2]),
        ("src_port:8080", [2]),
        ("port:443,80", [1, 3]),
        ("port:8000-9000", [0]),
        ("dst.port<1024", [1, 3]),
        ("dst.port:..443", [1, 3]),
        ("dst.port:8080..", [0]),
        (":443", [1]),
        ("to:10.0.0.0/8", [0, 2]),
        ("from:shop/web-0", [0, 1]),
        ("from:shop", [0, 1]),
        ("to:api", [0, 2, 3]),
        ("to:shop/api-1:8080", [0]),
        ("end:ops", [2]),
        ("ip:203.0.113.9", [1]),
        ("ip:10.0.*", [0, 1, 2]),
        ("ip:fd00::/8", [3]),
        ("ip!=10.0.0.0/8", [3]),
        ("src.ip:10.0.0.1,fd00::1", [0, 1, 3]),
        ("fd00::2", [3]),
        ("[fd00::2]:80", [3]),
        ("10.0.0.2:8080", [0]),
        ("10.1.", [2]),
        ("203.0.113.0/24", [1]),
        ("verdict:dropped", [1]),
        ("VERDICT:Dropped", [1]),
        ("kind:open,close", [0, 3]),
        ("kind:*o*e*", [0, 3]),
        ("kind:2..3", [2, 3]),
        ("proto:udp", [3]),
        ("proto:6", [0, 1]),
        ("not proto:tcp", [2, 3]),
        ("process:nginx", [3]),
        ("reason:NETFILTER_DROP", [1]),
        ("reason~netfilter", [1]),
        ("reply:no", [0, 2, 3]),
        ("reply:yes", [1]),
        ("flags:syn", [0, 1]),
        ("flags:SYN+ACK", [1]),
        ("flags:2", [0]),
        ("bytes>1MB", [2, 3]),
        ("bytes>=1MiB", [2, 3]),
        ("bytes:1kB..2kB", [1]),
        ("bytes:1.5kB", [1]),
        ("bytes>100 and b", [1, 2]),
        ('bytes>100 "b"', [1, 2]),
        ("bytes>100 (b)", [1, 2]),
        ("bytes>100 b-", [1, 2]),
        ("bytes>1kB b", [1, 2]),
        ("dst.port:8080 b", [0]),
        ("duration>=50ms", [2, 3]),
        ("duration<0.05s", [0, 1]),
        ("duration>1min", [3]),
        ("duration:0", [0]),
        ("time>2027-01-15T08:00:00.000000001Z", [2, 3]),
        ("node:node-1", [0, 1, 2, 3]),
        ("src.node:node-1", [0, 1]),
        ("workload:shop/api", [0, 2]),
        ("service:shop/api", [0, 2, 3]),
        ("src.kind:host", [3]),
        ("name:laptop", [3]),
        ("name~API", [0, 2, 3]),
        ("web", [0, 1, 2]),
        ("WEB", [0, 1, 2]),
        ("ngin", [3]),
        ("web-?", [0, 1, 2]),
        ("web?", []),
        ("hop/ap", [0, 2, 3]),
        ('"not"', []),
        ('name:"=web"', []),
        ("-b:80", []),
        ("-1:8080", [0]),
        ("ops web", [2]),
        ("ops or laptop", [2, 3]),
        ("ops OR laptop AND nginx", [2, 3]),
        ("(ops or laptop) and nginx", [3]),
        ("not (ops or laptop)", [0, 1]),
        ("!ops !laptop", [0, 1]),
        ("! not ops", [2]),
        ("pod:'shop'/\"web\"-0", [0, 1]),
        ("pod:shop/'web-*'", []),
    ],
)
def test_questions_select(batch: FlowBatch, question: str, rows: list[int]) -> None:
    assert Mask(parse(question))(batch).nonzero()[0].tolist() == rows


@pytest.mark.parametrize(
    ("question", "column", "sentence"),
    [
        ("a namspace:x", 3, "there is no field `namspace`; did you mean `namespace`?"),
        ("zzzz:1", 1, "docs/query.md has them all (a word in quotes"),
        ("label>app", 1, "`label` cannot be compared with `>`; write `label:`"),
        ("src_labels:'a*'", 12, "has no `*` or `?` in it; leave out the quotes"),
        ("src_identity_age>30", 18, "`src_identity_age` needs a unit; write `30ms`"),
        ("web http.status>=500", 5, "`http.status` is not recorded yet"),
        ("kind:open,clse", 11, "`kind` cannot be `clse`; did you mean `close`?"),
        ("verdict:zzz", 9, "use one of unknown, forwarded, dropped, error"),
        ("kind:zz*", 6, "`zz*` matches no `kind`; there are open, update"),
        ("kind:300", 6, "use a number up to 255"),
        ("port:http", 6, "use a number up to 65535"),
        ("port:65536", 6, "it is at most 65535"),
        ("port:9-8", 6, "`9-8` is empty; write the smaller end first: `8..9`"),
        ("port:-8", 6, "`port` cannot be `-8`"),
        (":99999", 2, "a port cannot be `99999`"),
        ("port>1,2", 8, "`port>` takes one value; lists go with `port:a,b`"),
        ("10.0.0.0/33", 1, "`10.0.0.0/33` is no address; write `10.1.2.3` or `10.0.0.0/8`"),
        ("kind:drop to:10.300.0.1:80", 14, "`10.300.0.1` is no address"),
        ("ip:10.0.0", 4, "write `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`"),
        ("ip>10.0.0.1", 1, "`ip` cannot be compared with `>`"),
        ("kind~o", 1, "`kind` cannot be compared with `~`"),
        ("pod>x", 1, "`pod` cannot be compared with `>`"),
        ("from<x", 1, "`from` cannot be compared with `<`"),
        ("pod:a/b/c", 5, "`a/b/c` is no name; write `web-0` or `shop/web-*`"),
        ("pod:a/", 5, "`a/` is no name"),
        ("reply:maybe", 7, "use yes or no"),
        ("flags:SYM", 7, "use flags such as `SYN`"),
        ("bytes>1parsec", 7, "`bytes` has no unit `parsec`; units are b, k, kb, kib"),
        ("bytes>some", 7, "use a size such as `1500`"),
        ("bytes>1.5", 7, "`bytes` cannot be `1.5`; use whole bytes"),
        ("bytes>1 MB", 7, 'write `1MB` for `1 MB`, or `"MB"` if it is a name'),
        ("a (bytes>1.5 kib)", 10, "write `1.5kib` for `1.5 kib`"),
        ("bytes:1 kB..5 MB", 7, "write `1kB` for `1 kB`"),
        ("packets:1,2..5 k", 14, "write `5k` for `5 k`"),
        ("rtt>50 ms", 5, "write `50ms` for `50 ms`"),
        ("rtt>0 \u00b5s", 5, "write `0\u00b5s` for `0 \u00b5s`"),
        ("duration>1 min or a", 10, "write `1min` for `1 min`"),
        ("duration>50", 10, "`duration` needs a unit; write `50ms`"),
        ("duration>long", 10, "use a length of time such as `50ms`"),
        ("duration>1.5ns", 10, "use whole ns"),
        ("vlan:1k", 6, "`vlan` has no unit `k`; use a number up to 65535"),
        ("vlan:1.5", 6, "use a whole number"),
        ("time>yesterday", 6, "use a time such as `2026-01-31T12:00:00Z`"),
        ("bytes > 1MB", 7, "a field is missing before `>`; write it without spaces"),
        ("=x", 1, "a field is missing before `=`"),
        ("kind: open", 6, "a value is missing in `kind:`; write it without spaces"),
        ("kind:open, close", 11, "a value is missing in `kind:open,`"),
        ("a and", 6, "something is missing after `and`"),
        ("a or or b", 6, "something is missing after `or`"),
        ("or b", 1, "something is missing before `or`"),
        ("()", 2, "something is missing after `(`"),
        ("not", 4, "something is missing after `not`"),
        ("(a", 1, "this `(` is never closed; add a `)`"),
        ("a)", 2, "this `)` closes nothing; leave it out"),
        ("pod:'a", 5, "the quote ' is never closed"),
        ("a && b", 3, "write `and` for `&&`"),
        ("a ns==shop", 3, "write `ns=` for `ns==`"),
        ("ns=!shop", 1, "write `ns!=` for `ns=!`"),
        ("ns:!shop", 1, "write `ns!=` for `ns:!`"),
        ("ns!:shop", 1, "write `ns!=` for `ns!:`"),
        ("name=~web.*", 1, "write `name~` for `name=~`"),
        ("name!~web", 1, "write `not name~` for `name!~`"),
        ("a -ns:shop", 3, "write `not ns:shop` for `-ns:shop`"),
        ("(" * 40 + "a" + ")" * 40, 32, "nested more than 30 deep"),
        ("a " * 2100, 4097, "longer than 4096 characters"),
        ("a " * 200, 1, "this makes 2000 comparisons, 1000 is the limit"),
        ("pod:" + ",".join(f"a{n}*" for n in range(101)), 1, "101 words and patterns, 100 is"),
        ("name:" + "*a" * 201, 1, "this has 201 wildcards, 200 is the limit"),
        ("label:" + "?a" * 201, 1, "this has 202 wildcards"),
        ('pod:"*"*', 5, "a quoted `*` or `?` cannot stand beside one that is a wildcard"),
        ('"*/a"', 1, "cannot be quoted beside a `/`"),
        ("a\0b", 2, "a character that no name can have"),
        ("a\ud800", 2, "a character that no name can have"),
    ],
)
def test_errors_say_where_and_what(question: str, column: int, sentence: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(question)
    assert sentence in caught.value.sentence
    assert caught.value.column == column


def test_every_column_can_be_asked_for() -> None:
    for column in schema.COLUMNS:
        assert column.name in fields.FIELDS


def test_aliases_lead_to_fields() -> None:
    for alias, field in fields.ALIASES.items():
        assert field in fields.FIELDS and alias not in fields.FIELDS


def test_rtt_is_the_smoothed_one_of_any_end() -> None:
    assert parse("src.rtt>50ms") == Match("src_srtt_us", Op.gt, 50_000)
    assert parse("rtt>50ms") == parse("src.srtt>50ms or dst.srtt>50ms")
    assert parse("rtt_ns>50ms") == parse("src_rtt_ns>50ms or dst_rtt_ns>50ms")


def test_units_come_from_the_schema() -> None:
    column = schema.Column("connect_us", "u32", "how long it took", unit="us")
    (word,) = split("50ms")
    assert isinstance(word, Word)
    assert number(column, "connect", word) == 50_000


def test_plain_values_become_one_list() -> None:
    assert parse("proto:tcp,udp") == Match("proto", Op.any_of, (6, 17))
    assert parse("proto:tcp") == Match("proto", Op.eq, 6)
    assert parse("* ") == EVERYTHING
