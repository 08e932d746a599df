"""The web service: asks the catalogue for a product and says what the basket costs."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from fastapi import FastAPI
from pydantic import BaseModel

_numbers = itertools.cycle(range(1000))


class Offer(BaseModel):
    product: str
    stock: int
    cents: int


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(os.environ["CATALOGUE"]) as app.state.catalogue:
        yield


app = FastAPI(lifespan=_lifespan)


@app.get("/")
async def offer() -> Offer:
    async with app.state.catalogue.get(f"/products/{next(_numbers)}") as answer:
        answer.raise_for_status()
        found = await answer.json()
    return Offer(product=found["name"], stock=found["stock"], cents=found["cents"] * 119 // 100)
