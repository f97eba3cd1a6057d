//! Children of the stream that are no stanzas (behaviour 69). Some end a stream, which a scenario
//! of the transparency suite cannot tell.

use mucplex_testkit::xml::NS_STREAM;

use crate::stage::Stage;

crate::tests![b69_unknown_nonzas];

async fn b69_unknown_nonzas(mut stage: Stage) {
    for nonza in [
        "<foo xmlns='urn:example:unknown'/>",
        "<foo/>",
        "<a xmlns='urn:xmpp:sm:99' h='1'/>",
        "<message xmlns='jabber:server' to='bob@example.test'/>",
        "<stream:foo/>",
    ] {
        let mut outcomes = Vec::new();
        for direct in [true, false] {
            stage.direct = direct;
            let mut client = stage.session(&stage.account("alice").await, "phone").await;
            client.send_raw(nonza).await.unwrap();
            client
                .send_iq("get", None, "<ping xmlns='urn:xmpp:ping'/>")
                .await
                .unwrap();
            let answer = client.recv().await.unwrap();
            let ends = answer.is("error", NS_STREAM);
            let condition = answer
                .children()
                .next()
                .filter(|_| ends)
                .map(|child| child.name().to_owned());
            outcomes.push((answer.name().to_owned(), condition));
        }
        assert_eq!(
            outcomes[0], outcomes[1],
            "{nonza}: directly, and through the proxy"
        );
    }
}
