//! What clients ask of stream management: wrong things, things out of turn, and things at once
//! (behaviour 56).

use mucplex_testkit::Element;
use mucplex_testkit::client::{ClientError, Connection, Device, Loss, Resume, Resumption};
use mucplex_testkit::xml::{NS_SM, Stanza};

use super::resume::{Scene, read_to_end};
use crate::raw::end_of;
use crate::stage::Stage;

crate::tests![
    b56_wrong_numbers_end_nothing,
    b56_b71_another_account_resumes_nothing,
    b56_an_unknown_stream_and_then_a_new_session,
    b56_stream_management_is_enabled_once,
    b56_what_follows_at_once_is_taken,
];

/// A client that errs gets no session by that, and can still resume with the right number.
async fn b56_wrong_numbers_end_nothing(stage: Stage) {
    let mut at = Scene::new(&stage, "").await;
    at.talk(2).await;
    at.phone.settle(&at.room).await.unwrap();
    at.phone.ack().await.unwrap();
    at.phone.request_ack().await.unwrap();
    at.phone.lose(Loss::Reset);
    at.talk(2).await;
    for h in [at.phone.told() - 1, 0, at.phone.told() + 1000] {
        let mut other = Device::new(at.front.login(&at.alice).resource("phone"));
        let previd = at.phone.stream_id().map(str::to_owned);
        let h = Some(h);
        let failed = other.resume_with(&Resume { previd, h }).await.unwrap();
        let failed = failed.failed();
        assert_eq!(condition(&failed), "item-not-found");
    }
    at.phone.resume().await.unwrap().resumed();
    at.phone_has_all().await;
    at.room_saw_nothing().await;
}

/// The condition in a `<failed/>` (XEP-0198 5).
pub(super) fn condition(failed: &Stanza) -> &str {
    assert!(failed.is("failed", NS_SM), "{failed:?}");
    failed.children().next().map_or("", Element::name)
}

/// Neither while alice's phone is there, nor while it is away, with its uplink held or cut.
async fn b56_b71_another_account_resumes_nothing(stage: Stage) {
    let mut at = Scene::new(&stage, "").await;
    let mallory = stage.account("mallory").await;
    let steal = async |at: &Scene| {
        let mut thief = Device::new(at.front.login(&mallory).resource("phone"));
        let with = Resume {
            previd: at.phone.stream_id().map(str::to_owned),
            h: Some(at.phone.told()),
        };
        thief.resume_with(&with).await
    };
    let is_refused = |result: Result<Resumption, _>| match result {
        Ok(Resumption::Resumed(stanza)) => panic!("{stanza:?}"),
        Ok(Resumption::Failed(stanza)) => condition(&stanza) == "item-not-found",
        Err(error) => {
            let error: ClientError = error;
            error.to_string().contains("not-authorized")
        }
    };
    // Live.
    assert!(is_refused(steal(&at).await));
    at.talk(1).await;
    at.phone_has_all().await;
    // Held.
    at.phone.lose(Loss::Reset);
    at.talk(1).await;
    assert!(is_refused(steal(&at).await));
    at.phone.resume().await.unwrap().resumed();
    at.phone_has_all().await;
    // Cut.
    at.front.tap.reset(at.uplink().await);
    read_to_end(&mut at.phone).await;
    at.talk(1).await;
    assert!(is_refused(steal(&at).await));
    at.phone.resume().await.unwrap().resumed();
    at.phone_has_all().await;
    at.room_saw_nothing().await;
}

/// XEP-0198 5: the client binds on the same stream.
async fn b56_an_unknown_stream_and_then_a_new_session(stage: Stage) {
    let alice = stage.account("alice").await;
    let mut phone = Device::new(stage.front.login(&alice).resource("phone"));
    let with = Resume {
        previd: Some("no such stream".to_owned()),
        h: Some(7),
    };
    for _ in 0..2 {
        let failed = phone.resume_with(&with).await.unwrap().failed();
        assert_eq!(condition(&failed), "item-not-found");
    }
    phone.bind().await.unwrap();
    assert_eq!(phone.connections(), 1);
    assert_eq!(phone.enable(true).await.unwrap().name(), "enabled");
    phone.drain_until_pong().await.unwrap();
    phone.lose(Loss::Reset);
    phone.resume().await.unwrap().resumed();
    // What has ended in order cannot be resumed.
    let previd = phone.stream_id().map(str::to_owned);
    phone.end().await.unwrap();
    let h = Some(phone.handled());
    let failed = phone.resume_with(&Resume { previd, h }).await.unwrap();
    assert_eq!(condition(&failed.failed()), "item-not-found");
}

async fn b56_stream_management_is_enabled_once(stage: Stage) {
    let alice = stage.account("alice").await;
    let mut phone = Device::connect(stage.front.login(&alice).resource("phone"))
        .await
        .unwrap();
    let id = phone.stream_id().map(str::to_owned).unwrap();
    for again in [
        format!("<enable xmlns='{NS_SM}' resume='true'/>"),
        format!("<resume xmlns='{NS_SM}' previd='{id}' h='0'/>"),
    ] {
        phone.send_raw(again).await.unwrap();
        let failed = phone
            .wait_for("<failed/>", |it| it.ns() == NS_SM)
            .await
            .unwrap();
        assert_eq!(condition(&failed), "unexpected-request");
    }
    phone.drain_until_pong().await.unwrap();
    phone.lose(Loss::Reset);
    phone.resume().await.unwrap().resumed();
    phone.drain_until_pong().await.unwrap();
}

/// What a client sends behind its requests without waiting for the answers.
async fn b56_what_follows_at_once_is_taken(stage: Stage) {
    let front = stage.own_front("").await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.outsider(&bob, "desk").await;
    let to = desk.jid().to_owned();
    let message = |body: &str| {
        format!("<message type='chat' to='{to}' id='{body}'><body>{body}</body></message>")
    };
    let login = front.login(&alice);
    let (mut connection, _) = login.authenticate().await.unwrap();
    let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    let enable = format!("<enable xmlns='{NS_SM}' resume='true'/>");
    let request = format!("<r xmlns='{NS_SM}'/>");
    let first = message("first");
    connection
        .send_raw(format!("{bind}{enable}{first}{request}"))
        .await
        .unwrap();
    let bound = connection.expect("the bind", |it| it.id() == Some("b"));
    bound.await.unwrap();
    let enabled = connection.expect("<enabled/>", |it| it.is("enabled", NS_SM));
    let enabled = enabled.await.unwrap();
    let acked = connection.expect("<a/>", |it| it.is("a", NS_SM));
    assert_eq!(acked.await.unwrap().attr("h"), Some("1"));
    drop(connection);

    let (mut connection, _) = login.authenticate().await.unwrap();
    let id = enabled.attr("id").unwrap();
    let resume = format!("<resume xmlns='{NS_SM}' previd='{id}' h='0'/>");
    let second = message("second");
    connection
        .send_raw(format!("{resume}{second}{request}"))
        .await
        .unwrap();
    let resumed = connection.expect("<resumed/>", |it| it.is("resumed", NS_SM));
    assert_eq!(resumed.await.unwrap().attr("h"), Some("1"));
    let acked = connection.expect("<a/>", |it| it.is("a", NS_SM));
    assert_eq!(acked.await.unwrap().attr("h"), Some("2"));
    for body in ["first", "second"] {
        let got = desk.wait_for(body, |it| it.body().is_some()).await.unwrap();
        assert_eq!(got.id(), Some(body));
    }
    takes_over(&mut connection, login.authenticate().await.unwrap().0, id).await;
}

/// Two connections for one stream: the newer one has it, and the older one is told.
async fn takes_over(older: &mut Connection, mut newer: Connection, id: &str) {
    let resume = format!("<resume xmlns='{NS_SM}' previd='{id}' h='0'/>");
    newer.send_raw(resume).await.unwrap();
    let resumed = newer.expect("<resumed/>", |it| it.is("resumed", NS_SM));
    assert_eq!(resumed.await.unwrap().attr("h"), Some("2"));
    let end = end_of(older).await;
    assert_eq!(end.condition.as_deref(), Some("conflict"));
}
