"""Telephone numbers as E.164, by the phonenumbers library.

Owns: the one way to ask it. Not here: which identifiers are telephone numbers (identity.yml, opportune.identifiers).
"""

from __future__ import annotations

import phonenumbers


def e164(text: str, region: str | None) -> str | None:
    """A number as ``+4930123456``.

    Args:
        text: as people write it.
        region: the country, two capital letters, of numbers without a country code; None: those are no numbers.

    Returns:
        None where it cannot be the number of anybody.
    """
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
