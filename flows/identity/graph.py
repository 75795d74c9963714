"""The identity graph of one shard: whose an identifier is, and how two profiles become one, by mail.

Owns: the answer to every piece of mail in every state of a profile (docs/identity.md has the table), and where events go
whose identifier points elsewhere. A head (opportune.profile) is at the same time the pointer of the identifier that its
id is the digest of.
Invariants: a profile that waits waits for a stronger one only, so there is no ring; a limit is checked where the set of
identifiers lies, with what is claimed and not granted yet; each change is in the write of its cause.
Not here: bodies (flows.identity.letters), channels (flows.mail), states being merged (flows.identity.merging).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from flows.identity.absorbed import with_salt_of
from flows.identity.attached import Attached
from flows.identity.claiming import Claiming
from flows.identity.forgetting import Forgetting
from flows.identity.forwarding import Forwarding
from flows.identity.introductions import Introductions
from flows.identity.letters import (
    LETTERS,
    Accept,
    Claim,
    Conflict,
    Granted,
    Grants,
    Letter,
    Lost,
    Meet,
    Offer,
    Origin,
    Refuse,
    Suit,
    decode,
    encode,
    kind_of,
)
from flows.identity.limits import Limits, shortened
from flows.identity.merging import absorb, answered, forget_turns, freeze, leave, state_of, thaw
from flows.identity.notes import NO_ORIGIN, Notes, mark_of
from flows.identity.outgoing import Outgoing
from flows.identity.parts import Parts
from flows.identity.shortcuts import Shortcuts
from flows.identity.waiting import Waiting
from flows.mail import Piece
from opportune.identity import digest_of, shard_of
from opportune.profile import ELSEWHERE, FORGOTTEN, FROZEN, MOVED, Change, Profile, advance
from state.outbox import OutboxMessage
from state.store import Batch as Write

if TYPE_CHECKING:
    from flows.actor import Actor

replace = msgspec.structs.replace


class Graph:
    """The identities of a shard.

    Args:
        actor: the shard.
        shards: how many there are.

    Attributes:
        claiming: what events bring, and what of it is claimed.
        shortcuts: where events of identifiers go, as far as this process has seen.
    """

    def __init__(self, actor: Actor, shards: int) -> None:
        self.actor = actor
        self.shards = shards
        self.limits = Limits(actor.compiled.project.identity)
        self.notes = Notes(actor.store)
        self.waiting = Waiting(actor.store)
        self.forwarding = Forwarding(actor, shards)
        self.parts = Parts(actor.store)
        self.attached = Attached(actor.store, actor.desk.row_names)
        self.outgoing = Outgoing(actor.mailbox, self.parts, self.forwarding, actor.shard, shards)
        self.send = self.outgoing.send
        self.claiming = Claiming(self)
        self.introductions = Introductions(self)
        self.shortcuts = Shortcuts(actor.shard, shards)
        self.out: list[Change] = []
        self.write: Write = actor.store.batch()
        self.forgetting = Forgetting(self)
        for kind in LETTERS:
            actor.mailbox.kinds[kind] = self._letter
        actor.mailbox.kinds["part"] = self._part

    def begin(self, out: list[Change], refused: list[Any], write: Write) -> None:
        """A batch begins: where changes, refusals and writes go."""
        self.out, self.write = out, write
        self.limits.look_again()
        self.forwarding.begin(out, refused, write)

    def settle(self) -> None:
        """What mail or events have brought is done, and all that the shard has to say to itself is heard."""
        while True:
            self.forwarding.apply()
            self.claiming.apply()
            letter = self.outgoing.heard()
            if letter is None:
                return
            # As mail of others does: one that waits for a frozen profile is in no other way in the write.
            self.actor.mailbox.wrote = True
            self.handle(kind_of(letter), letter)

    def apply(self, events: list[Any]) -> None:
        """Applies events of the shard's partitions, and what comes of their identifiers."""
        self.introductions.apply(events)

    def count(self, events: list[Any]) -> None:
        """Applies some events, and what comes of their identifiers."""
        if events:
            self.actor.apply_events(events, self.out, self.forwarding.refused, self.write)
        self.settle()

    def load_for(self, events: Sequence[Any]) -> dict[bytes, list[Any]]:
        """Reads the profiles that events of the shard belong to, wherever in it their identifiers lead; as ``Desk.load_for``."""
        desk = self.actor.desk
        while True:
            self.lead(events)
            wanted = desk.load_for(events)
            led = [desk.profiles[id_] for id_ in wanted if desk.profiles[id_].fate]
            if not led or not self.shortcuts.learn(led):
                return wanted

    def lead(self, events: Sequence[Any]) -> None:
        """Events of identifiers that are known to belong to other profiles of this shard go straight to them."""
        if self.shortcuts.moves:
            self.shortcuts.redirect(events, self.forwarding.addressed)

    def save(self, write: Write) -> list[OutboxMessage]:
        """Everything that is to be said is said, and what changed beside the heads is in the write; returns more to send."""
        self.outgoing.end()
        self.forgetting.expire()
        self.notes.save(write)
        self.waiting.save(write)
        self.attached.save(write)
        return self.forgetting.save(write)

    def _letter(self, piece: Piece, _: Write) -> bool:
        self.handle(piece.kind, decode(piece.kind, piece.body))
        return True

    def _part(self, piece: Piece, write: Write) -> bool:
        whole = self.parts.take(piece.sender, piece.body, write)
        if whole is not None:
            self.handle(whole[0], decode(*whole))
        return True

    def profile(self, id_: bytes) -> Profile:
        """A profile of this shard, on the desk."""
        self.actor.refresh.load([id_], self.out)
        return self.actor.desk.profiles[id_]

    def handle(self, kind: str, letter: Letter) -> None:
        """Answers a letter: here if the profile lives here, else where it has gone; a frozen one lets it wait."""
        if kind == "forwards":
            self.actor.refresh.load([forward.to for forward in letter.forwards], self.out)
            for forward in letter.forwards:
                self.handle("forward", forward)
            return
        if kind == "forward":
            frozen = self.profile(letter.to).fate & FROZEN
            if not frozen or not self.waiting.has_room(letter.to):
                self.forwarding.arrive(letter, taken=not frozen)
                return
        self.forwarding.apply()
        self.claiming.apply()
        self.limits.look_again()
        if kind == "claim":
            self._claim(letter.suit, take=letter.take)
        elif kind == "claims":
            self.actor.refresh.load([digest_of(suit.text) for suit in letter.suits], self.out)
            for suit in letter.suits:
                self._claim(suit, take=False)
        elif kind == "grants":
            ids = [granted.to for granted in letter.granted]
            self.actor.refresh.load(ids, self.out)
            self.notes.load(ids)
            for granted in letter.granted:
                self._answer("granted", granted)
        elif kind in self.forgetting.to_identifiers:
            self.forgetting.to_identifiers[kind](letter)
        else:
            self._answer(kind, letter)

    def _answer(self, kind: str, letter: Letter) -> None:
        profile = self.profile(letter.to)
        if self.forgetting.is_gone(profile):
            self.forgetting.answer(profile, kind, letter)
        elif profile.fate & MOVED:
            assert profile.into is not None, "a moved profile says where to"
            self.send(replace(letter, to=profile.into))
        elif profile.fate & FROZEN and kind not in ("accept", "refuse") and not self.forgetting.frees(kind, letter):
            self.waiting.park(profile.id, kind, encode(letter))
        else:
            self.actor.desk.touch(profile)
            (self.forgetting.to_profiles.get(kind) or getattr(self, f"_{kind}"))(profile, letter)

    def tell(self, profile: Profile, word: str, about: str, origin: Origin = NO_ORIGIN) -> None:
        """Adds a word to the history of a profile, and counts it."""
        self.notes.tell(profile.id, profile.now, word, about, origin)
        counts = self.actor.counts
        counts[word] = counts.get(word, 0) + 1

    def _claim(self, suit: Suit, *, take: bool) -> None:
        """An identifier is claimed: it is free, or the claimer's, or changes hands, or its profile has to be met."""
        head = self.profile(digest_of(suit.text))
        if self.forgetting.withholds(head, suit):
            return
        owner, mark = self.forgetting.owner(head), mark_of(suit.text)
        turn, opposed = self.forgetting.turn(head, suit.text), False
        if owner not in (None, suit.claimer):
            opposed = self.limits.excluded(self.limits.strong_of(head), suit.strong)
            if opposed and not self.limits.is_shared(suit.text):
                self.send(Conflict(suit.claimer, suit))
                return
        if owner is None or opposed or (take and owner == suit.seen):
            if owner is not None:
                turn += 1
                head.turns = {**head.turns, mark: turn}
                self.send(Lost(owner, suit.text, turn))
            self.actor.desk.touch(head)
            head.fate |= ELSEWHERE
            head.founder = owner = suit.claimer
            head.strong = shortened(suit.strong)
            if not head.fate & FORGOTTEN:
                self.shortcuts.move(head.id, suit.claimer)
        if owner == suit.claimer:
            told = opposed and not take, suit.origin, self.forgetting.rowless(head)
            self.outgoing.gather(suit.claimer, Grants, Granted(suit.claimer, suit.text, turn, *told))
        else:
            self.send(
                Meet(owner, suit.claimer, suit.rank, suit.strong, replace(suit, seen=owner, turn=turn), claiming=False)
            )

    def _granted(self, profile: Profile, letter: Granted) -> None:
        """The identifier is the profile's, unless it is known to have changed hands since."""
        text, mark = letter.text, mark_of(letter.text)
        answered(profile, text)
        if letter.opposed:
            self.tell(profile, "conflict", text, letter.origin)
        if letter.turn < profile.turns.get(mark, 0):
            return
        if letter.turn:
            profile.turns = {**profile.turns, mark: letter.turn}
        if text not in profile.identifiers:
            profile.rowless = [*profile.rowless, text] if letter.rowless else profile.rowless
            self.actor.refresh.rename(profile, [*profile.identifiers, text], text, self.out)
            self.tell(profile, "attached", text, letter.origin)
            self.notes.bring(profile.id, text, letter.origin)

    def _lost(self, profile: Profile, letter: Lost) -> None:
        """The identifier has changed hands. The turn stays, since an older grant may still be on its way."""
        text, mark = letter.text, mark_of(letter.text)
        if profile.turns.get(mark, 0) >= letter.turn:
            return
        profile.turns = {**profile.turns, mark: letter.turn}
        forget_turns(profile)
        if text in profile.identifiers:
            profile.rowless = [other for other in profile.rowless if other != text]
            left = [other for other in profile.identifiers if other != text]
            self.actor.refresh.rename(profile, left, text, self.out)
            self.actor.on_lost(text)
            self.tell(profile, "lost", text)
            self.notes.drop(profile.id, text)

    def _meet(self, profile: Profile, letter: Meet) -> None:
        suit, strong = letter.suit, self.limits.strong(profile.identifiers)
        if profile.id == letter.other:
            self._granted(profile, Granted(profile.id, suit.text, suit.turn, False, suit.origin))
        elif self.limits.excluded(strong, letter.strong):
            self._oppose(profile, letter.other, suit, claiming=letter.claiming)
        elif (profile.rank, profile.id) < (letter.rank, letter.other):
            suit = replace(suit, now=max(suit.now, profile.now))
            self.send(Meet(letter.other, profile.id, profile.rank, strong, suit, claiming=not letter.claiming))
        else:
            if profile.due < suit.now:
                advance(profile, suit.now, self.out, self.actor.evaluate)
            profile.now = max(profile.now, suit.now)
            plan = self.actor.compiled.plan
            state = state_of(profile, plan, self.notes.encoded(profile.id))
            freeze(profile, letter.other)
            self.send(Offer(letter.other, state, suit, claiming=letter.claiming))

    def _offer(self, profile: Profile, letter: Offer) -> None:
        state = letter.state
        if self.limits.passed([*profile.identifiers, *profile.pending, *state.identifiers, *state.pending]):
            self.send(Refuse(state.profile, profile.id, letter.suit, claiming=letter.claiming))
            return
        actor = self.actor
        now, before = max(profile.now, state.now), profile.identifiers
        absorb(profile, state, now, actor.compiled.plan, actor.evaluate, self.out, actor.desk.join)
        self.attached.follow(profile.id, before, profile.identifiers)
        if shard_of(state.profile, self.shards) == actor.shard:
            profile.absorbed = with_salt_of(state.profile, profile.absorbed, state.absorbed)
        self.notes.join(profile.id, state.profile, state.history)
        self.tell(profile, "merged", state.profile.hex(), letter.suit.origin)
        actor.counts["profiles"] -= 1
        if letter.suit.text in profile.identifiers:
            answered(profile, letter.suit.text)
        elif letter.suit.text in profile.pending:
            # Whose it was has lost it since: nobody else answers the claim.
            self.send(Claim(self.claiming.suit(profile, letter.suit.text, letter.suit.origin), take=False))
        self.send(Accept(state.profile, profile.id, now))

    def _accept(self, profile: Profile, letter: Accept) -> None:
        self.attached.follow(profile.id, profile.identifiers, [])
        leave(profile, letter.winner, letter.now, self.actor.desk, self.write, self.out)
        if not profile.fate & ELSEWHERE:
            self.shortcuts.move(profile.id, letter.winner)
        self.shortcuts.merge(profile.id, letter.winner)
        self.forgetting.leave(profile)
        self.notes.forget(profile.id)
        here = shard_of(letter.winner, self.shards) == self.actor.shard
        for kind, body in self.waiting.release(profile.id):
            waiting = decode(kind, body)
            if kind == "forward":
                # By way of this profile, which knows the message ids that it has used.
                self.handle(kind, waiting)
            elif here:
                self.handle(kind, replace(waiting, to=letter.winner))
            else:
                self.send(replace(waiting, to=letter.winner))

    def _refuse(self, profile: Profile, letter: Refuse) -> None:
        thaw(profile)
        self.actor.refresh.belong(profile, self.out, whatever=True)
        self._oppose(profile, letter.other, letter.suit, claiming=letter.claiming)
        for kind, body in self.waiting.release(profile.id):
            self.handle(kind, decode(kind, body))

    def _oppose(self, profile: Profile, other: bytes, suit: Suit, *, claiming: bool) -> None:
        """Two profiles cannot merge: the claimer hears of it."""
        if claiming:
            self._conflict(profile, Conflict(profile.id, suit))
        else:
            self.send(Conflict(other, suit))

    def _conflict(self, profile: Profile, letter: Conflict) -> None:
        """The claimer's side of a conflict: a shared identifier is taken over, any other stays where it is."""
        suit = letter.suit
        if suit.text not in profile.pending:
            return
        self.tell(profile, "conflict", suit.text, suit.origin)
        if self.limits.is_shared(suit.text):
            self.send(Claim(self.claiming.suit(profile, suit.text, suit.origin, suit.seen), take=True))
        else:
            answered(profile, suit.text)
            self.notes.settle(profile.id, suit.text)

    def divert(
        self, profile: Profile, events: Sequence[Any], hashes: Sequence[int], recalled: Mapping[int, int] | None
    ) -> bool:
        """Whether events do not belong here; then they are on their way, or wait.

        Args:
            profile: what the events were sent to: a profile, or the pointer of their identifier.
            events: in order of arrival.
            hashes: of their message ids; those that the profile has used before it moved go no further.
            recalled: when hashes were used.
        """
        person = events[0].person
        if profile.fate & FORGOTTEN and self.forgetting.returning.sift(profile, events):
            return True
        if profile.fate & ELSEWHERE and not person.addressed:
            to = profile.founder
        elif profile.fate & FROZEN:
            self.forwarding.let_wait(profile.id, events, self.waiting)
            return True
        elif profile.fate & MOVED:
            to = profile.into
            if recalled is not None:
                events = [
                    event
                    for event, hashed in zip(events, hashes, strict=True)
                    if not hashed or not self.actor.is_duplicate(hashed, event.arrival, recalled, {}, profile)
                ]
        else:
            return False
        assert to is not None, "a pointer says where to"
        person.known = True
        if not person.addressed:
            self.shortcuts.move(person.id, to)
        self.forwarding.send_on(to, events)
        return True
