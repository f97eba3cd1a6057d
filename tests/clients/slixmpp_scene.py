"""The scene of `scene.py` with slixmpp and its plugin `xep_0045`."""

import asyncio
import importlib.metadata
import sys

import scene

try:
    from slixmpp import JID, ClientXMPP
except ImportError as error:
    sys.exit(f"{error}: run tests/clients/install.sh")


class Refused(Exception):
    """The login did not succeed."""


class SlixmppSession(scene.Session):
    CONFIGURED = ["the configuration changes"]

    def __init__(self, name, login, room):
        super().__init__(name, login, room)
        self.room = JID(room)
        self.client = ClientXMPP(JID(f"{login.jid}/{name}"), login.password)
        self.client.enable_direct_tls = False
        self.client.ca_certs = login.ca
        self.client.register_plugin("xep_0045")
        self.muc = self.client.plugin["xep_0045"]
        room = self.room.bare
        for event, handler in {
            f"muc::{room}::presence": self.on_presence,
            f"muc::{room}::presence-error": self.on_error,
            f"muc::{room}::message": self.on_message,
            f"muc::{room}::message_error": self.on_error,
            f"muc::{room}::groupchat_subject": self.on_subject,
            f"muc::{room}::config_status": self.on_configuration,
            "message": self.on_any_message,
        }.items():
            self.client.add_event_handler(event, handler)

    async def connect(self):
        loop = asyncio.get_running_loop()
        started = loop.create_future()

        def end(error):
            if not started.done():
                started.set_exception(Refused(error))

        self.client.add_event_handler(
            "session_start", lambda _: started.done() or started.set_result(None)
        )
        for event in ("ssl_invalid_chain", "failed_all_auth", "disconnected"):
            self.client.add_event_handler(event, lambda what, event=event: end(f"{event} {what}"))
        self.client.connect(self.login.host, self.login.port)
        try:
            await self.within(started, "it is logged in")
        except Refused:
            self.client.abort()
            raise
        mechanism = self.client.plugin["feature_mechanisms"].mech.name
        scene.require(mechanism.startswith("SCRAM-"), f"{self.name} logs in with {mechanism}")
        self.client.send_presence()
        await self.within(self.client.get_roster(), "it has the roster")

    async def disconnect(self):
        await self.within(self.client.disconnect(), "it is disconnected")

    async def join(self, nick):
        self.forget()
        await self.muc.join_muc_wait(self.room, nick, timeout=scene.TIMEOUT)

    async def say(self, text):
        self.client.send_message(mto=self.room, mbody=text, mtype="groupchat")

    async def whisper(self, nick, text):
        self.client.send_message(mto=f"{self.room}/{nick}", mbody=text, mtype="chat")

    async def rename(self, nick):
        given = await self.muc.set_self_nick(self.room, nick, timeout=scene.TIMEOUT)
        scene.require(given == nick, f"{self.name} asks for {nick!r} and gets {given!r}")

    async def set_role(self, nick, role, reason=""):
        await self.muc.set_role(self.room, nick, role, reason=reason)

    async def set_affiliation(self, jid, affiliation):
        await self.muc.set_affiliation(self.room, affiliation, jid=jid)

    async def affiliated(self, affiliation):
        jids = await self.muc.get_affiliation_list(self.room, affiliation)
        return [str(jid) for jid in jids]

    async def set_subject(self, subject):
        self.muc.set_subject(self.room, subject)
        await self.until(f"subject by {self.nick()}: {subject}")

    async def room_name(self):
        form = await self.muc.get_room_config(self.room)
        return form.get_values()["muc#roomconfig_roomname"]

    async def set_room_name(self, name):
        form = await self.muc.get_room_config(self.room)
        answers = form.get_values()
        form.reply()
        form.set_values({**answers, "muc#roomconfig_roomname": name})
        await self.muc.set_room_config(self.room, form)

    async def leave(self):
        # The plugin forgets the room at once, and tells nothing of the answer.
        nick, room = self.nick(), self.room.bare
        left = asyncio.get_running_loop().create_future()

        def on_presence(presence):
            if presence["from"] == f"{room}/{nick}" and presence["type"] == "unavailable":
                codes = presence["muc"]["status_codes"]
                scene.require(110 in codes, f"{self.name} leaves with {codes}, without 110")
                left.set_result(None)

        with self.client.event_handler("groupchat_presence", on_presence):
            self.muc.leave_muc(self.room, nick)
            await self.within(left, "its leave is answered")
        self.tell_gone(nick, "leaves")

    def nick(self):
        if self.room not in self.muc.get_joined_rooms():
            return None
        nick = JID(self.muc.get_our_jid_in_room(self.room)).resource
        # After a kick the plugin keeps the room, without its own nick.
        return nick if nick in self.muc.get_roster(self.room) else None

    def occupants(self):
        get = self.muc.get_jid_property
        return {
            nick: f"{get(self.room, nick, 'affiliation')}/{get(self.room, nick, 'role')}"
            for nick in self.muc.get_roster(self.room)
        }

    def own_jid(self):
        return str(self.muc.get_jid_property(self.room, self.nick(), "jid"))

    def expected_own_jid(self):
        return self.client.boundjid.full

    def on_presence(self, presence):
        muc = presence["muc"]
        nick, codes = muc["nick"], muc["status_codes"]
        if presence["type"] != "unavailable":
            self.tell_present(nick, f"{muc['affiliation']}/{muc['role']}", 201 in codes)
        elif 303 in codes:
            self.tell_renamed(nick, muc["item_nick"])
        elif 307 in codes:
            self.tell_gone(nick, f"is kicked: {muc['item']['reason']}")
        else:
            self.tell_gone(nick, "leaves")

    def on_message(self, message):
        earlier = ", earlier" if message.get_plugin("delay", check=True) else ""
        self.tell(f"{message['mucnick']}{earlier}: {message['body']}")

    def on_subject(self, message):
        subject = message["subject"]
        line = f"subject by {message['mucnick']}: {subject}" if subject else "no subject"
        self.tell(line)

    def on_configuration(self, message):
        self.tell("the configuration changes")

    def on_any_message(self, message):
        if message["type"] in ("chat", "normal") and message["from"].bare == self.room.bare:
            if message["body"]:
                self.tell(f"{message['from'].resource} whispers: {message['body']}")

    def on_error(self, stanza):
        self.tell(f"error: {stanza['error']['condition']}")


if __name__ == "__main__":
    scene.main(f"slixmpp {importlib.metadata.version('slixmpp')}", SlixmppSession)
