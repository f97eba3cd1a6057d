//! What looks like a room and is none (behaviour 68): an account that answers whoever asks to enter.

use mucplex_testkit::client::Client;
use mucplex_testkit::xml::{NS_MUC, Stanza};

use crate::stage::{Front, Stage, mark};

crate::tests![
    b68_a_bot_answers_as_without_the_proxy,
    b68_a_bot_that_only_talks_is_answered,
    b68_a_room_beside_a_bot_is_multiplexed,
];

/// Somebody's account that answers what it gets, and notes it.
struct Bot {
    client: Client,
    /// Who has sent what.
    got: Vec<(String, String)>,
    /// It shows a presence to those who come.
    shows: bool,
}

impl Bot {
    async fn new(stage: &Stage, shows: bool) -> Self {
        let account = stage.account("bot").await;
        Self {
            client: stage.outsider(&account, "here").await,
            got: Vec::new(),
            shows,
        }
    }

    /// Takes and answers so many stanzas.
    async fn serve(&mut self, stanzas: usize) {
        for _ in 0..stanzas {
            let stanza = self.client.recv_for("what sessions send").await.unwrap();
            let from = stanza.from().unwrap().to_owned();
            self.got.push((from.clone(), of(&stanza)));
            let answer = match (stanza.name(), stanza.kind()) {
                ("presence", None) if self.shows => {
                    format!("<presence to='{from}'><show>chat</show></presence>")
                }
                ("presence", None) => format!(
                    "<message to='{from}' type='chat' id='welcome'><body>welcome</body></message>"
                ),
                ("message", _) => {
                    let body = stanza.body().unwrap();
                    format!(
                        "<message to='{from}' type='chat' id='re'><body>re: {body}</body></message>"
                    )
                }
                ("iq", Some("get")) => {
                    let id = stanza.id().unwrap();
                    format!(
                        "<iq type='result' to='{from}' id='{id}'><q xmlns='urn:example:q'/></iq>"
                    )
                }
                _ => continue,
            };
            self.client.send_raw(answer).await.unwrap();
        }
    }

    /// What one has sent, in its order.
    fn heard_of(&self, who: &str) -> Vec<&str> {
        let got = self.got.iter().filter(|(from, _)| from == who);
        got.map(|(_, what)| what.as_str()).collect()
    }
}

/// A stanza without its addresses.
fn of(stanza: &Stanza) -> String {
    let payload = stanza
        .children()
        .map(|child| format!("{}={} ", child.name(), child.text()));
    let payload: String = payload.collect();
    let (kind, id) = (stanza.kind().unwrap_or("-"), stanza.id().unwrap_or("-"));
    format!("{} {kind} {id} {payload}", stanza.name())
}

/// Asks to enter, and has more to say behind that.
async fn enter(session: &mut Client, bot: &str) {
    session
        .send_raw(format!(
            "<presence to='{bot}' id='enter'><x xmlns='{NS_MUC}'/></presence>\
             <message to='{bot}' type='chat' id='first'><body>first</body></message>\
             <iq type='get' to='{bot}' id='ask'><q xmlns='urn:example:q'/></iq>"
        ))
        .await
        .unwrap();
}

/// So many stanzas of the bot.
async fn of_bot(session: &mut Client, bot: &str, stanzas: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < stanzas {
        let stanza = session.recv_for("what the bot says").await.unwrap();
        assert_eq!(stanza.from(), Some(bot), "{stanza:?}");
        assert_eq!(stanza.to(), Some(session.jid()), "{stanza:?}");
        lines.push(of(&stanza));
    }
    lines
}

/// Two sessions of an account speak with a bot; gives what each side gets from the other.
async fn visit(stage: &Stage, front: Option<&Front>, shows: bool) -> Vec<Vec<String>> {
    let mut bot = Bot::new(stage, shows).await;
    let jid = bot.client.jid().to_owned();
    let alice = stage.account("alice").await;
    let mut sessions = Vec::new();
    for resource in ["phone", "laptop"] {
        sessions.push(match front {
            Some(front) => front.session(&alice, resource).await,
            None => stage.outsider(&alice, resource).await,
        });
    }
    let mut views = Vec::new();
    for session in &mut sessions {
        enter(session, &jid).await;
    }
    bot.serve(6).await;
    for session in &mut sessions {
        views.push(of_bot(session, &jid, 3).await);
    }
    // The bot begins.
    for session in &mut sessions {
        let to = session.jid();
        let xml = format!(
            "<iq type='get' to='{to}' id='q'><q xmlns='urn:example:q'/></iq>\
             <presence to='{to}'><show>dnd</show></presence>\
             <message to='{to}' type='chat' id='m'><body>news</body></message>"
        );
        bot.client.send_raw(xml).await.unwrap();
        views.push(of_bot(session, &jid, 3).await);
        let answers = format!(
            "<iq type='result' to='{jid}' id='q'/><presence to='{jid}'><show>away</show></presence>\
             <message to='{jid}' type='chat' id='m2'><body>thanks</body></message>"
        );
        session.send_raw(answers).await.unwrap();
        bot.serve(3).await;
    }
    for session in &mut sessions {
        views.push(of_bot(session, &jid, 2).await);
    }
    // One goes by a word of its own, the other with its stream.
    let [phone, laptop] = &sessions[..] else {
        unreachable!()
    };
    let jids = [phone.jid().to_owned(), laptop.jid().to_owned()];
    let gone = format!("<presence type='unavailable' to='{jid}'><status>bye</status></presence>");
    sessions[0].send_raw(gone).await.unwrap();
    bot.serve(1).await;
    for session in sessions {
        session.close().await.unwrap();
    }
    bot.serve(1).await;
    for who in &jids {
        views.push(bot.heard_of(who).into_iter().map(str::to_owned).collect());
    }
    views
}

async fn compare(stage: &Stage, shows: bool) {
    let front = stage.own_front("").await;
    let direct = visit(stage, None, shows).await;
    let proxied = visit(stage, Some(&front), shows).await;
    for (direct, proxied) in direct.iter().zip(&proxied) {
        assert_eq!(direct, proxied);
    }
    assert_eq!(direct.len(), proxied.len());
    // Each session has asked by itself, on its own uplink.
    let recordings = front.tap.recordings();
    let asked: Vec<_> = recordings
        .iter()
        .map(|recording| recording.count_up("id='enter'"))
        .filter(|count| *count > 0)
        .collect();
    assert_eq!(asked, [1, 1]);
}

async fn b68_a_bot_answers_as_without_the_proxy(stage: Stage) {
    compare(&stage, true).await;
}

async fn b68_a_bot_that_only_talks_is_answered(stage: Stage) {
    compare(&stage, false).await;
}

async fn b68_a_room_beside_a_bot_is_multiplexed(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let mut bot = Bot::new(&stage, true).await;
    let jid = bot.client.jid().to_owned();
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    for session in [&mut phone, &mut laptop] {
        enter(session, &jid).await;
    }
    bot.serve(6).await;
    for session in [&mut phone, &mut laptop] {
        of_bot(session, &jid, 3).await;
        session.join(&stage.room, "alice").await.unwrap();
    }
    mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await;
    assert_eq!(front.tap.count_up(&format!("to='{}/alice'", stage.room)), 1);
    // The carrier goes, and the bot is told by the server as ever.
    let gone = phone.jid().to_owned();
    phone.close().await.unwrap();
    bot.serve(1).await;
    assert_eq!(bot.heard_of(&gone).last(), Some(&"presence unavailable - "));
    let message =
        format!("<message to='{jid}' type='chat' id='m'><body>still here</body></message>");
    laptop.send_raw(message).await.unwrap();
    bot.serve(1).await;
    let is_it = |stanza: &Stanza| stanza.body().as_deref() == Some("re: still here");
    laptop.wait_for("the bot's answer", is_it).await.unwrap();
    mark(&mut bob, &stage.room, [&mut laptop]).await;
}
