//! Byte for byte (behaviour 70): what the tap before the server has seen against what the client
//! has sent, and what the client has received against what the tap has seen.

use mucplex_testkit::client::{Client, Connection, Direction, Login, Security};
use mucplex_testkit::proxy::Setup;
use mucplex_testkit::scripted::ScriptedServer;
use mucplex_testkit::server::Kind;
use mucplex_testkit::xml::Stanza;
use mucplex_testkit::{DOMAIN, Element};

use crate::raw::{Line, ends_with, uncounted};
use crate::stage::Stage;

crate::tests![
    b70_from_the_client_each_byte_arrives,
    b70_from_the_server_each_byte_arrives,
    b70_prefixes_of_the_stream_header,
    b70_a_large_message_in_one_piece,
    b70_a_message_in_small_pieces,
    b70_many_stanzas_in_one_write,
    b70_whitespace_between_stanzas,
    b70_comments_and_instructions_are_refused,
];

/// What a server may make of itself, but a proxy may not.
const ODD: [&str; 12] = [
    "<message to='{to}' xml:lang='de-CH' id='1'><body xml:lang='en'>a</body><body>b</body></message>",
    "<message xmlns:e='urn:e' e:mark='1' to='{to}' other='2'><e:x e:y=\"z\"/><body>a</body></message>",
    "<message\n\tto = '{to}'  id\r\n=\"&#x31;&apos;&quot;\"   ><body  >a</body\n></message >",
    "<message to=\"{to}\" id='\"'><body>&lt;&gt;&amp;&apos;&quot; &#228; &#xE4; &#x1F600;</body></message>",
    "<message to='{to}'>\n  <body>\n a \t b \r\n</body>\n  </message>",
    "<message to='{to}'><body><![CDATA[<b>&amp;]] ></b>]]>c<![CDATA[]]></body></message>",
    "<message to='{to}'><body/><x xmlns='urn:x'></x><y xmlns='urn:y' /></message>",
    "<message to='{to}'><body>\u{1f600}\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{e4}\u{4e2d}\u{10ffff}</body></message>",
    "<c:message xmlns:c='jabber:client' to='{to}'><c:body>prefixed</c:body></c:message>",
    "<message to='{to}'><body>a</body><x xmlns='urn:x'><message xmlns='jabber:client' to='x'/></x></message>",
    "<presence to='{to}' type='unavailable' id=''/>",
    "<iq to='{to}' type='result' id='&amp;'><a xmlns=''/></iq>",
];

/// A session through a line of its own, and the number of its uplink.
async fn session(stage: &Stage) -> (Line, Client, usize) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let mut client = line
        .proxy
        .login(&alice)
        .resource("phone")
        .connect()
        .await
        .unwrap();
    client.drain_until_pong().await.unwrap();
    let uplink = line.uplink(&client);
    (line, client, uplink)
}

/// Sends the pieces, each in a write of its own, and asserts that these bytes and no others have
/// arrived, and that what has come back is what the server has sent.
async fn pass(line: &Line, client: &mut Client, uplink: usize, pieces: &[&[u8]]) {
    let before = &line.tap.recordings()[uplink];
    let received = client.received_raw().len();
    for piece in pieces {
        client.send_raw(piece).await.unwrap();
    }
    let ping = client
        .send_iq("get", Some(DOMAIN), "<ping xmlns='urn:xmpp:ping'/>")
        .await
        .unwrap();
    let is_pong = |stanza: &Stanza| stanza.name() == "iq" && stanza.id() == Some(&ping);
    client.wait_for("the pong", is_pong).await.unwrap();

    let sent: Vec<u8> = pieces.concat();
    let ping = client
        .log()
        .iter()
        .rev()
        .find(|entry| entry.text.contains(&ping) && entry.text.contains("urn:xmpp:ping"));
    let expected = [sent.as_slice(), ping.unwrap().text.as_bytes()].concat();
    let after = &line.tap.recordings()[uplink];
    same_bytes(&uncounted(&after.up[before.up.len()..]), &expected);
    same_bytes(
        &client.received_raw()[received..],
        &uncounted(&after.down[before.down.len()..]),
    );
}

#[track_caller]
fn same_bytes(got: &[u8], expected: &[u8]) {
    let differ = got.iter().zip(expected).position(|(a, b)| a != b);
    let at = differ.unwrap_or(got.len().min(expected.len()));
    let near = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[at.saturating_sub(80)..bytes.len().min(at + 80)])
            .into_owned()
    };
    assert!(
        got == expected,
        "at byte {at}: {:?} instead of {:?}",
        near(got),
        near(expected)
    );
}

async fn b70_from_the_client_each_byte_arrives(stage: Stage) {
    let (line, mut client, uplink) = session(&stage).await;
    let mut bob = stage.outsider(&stage.account("bob").await, "desk").await;
    for xml in ODD {
        let xml = xml.replace("{to}", bob.jid());
        pass(&line, &mut client, uplink, &[xml.as_bytes()]).await;
    }
    if stage.kind == Kind::Ejabberd {
        // It leaves out the declaration of a prefix that it passes on, so bob cannot read on.
        return;
    }
    // The server has taken them for what they are.
    let seen = bob.drain_until_pong().await.unwrap();
    let bodies: Vec<String> = seen.iter().filter_map(Stanza::body).collect();
    assert!(
        bodies.contains(&"<b>&amp;]] ></b>c".to_owned()),
        "{bodies:?}"
    );
    assert!(bodies.contains(&"prefixed".to_owned()), "{bodies:?}");
}

async fn b70_from_the_server_each_byte_arrives(_: Stage) {
    let server = ScriptedServer::start().await.unwrap();
    let proxy = Setup::new(server.address()).start().await.unwrap();
    let login = Login::new(proxy.direct_tls(), DOMAIN, "alice", "secret")
        .security(Security::DirectTls(proxy.trust()))
        .resource("phone");
    let (client, peer) = tokio::join!(login.connect(), server.accept());
    let (mut client, mut peer) = (client.unwrap(), peer.unwrap());
    let mut before = client.received_raw().len();
    for (number, xml) in ODD.iter().enumerate() {
        let end =
            format!("<message from='end{number}@example.test/e' to='alice@example.test/phone'/>");
        let bytes = format!("{}\n {end}", xml.replace("{to}", client.jid()));
        for piece in bytes.as_bytes().chunks(1 + number * 7) {
            peer.send_raw(piece).await.unwrap();
        }
        let arrived = |all: &[u8]| all.ends_with(end.as_bytes());
        client.read_raw_until(&end, arrived).await.unwrap();
        same_bytes(&client.received_raw()[before..], bytes.as_bytes());
        before = client.received_raw().len();
    }
}

async fn b70_prefixes_of_the_stream_header(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let mut bob = stage.outsider(&stage.account("bob").await, "desk").await;
    let header = format!(
        "<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xml:lang='sv' xmlns='jabber:client' \
         xmlns:ex='urn:example:ex' xmlns:stream='http://etherx.jabber.org/streams'>"
    );
    let trust = line.proxy.trust();
    let mut connection = Connection::open_tls(line.proxy.direct_tls(), DOMAIN, &trust)
        .await
        .unwrap();
    let login = line.proxy.login(&alice).resource("phone");
    open(&mut connection, &header).await;
    login.sasl(&mut connection).await.unwrap();
    connection.restart_reader();
    open(&mut connection, &header).await;
    let mut client = login.bind(connection).await.unwrap();
    client.drain_until_pong().await.unwrap();
    let uplink = line.uplink(&client);
    assert_eq!(
        line.tap.recordings()[uplink].count_up("xmlns:ex='urn:example:ex'"),
        2
    );

    let xml = format!(
        "<message to='{}' ex:a='1'><ex:b>c</ex:b></message>",
        bob.jid()
    );
    pass(&line, &mut client, uplink, &[xml.as_bytes()]).await;
    if stage.kind == Kind::Ejabberd {
        return;
    }
    let heard = bob.recv().await.unwrap();
    assert!(heard.has_child("b", "urn:example:ex"), "{heard:?}");
    assert!(heard.raw_str().contains("xml:lang='sv'"), "{heard:?}");
}

async fn open(connection: &mut Connection, header: &str) {
    connection.send_raw(header).await.unwrap();
    connection.header().await.unwrap();
    connection.features().await.unwrap();
}

async fn b70_a_large_message_in_one_piece(stage: Stage) {
    let (line, mut client, uplink) = session(&stage).await;
    let body = "0123456789abcdef".repeat(200 * 1024 / 16);
    // To itself: what comes back from the server is as large.
    let xml = format!(
        "<message type='chat' to='{}'><body>{body}</body></message>",
        client.jid()
    );
    pass(&line, &mut client, uplink, &[xml.as_bytes()]).await;
    let raw = String::from_utf8_lossy(client.received_raw());
    assert_eq!(raw.matches(&body).count(), 1);
}

async fn b70_a_message_in_small_pieces(stage: Stage) {
    let (line, mut client, uplink) = session(&stage).await;
    let xml = format!(
        "<message type='chat' to='{}'><body>\u{1f600} in pieces &amp; <![CDATA[<more>]]></body></message>",
        client.jid()
    );
    let pieces: Vec<&[u8]> = xml.as_bytes().chunks(7).collect();
    pass(&line, &mut client, uplink, &pieces).await;
}

async fn b70_many_stanzas_in_one_write(stage: Stage) {
    let (line, mut client, uplink) = session(&stage).await;
    let xml: String = (0..60)
        .map(|number| {
            format!(
                "<message type='chat' id='{number}' to='{}'><body>{number}</body></message>",
                client.jid()
            )
        })
        .collect();
    pass(&line, &mut client, uplink, &[xml.as_bytes()]).await;
    let ids: Vec<String> = received_ids(&client)
        .into_iter()
        .filter(|id| id.len() < 3)
        .collect();
    assert_eq!(
        ids,
        (0..60).map(|number| number.to_string()).collect::<Vec<_>>()
    );
}

/// The ids of the messages that were received, in order.
fn received_ids(client: &Client) -> Vec<String> {
    let received = client
        .log()
        .iter()
        .filter(|entry| entry.text.starts_with("<message"));
    let received = received.filter(|entry| entry.direction == Direction::Received);
    let elements = received.map(|entry| {
        let xml = entry
            .text
            .replacen("<message", "<message xmlns='jabber:client'", 1);
        xml.parse::<Element>().unwrap()
    });
    elements
        .filter_map(|element| element.attr("id").map(str::to_owned))
        .collect()
}

async fn b70_whitespace_between_stanzas(stage: Stage) {
    let (line, mut client, uplink) = session(&stage).await;
    let xml = format!("<message to='{}'/>", client.jid());
    let pieces: [&[u8]; 5] = [b" ", b"\n", xml.as_bytes(), b"\r\n\t ", xml.as_bytes()];
    pass(&line, &mut client, uplink, &pieces).await;
}

async fn b70_comments_and_instructions_are_refused(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    for bytes in [
        "<!-- between -->",
        "<message><body>a<!-- inside -->b</body></message>",
        "<message><?php echo ?></message>",
        "<message><body>&nbsp;</body></message>",
    ] {
        let mut client = line
            .proxy
            .login(&alice)
            .resource("phone")
            .connect()
            .await
            .unwrap();
        let uplink = line.uplink(&client);
        client.send_raw(bytes).await.unwrap();
        ends_with(&mut client, "restricted-xml").await;
        assert!(
            line.tap
                .wait_until(|links| links.iter().all(|link| link.closed))
                .await
        );
        let up = String::from_utf8_lossy(&line.tap.recordings()[uplink].up).into_owned();
        assert!(
            !up.contains("<!--") && !up.contains("<?php") && !up.contains("nbsp"),
            "{up}"
        );
    }
}
