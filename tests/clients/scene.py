"""One account with two devices in a room, as a client library sees it.

alice's `phone` and `desk` come through the proxy; `bob` and `carol` come directly, by the same
library. Whatever the library tells its user becomes a line of its session's transcript. After each
step bob says a mark, and a room tells everybody everything in one order: what a session has been
told between two marks is exactly what the step caused. The library's own state, the occupants it
lists and the nick it believes in, must agree after each step.

`slixmpp_scene.py` and `aioxmpp_scene.py` bring the libraries; this module knows neither.
"""

import argparse
import asyncio
import logging
import sys
import traceback
from abc import ABC, abstractmethod
from dataclasses import dataclass

# What one event and the whole scene may take on a busy machine, in seconds.
TIMEOUT = 30
LIMIT = 75


class Wrong(Exception):
    """Something is not as it should be."""


@dataclass
class Login:
    """Where a session logs in, and as whom."""

    jid: str
    password: str
    host: str
    port: int
    ca: str


class Session(ABC):
    """A session run by a library, and the lines it has been told."""

    #: What this library says when the room's configuration has changed.
    CONFIGURED: list[str] = []

    def __init__(self, name: str, login: Login, room: str):
        self.name, self.login, self.room = name, login, room
        self.lines: list[str] = []
        self._known: dict[str, str] = {}
        self._renamed: dict[str, str] = {}
        self._waiting: list[tuple[str, asyncio.Future]] = []

    def tell(self, line: str):
        """Takes one more line, from the library's events."""
        self.lines.append(line)
        if "(mark " not in line:
            print(f"{self.name:>8} | {line}", flush=True)
        for wanted, future in self._waiting:
            if wanted == line and not future.done():
                future.set_result(None)

    def tell_present(self, nick: str, standing: str, new_room: bool = False):
        """Takes an available presence. One that changes nothing is told too: nobody needs it."""
        before = self._known.get(nick)
        self._known[nick] = standing
        if old := self._renamed.pop(nick, None):
            # The second half of a nick change (XEP-0045 7.6) completes it.
            self.tell(f"{old} is now {nick}")
        elif before is None:
            self.tell(f"{nick} joins as {standing}{', in a new room' if new_room else ''}")
        elif before == standing:
            self.tell(f"{nick} is present again")
        else:
            self.tell(f"{nick} becomes {standing}")

    def tell_renamed(self, old: str, new: str):
        """Takes the first half of a nick change."""
        self._known.pop(old, None)
        self._renamed[new] = old

    def tell_gone(self, nick: str, how: str):
        """Takes an occupant's leave, the session's own as well."""
        self._known.pop(nick, None)
        self.tell(f"{nick} {how}")

    def forget(self):
        """Forgets the occupants, before a new join."""
        self._known.clear()
        self._renamed.clear()

    async def until(self, line: str):
        """Waits until this line has been told since the last mark."""
        if line in self.lines:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((line, future))
        await self.within(future, f"it is told {line!r}")

    async def within(self, awaitable, what: str):
        """Waits for `awaitable`, and says what was waited for when it takes too long."""
        try:
            return await asyncio.wait_for(awaitable, TIMEOUT)
        except (TimeoutError, asyncio.TimeoutError) as error:
            told = self.lines or "nothing"
            message = f"{self.name} waited {TIMEOUT} s until {what}; it was told {told}"
            raise Wrong(message) from error

    @abstractmethod
    async def connect(self):
        """Logs in over STARTTLS with SCRAM; raises if the certificate is not from `login.ca`."""

    @abstractmethod
    async def disconnect(self):
        """Ends the stream."""

    @abstractmethod
    async def join(self, nick: str):
        """Joins, and waits until the library calls it done."""

    @abstractmethod
    async def say(self, text: str):
        """Says it in the room."""

    @abstractmethod
    async def whisper(self, nick: str, text: str):
        """Says it to one occupant."""

    @abstractmethod
    async def rename(self, nick: str):
        """Asks for another nick."""

    @abstractmethod
    async def set_role(self, nick: str, role: str, reason: str = ""):
        """Changes an occupant's role; `none` kicks."""

    @abstractmethod
    async def set_affiliation(self, jid: str, affiliation: str):
        """Changes an account's affiliation."""

    @abstractmethod
    async def affiliated(self, affiliation: str) -> list[str]:
        """The bare JIDs with this affiliation."""

    @abstractmethod
    async def set_subject(self, subject: str):
        """Changes the subject."""

    @abstractmethod
    async def room_name(self) -> str:
        """The room's name, from its configuration form."""

    @abstractmethod
    async def set_room_name(self, name: str):
        """Fetches the configuration form, and submits it with this name."""

    @abstractmethod
    async def leave(self):
        """Leaves."""

    @abstractmethod
    def nick(self) -> "str | None":
        """The nick the library believes to have; `None` if it believes to be outside."""

    @abstractmethod
    def occupants(self) -> dict[str, str]:
        """What the library knows: nick to `affiliation/role`, itself among them."""

    @abstractmethod
    def own_jid(self) -> str:
        """The real JID that the library knows for its own occupant."""

    @abstractmethod
    def expected_own_jid(self) -> str:
        """Its session's JID, as far as the library keeps it."""


class Stage:
    """Who is in the room, and what everybody must know of it."""

    def __init__(self, bob: Session):
        self.bob = bob
        self.inside: list[Session] = []
        self.nicks: dict[Session, str] = {}
        self.standing: dict[str, str] = {}
        self.marks = 0

    async def step(self, title: str, told: "dict[Session, list[str]]"):
        """Ends a step: each session has been told these lines since the last one, no more, no
        less and in this order. Who is not named has been told nothing."""
        self.marks += 1
        mark = f"(mark {self.marks})"
        await self.bob.say(mark)
        for session in self.inside:
            await session.until(f"bob: {mark}")
        for session in {*self.inside, *told}:
            lines, session.lines = session.lines, []
            if session in self.inside:
                rest = lines[lines.index(f"bob: {mark}") + 1:]
                require(not rest, f"{session.name} is told {rest} after the last message")
                lines = lines[:-1]
            expected = told.get(session, [])
            require(lines == expected, f"{session.name} should be told {expected}, not {lines}")
        for session in self.inside:
            self.check(session)
        print(f"      ok | {title}", flush=True)

    def check(self, session: Session):
        """Compares the library's state with what is so."""
        nick, occupants = session.nick(), session.occupants()
        wanted = self.nicks[session]
        require(nick == wanted, f"{session.name} believes to be {nick!r}, and is {wanted!r}")
        message = f"{session.name} lists {occupants}, and there are {self.standing}"
        require(occupants == self.standing, message)

    def enter(self, session: Session, nick: str, standing: str):
        self.inside.append(session)
        self.nicks[session] = nick
        self.standing[nick] = standing

    def exit(self, session: Session):
        self.inside.remove(session)
        nick = self.nicks.pop(session)
        if nick not in self.nicks.values():
            del self.standing[nick]
        require(session.nick() is None, f"{session.name} believes to be in the room")


def require(condition, message: str):
    if not condition:
        raise Wrong(message)


def all_told(sessions, *lines: str) -> "dict[Session, list[str]]":
    return {session: list(lines) for session in sessions}


async def refuse_a_stranger(make, login: Login, foreign_ca: str, room: str):
    """A certificate of an authority that the client does not trust must end the login, or the
    other logins show nothing."""
    login = Login(login.jid, login.password, login.host, login.port, foreign_ca)
    session = make("stranger", login, room)
    logging.disable()  # The libraries tell it at length.
    try:
        await session.connect()
    except Wrong:
        raise
    except Exception as error:  # Each library has its own.
        print(f"      ok | a certificate of another authority is refused ({type(error).__name__})")
        return
    finally:
        logging.disable(logging.NOTSET)
    raise Wrong("a certificate of another authority is taken")


async def play(make, options):
    """The whole scene. With one device, that is phone and desk at once."""
    server = ("127.0.0.1", options.server, options.server_ca)
    front = server if options.direct else ("127.0.0.1", options.proxy, options.proxy_ca)
    room = options.room
    alice = Login(*options.alice, *front)
    phone = make("phone", alice, room)
    desk = phone if options.one_device else make("desk", alice, room)
    bob = make("bob", Login(*options.bob, *server), room)
    carol = make("carol", Login(*options.carol, *server), room)
    stage = Stage(bob)

    foreign = options.proxy_ca if options.direct else options.server_ca
    if foreign:
        await refuse_a_stranger(make, alice, foreign, room)
    everyone = dict.fromkeys((phone, desk, bob, carol))
    for session in everyone:
        await session.connect()

    await arrive(stage, phone, desk, bob, carol)
    await talk(stage, phone, desk, bob)
    await change_nick(stage, phone, desk)
    await moderate(stage, phone, desk, bob, carol)
    await depart(stage, phone, desk, bob)
    for session in everyone:
        await session.disconnect()


async def arrive(stage: Stage, phone: Session, desk: Session, bob: Session, carol: Session):
    """b01 b02 b04 b07 b13 b14: the phone makes the room; the desk comes late and is told all."""
    await phone.join("alice")
    stage.enter(phone, "alice", "owner/moderator")
    # Prosody locks a new room until its owner has configured it.
    await phone.set_room_name("Tea")
    await bob.join("bob")
    stage.enter(bob, "bob", "none/participant")
    joined = "bob joins as none/participant"
    alice_joined = "alice joins as owner/moderator"
    created = [f"{alice_joined}, in a new room", "no subject", *phone.CONFIGURED]
    await stage.step("the phone makes the room, and bob joins", {
        phone: [*created, joined],
        bob: [alice_joined, joined, "no subject"],
    })

    await carol.join("carol")
    stage.enter(carol, "carol", "none/participant")
    carol.lines.clear()
    await carol.say("who is for tea?")
    await phone.until("carol: who is for tea?")
    await phone.set_subject("tea")
    told = ["carol: who is for tea?", "subject by alice: tea"]
    joined = "carol joins as none/participant"
    await stage.step("carol joins and talks; the phone sets the subject", {
        phone: [joined, *told], bob: [joined, *told], carol: told,
    })

    if desk is phone:
        return
    await desk.join("alice")
    stage.enter(desk, "alice", "owner/moderator")
    # The order of the others is free (XEP-0045 7.2.2); bob's marks are part of the history.
    others, rest = sorted(desk.lines[:2]), desk.lines[2:]
    desk.lines = others + [line for line in rest if "(mark " not in line or "earlier" not in line]
    await stage.step("the desk joins, and nobody else is told", {desk: [
        "bob joins as none/participant",
        "carol joins as none/participant",
        alice_joined,
        "carol, earlier: who is for tea?",
        "subject by alice: tea",
    ]})


async def talk(stage: Stage, phone: Session, desk: Session, bob: Session):
    """b20 b21 b23 b27 b28 b39: each message once to each, in one order; private ones too."""
    for speaker, nick in ((phone, "alice"), (desk, "alice"), (bob, "bob")):
        text = f"the {speaker.name} <speaks> & is heard"
        await speaker.say(text)
        await speaker.until(f"{nick}: {text}")
        await stage.step(f"{speaker.name} talks", all_told(stage.inside, f"{nick}: {text}"))

    await bob.whisper("alice", "psst")
    await phone.until("bob whispers: psst")
    await desk.until("bob whispers: psst")
    await stage.step("bob whispers to alice", {
        phone: ["bob whispers: psst"], desk: ["bob whispers: psst"],
    })
    await desk.whisper("bob", "yes?")
    await bob.until("alice whispers: yes?")
    await stage.step("the desk whispers to bob", {bob: ["alice whispers: yes?"]})

    for device in (phone, desk):
        own, expected = device.own_jid(), device.expected_own_jid()
        require(own == expected, f"{device.name} takes {own} for itself, and is {expected}")


async def change_nick(stage: Stage, phone: Session, desk: Session):
    """b34: one device changes the nick, and both know it."""
    await desk.rename("alicia")
    for device in {phone, desk}:
        stage.nicks[device] = "alicia"
    stage.standing["alicia"] = stage.standing.pop("alice")
    renamed = "alice is now alicia"
    for device in (phone, desk):
        await device.until(renamed)
    await stage.step("the desk changes the nick", all_told(stage.inside, renamed))
    await phone.say("it is still me")
    await phone.until("alicia: it is still me")
    told = all_told(stage.inside, "alicia: it is still me")
    await stage.step("the phone talks under the new nick", told)


async def moderate(stage: Stage, phone, desk, bob: Session, carol: Session):
    """b14 b31 b32 b47 b50 b55: what a moderator and owner does works from each device."""
    await desk.set_role("carol", "visitor")
    stage.standing["carol"] = "none/visitor"
    told = all_told(stage.inside, "carol becomes none/visitor")
    await stage.step("the desk takes carol's voice", told)

    await phone.set_affiliation(bob.login.jid, "member")
    stage.standing["bob"] = "member/participant"
    told = all_told(stage.inside, "bob becomes member/participant")
    await stage.step("the phone makes bob a member", told)
    for device in (phone, desk):
        members = await device.affiliated("member")
        require(members == [bob.login.jid], f"{device.name} reads {members} as members")
    await stage.step("both read the list of members", {})

    await phone.set_role("carol", "none", reason="tea is over")
    kicked = "carol is kicked: tea is over"
    await carol.until(kicked)
    told = all_told(stage.inside, kicked)
    stage.exit(carol)
    await stage.step("the phone kicks carol", told)

    await desk.set_subject("biscuits")
    await desk.until("subject by alicia: biscuits")
    told = all_told(stage.inside, "subject by alicia: biscuits")
    await stage.step("the desk changes the subject", told)

    name = await phone.room_name()
    require(name == "Tea", f"the phone reads {name!r} as the room's name")
    await desk.set_room_name("Biscuits")
    name = await phone.room_name()
    require(name == "Biscuits", f"the phone reads {name!r} as the room's new name")
    told = all_told(stage.inside, *phone.CONFIGURED)
    await stage.step("the desk configures the room, the phone reads it", told)


async def depart(stage: Stage, phone: Session, desk: Session, bob: Session):
    """b09 b41 b42: a device leaves alone, and comes back; the account leaves with the last."""
    gone = "alicia leaves"
    if desk is not phone:
        await phone.leave()
        await phone.until(gone)
        stage.exit(phone)
        await stage.step("the phone leaves, and nobody else is told", {phone: [gone]})
        await desk.say("one device left")
        await desk.until("alicia: one device left")
        told = all_told(stage.inside, "alicia: one device left")
        await stage.step("the desk goes on", told)

        # Whoever asks for another nick than the account has is given the account's (7.2.9).
        await phone.join("alice")
        stage.enter(phone, "alicia", "owner/moderator")
        phone.lines = [line for line in phone.lines if ", earlier: " not in line]
        await stage.step("the phone comes back by the old nick, and learns the new one", {phone: [
            "bob joins as member/participant",
            "alicia joins as owner/moderator",
            "subject by alicia: biscuits",
        ]})
        await desk.leave()
        await desk.until(gone)
        stage.exit(desk)
        await stage.step("the desk leaves, and nobody else is told", {desk: [gone]})
    await phone.leave()
    await phone.until(gone)
    # A leave may be answered before the room has seen it.
    await bob.until(gone)
    stage.exit(phone)
    await stage.step("the last device leaves", {phone: [gone], bob: [gone]})
    await bob.leave()


def arguments(library: str):
    parser = argparse.ArgumentParser(description=f"Two devices of one account in a room, {library}")
    parser.add_argument("--proxy", type=int, help="the proxy's STARTTLS port on 127.0.0.1")
    parser.add_argument("--proxy-ca", help="the authority of its certificate, PEM")
    parser.add_argument("--server", type=int, required=True, help="the server's STARTTLS port")
    parser.add_argument("--server-ca", required=True, help="the authority of its certificate")
    parser.add_argument("--room", required=True, help="a room that does not exist yet")
    for name in ("alice", "bob", "carol"):
        parser.add_argument(f"--{name}", nargs=2, required=True, metavar=("JID", "PASSWORD"))
    parser.add_argument("--direct", action="store_true", help="past the proxy, to compare")
    parser.add_argument("--one-device", action="store_true", help="alice has one device only")
    options = parser.parse_args()
    if not options.direct and not (options.proxy and options.proxy_ca):
        parser.error("--proxy and --proxy-ca, or --direct")
    return options


def main(library: str, make):
    """Plays the scene; ends the process with 0 if all was as it should be."""
    options = arguments(library)
    way = "directly" if options.direct else "through the proxy"
    print(f"{library}, {way}, {'one device' if options.one_device else 'two devices'}")
    try:
        asyncio.run(asyncio.wait_for(play(make, options), LIMIT))
    except Wrong as wrong:
        sys.exit(f"WRONG: {wrong}")
    except (TimeoutError, asyncio.TimeoutError):
        sys.exit(f"WRONG: not finished after {LIMIT} s; the step after the last 'ok' is stuck")
    except Exception as error:  # A library's: a refused request, a lost stream.
        traceback.print_exc()
        sys.exit(f"WRONG: {type(error).__name__}: {error}")
    finally:
        # What is left of the refused login would be told again while the process ends.
        logging.disable()
    print("done")
