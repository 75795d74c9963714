"""What the shop of the demo is made of: products, pages, devices, and how people walk through it.

Owns: plain data. A walk is a Markov chain: from each step to the next with a weight, and what a person has in mind
multiplies the weights of some steps. Not here: who walks, and when (flows.demo.simulator); what a step sends
(flows.demo.messages).
"""

from __future__ import annotations

from typing import NamedTuple


class Product(NamedTuple):
    """One product; the price is in cents."""

    sku: str
    name: str
    category: str
    brand: str
    cents: int


class Device(NamedTuple):
    """What a browser or phone says about itself."""

    agent: str
    platform: str
    mobile: bool
    library: str
    version: str


PRODUCTS = (
    Product("SHO-001", "Trail runner", "shoes", "Fellmark", 8_990),
    Product("SHO-002", "City sneaker", "shoes", "Ostra", 6_450),
    Product("SHO-003", "Rain boot", "shoes", "Ostra", 5_900),
    Product("SHO-004", "Alpine boot", "shoes", "Fellmark", 18_900),
    Product("JAC-001", "Down jacket", "jackets", "Fellmark", 21_900),
    Product("JAC-002", "Wind shell", "jackets", "Norrvik", 9_900),
    Product("JAC-003", "Wool coat", "jackets", "Maison Aube", 27_500),
    Product("BAG-001", "Day pack 20 l", "bags", "Norrvik", 7_900),
    Product("BAG-002", "Weekender", "bags", "Maison Aube", 14_900),
    Product("BAG-003", "Bike pannier", "bags", "Norrvik", 6_900),
    Product("TEN-001", "Tent for two", "camping", "Fellmark", 32_900),
    Product("TEN-002", "Sleeping mat", "camping", "Fellmark", 5_400),
    Product("TEN-003", "Gas stove", "camping", "Brandt", 3_990),
    Product("TEN-004", "Head lamp", "camping", "Brandt", 2_990),
    Product("ACC-001", "Merino beanie", "accessories", "Ostra", 1_990),
    Product("ACC-002", "Gloves", "accessories", "Norrvik", 2_490),
    Product("ACC-003", "Water bottle", "accessories", "Brandt", 1_790),
    Product("ACC-004", "Travel towel", "accessories", "Brandt", 1_290),
)
QUERIES = ("boots", "rain jacket", "tent", "gift", "backpack", "wool", "sale", "head lamp", "shoes 42")
CAMPAIGNS = (("newsletter", "autumn"), ("search", "brand"), ("social", "tents"))
COUPONS = ("AUTUMN10", "WELCOME5")
TOPICS = ("delivery", "returns", "sizing", "payment")
LOCALES = (
    ("en-US", "America/New_York"),
    ("en-GB", "Europe/London"),
    ("de-DE", "Europe/Berlin"),
    ("fr-FR", "Europe/Paris"),
    ("pt-BR", "America/Sao_Paulo"),
)
FIRST_NAMES = ("Ada", "Ben", "Chloé", "Dmitri", "Elif", "Femi", "Grace", "Hiro", "Inés", "Jonas", "Kavya", "Łukasz")
DEVICES = (
    Device(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/142.0.0.0 Safari/537.36",
        "macOS", False, "analytics.js", "npm:next-1.84.3",
    ),
    Device(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0",
        "Windows", False, "analytics.js", "npm:next-1.84.3",
    ),
    Device(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.6 Mobile/15E148 Safari/604.1",
        "iOS", True, "analytics.js", "npm:next-1.84.3",
    ),
    Device(
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/142.0.0.0 Mobile Safari/537.36",
        "Android", True, "analytics-android", "4.11.3",
    ),
)  # fmt: skip

END = "end"
WALK: dict[str, tuple[tuple[str, float], ...]] = {
    "home": (("search", 3), ("view", 4), ("pricing", 2), ("sign_in", 1), (END, 1)),
    "search": (("view", 7), ("search", 2), (END, 1)),
    "view": (("view", 4), ("add", 2), ("search", 2), ("pricing", 1), ("sign_in", 0.5), (END, 1.5)),
    "pricing": (("pricing", 1.5), ("view", 2), ("support", 0.5), ("sign_up", 0.7), ("sign_in", 0.5), (END, 1.5)),
    "add": (("view", 3), ("cart", 4), ("remove", 0.7), (END, 0.8)),
    "remove": (("view", 3), ("cart", 1), (END, 1)),
    "cart": (("checkout", 4), ("view", 2), ("remove", 0.7), ("sign_in", 1), (END, 1.5)),
    "checkout": (("order", 5), ("sign_in", 1), ("support", 0.4), (END, 2)),
    "order": (("home", 1), (END, 3)),
    "support": (("pricing", 1), ("view", 1), (END, 2)),
    "sign_up": (("view", 3), ("pricing", 1), (END, 0.5)),
    "sign_in": (("view", 4), ("cart", 1), ("pricing", 1), (END, 0.5)),
}
INTENTS: tuple[tuple[float, dict[str, float]], ...] = (
    (4, {}),
    (2, {"add": 3, "cart": 2, "checkout": 3, "order": 4}),
    (2, {"add": 3, "checkout": 3, "order": 0}),
    (1.5, {"pricing": 7, "sign_up": 2}),
    (0.5, {"support": 5}),
)
"""How often, and what it multiplies: looking around, buying, leaving the cart, comparing plans, in trouble."""
