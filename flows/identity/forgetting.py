"""Forgetting a person: their profile, the pointers of all their identifiers, and what is on its way to them.

Owns: what a shard does about a request of the control topic, the answer of a profile that is gone to every piece of mail, and
which events are refused (``forgotten``) because they arrived before. docs/identity.md has it in words, ADR 0012 the reasons.
Invariants: an event that arrived up to the erasure's instant reaches nobody any more, a newer one is lost to nobody: it founds
a profile with the identifier's next incarnation. What a profile was is removed in the write that says that it exits.
Not here: the list itself (flows.identity.suppression), profiles that live (flows.identity.graph), when a request is complete
(flows.erasures).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from flows.control import Decided, Forget, Forgotten, control_message
from flows.identity.letters import (
    Claim,
    Conflict,
    Erase,
    Letter,
    Meet,
    Refuse,
    Resume,
    Suit,
    Vanish,
    Withheld,
    decode,
)
from flows.identity.merging import answered, pointer_turns, thaw
from flows.identity.notes import mark_of
from flows.identity.requests import Requests
from flows.identity.returning import Returning
from flows.identity.suppression import Entry, Suppression
from opportune.event import instant_ms
from opportune.identity import NOBODY, digest_of, shard_of
from opportune.profile import ELSEWHERE, FORGOTTEN, FROZEN, MOVED, NEVER, Profile, advance
from state.keys import pack_timer
from state.outbox import OutboxMessage
from state.store import Batch as Write

if TYPE_CHECKING:
    from flows.identity.graph import Graph

EXPIRE_MAX = 200


def ignore(_: str) -> None:
    """Nobody listens."""


class Forgetting:
    """The erasures of a shard.

    Args:
        graph: its identities.

    Attributes:
        on_forgotten: called with each identifier of somebody who is forgotten: whoever remembers it has to ask again.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.actor = actor = graph.actor
        self.entries = Suppression(actor.store)
        self.returning = Returning(self)
        self.life_ms = actor.compiled.project.settings.erasure.remember_ms
        self.on_forgotten: Callable[[str], None] = ignore
        self.said: list[OutboxMessage] = []
        self.bare: list[Profile] = []
        self.requests = Requests(actor.store, follows=actor.shard == 0)
        self.to_identifiers: dict[str, Callable[[Any], None]] = {
            "vanish": self.vanish, "astray": graph.forwarding.astray
        }  # fmt: skip
        self.to_profiles: dict[str, Callable[[Profile, Any], None]] = {
            "erase": self.erase, "withheld": self.withheld, "resume": self.resume
        }  # fmt: skip

    def decide(self, decided: Sequence[Decided]) -> None:
        """Does what records of the control topic ask for."""
        for erasure, offset, time_ms in decided:
            self.actor.mailbox.wrote |= self.requests.follow(erasure, offset)
            if isinstance(erasure, Forget):
                at = self._at(erasure, time_ms)
                for digest in self._own(erasure.identifiers):
                    self._ask(erasure.request, digest, at)
            elif isinstance(erasure, Forgotten):
                for digest in self._own(erasure.identifiers):
                    self._hear(erasure, digest)

    def recall(self, decided: Sequence[Decided]) -> None:
        """In a state that is new: what the control topic tells of people who were forgotten, before anything is read.

        The decisions are read again in their turn, and change nothing then.
        """
        actor, write = self.actor, self.actor.store.batch()
        actor.desk.clear()
        self.graph.begin([], [], write)
        erasures = [(erasure, time_ms) for erasure, _, time_ms in decided]
        for told in [erasure for erasure, _ in erasures if isinstance(erasure, Forgotten)]:
            for digest in self._own(told.identifiers):
                self._suppress(self.graph.profile(digest), told.until).count(told.until)
        nobody = {(one.request, one.asked) for one, _ in erasures if isinstance(one, Forgotten) and not one.profile}
        for erasure, time_ms in erasures:
            if not isinstance(erasure, Forget):
                continue
            for digest in self._own(erasure.identifiers):
                at = self._at(erasure, time_ms)
                entry = self._suppress(self.graph.profile(digest), at)
                if entry.erased < at and (erasure.request, digest.hex()) in nobody:
                    entry.asked = erasure.request
                entry.erased = max(entry.erased, at)
        actor.commit([], write, [])

    def _at(self, erasure: Forget, time_ms: int) -> int:
        return time_ms or instant_ms(erasure.at)

    def _own(self, digests: Sequence[str]) -> list[bytes]:
        """Those that this shard keeps the pointers of."""
        ids = [bytes.fromhex(digest) for digest in digests]
        return [id_ for id_ in ids if shard_of(id_, self.graph.shards) == self.actor.shard]

    def _ask(self, request: str, digest: bytes, at: int) -> None:
        """A request names an identifier: its profile is asked to go; where there is none, the identifier is suppressed."""
        head = self.graph.profile(digest)
        owner = self.owner(head)
        done = self.entries.get(digest).erased >= at
        if owner is None or done:
            entry = self._suppress(head, at)
            entry.asked = entry.asked if done else request
            self._tell(request, digest, b"", [], at)
        else:
            self.graph.send(Erase(owner, request, digest, at, thaw=False))

    def _hear(self, erasure: Forgotten, digest: bytes) -> None:
        """An identifier's person was forgotten; news where the state is older than the topic, or the letter is on its way."""
        until = erasure.until
        if until <= self.entries.get(digest).erased:
            return
        head = self.graph.profile(digest)
        self._suppress(head, until).count(until)
        if head.now and head.now <= until and not head.fate & (FROZEN | MOVED | ELSEWHERE):
            self.graph.send(Erase(head.id, erasure.request, b"", until, thaw=False))

    def turn(self, head: Profile, text: str) -> int:
        """How often the identifier of a head has changed hands."""
        kept = self.entries.get(head.id).turn if head.fate & FORGOTTEN else 0
        return max(head.turns.get(mark_of(text), 0), kept)

    def rowless(self, head: Profile) -> bool:
        """Whether the identifier of a head has a warehouse row since before its person was forgotten."""
        return bool(head.fate & FORGOTTEN) and self.entries.get(head.id).rows

    def look_at_rows(self, profile: Profile) -> None:
        """While tables change: rows that are gone stay out no longer, should they come again."""
        if self.rowless(profile) and not self._has_row(profile.id):
            self._entry(profile.id, 0).rows = False
            self.actor.mailbox.wrote = True
        if profile.rowless:
            kept = [text for text in profile.rowless if self._has_row(digest_of(text))]
            if kept != profile.rowless:
                self.actor.desk.touch(profile)
                profile.rowless = kept

    def owner(self, head: Profile) -> bytes | None:
        """The profile that the identifier of a head belongs to, or None."""
        if head.fate & ELSEWHERE:
            return None if head.founder == NOBODY else head.founder
        return head.id if head.now or head.fate & ~FORGOTTEN else None

    def is_gone(self, profile: Profile) -> bool:
        """Whether the profile of this id was forgotten."""
        return bool(profile.fate & FORGOTTEN) and not profile.now and not profile.fate & (FROZEN | MOVED)

    def _suppress(self, head: Profile, until: int) -> Entry:
        """Events of an identifier that arrived up to an instant are refused from here on."""
        entry = self._entry(head.id, until)
        entry.until = max(entry.until, until)
        entry.rows = entry.rows or self._has_row(head.id)
        self.actor.desk.touch(head)
        if self.owner(head) is None:
            head.fate |= ELSEWHERE
            head.founder = NOBODY
        head.fate |= FORGOTTEN
        self.graph.shortcuts.forget(head.id)
        return entry

    def _entry(self, id_: bytes, until: int) -> Entry:
        return self.entries.change(id_, until + self.life_ms)

    def erase(self, profile: Profile, letter: Erase) -> None:
        """A profile that lives here, touched, is forgotten."""
        graph, actor, waiting = self.graph, self.actor, list[tuple[str, bytes]]()
        if profile.fate & FROZEN:
            thaw(profile)
            waiting = graph.waiting.release(profile.id)
        until = max(letter.until, profile.now)
        if profile.due < until:
            advance(profile, until, graph.out, actor.evaluate)
        graph.out += [(profile, audience, False, until, "deleted") for audience in sorted(profile.members)]
        entry = self._entry(profile.id, until)
        entry.gone, entry.request = until, letter.request
        entry.strong = [veiled(text) for text in graph.limits.strong(profile.identifiers)]
        own = not profile.fate & ELSEWHERE
        turns = pointer_turns(profile)
        digests = self._take_pointers(profile, until, own=own)
        self._empty(profile)
        if own:
            self._suppress(profile, until).count(until)
            entry.cleared, entry.owner = until, profile.id
            entry.turn = max(entry.turn, *turns.values(), 0) + 1
        profile.fate |= FORGOTTEN
        actor.counts["profiles"] -= 1
        actor.counts["erased"] = actor.counts.get("erased", 0) + 1
        self._tell(letter.request, letter.asked, profile.id, digests, until)
        for kind, body in waiting:
            graph.handle(kind, decode(kind, body))

    def _take_pointers(self, profile: Profile, until: int, *, own: bool) -> list[bytes]:
        """Sends word to all identifiers, and to all profiles that became part of this one; returns the digests of the former."""
        graph = self.graph
        told = {digest_of(text): text for text in profile.identifiers}
        for digest, text in told.items():
            self.on_forgotten(text)
            if digest != profile.id or not own:
                graph.send(Vanish(digest, text, profile.turns.get(mark_of(text), 0), until, profile.id))
        for loser in graph.notes.history(profile.id).merged:
            if loser not in told:
                graph.send(Vanish(loser, "", 0, until, profile.id))
        return list(told)

    def _empty(self, profile: Profile) -> None:
        """Nothing of a profile stays but its id; its identifiers go once its exits are told."""
        desk, write = self.actor.desk, self.graph.write
        self.graph.attached.follow(profile.id, profile.identifiers, [])
        if profile.timer:
            write.delete(pack_timer(profile.timer, profile.id), desk.timers_family)
        for suffix in desk.suffixes:
            write.delete(profile.id + suffix, desk.family)
        profile.groups.clear()
        profile.dirty.clear()
        self.graph.notes.forget(profile.id)
        profile.now, profile.timer, profile.due, profile.dues = 0, 0, NEVER, {}
        profile.members, profile.pending, profile.absorbed = set(), [], []
        profile.turns = pointer_turns(profile) if profile.fate & ELSEWHERE else {}
        profile.into, profile.rowless, profile.strong = None, [], []
        self._strip(profile)

    def _strip(self, profile: Profile) -> None:
        """All keys of a profile in the memberships topic get tombstones, behind its exits; then its identifiers go."""
        self.bare.append(profile)
        self.said += self.actor.changes.tombstones(profile.id)

    def _tell(self, request: str, asked: bytes, profile: bytes, digests: Sequence[bytes], until: int) -> None:
        """Puts on the control topic what was done."""
        told = Forgotten(
            generation=self.actor.mailbox.generation,
            request=request,
            asked=asked.hex(),
            profile=profile.hex(),
            identifiers=[digest.hex() for digest in digests],
            until=until,
        )
        self.said.append(control_message(self.actor.topics.control, told))

    def vanish(self, letter: Vanish) -> None:
        """The profile of an identifier was forgotten: its pointer goes, and what its own profile was as part of that one."""
        head = self.graph.profile(letter.to)
        entry = self._entry(letter.to, letter.until)
        self.actor.desk.touch(head)
        head.fate |= FORGOTTEN
        turn = self.turn(head, letter.text)
        is_its = bool(letter.text) and turn == letter.turn and letter.until > entry.cleared
        if is_its:
            self._suppress(head, letter.until).count(letter.until)
            entry.cleared, entry.owner = letter.until, letter.profile
            self.on_forgotten(letter.text)
            head.fate |= ELSEWHERE
            head.founder = NOBODY
            entry.turn = turn + 1
            head.turns = {mark: turn for mark, turn in head.turns.items() if mark != mark_of(letter.text)}
            head.strong = []
        if (is_its and not letter.turn) or not letter.text:
            entry.gone = max(entry.gone, letter.until)
            self.leave(head)

    def leave(self, profile: Profile) -> None:
        """A profile that has merged into one that was forgotten, or is about to hear that it has, keeps no identifier."""
        if profile.fate & MOVED and profile.fate & FORGOTTEN and self.entries.get(profile.id).gone:
            profile.turns, profile.absorbed = pointer_turns(profile), []
            self._strip(profile)

    def withholds(self, head: Profile, suit: Suit) -> bool:
        """Whether a claim arose before the identifier's person was forgotten; then the claimer hears of it."""
        if not head.fate & FORGOTTEN or suit.now > self.entries.get(head.id).until or self.owner(head) == suit.claimer:
            return False
        self.graph.send(Withheld(suit.claimer, suit.text))
        entry = self.entries.get(head.id)
        if entry.asked:
            # The claim was on its way when it was asked: the claimer is who has the identifier.
            self.graph.send(Erase(suit.claimer, entry.asked, b"", entry.until, thaw=False))
            self._tell(entry.asked, b"", suit.claimer, [head.id], entry.until)
            self._suppress(head, entry.until).count(entry.until)
        elif entry.owner:
            self.graph.send(Meet(entry.owner, suit.claimer, suit.rank, suit.strong, suit, claiming=False))
        return True

    def answer(self, profile: Profile, kind: str, letter: Letter) -> None:
        """The answer of a profile that is gone; all else is swallowed and counted."""
        entry = self.entries.get(profile.id)
        self.actor.counts["swallowed"] = self.actor.counts.get("swallowed", 0) + 1
        if kind == "erase":
            self._tell(letter.request, letter.asked, profile.id, [], entry.gone)
        elif kind == "granted":
            self._give_back(profile, letter.text, letter.turn, entry)
        elif kind == "meet" and letter.other == profile.id:
            self._give_back(profile, letter.suit.text, letter.suit.turn, entry)
        elif kind in ("meet", "offer"):
            self._part(profile, letter, entry, offered=kind == "offer")

    def frees(self, kind: str, letter: Letter) -> bool:
        """Whether a letter is one that a frozen profile waits for, since whom it waits for was forgotten."""
        return kind == "resume" or (kind == "erase" and bool(letter.thaw))

    def withheld(self, profile: Profile, letter: Withheld) -> None:
        """A claim came to nothing, since it arose before the identifier's person was forgotten."""
        self.actor.on_lost(letter.text)
        answered(profile, letter.text)

    def resume(self, profile: Profile, letter: Resume) -> None:
        """The profile that this one waits for was forgotten before they met."""
        thaw(profile)
        if letter.claiming and letter.suit.text in profile.pending:
            self.graph.send(Claim(self.graph.claiming.suit(profile, letter.suit.text, letter.suit.origin), take=False))
        for kind, body in self.graph.waiting.release(profile.id):
            self.graph.handle(kind, decode(kind, body))

    def _give_back(self, profile: Profile, text: str, turn: int, entry: Entry) -> None:
        """An identifier was granted to a profile that is gone."""
        digest = digest_of(text)
        self.graph.send(Vanish(digest, text, turn, entry.gone, profile.id))
        self._tell(entry.request, b"", profile.id, [digest], entry.gone)

    def _part(self, profile: Profile, letter: Any, entry: Entry, *, offered: bool) -> None:
        """Somebody was about to merge with a profile that is gone: they were one person if that began before."""
        send, suit, claiming = self.graph.send, letter.suit, letter.claiming
        other = letter.state.profile if offered else letter.other
        theirs = self.graph.limits.strong(letter.state.identifiers) if offered else letter.strong
        if self.graph.limits.passed([*entry.strong, *map(veiled, theirs)]):
            if offered:
                send(Refuse(other, profile.id, suit, claiming=claiming))
            elif not claiming:
                send(Conflict(other, suit))
        elif suit.now <= entry.gone:
            send(Erase(other, entry.request, b"", entry.gone, thaw=offered))
        elif offered:
            send(Resume(other, suit, claiming=claiming))
        elif not claiming:
            # Behind the word that has taken the pointer away.
            send(Claim(msgspec.structs.replace(suit, seen=b""), take=False))

    def expire(self) -> None:
        """Entries whose life has ended go, with the heads that only they needed."""
        actor = self.actor
        if actor.time_ms < self.entries.due_ms:
            return
        gone = self.entries.expire(actor.time_ms, EXPIRE_MAX, self._has_row, self.graph.write)
        actor.desk.load(gone)
        for head in [actor.desk.profiles[id_] for id_ in gone]:
            head.fate &= ~FORGOTTEN
            if head.fate & MOVED and not head.identifiers:
                head.fate, head.into, head.now = head.fate & ~MOVED, None, 0
            if head.founder == NOBODY:
                head.fate, head.founder = head.fate & ~ELSEWHERE, None
            if head.now or head.fate or head.dirty is not None:
                actor.desk.touch(head)
            else:
                self.graph.write.delete(head.id, actor.desk.family)
                actor.desk.evict(head.id)
                del actor.desk.profiles[head.id]
        actor.mailbox.wrote |= bool(gone)

    def _has_row(self, id_: bytes) -> bool:
        return any(table.lookup([id_])[0] is not None for table in self.actor.refresh.tables.values())

    def save(self, write: Write) -> list[OutboxMessage]:
        """Puts what has changed into a write; returns what is to be sent behind the batch's changes."""
        for profile in self.bare:
            profile.identifiers = []
        said, self.said, self.bare = self.said, [], []
        self.entries.save(write)
        self.requests.save(write)
        return said


def veiled(text: str) -> str:
    """An identifier of which only the namespace can be read."""
    return f"{text.partition(':')[0]}:#{digest_of(text).hex()}"
