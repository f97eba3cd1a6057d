"""The scene of `scene.py` with aioxmpp and its `MUCClient`."""

import asyncio
import sys

import scene

try:
    import aiosasl
    import aioxmpp
    import aioxmpp.connector
    import aioxmpp.im.p2p
    import aioxmpp.muc.xso
    import aioxmpp.security_layer
except ImportError as error:
    sys.exit(f"{error}: run tests/clients/install.sh")


class Scram(aioxmpp.security_layer.PasswordSASLProvider):
    """A login with SCRAM, or none: the library's own would also use PLAIN."""

    def _find_supported(self, features, mechanism_classes):
        return super()._find_supported(features, [aiosasl.SCRAM])


def security(password, ca):
    """STARTTLS with the one authority in the file `ca`, and SCRAM."""

    async def provide(_jid, attempt):
        return password if attempt == 0 else None

    def context():
        context = aioxmpp.security_layer.default_ssl_context()
        context.load_verify_locations(ca)
        return context

    return aioxmpp.security_layer.SecurityLayer(
        ssl_context_factory=context,
        certificate_verifier_factory=aioxmpp.security_layer.PKIXCertificateVerifier,
        tls_required=True,
        sasl_providers=(Scram(provide),),
    )


class AioxmppSession(scene.Session):
    def __init__(self, name, login, room):
        super().__init__(name, login, room)
        self.room = aioxmpp.JID.fromstr(room)
        connector = aioxmpp.connector.STARTTLSConnector()
        self.client = aioxmpp.PresenceManagedClient(
            aioxmpp.JID.fromstr(f"{login.jid}/{name}"),
            security(login.password, login.ca),
            override_peer=[(login.host, login.port, connector)],
            max_initial_attempts=1,
        )
        self.muc = self.client.summon(aioxmpp.MUCClient)
        self.whispers = self.client.summon(aioxmpp.im.p2p.Service)
        self.whispers.on_conversation_new.connect(self.on_whisperer)
        self.conversation = None
        self.connected = self.client.connected()

    async def connect(self):
        await self.within(self.connected.__aenter__(), "it is logged in")

    async def disconnect(self):
        await self.within(self.connected.__aexit__(None, None, None), "it is disconnected")

    async def join(self, nick):
        self.forget()
        room, joined = self.muc.join(self.room, nick, autorejoin=False)
        self.conversation = room
        room.on_muc_enter.connect(self.on_enter)
        room.on_join.connect(self.on_presence)
        room.on_leave.connect(self.on_leave)
        room.on_exit.connect(lambda **how: self.on_leave(room.me, **how))
        room.on_nick_changed.connect(self.on_nick_changed)
        room.on_presence_changed.connect(self.on_presence)
        room.on_message.connect(self.on_message)
        room.on_topic_changed.connect(self.on_subject)
        # The subject ends a join (XEP-0045 7.2.15).
        entered = asyncio.get_running_loop().create_future()
        room.on_topic_changed.connect(lambda *_, **__: entered.done() or entered.set_result(None))
        await self.within(joined, "it has joined")
        await self.within(entered, "it is told the subject")

    async def say(self, text):
        message = aioxmpp.Message(type_=aioxmpp.MessageType.GROUPCHAT)
        message.body[None] = text
        await self.conversation.send_message(message)

    async def whisper(self, nick, text):
        message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT)
        message.body[None] = text
        conversation = self.whispers.get_conversation(self.room.replace(resource=nick))
        await conversation.send_message(message)

    async def rename(self, nick):
        await self.conversation.set_nick(nick)

    async def set_role(self, nick, role, reason=None):
        await self.conversation.muc_set_role(nick, role, reason=reason)

    async def set_affiliation(self, jid, affiliation):
        await self.conversation.muc_set_affiliation(aioxmpp.JID.fromstr(jid), affiliation)

    async def affiliated(self, affiliation):
        jids = await self.muc.get_affiliated(self.room, affiliation)
        return [str(jid) for jid in jids]

    async def set_subject(self, subject):
        await self.conversation.set_topic({None: subject})
        await self.until(f"subject by {self.nick()}: {subject}")

    async def configuration(self):
        form = await self.muc.get_room_config(self.room)
        return aioxmpp.muc.xso.ConfigurationForm.from_xso(form)

    async def room_name(self):
        return (await self.configuration()).roomname.value

    async def set_room_name(self, name):
        form = await self.configuration()
        form.roomname.value = name
        await self.muc.set_room_config(self.room, form.render_reply())

    async def leave(self):
        await self.within(self.conversation.leave(), "its leave is answered")

    def nick(self):
        room = self.conversation
        return room.me.nick if room is not None and room.muc_joined else None

    def occupants(self):
        members = self.conversation.members
        return {member.nick: standing(member) for member in members}

    def own_jid(self):
        return str(self.conversation.me.direct_jid)

    def expected_own_jid(self):
        # The library keeps bare JIDs.
        return self.login.jid

    def on_enter(self, presence, occupant, muc_status_codes, **_):
        self.tell_present(occupant.nick, standing(occupant), 201 in muc_status_codes)

    def on_presence(self, member, *_, **__):
        self.tell_present(member.nick, standing(member))

    def on_leave(self, member, muc_leave_mode=None, muc_reason=None, **_):
        if muc_leave_mode is aioxmpp.muc.LeaveMode.KICKED:
            self.tell_gone(member.nick, f"is kicked: {muc_reason}")
        elif muc_leave_mode is aioxmpp.muc.LeaveMode.NORMAL:
            self.tell_gone(member.nick, "leaves")
        else:
            self.tell_gone(member.nick, f"leaves by {muc_leave_mode}")

    def on_nick_changed(self, member, old, new, **_):
        self.tell_renamed(old, new)

    def on_message(self, message, member, source, **_):
        earlier = ", earlier" if message.xep0203_delay else ""
        self.tell(f"{member.nick}{earlier}: {message.body.any()}")

    def on_subject(self, member, subject, *, muc_nick=None, **_):
        text = subject.any()
        self.tell(f"subject by {muc_nick}: {text}" if text else "no subject")

    def on_whisperer(self, conversation):
        conversation.on_message.connect(self.on_whisper)

    def on_whisper(self, message, member, source, **_):
        if not member.is_self:
            self.tell(f"{member.direct_jid.resource} whispers: {message.body.any()}")


def standing(member):
    return f"{member.affiliation}/{member.role}"


if __name__ == "__main__":
    scene.main(f"aioxmpp {aioxmpp.__version__}", AioxmppSession)
