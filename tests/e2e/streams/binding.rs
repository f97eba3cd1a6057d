//! Binding, and what clients send before they know that it is done.

use mucplex_testkit::DOMAIN;
use mucplex_testkit::client::STREAM_HEADER_END;
use mucplex_testkit::xml::{NS_BIND, NS_STREAM, Stanza};

use crate::raw::{Line, end_of, ends_with};
use crate::stage::Stage;

crate::tests![
    binding_of_a_resource_of_the_servers_choice,
    binding_of_a_resource_in_use_ends_the_older_session,
    binding_twice_is_refused,
    binding_before_the_login_is_refused,
    what_the_proxy_does_not_do_is_refused_and_the_session_goes_on,
    what_is_sent_behind_the_binding_is_not_lost,
    what_is_sent_behind_the_login_is_not_lost,
    b73_a_from_that_is_not_its_own_is_refused,
];

async fn binding_of_a_resource_of_the_servers_choice(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let mut first = line.proxy.login(&alice).connect().await.unwrap();
    let mut second = line.proxy.login(&alice).connect().await.unwrap();
    assert_ne!(first.jid(), second.jid());
    for client in [&mut first, &mut second] {
        assert!(!client.resource().is_empty());
        assert!(client.drain_until_pong().await.unwrap().is_empty());
        line.uplink(client);
    }
}

async fn binding_of_a_resource_in_use_ends_the_older_session(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let mut older = line
        .proxy
        .login(&alice)
        .resource("phone")
        .connect()
        .await
        .unwrap();
    let mut newer = line
        .proxy
        .login(&alice)
        .resource("phone")
        .connect()
        .await
        .unwrap();

    let error = older.recv_for("the end by a conflict").await.unwrap();
    assert!(
        error.is("error", NS_STREAM) && error.raw_str().contains("<conflict"),
        "{error:?}"
    );
    assert_eq!(
        line.tap.count_down(error.raw_str()),
        1,
        "in the server's own words"
    );
    let end = end_of(&mut older).await;
    assert!(end.before.is_empty() && end.condition.is_none(), "{end:?}");
    assert_eq!(newer.resource(), "phone");
    assert!(newer.drain_until_pong().await.unwrap().is_empty());
}

async fn binding_twice_is_refused(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let mut client = line
        .proxy
        .login(&alice)
        .resource("phone")
        .connect()
        .await
        .unwrap();
    let bind = format!("<bind xmlns='{NS_BIND}'><resource>other</resource></bind>");
    let answer = client.iq("set", None, &bind).await.unwrap();
    assert_eq!(answer.error_condition(), Some("not-allowed"), "{answer:?}");
    assert!(client.drain_until_pong().await.unwrap().is_empty());
    assert_eq!(line.tap.count_up(NS_BIND), 1);
}

async fn binding_before_the_login_is_refused(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let (mut connection, _) = line.secured().await;
    connection
        .send_raw(format!(
            "<iq type='set' id='early'><bind xmlns='{NS_BIND}'/></iq>"
        ))
        .await
        .unwrap();
    let answer = connection.recv().await.unwrap();
    assert_eq!(
        (answer.id(), answer.kind()),
        (Some("early"), Some("error")),
        "{answer:?}"
    );
    assert_eq!(line.tap.count_up(NS_BIND), 0);
}

async fn what_the_proxy_does_not_do_is_refused_and_the_session_goes_on(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let mut client = line
        .proxy
        .login(&alice)
        .resource("phone")
        .connect()
        .await
        .unwrap();
    for request in [
        "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
    ] {
        client.send_raw(request).await.unwrap();
        let answer = client.recv().await.unwrap();
        assert!(
            matches!(answer.name(), "failed" | "failure"),
            "{request}: {answer:?}"
        );
    }
    assert!(client.drain_until_pong().await.unwrap().is_empty());
    assert_eq!(
        line.tap.count_up("<resume") + line.tap.count_up("compress"),
        0
    );
}

const BEHIND: &str = "<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq><presence/>\
    <iq type='get' id='ping1' to='example.test'><ping xmlns='urn:xmpp:ping'/></iq>\
    <iq type='get' id='ping2' to='example.test'><ping xmlns='urn:xmpp:ping'/></iq>";

async fn what_is_sent_behind_the_binding_is_not_lost(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let (mut connection, _) = line.proxy.login(&alice).authenticate().await.unwrap();
    let bind = format!(
        "<iq type='set' id='bind'><bind xmlns='{NS_BIND}'><resource>phone</resource></bind></iq>"
    );
    connection
        .send_raw(format!("{bind}{BEHIND}"))
        .await
        .unwrap();
    let mut ids = Vec::new();
    while ids.last().map(String::as_str) != Some("ping2") {
        let stanza = connection.recv_for("all the answers").await.unwrap();
        ids.extend(
            stanza
                .id()
                .filter(|_| stanza.name() == "iq")
                .map(str::to_owned),
        );
    }
    assert_eq!(ids, ["bind", "roster", "ping1", "ping2"]);
    assert_eq!(line.tap.count_up(BEHIND), 1);
}

async fn what_is_sent_behind_the_login_is_not_lost(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let (mut connection, _) = line.secured().await;
    // XEP-0305: the next header, and more, in the same write as <auth/>.
    let plain = format!("\0{}\0{}", alice.user, alice.password);
    let auth = base64(plain.as_bytes());
    let bind = format!(
        "<iq type='set' id='bind'><bind xmlns='{NS_BIND}'><resource>phone</resource></bind></iq>"
    );
    connection
        .send_raw(format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{auth}</auth>\
             <?xml version='1.0'?><stream:stream to='{DOMAIN}' {STREAM_HEADER_END}{bind}{BEHIND}"
        ))
        .await
        .unwrap();
    let success = connection.recv().await.unwrap();
    assert_eq!(success.name(), "success");
    connection.restart_reader();
    connection.header().await.unwrap();
    connection.features().await.unwrap();
    let is_last = |stanza: &Stanza| stanza.id() == Some("ping2");
    connection
        .wait_for("the last answer", is_last)
        .await
        .unwrap();
    assert_eq!(line.tap.count_up(BEHIND), 1);
}

/// RFC 4648 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group
            .iter()
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let number = number << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}

async fn b73_a_from_that_is_not_its_own_is_refused(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut heard = stage.outsider(&bob, "desk").await;
    for from in [
        bob.jid(),
        format!("{}/other", alice.jid()),
        DOMAIN.to_owned(),
        String::new(),
    ] {
        let mut client = line
            .proxy
            .login(&alice)
            .resource("phone")
            .connect()
            .await
            .unwrap();
        let to = heard.jid();
        client
            .send_raw(format!(
                "<message from='{from}' to='{to}'><body>forged</body></message>"
            ))
            .await
            .unwrap();
        ends_with(&mut client, "invalid-from").await;
    }
    let mut client = line
        .proxy
        .login(&alice)
        .resource("phone")
        .connect()
        .await
        .unwrap();
    for from in [client.jid().to_owned(), alice.jid()] {
        let to = heard.jid();
        client
            .send_raw(format!(
                "<message from='{from}' to='{to}'><body>own</body></message>"
            ))
            .await
            .unwrap();
        let message = heard.recv().await.unwrap();
        assert_eq!(
            (message.from(), message.body().as_deref()),
            (Some(client.jid()), Some("own"))
        );
    }
    assert_eq!(line.tap.count_up("forged"), 0);
}
