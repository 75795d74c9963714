"""Segment-style messages as a collector hands them on: what the clients of a shop send, with all their context.

Owns: the shape of the messages of one visitor, and the garbage that any public collector sees. Invariant: everything is a
function of the random numbers and instants that are passed in. Not here: what a visitor does (flows.demo.simulator).

Three senders, which differ in what they know of time (docs/language.md has the effective time of each):
a browser behind a collector that corrects the device's clock (all four times), one behind a relay that leaves the
correction to the reader (no ``timestamp``), and the shop's own server (``timestamp`` alone, microseconds and an offset).
"""

from __future__ import annotations

import datetime
import random
from typing import Any, Literal, TypeAlias

import msgspec

from flows.demo.catalogue import COUPONS, FIRST_NAMES, PRODUCTS, QUERIES, TOPICS, Device, Product

Sender: TypeAlias = Literal["browser", "relay", "server"]
Message: TypeAlias = dict[str, Any]
"""A message before it is JSON; its properties are as free as those of real clients."""

SHOP = "https://shop.example"
GARBAGE = ("not_json", "bad_shape", "no_identifier", "blocked_identifier", "bad_time", "bad_type")
"""Kinds of garbage, by the reason for which they are refused (opportune.event.REASONS)."""
COUPON_SHARE = 0.2
NEWSLETTER_SHARE = 0.4
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Visitor(msgspec.Struct, kw_only=True):
    """One person on one device during one visit.

    Args:
        anonymous_id: the device's.
        user_id: who it is, from signing in on.
        device: the browser or phone.
        sender: who writes the messages.
        skew_ms: how far the sender's clock is ahead of the truth.
        viewing: the product on the screen.
        cart: what is in it.
        cart_id: of this visit.
    """

    anonymous_id: str
    user_id: str | None
    device: Device
    sender: Sender
    skew_ms: int
    locale: tuple[str, str]
    campaign: tuple[str, str] | None
    viewing: Product
    cart: list[Product]
    cart_id: str


def iso(instant_ms: int) -> str:
    """An instant as browsers write it: UTC with milliseconds."""
    return (_EPOCH + datetime.timedelta(milliseconds=instant_ms)).isoformat(timespec="milliseconds")[:-6] + "Z"


def message(dice: random.Random, visitor: Visitor, step: str, at_ms: int, sent_ms: int) -> Message:
    """What a step of a visit sends.

    Args:
        dice: where randomness comes from.
        visitor: whose step; its cart changes with the step.
        step: a step of ``flows.demo.catalogue.WALK``; ``remove`` needs something in the cart.
        at_ms: when it happened.
        sent_ms: when the message leaves the device.
    """
    body = _body(dice, visitor, step)
    path = str(body.pop("_path"))
    body["messageId"] = f"ajs-next-{at_ms}-{dice.getrandbits(64):016x}"
    body["anonymousId"] = visitor.anonymous_id
    body["userId"] = visitor.user_id
    body["context"] = _context(visitor, path)
    body |= _times(visitor, at_ms, sent_ms)
    return body


def garbage(dice: random.Random, kind: str, at_ms: int) -> bytes:
    """A message that must be refused; ``kind`` is one of GARBAGE."""
    whole: Message = {
        "type": "track",
        "event": "Product Viewed",
        "messageId": f"bad-{dice.getrandbits(64):016x}",
        "anonymousId": f"{dice.getrandbits(64):016x}",
        "timestamp": iso(at_ms),
        "properties": {"sku": "SHO-001"},
    }
    if kind == "not_json":
        return dice.choice(
            [b"<html><body>502 Bad Gateway</body></html>", msgspec.json.encode(whole)[:-9], b"\xff\xfe\x00"]
        )
    if kind == "bad_shape":
        return dice.choice([b"[]", b'"ping"', b"42", msgspec.json.encode([whole])])
    if kind == "no_identifier":
        whole["anonymousId"] = dice.choice([None, ""])
    elif kind == "blocked_identifier":
        whole |= {"userId": dice.choice(["undefined", "null", "anonymous"]), "anonymousId": "null"}
    elif kind == "bad_time":
        whole["timestamp"] = dice.choice(["yesterday", "2026-13-45", "1/2/2026 10:00"])
    else:
        whole["type"] = dice.choice(["pageview", "TRACK ", "event"])
    return msgspec.json.encode(whole)


def _body(dice: random.Random, visitor: Visitor, step: str) -> Message:
    """Type, name, properties or traits, and ``_path``, the page it happened on."""
    match step:
        case "home":
            return _page("Home", "/")
        case "cart":
            return _page("Cart", "/cart", cart_id=visitor.cart_id, items=len(visitor.cart))
        case "sign_in":
            return {"type": "identify", "traits": _traits(dice, visitor), "_path": "/account"}
        case "view" | "add" | "remove":
            return _product(dice, visitor, step)
        case "order":
            return _order_completed(dice, visitor)
        case "checkout":
            return _track("Checkout Started", "/checkout", **_order(visitor))
        case "pricing":
            plan = dice.choice(("free", "pro", "team"))
            return _track("Pricing Viewed", "/pricing", path="/pricing", plan=plan)
    return _lone_step(dice, step)


def _lone_step(dice: random.Random, step: str) -> Message:
    """A step that depends on nothing that the visit has seen so far."""
    if step == "search":
        return _track("Product Searched", "/search", query=dice.choice(QUERIES), results=dice.randrange(40))
    if step == "support":
        return _track("Support Opened", "/support", topic=dice.choice(TOPICS))
    return _track("Signed Up", "/account", method=dice.choice(("email", "passkey")), plan="free")


def _product(dice: random.Random, visitor: Visitor, step: str) -> Message:
    """A product is viewed, or what is viewed is put into the cart, or something is taken out of it."""
    if step == "remove":
        product = visitor.cart.pop(dice.randrange(len(visitor.cart)))
    elif step == "add":
        product = visitor.viewing
        visitor.cart.append(product)
    else:
        product = visitor.viewing = dice.choice(PRODUCTS)
    names = {"view": "Product Viewed", "add": "Product Added", "remove": "Product Removed"}
    where = {} if step == "view" else {"cart_id": visitor.cart_id}
    return _track(names[step], f"/products/{product.sku.lower()}", **_line(product), **where)


def _order_completed(dice: random.Random, visitor: Visitor) -> Message:
    order = _order(visitor)
    order["order_id"] = f"o-{dice.getrandbits(40):010x}"
    if dice.random() < COUPON_SHARE:
        order["coupon"] = dice.choice(COUPONS)
    visitor.cart.clear()
    return _track("Order Completed", "/checkout", **order)


def _order(visitor: Visitor) -> Message:
    """The cart as properties; money in euros."""
    value = sum(product.cents for product in visitor.cart)
    return {
        "cart_id": visitor.cart_id,
        "total": value / 100,
        "revenue": value / 100,
        "currency": "EUR",
        "products": [_line(product) for product in visitor.cart],
    }


def _line(product: Product) -> Message:
    return {
        "product_id": product.sku,
        "sku": product.sku,
        "name": product.name,
        "category": product.category,
        "brand": product.brand,
        "price": product.cents / 100,
        "currency": "EUR",
        "quantity": 1,
    }


def _track(name: str, path: str, /, **properties: Any) -> Message:
    return {"type": "track", "event": name, "properties": properties, "_path": path}


def _page(name: str, path: str, /, **properties: Any) -> Message:
    address = {"path": path, "url": SHOP + path, "title": f"{name} · Shop", "referrer": "", "search": ""}
    return {"type": "page", "name": name, "properties": {"name": name, **address, **properties}, "_path": path}


def _traits(dice: random.Random, visitor: Visitor) -> Message:
    """What an account tells at sign-in; the same person has the same name and address every time."""
    own = random.Random(visitor.user_id)
    return {
        "email": f"{visitor.user_id}@mail.example",
        "name": own.choice(FIRST_NAMES),
        "locale": visitor.locale[0],
        "newsletter": own.random() < NEWSLETTER_SHARE,
        "logins": dice.randrange(1, 60),
    }


def _context(visitor: Visitor, path: str) -> Message:
    device = visitor.device
    context: Message = {
        "page": {"path": path, "referrer": "", "search": "", "title": "Shop", "url": SHOP + path},
        "userAgent": device.agent,
        "userAgentData": {"mobile": device.mobile, "platform": device.platform},
        "locale": visitor.locale[0],
        "timezone": visitor.locale[1],
        "library": {"name": device.library, "version": device.version},
    }
    if visitor.campaign:
        context["campaign"] = {"source": visitor.campaign[0], "name": visitor.campaign[1]}
    return context


def _times(visitor: Visitor, at_ms: int, sent_ms: int) -> Message:
    """The times that the sender writes; a device's own are off by its skew, the collector's are right."""
    if visitor.sender == "server":
        instant = _EPOCH + datetime.timedelta(milliseconds=at_ms + visitor.skew_ms, microseconds=at_ms % 1000)
        return {"timestamp": instant.isoformat(timespec="microseconds")}
    times = {
        "originalTimestamp": iso(at_ms + visitor.skew_ms),
        "sentAt": iso(sent_ms + visitor.skew_ms),
        "receivedAt": iso(sent_ms),
    }
    return times if visitor.sender == "relay" else {"timestamp": iso(at_ms), **times}
