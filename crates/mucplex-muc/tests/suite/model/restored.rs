//! Whatever an account has lived through, the hub of the next process answers a joiner as the one
//! would have done that lived on (behaviour 63).

use std::time::Duration;

use jid::{BareJid, FullJid};
use mucplex_muc::{
    AccountJid, Hub, Input, Now, Output, RoomJid, Saved, SavedState, SessionId, UplinkId,
};

use super::life::{Life, Setting};
use super::script::{Op, Rng, Script};
use crate::dialect::ALL;
use crate::service::{MUC, parse};

/// A session that nobody else knows.
const PROBE: u64 = 1 << 40;

/// What a session of this resource is sent that joins now.
fn joins(hub: &mut Hub, now: Now, room: &SavedState, account: &str, resource: &str) -> Vec<String> {
    let jid: FullJid = format!("{account}/{resource}").parse().unwrap();
    let (session, uplink) = (SessionId(PROBE), UplinkId(PROBE));
    let bound = Input::SessionBound {
        session,
        uplink,
        jid,
        client_lang: None,
    };
    hub.handle(now, bound);
    while hub.poll_output().is_some() {}
    let (jid, nick) = (&room.room.room, &room.room.nick);
    let join = format!("<presence to='{jid}/{nick}' id='join'><x xmlns='{MUC}'/></presence>");
    let frame = parse(&join);
    hub.handle(now, Input::FromClient { session, frame });
    let mut told = Vec::new();
    while let Some(output) = hub.poll_output() {
        if let Output::ToClient {
            session: SessionId(PROBE),
            stanza,
            ..
        } = output
        {
            told.push(String::from_utf8(stanza.to_bytes().to_vec()).unwrap());
        }
    }
    told
}

/// The next process, with one room, whose carrier is resumed.
fn restored(account: &str, life: &Life, room: SavedState) -> Hub {
    let bare: BareJid = account.parse().unwrap();
    let now = life.world.now();
    let carrier = room.room.carrier.clone();
    let saved = Saved {
        rooms: vec![room],
        ..Saved::default()
    };
    let mut hub = Hub::restore(AccountJid(bare), life.world.policy.clone(), saved, now);
    let jid: FullJid = carrier.unwrap().parse().unwrap();
    let (uplink, lang) = (UplinkId(1), None);
    hub.handle(now, Input::AnchorRestored { uplink, jid, lang });
    while let Some(output) = hub.poll_output() {
        assert!(
            !matches!(output, Output::ToServer { .. }),
            "the room is told: {output:?}"
        );
    }
    hub
}

/// How many rooms could be compared, and with how many the joiner had been there before.
fn compare(life: &mut Life) -> (usize, usize) {
    let (mut compared, mut returned) = (0, 0);
    let stores = life.world.stores.clone();
    for (account, store) in &stores {
        for room in store.saved().rooms {
            let jid: RoomJid = room.room.room.clone();
            let settled = room.room.wanted && !room.room.unsettled;
            if !settled || !life.setting.stays {
                continue;
            }
            // One that was here before and was lost, if there is one.
            let lost = room
                .served
                .iter()
                .find(|(_, served)| served.number.is_some());
            let resource = lost.map_or("probe", |(resource, _)| resource).to_owned();
            let mut hub = restored(account, life, room.clone());
            let now = life.world.now();
            let expected = {
                let hub = life.world.hubs.get_mut(account).unwrap();
                let told = joins(hub, now, &room, account, &resource);
                let ended = Input::SessionEnded {
                    session: SessionId(PROBE),
                    available: false,
                    served: None,
                };
                hub.handle(now, ended);
                while hub.poll_output().is_some() {}
                told
            };
            let told = joins(&mut hub, now, &room, account, &resource);
            assert_eq!(told, expected, "{jid} for {resource}");
            assert!(told.len() >= 2, "{told:?}");
            compared += 1;
            returned += usize::from(lost.is_some());
        }
    }
    (compared, returned)
}

/// Sessions join and are lost, before or after they have had all, and then something is said.
fn visits(life: &mut Life, rng: &mut Rng) {
    let accounts: Vec<String> = life.world.stores.keys().cloned().collect();
    for account in accounts {
        for room in life.world.stores[&account].saved().rooms {
            if !room.room.wanted || room.room.unsettled || room.room.detached_since.is_some() {
                continue;
            }
            let resource = format!("visitor{}", rng.below(2));
            let visitor = life.world.bind_as(&account, &resource, None);
            life.world
                .join(visitor, &room.room.room.to_string(), &room.room.nick);
            life.world.run();
            let all = life.world.sessions[&visitor].all.len();
            life.world.lose_client(visitor, rng.below(all + 1));
            let jid = room.room.room.to_string();
            life.world.other_joins("zoe", &jid);
            for body in ["x", "y"] {
                life.world.other_says("zoe", &jid, body);
            }
            life.world.run();
        }
    }
    life.world.wait(Duration::from_secs(11));
    life.world.run();
}

#[test]
fn b63_a_restored_hub_answers_a_joiner_as_the_one_before() {
    let mut all = (0, 0);
    for seed in 0..400 {
        let dialect = ALL[usize::try_from(seed).unwrap() % ALL.len()];
        let mut rng = Rng(seed);
        let setting = Setting {
            dialect,
            numbered: true,
            stays: true,
            renames: rng.below(4) == 0,
        };
        let script = Script::random(&mut rng).0;
        let mut life = Life::new(setting);
        for op in script {
            life.act(op);
        }
        life.act(Op::Rest);
        visits(&mut life, &mut rng);
        let (compared, returned) = compare(&mut life);
        all = (all.0 + compared, all.1 + returned);
    }
    assert!(all.0 > 300 && all.1 > 50, "too few: {all:?}");
}
