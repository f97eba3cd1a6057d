//! The push service, and the options of servers that it needs.

use mucplex_testkit::client::{Device, Loss};
use mucplex_testkit::push::PushService;
use mucplex_testkit::server::{Feature, Kind, Options, Server, StreamManagement};
use mucplex_testkit::xml::NS_SM;

crate::on_each_server!(pushes_are_recorded, limits_and_features_left_out);

async fn pushes_are_recorded(kind: Kind) {
    let options = Options {
        push: true,
        ..Options::default()
    };
    let server = Server::start_with(kind, options).await.unwrap();
    let service = PushService::start(&server).await.unwrap();
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let mut desk = bob.unwrap().direct().connect().await.unwrap();
    let login = alice.unwrap().direct().resource("phone");
    let mut phone = Device::connect(login).await.unwrap();
    phone.available().await.unwrap();
    let jid = service.jid();
    phone
        .enable_push(jid, "node & 1", Some("se<ret"))
        .await
        .unwrap();
    phone.request_ack().await.unwrap();
    let to = phone.bare_jid().to_owned();
    phone.lose(Loss::Reset);
    for refusal in [None, Some("internal-server-error")] {
        service.refuse(refusal);
        let message = format!("<message type='chat' to='{to}'><body>wake up</body></message>");
        desk.send_raw(message).await.unwrap();
        let important = |it: &mucplex_testkit::push::Push| it.field("last-message-body").is_some();
        assert!(
            service
                .wait_until(|pushes| pushes.iter().any(important))
                .await
        );
        let push = service.take().into_iter().find(important).unwrap();
        assert_eq!(push.node, "node & 1");
        assert_eq!(push.secret.as_deref(), Some("se<ret"));
        assert_eq!(push.from, server.domain());
    }
    service.refuse(None);
    phone.resume().await.unwrap().resumed();
    // ejabberd has forgotten the service at its first error.
    let disabled = phone.disable_push(jid, None).await;
    assert_eq!(disabled.is_ok(), kind == Kind::Prosody);
    assert_eq!(phone.bodies_from(desk.bare_jid()), ["wake up", "wake up"]);
}

async fn limits_and_features_left_out(kind: Kind) {
    let options = Options {
        without: vec![Feature::StreamManagement, Feature::OfflineStorage],
        ..Options::default()
    };
    let server = Server::start_with(kind, options).await.unwrap();
    let alice = server.account("alice").await.unwrap();
    let (_connection, features) = alice.direct().authenticate().await.unwrap();
    assert!(!features.has_child("sm", NS_SM), "{features:?}");
    drop(server);

    let options = Options {
        stream_management: StreamManagement {
            resume_timeout: Some(77),
            ..StreamManagement::default()
        },
        ..Options::default()
    };
    let server = Server::start_with(kind, options).await.unwrap();
    let login = server.account("alice").await.unwrap().direct();
    let mut phone = Device::new(login);
    phone.bind().await.unwrap();
    let enabled = phone.enable(true).await.unwrap();
    assert_eq!(enabled.attr("max"), Some("77"));
}
