"""The page in a real browser, over the mock relay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ui.browser import browse, edges, require_app, require_browser
from tests.ui.mock_relay import MockRelay

pytestmark = pytest.mark.browser

LIVE = {"wait": "[data-connection=live]"}
ROWS = {"wait": ".flows .all .row"}


@pytest.fixture(autouse=True, scope="module")
def _browser() -> None:
    require_browser()
    require_app()


@pytest.fixture(scope="module")
def relay() -> Iterator[MockRelay]:
    with MockRelay() as relay:
        yield relay


def test_the_edges_are_on_the_page(relay: MockRelay, tmp_path: Path) -> None:
    shown = {e.edge: e for e in edges(relay.url, screenshot=tmp_path / "page.png")}
    assert len(shown) == 17
    assert shown["shop/web-0->shop/api-1:8080"].bad == 0
    assert shown["shop/web-0->kube-system/kube-dns:53"].proto == "udp"
    assert shown["payments/pay-0->legacy-erp:1521"].bad > 0
    assert "NETFILTER_DROP" in shown["payments/pay-0->legacy-erp:1521"].text
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_it_is_live_and_complains_of_nothing(relay: MockRelay) -> None:
    count = "Number(document.querySelector('[role=tab] small').textContent)"
    more = {"until": f"{count} > window.before"}
    begin = {"eval": f"window.before = {count}"}
    visit = browse(relay.url, [LIVE, ROWS, begin, more, {"eval": count}])
    assert visit.results[1] > visit.results[0] >= 100
    assert visit.console == []


@pytest.mark.parametrize("dark", [False, True])
def test_the_map_is_painted(relay: MockRelay, dark: bool) -> None:
    """More than a few colors, and most of it is as dark as the page."""
    colors = """(() => { const c = document.querySelector('.map canvas');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, seen = new Map();
        for (let i = 0; i < d.length; i += 4) {
            const color = d[i] << 16 | d[i + 1] << 8 | d[i + 2];
            seen.set(color, (seen.get(color) ?? 0) + 1); }
        const [most] = [...seen].reduce((a, b) => a[1] < b[1] ? b : a);
        return [seen.size, (most >> 16) + (most >> 8 & 255) + (most & 255)]; })()"""
    visit = browse(
        relay.url,
        [{"wait": "[data-edge]"}, {"until": f"{colors}[0] > 50"}, {"eval": f"{colors}[1]"}],
        dark=dark,
    )
    (ground,) = visit.results
    assert (ground < 150) == dark


def test_below_a_path_prefix() -> None:
    with MockRelay(prefix="/some/where") as relay:
        assert len(edges(relay.url)) == 17


def test_the_address_tells_the_view(relay: MockRelay) -> None:
    query = "?window=15m&namespace=payments&search=pay&edge=payments/pay-0->legacy-erp:1521/tcp"
    visit = browse(
        relay.url + query,
        [
            {"wait": ".panel .counts"},
            {"text": ".panel"},
            {"edges": True},
            {"eval": "document.querySelector('.segments input:checked').value"},
            {"wait": "option:has-text('shop')"},
            {"press": "Escape"},
            {"gone": ".panel"},
            {"press": "Escape"},
            {"eval": "location.search"},
        ],
    )
    panel, listed, window, left = visit.results
    command = "flows tail --since 15m --pod payments/pay-0 --port 1521 --proto tcp"
    assert f"{command} --server {relay.url[:-1]} pay" in panel
    assert "NETFILTER_DROP" in panel
    assert [e["edge"] for e in listed] == ["payments/pay-0->legacy-erp:1521"]
    assert window == "15m"
    assert left == "?window=15m&namespace=payments"


def test_ends_are_put_together(relay: MockRelay) -> None:
    choose = """(by => { const s = document.querySelector('.grouping select'); s.value = by;
        s.dispatchEvent(new Event('change', {bubbles: true})); })"""
    visit = browse(
        relay.url + "?group=workload&edge=shop/api->shop/db:5432/tcp",
        [
            {"wait": ".panel [data-latency]"},
            {"text": ".panel .copy"},
            {"wait": ".row:has-text('shop/db-0')"},
            {"eval": f"{choose}('namespace')"},
            {"wait": "[data-edge^='shop->payments']"},
            {"gone": ".panel"},
            {"eval": "location.search"},
            {"eval": f"{choose}('label:')"},
            {"fill": [".grouping input", "app"]},
            {"press": "Enter"},
            {"wait": "[data-edge^='app=web->']"},
            {"eval": "location.search"},
        ],
    )
    assert "'src.workload:shop/api dst.workload:shop/db dst.port:5432 proto:tcp'" in (
        visit.results[0].replace("\xa0", " ")
    )
    assert [r for r in visit.results if str(r).startswith("?")] == [
        "?group=namespace",
        "?group=label:app",
    ]
    assert visit.console == []


def test_an_edge_tells_its_health(relay: MockRelay) -> None:
    cart = "shop/api-1->shop/cart-6f9c8d7b5-x2kqp:7070/tcp"
    visit = browse(
        f"{relay.url}?edge={cart}",
        [
            {"wait": ".panel [data-path]"},
            {"text": ".panel [data-latency]"},
            {"text": ".panel .loss"},
            {"wait": "[data-series='RTT p95'] .line"},
            {"text": "[data-series=Rate]"},
        ],
    )
    latency, loss, rate = visit.results
    assert all(word in latency for word in ("p50", "p95", "p99", "Connect", "RTT"))
    assert "packets lost on the path" in loss
    assert "peak" in rate


def test_a_pod_tells_what_its_records_do(relay: MockRelay) -> None:
    visit = browse(
        relay.url + "?node=shop/api-1",
        [{"wait": ".panel dt:has-text('Labels')"}, {"text": ".panel"}],
    )
    for text in ("zone-b", "app=api", "api, api-headless", "Identity", "kubernetes"):
        assert text in visit.results[0]


def test_old_names_are_marked() -> None:
    with MockRelay("old-names") as relay:
        visit = browse(
            relay.url,
            [ROWS, {"wait": ".banner[data-names]"}, {"wait": ".end .age"}, {"text": ".banner"}],
        )
    assert "pods not heard of for 3 min (connection refused)" in visit.results[0]


def test_a_click_on_the_map_selects(relay: MockRelay) -> None:
    """The pointer feels its way over the canvas until it is over something."""
    search = """(async () => {
        const c = document.querySelector('.map canvas'), b = c.getBoundingClientRect();
        for (let y = 60; y < b.height - 60; y += 8) for (let x = 60; x < b.width - 60; x += 8) {
            const at = {clientX: b.left + x, clientY: b.top + y, bubbles: true};
            c.dispatchEvent(new PointerEvent('pointermove', at));
            if (c.style.cursor !== 'pointer') continue;
            c.dispatchEvent(new MouseEvent('click', at));
            return true;
        } return false; })()"""
    visit = browse(
        relay.url,
        [
            {"wait": "[data-edge]"},
            {"until": search},
            {"wait": ".panel h2"},
            {"eval": "location.search"},
        ],
    )
    (address,) = visit.results
    assert address.startswith(("?node=", "?edge="))


def test_keys(relay: MockRelay) -> None:
    visit = browse(
        relay.url,
        [
            ROWS,
            {"press": "j"},
            {"press": "j"},
            {"wait": ".row[aria-selected=true]"},
            {"wait": ".toggle[aria-pressed=true]"},
            {"eval": "document.querySelector('.row[aria-selected=true]').ariaRowIndex"},
            {"press": "Enter"},
            {"wait": ".panel"},
            {"press": "/"},
            {"eval": "document.activeElement.id"},
            {"fill": ["#search", "kube-dns"]},
            {"press": "Escape"},
            {"press": "Escape"},
            {"eval": "document.querySelector('#search').value"},
        ],
    )
    assert visit.results == ["3", "search", ""]


def test_a_crowd_is_folded_on_the_map_and_whole_in_the_list() -> None:
    opened = {"eval": "location.search"}
    with MockRelay("crowd") as relay:
        visit = browse(
            relay.url + "?node=team-3/*",
            [
                {"wait": "[data-edge]"},
                {"text": ".map .size"},
                {"edges": True},
                {"click": ".panel .open button"},
                {"wait": "option:checked:has-text('team-3')"},
                opened,
            ],
        )
    size, listed, address = visit.results
    assert "17 nodes, 292 connections" in size and "standing for 150 nodes" in size
    assert all("team-3/" in e["edge"] for e in listed)
    assert address == "?namespace=team-3&node=team-3/*"


def test_search_narrows_rows_and_edges(relay: MockRelay) -> None:
    rows = "[...document.querySelectorAll('.flows .all .row')].map(r => r.innerText)"
    visit = browse(
        relay.url,
        [
            ROWS,
            {"wait": "[data-edge]"},
            {"fill": ["#search", "kube-dns proto:udp"]},
            {"wait": ".chip:has-text('proto:udp')"},
            {"gone": "[data-edge$=':8080']"},
            {"until": f"{rows}.length && {rows}.every(text => text.includes('kube-dns'))"},
            {"sleep": 1000},  # and so it stays
            {"edges": True},
            {"eval": rows},
        ],
    )
    assert {e["edge"].split("->")[1] for e in visit.results[0]} == {"kube-system/kube-dns:53"}
    assert visit.results[1]
    assert all("kube-dns" in row for row in visit.results[1])


def test_the_box_offers_how_to_go_on(relay: MockRelay) -> None:
    offered = "[...document.querySelectorAll('#search-hints option')].map(o => o.value)"
    visit = browse(
        relay.url,
        [
            {"wait": "[data-edge]"},
            {"fill": ["#search", "kube-dns p"]},
            {"wait": "#search-hints option[value='kube-dns port:']"},
            {"eval": offered},
        ],
    )
    assert visit.results == [["kube-dns pod:", "kube-dns port:", "kube-dns proto:"]]


def test_what_is_wrong_with_a_question_is_shown_below_the_box(relay: MockRelay) -> None:
    visit = browse(
        relay.url + "?search=kube-dns",
        [
            {"wait": "[data-edge]"},
            {"fill": ["#search", "kube-dns prt:53"]},
            {"wait": "#search-wrong"},
            {"text": "#search-wrong p"},
            {"text": "#search-wrong mark"},
            {"text": ".chip"},
            {"eval": "location.search"},
            {"fill": ["#search", "kube-dns port:53"]},
            {"wait": ".chip:has-text('port:53')"},
            {"gone": "#search-wrong"},
        ],
    )
    sentence, mark, chip, address = visit.results
    assert sentence == "there is no field `prt`; docs/query.md has them all"
    assert mark == "prt:53"
    assert "“kube-dns”" in chip  # the last question that was understood stands
    assert address == "?search=kube-dns+prt:53"


@pytest.mark.parametrize(
    ("mode", "query", "state", "text"),
    [
        ("no-agent", "", "no-agent", "flowobs agent"),
        ("no-flows", "", "no-flows", "2 agents are connected"),
        ("no-flows", "?window=1h", "no-flows", "last 1h"),
        ("shop", "?search=nosuch", "filtered", "17 connections hidden"),
        ("shop", "?namespace=nosuch", "filtered", "Nothing in namespace nosuch"),
        ("store-down", "", "error", "The store's disk is full."),
    ],
)
def test_an_empty_map_says_why(mode: str, query: str, state: str, text: str) -> None:
    with MockRelay(mode) as relay:
        visit = browse(
            relay.url + query, [{"wait": f"[data-empty={state}]"}, {"text": "[data-empty]"}]
        )
    assert text in visit.results[0]


def test_losses_are_in_sight() -> None:
    with MockRelay("lossy") as relay:
        visit = browse(
            relay.url,
            [
                {"wait": ".detail.bad[data-counter=lost]"},
                {"text": "[data-counter=lost] > span"},
                {"eval": "document.querySelector('[data-counter=lost]').textContent"},
                {"wait": ".row[data-kind=lost]"},
                {"text": ".row[data-kind=lost]"},
            ],
        )
    assert "1.2k lost" in visit.results[0]
    assert "agent node-2" in visit.results[1] and "1,204" in visit.results[1]
    assert "1,204 records lost on node-2 (ring_full)" in visit.results[2]


def test_hostile_names_stay_text() -> None:
    with MockRelay("hostile") as relay:
        visit = browse(
            relay.url,
            [
                ROWS,
                {"wait": "[data-edge*='<img']"},
                {"eval": "document.querySelector(\"[data-edge*='<img'] button\").click()"},
                {"wait": ".panel .copy"},
                {"sleep": 1000},
                {"text": ".panel"},
                {"eval": "[window.pwned ?? null, document.querySelectorAll('#app img').length]"},
            ],
        )
    assert '<img src=x onerror="window.pwned=1">' in visit.results[0]
    assert visit.results[1] == [None, 0]
    assert visit.console == []


def away(seconds: int) -> dict[str, str]:
    """A step: from now on the relay is away. The page itself says when, however slow it was."""
    return {"eval": f"fetch('/_mock?away={seconds}', {{method: 'POST'}}).then(() => null)"}


def test_the_relay_goes_away_and_comes_back() -> None:
    with MockRelay() as relay:
        visit = browse(
            relay.url,
            [
                {"wait": "[data-edge]"},
                LIVE,
                away(6),
                {"wait": "[data-connection=unreachable]"},
                {"wait": ".banner"},
                {"text": ".badge"},
                {"edges": True},
                LIVE,
                {"gone": ".banner"},
                # The break has its place by time, below what came since: a search brings it up.
                {"fill": ["#search", "nosuch"]},
                {"wait": ".row[data-kind=lost]"},
                {"text": ".row[data-kind=lost]"},
                {"fill": ["#search", ""]},
                {"wait": "[data-edge]"},
                {"edges": True},
            ],
        )
    _, badge, stale, gap, fresh = visit.results
    assert "relay unreachable" in badge and "since" in badge
    assert len(stale) == len(fresh) == 17
    assert "connection to the relay was down for" in gap


def test_nothing_answers_at_all() -> None:
    """The app is on the screen already when the relay goes: an empty map then says so."""
    steps = [
        {"wait": "[data-empty]"},
        away(60),
        {"wait": "[data-empty=unreachable]"},
        {"text": "[data-empty]"},
    ]
    with MockRelay("no-agent") as relay:
        visit = browse(relay.url, steps)
    assert "flowobs-relay" in visit.results[-1]
