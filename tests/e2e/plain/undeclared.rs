//! A prefix that nothing declares: ejabberd 23.01 passes a stanza on without the declarations that
//! its attributes need. Nobody's session may end by what somebody else has written.

use mucplex_testkit::client::Client;

use crate::stage::Stage;

crate::tests![b69_b21_an_undeclared_prefix_ends_no_session];

const FOREIGN: &str = "<body>odd</body><x xmlns='urn:x' e:y='z'/>";

async fn b69_b21_an_undeclared_prefix_ends_no_session(stage: Stage) {
    let room = &stage.room;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    for session in [&mut phone, &mut laptop] {
        session.join(room, "alice").await.unwrap();
    }

    let to = phone.jid().to_owned();
    for (kind, to) in [("chat", to.as_str()), ("groupchat", room)] {
        let odd = format!("<message type='{kind}' xmlns:e='urn:e' to='{to}'>{FOREIGN}</message>");
        bob.send_raw(odd).await.unwrap();
    }
    bob.say(room, "after it").await.unwrap();

    // The client of the kit is as strict as clients are: it is asked for bytes here.
    for session in [&mut phone, &mut laptop] {
        receives(session, "<body>odd</body>").await;
        receives(session, "<body>after it</body>").await;
    }
    // The room's past repeats it.
    let mut late = stage.session(&alice, "late").await;
    late.send_join(room, "alice", &Default::default())
        .await
        .unwrap();
    receives(&mut late, "<subject/>").await;
    for session in [&mut phone, &mut laptop, &mut late] {
        session
            .send_raw("<iq type='get' id='still-here'><ping xmlns='urn:xmpp:ping'/></iq>")
            .await
            .unwrap();
        receives(session, "still-here").await;
    }
}

async fn receives(session: &mut Client, text: &str) {
    let holds = |received: &[u8]| String::from_utf8_lossy(received).contains(text);
    session.read_raw_until(text, holds).await.unwrap();
}
