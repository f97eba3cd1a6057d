//! Changes into the file.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use jid::BareJid;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    queue::Work,
    record::{AnchorState, Occupant, Op, PushRegistration, RoomRecord, Served, StoredMessage},
    time::{day, millis, signed, whole_millis},
};

/// Accounts whose row ids are remembered.
const MOST_ACCOUNTS: usize = 4_096;

/// Row ids, so that a message does not cost two look-ups. They are what the last transaction that
/// was committed left: after one that was not all are dropped. Retention forgets no account that was
/// seen today, and one that was not is looked up again.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    accounts: HashMap<BareJid, AccountIds>,
}

#[derive(Debug)]
struct AccountIds {
    id: i64,
    seen: i64,
    rooms: HashMap<BareJid, i64>,
}

/// What has been added to rooms, by row id.
pub(crate) type Growth = HashMap<i64, (usize, usize)>;

impl Ids {
    pub(crate) fn clear(&mut self) {
        self.accounts.clear();
    }

    fn account(
        &mut self,
        file: &Connection,
        jid: &BareJid,
        today: i64,
    ) -> rusqlite::Result<&mut AccountIds> {
        if self.accounts.get(jid).is_none_or(|ids| ids.seen != today) {
            let id = file
                .prepare_cached(
                    "INSERT INTO account (jid, seen) VALUES (?1, ?2)
                     ON CONFLICT DO UPDATE SET seen = excluded.seen RETURNING id",
                )?
                .query_row(params![jid.as_str(), today], |row| row.get(0))?;
            if self.accounts.len() >= MOST_ACCOUNTS {
                self.accounts.clear();
            }
            let ids = AccountIds {
                id,
                seen: today,
                rooms: HashMap::new(),
            };
            self.accounts.insert(jid.clone(), ids);
        }
        self.accounts
            .get_mut(jid)
            .ok_or(rusqlite::Error::QueryReturnedNoRows)
    }
}

impl AccountIds {
    fn room(&mut self, file: &Connection, jid: &BareJid) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.rooms.get(jid) {
            return Ok(Some(*id));
        }
        let id: Option<i64> = file
            .prepare_cached("SELECT id FROM room WHERE account = ?1 AND jid = ?2")?
            .query_row(params![self.id, jid.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            self.rooms.insert(jid.clone(), id);
        }
        Ok(id)
    }
}

/// Applies the changes of one batch.
pub(crate) fn apply(
    file: &Connection,
    ids: &mut Ids,
    growth: &mut Growth,
    work: &Work,
    now: SystemTime,
) -> rusqlite::Result<()> {
    let today = day(now);
    if work.ops.is_empty() {
        ids.account(file, &work.account, today)?;
    }
    for op in &work.ops {
        if matches!(op, Op::ForgetAccount) {
            ids.accounts.remove(&work.account);
            let jid = params![work.account.as_str()];
            run(file, "DELETE FROM account WHERE jid = ?1", jid)?;
            continue;
        }
        let account = ids.account(file, &work.account, today)?;
        of_account(file, account, growth, op)?;
    }
    Ok(())
}

fn of_account(
    file: &Connection,
    account: &mut AccountIds,
    growth: &mut Growth,
    op: &Op,
) -> rusqlite::Result<()> {
    let id = account.id;
    match op {
        Op::PutRoom(record) => put_room(file, id, record),
        Op::ForgetRoom(room) => {
            account.rooms.remove(room);
            let sql = "DELETE FROM room WHERE account = ?1 AND jid = ?2";
            run(file, sql, params![id, room.as_str()])
        }
        Op::PutOccupant { room, .. }
        | Op::RemoveOccupant { room, .. }
        | Op::ReplaceOccupants { room, .. }
        | Op::AddMessage { room, .. }
        | Op::DropMessages(room)
        | Op::PutServed(Served { room, .. })
        | Op::RemoveServed { room, .. } => match account.room(file, room)? {
            Some(room) => of_room(file, room, growth, op),
            None => Ok(()),
        },
        Op::PutAnchor(anchor) => put_anchor(file, id, anchor),
        Op::AnchorHandled { h_in } => {
            let sql = "UPDATE anchor SET h_in = ?2 WHERE account = ?1";
            run(file, sql, params![id, h_in])
        }
        Op::RemoveAnchor => run(file, "DELETE FROM anchor WHERE account = ?1", params![id]),
        Op::PutKey(key) => {
            let sql = "INSERT OR REPLACE INTO sealed_key (account, sealed) VALUES (?1, ?2)";
            run(file, sql, params![id, &*key.bytes])
        }
        Op::RemoveKey => {
            let sql = "DELETE FROM sealed_key WHERE account = ?1";
            run(file, sql, params![id])
        }
        Op::PutPush(push) => put_push(file, id, push),
        Op::RemovePush {
            resource,
            service,
            node,
        } => {
            let sql = "DELETE FROM push WHERE account = ?1 AND resource = ?2 AND service = ?3
                       AND node = ifnull(?4, node)";
            run(file, sql, params![id, resource, service, node])
        }
        // Done by the caller, who has no account any more then.
        Op::ForgetAccount => Ok(()),
    }
}

fn of_room(file: &Connection, room: i64, growth: &mut Growth, op: &Op) -> rusqlite::Result<()> {
    match op {
        Op::PutOccupant { occupant, .. } => put_occupant(file, room, occupant),
        Op::RemoveOccupant { nick, .. } => {
            let sql = "DELETE FROM occupant WHERE room = ?1 AND nick = ?2";
            run(file, sql, params![room, nick])
        }
        Op::ReplaceOccupants { occupants, .. } => {
            run(file, "DELETE FROM occupant WHERE room = ?1", params![room])?;
            let mut occupants = occupants.iter();
            occupants.try_for_each(|occupant| put_occupant(file, room, occupant))
        }
        Op::AddMessage { message, .. } => {
            let (messages, bytes) = growth.entry(room).or_default();
            *messages += 1;
            *bytes += message.stanza.len();
            add_message(file, room, message)
        }
        Op::DropMessages(_) => drop_messages(file, room, i64::MAX),
        Op::PutServed(served) => {
            let sql = "INSERT OR REPLACE INTO served
                           (room, resource, number, joined, replay, before, at)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let values = params![
                room,
                served.resource,
                served.number.map(signed),
                signed(served.joined),
                signed(served.replay),
                served.before.map(signed),
                millis(served.at),
            ];
            run(file, sql, values)
        }
        Op::RemoveServed { resource, .. } => {
            let sql = "DELETE FROM served WHERE room = ?1 AND resource = ?2";
            run(file, sql, params![room, resource])
        }
        Op::PutRoom(_)
        | Op::ForgetRoom(_)
        | Op::PutAnchor(_)
        | Op::AnchorHandled { .. }
        | Op::RemoveAnchor
        | Op::PutKey(_)
        | Op::RemoveKey
        | Op::PutPush(_)
        | Op::RemovePush { .. }
        | Op::ForgetAccount => Ok(()),
    }
}

/// Drops the messages up to a number.
pub(crate) fn drop_messages(file: &Connection, room: i64, up_to: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM message WHERE room = ?1 AND number <= ?2";
    run(file, sql, params![room, up_to])
}

fn put_room(file: &Connection, account: i64, record: &RoomRecord) -> rusqlite::Result<()> {
    let sql = "INSERT INTO room (account, jid, nick, sent_presence, own_presence, room_presence,
                   subject, password, non_anonymous, logged, reflects_join_id, nick_assigned,
                   unsettled, joined_at, detached_since, carrier, spoken, wanted)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
                   ?17, ?18)
               ON CONFLICT DO UPDATE SET nick = excluded.nick,
                   sent_presence = excluded.sent_presence, own_presence = excluded.own_presence,
                   room_presence = excluded.room_presence, subject = excluded.subject,
                   password = excluded.password, non_anonymous = excluded.non_anonymous,
                   logged = excluded.logged, reflects_join_id = excluded.reflects_join_id,
                   nick_assigned = excluded.nick_assigned, unsettled = excluded.unsettled,
                   joined_at = excluded.joined_at, detached_since = excluded.detached_since,
                   carrier = excluded.carrier, spoken = excluded.spoken,
                   wanted = excluded.wanted";
    let values = params![
        account,
        record.room.as_str(),
        record.nick,
        &*record.sent_presence,
        optional(record.own_presence.as_ref()),
        optional(record.room_presence.as_ref()),
        optional(record.subject.as_ref()),
        record.password,
        record.non_anonymous,
        record.logged,
        record.reflects_join_id,
        record.nick_assigned,
        record.unsettled,
        millis(record.joined_at),
        record.detached_since.map(millis),
        record.carrier,
        record.spoken,
        record.wanted,
    ];
    run(file, sql, values)
}

fn put_occupant(file: &Connection, room: i64, occupant: &Occupant) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO occupant (room, nick, position, presence)
               VALUES (?1, ?2, ?3, ?4)";
    let position = signed(occupant.order);
    run(
        file,
        sql,
        params![room, occupant.nick, position, &*occupant.presence],
    )
}

fn add_message(file: &Connection, room: i64, message: &StoredMessage) -> rusqlite::Result<()> {
    let sql = "INSERT INTO message (room, number, at, stamped, stanza) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT DO UPDATE SET at = excluded.at, stamped = excluded.stamped,
                   stanza = excluded.stanza";
    let (number, at) = (signed(message.number), millis(message.at));
    run(
        file,
        sql,
        params![room, number, at, message.stamped, &*message.stanza],
    )
}

fn put_anchor(file: &Connection, account: i64, anchor: &AnchorState) -> rusqlite::Result<()> {
    let sql =
        "INSERT OR REPLACE INTO anchor (account, domain, jid, previd, location, h_in, max, at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let values = params![
        account,
        anchor.domain,
        anchor.jid,
        anchor.previd,
        anchor.location,
        anchor.h_in,
        anchor.max.map(|max: Duration| whole_millis(max)),
        millis(anchor.at),
    ];
    run(file, sql, values)
}

fn put_push(file: &Connection, account: i64, push: &PushRegistration) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO push (account, resource, service, node, form)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![account, push.resource, push.service, push.node, &*push.form];
    run(file, sql, values)
}

fn optional(bytes: Option<&Bytes>) -> Option<&[u8]> {
    bytes.map(|bytes| &**bytes)
}

pub(crate) fn run(
    file: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<()> {
    file.prepare_cached(sql)?.execute(values).map(drop)
}
