"""The catalogue: a product by its number, out of sqlite. ``catalogue ADDRESS PORT``."""

from __future__ import annotations

import sqlite3
import sys

from aiohttp import web

SCHEMA = "CREATE TABLE products (number INTEGER PRIMARY KEY, name, stock, cents)"
ONE = "SELECT name, stock, cents FROM products WHERE number = ?"

store = sqlite3.connect(":memory:")
store.execute(SCHEMA)
rows = ((n, f"product {n}", n % 17, 100 + n) for n in range(1000))
store.executemany("INSERT INTO products VALUES (?, ?, ?, ?)", rows)


async def product(request: web.Request) -> web.Response:
    name, stock, cents = store.execute(ONE, (request.match_info["number"],)).fetchone()
    return web.json_response({"name": name, "stock": stock, "cents": cents})


app = web.Application()
app.router.add_get("/products/{number}", product)
web.run_app(app, host=sys.argv[1], port=int(sys.argv[2]), print=None, access_log=None)
