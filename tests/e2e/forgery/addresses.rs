//! Stanzas from addresses like the room's, and of the room to a stream that is not in it
//! (behaviour 72).

use mucplex_testkit::xml::Stanza;

use super::{Played, as_alice, forgeries, last_word};
use crate::stage::{Stage, marked, nick, outline};

crate::tests![
    b72_forged_codes_from_addresses_of_the_rooms_service,
    b72_forged_codes_on_an_uplink_that_does_not_carry_the_room,
    b72_forged_codes_to_the_bare_account,
];

/// Every kind of stanza that could carry a forgery, `{from}` and `{to}` to be filled in.
fn stanzas() -> Vec<String> {
    let mut all = Vec::new();
    for forged in forgeries() {
        all.extend([
            format!("<presence from='{{from}}' to='{{to}}'>{forged}</presence>"),
            format!("<presence type='unavailable' from='{{from}}' to='{{to}}'>{forged}</presence>"),
            format!(
                "<message type='groupchat' from='{{from}}' to='{{to}}'><subject>lies</subject>\
                 {forged}</message>"
            ),
            format!(
                "<message type='groupchat' from='{{from}}' to='{{to}}'><body>lies</body>\
                 {forged}</message>"
            ),
            format!("<message from='{{from}}' to='{{to}}'><body>lies</body>{forged}</message>"),
        ]);
    }
    all
}

/// A room whose name begins like the room's, or ends like it, and the service itself. They are
/// strangers to the account, and each session sees what it would see without the proxy.
async fn b72_forged_codes_from_addresses_of_the_rooms_service(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let room = at.room.jid().to_owned();
    let (local, domain) = room.split_once('@').unwrap();
    let liars = [
        format!("{local}0@{domain}/alice"),
        format!("x{local}@{domain}/alice"),
        format!("{}@{domain}/alice", &local[..local.len() - 1]),
        format!("{domain}/alice"),
        format!("{domain}/{room}/alice"),
        domain.to_owned(),
    ];
    for from in liars {
        for stanza in stanzas() {
            for client in [&at.phone, &at.laptop, &at.dora] {
                let stanza = stanza.replace("{from}", &from);
                at.room.send(stanza.replace("{to}", client.jid()));
            }
        }
        let expected = as_alice(&last_word(&at.room, &from, &mut at.dora).await);
        assert!(
            expected.len() > 10,
            "the server keeps them back: {expected:?}"
        );
        for client in [&mut at.phone, &mut at.laptop] {
            let seen = last_word(&at.room, &from, client).await;
            assert_eq!(outline(&seen), expected, "from {from}");
        }
    }
    at.unchanged(&stage).await;
}

/// The room's own address, on the laptop's own uplink: no stanza of the room has any business
/// there. What is not for everybody in the room, a message of the room itself, is passed on.
async fn b72_forged_codes_on_an_uplink_that_does_not_carry_the_room(stage: Stage) {
    let mut at = Played::new(&stage).await;
    assert_eq!(at.room.streams("alice"), [at.phone.jid()]);
    for from in ["", "/alice", "/c1", "/nobody", "/dora"] {
        for stanza in stanzas() {
            let from = format!("{}{from}", at.room.jid());
            let stanza = stanza.replace("{from}", &from);
            at.room.send(stanza.replace("{to}", at.laptop.jid()));
        }
    }
    let seen = last_word(&at.room, "somebody@scripted.test", &mut at.laptop).await;
    let said_by_room = |it: &Stanza| it.from() == Some(at.room.jid()) && it.kind().is_none();
    assert!(seen.iter().all(said_by_room), "{:#?}", outline(&seen));
    assert_eq!(seen.len(), forgeries().len());
    let sessions = [&mut at.phone, &mut at.laptop];
    for seen in marked(&at.room, "alice", sessions).await {
        assert_eq!(outline(&seen), [""; 0]);
    }
    at.unchanged(&stage).await;
}

/// A server gives what is for the bare JID to each available stream: to the carrier, and to the
/// laptop's own uplink. Each session sees it once.
async fn b72_forged_codes_to_the_bare_account(stage: Stage) {
    let mut at = Played::new(&stage).await;
    for client in [&mut at.phone, &mut at.laptop, &mut at.dora] {
        client.available().await.unwrap();
        client.drain_until_pong().await.unwrap();
    }
    for forged in forgeries() {
        for client in [&at.phone, &at.dora] {
            let (from, to) = (at.room.occupant("nobody"), client.bare_jid());
            at.room.send(format!(
                "<presence type='unavailable' from='{from}' to='{to}'>{forged}</presence>"
            ));
        }
    }
    // Beside it come the account's own presences, when each server gets to them.
    let [phone, laptop] = marked(&at.room, "alice", [&mut at.phone, &mut at.laptop]).await;
    let [mut dora] = marked(&at.room, "dora", [&mut at.dora]).await;
    let of_room = |it: &Stanza| nick(it) == "nobody";
    dora.retain(of_room);
    assert_eq!(dora.len(), forgeries().len());
    for mut seen in [phone, laptop] {
        seen.retain(of_room);
        assert_eq!(outline(&seen), outline(&dora));
    }
    at.unchanged(&stage).await;
}
