//! Which stanzas of a session go where.

use jid::FullJid;
use mucplex_muc::{ClientRoute, JidGlob, RoomAddress, RoomJid, RouteSettings, Routes, ServerRoute};

use crate::service::{MUC, parse};

fn routes() -> Routes {
    with_server_csi(true)
}

fn with_server_csi(server_csi: bool) -> Routes {
    let own = "alice@example.test/Phone".parse::<FullJid>().unwrap();
    let settings = RouteSettings {
        server_csi,
        ..RouteSettings::default()
    };
    Routes::new(own, settings)
}

fn room(jid: &str) -> RoomJid {
    RoomAddress::parse(jid).unwrap().room
}

const ACTIVE: &str = "<active xmlns='urn:xmpp:csi:0'/>";
const INACTIVE: &str = "<inactive xmlns='urn:xmpp:csi:0'/>";

fn name(route: &ClientRoute) -> &'static str {
    match route {
        ClientRoute::Direct => "direct",
        ClientRoute::Hub => "hub",
        ClientRoute::Withhold => "withhold",
        ClientRoute::Answer(_) => "answer",
        ClientRoute::ClientState {
            upstream: false, ..
        } => "state",
        ClientRoute::ClientState { upstream: true, .. } => "state, told",
        ClientRoute::Consumed => "consumed",
        ClientRoute::Refuse(..) => "refuse",
    }
}

fn path(routes: &mut Routes, xml: &str) -> &'static str {
    name(&routes.from_client(&parse(xml)))
}

#[test]
fn b73_from_is_the_sessions_own_in_any_spelling() {
    for (from, expected) in [
        ("alice@example.test/Phone", "direct"),
        ("alice@example.test", "direct"),
        ("ALICE@Example.TEST/Phone", "direct"),
        ("Alice@example.test", "direct"),
        ("alice@example.test/phone", "refuse"),
        ("alice@example.test/Desk", "refuse"),
        ("bob@example.test", "refuse"),
        ("example.test", "refuse"),
        ("@@", "refuse"),
        ("", "refuse"),
    ] {
        let xml = format!("<message from='{from}' to='bob@example.test'/>");
        assert_eq!(path(&mut routes(), &xml), expected, "{from}");
    }
}

#[test]
fn a_room_is_the_hubs_once_asked_for_in_any_spelling() {
    let mut routes = routes();
    let message = "<message to='ROOM@Muc.example.test' type='groupchat'/>";
    assert_eq!(path(&mut routes, message), "direct");
    let join = format!(
        "<presence to='Room@muc.Example.test/Tom &amp; Jerry'><x xmlns='{MUC}'/></presence>"
    );
    assert_eq!(path(&mut routes, &join), "hub");
    for to in [
        "room@muc.example.test",
        "ROOM@Muc.example.test",
        "room@muc.example.test/x",
        "room@muc.example.test/\u{1f600}",
    ] {
        assert_eq!(
            path(&mut routes, &format!("<message to='{to}'/>")),
            "hub",
            "{to}"
        );
    }
    assert_eq!(
        path(&mut routes, "<message to='room2@muc.example.test'/>"),
        "direct"
    );
    assert_eq!(
        path(&mut routes, "<message to='muc.example.test'/>"),
        "direct"
    );
}

#[test]
fn b17_without_a_nick_or_a_room_it_is_no_join() {
    for to in [
        "room@muc.example.test",
        "muc.example.test/nick",
        "muc.example.test",
        "@/x",
    ] {
        let join = format!("<presence to='{to}'><x xmlns='{MUC}'/></presence>");
        assert_eq!(path(&mut routes(), &join), "direct", "{to}");
    }
}

#[test]
fn what_the_server_sends_goes_to_the_hub_for_rooms_the_uplink_carries() {
    let mut routes = routes();
    let message = parse("<message from='Room@muc.example.test/bob'/>");
    assert_eq!(routes.from_server(&message), ServerRoute::Direct);
    assert_eq!(routes.carry(&room("room@muc.example.test")), None);
    assert!(routes.carries());
    assert_eq!(routes.from_server(&message), ServerRoute::Hub);
    assert_eq!(
        routes.from_server(&parse("<message from='room@muc.example.test'/>")),
        ServerRoute::Hub
    );
    assert_eq!(
        routes.from_server(&parse("<message from='den@muc.example.test/bob'/>")),
        ServerRoute::Direct
    );
    assert_eq!(
        routes.from_server(&parse("<message/>")),
        ServerRoute::Direct
    );
    // The carrying uplink's own session need not have asked for the room.
    assert_eq!(
        path(&mut routes, "<message to='room@muc.example.test'/>"),
        "hub"
    );
}

#[test]
fn undirected_unavailable_waits_for_the_hub_where_rooms_are() {
    let unavailable = "<presence type='unavailable'/>";
    assert_eq!(path(&mut routes(), unavailable), "direct");
    let mut asked = routes();
    path(
        &mut asked,
        &format!("<presence to='room@muc.example.test/n'><x xmlns='{MUC}'/></presence>"),
    );
    assert_eq!(path(&mut asked, unavailable), "withhold");
    assert_eq!(path(&mut asked, "<presence/>"), "direct");
    let mut carrying = routes();
    carrying.carry(&room("room@muc.example.test"));
    assert_eq!(path(&mut carrying, unavailable), "withhold");
}

#[test]
fn a_second_bind_stream_management_and_compression_are_not_for_the_server() {
    let mut routes = routes();
    let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    let ClientRoute::Answer(bytes) = routes.from_client(&parse(bind)) else {
        panic!()
    };
    let answer = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(
        answer.starts_with("<iq type='error' id='b'>") && answer.contains("<not-allowed "),
        "{answer}"
    );
    let ClientRoute::Answer(bytes) = routes.from_client(&parse("<enable xmlns='urn:xmpp:sm:3'/>"))
    else {
        panic!()
    };
    assert!(bytes.starts_with(b"<failed xmlns='urn:xmpp:sm:3'>"));
    assert_eq!(
        path(
            &mut routes,
            "<resume xmlns='urn:xmpp:sm:3' h='0' previd='x'/>"
        ),
        "answer"
    );
    assert_eq!(path(&mut routes, "<r xmlns='urn:xmpp:sm:3'/>"), "refuse");
    assert_eq!(
        path(
            &mut routes,
            "<compress xmlns='http://jabber.org/protocol/compress'/>"
        ),
        "answer"
    );
}

/// XEP-0352: a carrying uplink is never inactive for the server.
#[test]
fn b65_client_state_on_an_uplink_that_carries_a_room() {
    let mut routes = routes();
    assert_eq!(path(&mut routes, INACTIVE), "state, told");
    assert_eq!(
        routes.carry(&room("a@b.test")).as_deref(),
        Some(ACTIVE.as_bytes())
    );
    assert_eq!(routes.carry(&room("b@b.test")), None);
    assert_eq!(path(&mut routes, INACTIVE), "state");
    assert_eq!(path(&mut routes, ACTIVE), "state");
    let mut active = self::routes();
    path(&mut active, INACTIVE);
    path(&mut active, ACTIVE);
    assert_eq!(active.carry(&room("a@b.test")), None);
}

#[test]
fn b65_a_server_that_does_not_offer_client_state_hears_nothing_of_it() {
    let mut routes = with_server_csi(false);
    assert_eq!(path(&mut routes, INACTIVE), "state");
    assert_eq!(routes.carry(&room("a@b.test")), None);
    assert_eq!(path(&mut routes, ACTIVE), "state");
}

#[test]
fn b65_what_is_no_client_state_has_no_answer() {
    for nonza in [
        "<idle xmlns='urn:xmpp:csi:0'/>",
        "<csi xmlns='urn:xmpp:csi:0'/>",
    ] {
        assert_eq!(path(&mut routes(), nonza), "consumed");
    }
}

#[test]
fn b68_a_room_that_is_passed_through_is_none_of_the_hubs_business() {
    let passthrough = [JidGlob::parse("*@irc.example.test").unwrap()];
    let settings = RouteSettings {
        passthrough: passthrough.into_iter().collect(),
        ..RouteSettings::default()
    };
    let own = "alice@example.test/Phone".parse::<FullJid>().unwrap();
    let mut routes = Routes::new(own, settings);
    let join = |room: &str| format!("<presence to='{room}/n'><x xmlns='{MUC}'/></presence>");
    for room in ["tea@irc.example.test", "Tea@IRC.Example.test"] {
        assert_eq!(path(&mut routes, &join(room)), "direct", "{room}");
        let message = format!("<message to='{room}' type='groupchat'/>");
        assert_eq!(path(&mut routes, &message), "direct", "{room}");
        let told = format!("<presence from='{room}/n'/>");
        assert_eq!(routes.from_server(&parse(&told)), ServerRoute::Direct);
    }
    let unavailable = "<presence type='unavailable'/>";
    assert_eq!(path(&mut routes, unavailable), "direct");
    assert_eq!(path(&mut routes, &join("tea@muc.example.test")), "hub");
}

#[test]
fn nicks_that_need_care() {
    use crate::world::{TEA, World};
    for nick in [
        "Tom &amp; Jerry",
        "\u{1f600}",
        "a/b",
        "d&apos;Artagnan",
        "&lt;x&gt;",
    ] {
        let mut w = World::new();
        w.other_joins("bob", TEA);
        let (a, b) = (w.bind("phone"), w.bind("desk"));
        w.join(a, "Tea@Rooms.test", nick);
        w.run();
        let plain = nick
            .replace("&amp;", "&")
            .replace("&apos;", "'")
            .replace("&lt;", "<")
            .replace("&gt;", ">");
        assert_eq!(
            w.seen(a),
            [
                "presence bob".to_owned(),
                format!("presence {plain} 110"),
                "subject room: ".into()
            ]
        );
        w.join(b, TEA, nick);
        let seen = w.seen(b);
        assert!(
            seen.contains(&format!("presence {plain} 110")),
            "{nick}: {seen:?}"
        );
        w.cut(a);
        w.run();
        w.say(b, "TEA@rooms.test", "1", "hi");
        w.run();
        assert_eq!(w.seen(b), [format!("message {plain}: hi")]);
        w.leave(b, TEA, nick);
        w.run();
        assert_eq!(w.seen(b), [format!("gone {plain} 110")]);
        assert_eq!(w.service.known(TEA).occupants.len(), 1);
    }
}
