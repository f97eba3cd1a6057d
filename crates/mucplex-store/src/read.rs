//! What is stored, read.

use std::{collections::BTreeMap, time::SystemTime};

use bytes::Bytes;
use jid::BareJid;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    error::LoadError,
    record::{
        AccountSummary, AnchorState, Occupant, PushRegistration, RoomRecord, SealedKey, Served,
        Snapshot, StoredMessage, StoredRoom,
    },
    time::{duration, millis, time, unsigned},
};

/// Which messages of each room are wanted: the latest, within all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// At most so many.
    pub messages: usize,
    /// At most so many bytes of stanzas.
    pub bytes: usize,
    /// None older than this.
    pub since: SystemTime,
}

impl Bounds {
    /// How many of these, latest first, are within the bounds.
    pub(crate) fn fitting(&self, latest_first: impl Iterator<Item = usize>) -> usize {
        let mut left = self.bytes;
        let fits = |bytes: &usize| {
            let rest = left.checked_sub(*bytes);
            left = rest.unwrap_or(0);
            rest.is_some()
        };
        latest_first.take(self.messages).take_while(fits).count()
    }
}

pub(crate) fn accounts(file: &Connection) -> Result<Vec<AccountSummary>, LoadError> {
    let mut statement = file.prepare_cached(
        "SELECT jid, (SELECT count(*) FROM room WHERE account = account.id),
                EXISTS (SELECT 1 FROM sealed_key WHERE account = account.id),
                EXISTS (SELECT 1 FROM anchor WHERE account = account.id)
         FROM account ORDER BY jid",
    )?;
    let mut rows = statement.query([])?;
    let mut accounts = Vec::new();
    while let Some(row) = rows.next()? {
        accounts.push(AccountSummary {
            account: bare(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?,
            rooms: usize::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            has_key: row.get(2)?,
            has_anchor: row.get(3)?,
        });
    }
    Ok(accounts)
}

/// All of an account; nothing of one that is not stored.
pub(crate) fn snapshot(
    file: &Connection,
    account: &BareJid,
    bounds: &Bounds,
) -> Result<Snapshot, LoadError> {
    let id: Option<i64> = file
        .prepare_cached("SELECT id FROM account WHERE jid = ?1")?
        .query_row([account.as_str()], |row| row.get(0))
        .optional()?;
    let Some(id) = id else {
        return Ok(Snapshot::default());
    };
    let key = file
        .prepare_cached("SELECT sealed FROM sealed_key WHERE account = ?1")?
        .query_row([id], |row| {
            Ok(SealedKey {
                bytes: blob(row, 0)?,
            })
        })
        .optional()?;
    Ok(Snapshot {
        rooms: rooms(file, id, bounds)?,
        anchor: anchor(file, id)?,
        key,
        push: push(file, id)?,
    })
}

fn rooms(
    file: &Connection,
    account: i64,
    bounds: &Bounds,
) -> Result<BTreeMap<BareJid, StoredRoom>, LoadError> {
    let mut statement = file.prepare_cached(
        "SELECT id, jid, nick, sent_presence, own_presence, room_presence, subject, password,
                non_anonymous, logged, reflects_join_id, nick_assigned, unsettled, joined_at,
                detached_since, carrier, spoken, wanted
         FROM room WHERE account = ?1",
    )?;
    let mut rows = statement.query([account])?;
    let mut rooms = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let record = record(row)?;
        let room = record.room.clone();
        let stored = StoredRoom {
            occupants: occupants(file, id)?,
            messages: messages(file, id, bounds)?,
            served: served(file, id, &room)?,
            record,
        };
        rooms.insert(room, stored);
    }
    Ok(rooms)
}

fn record(row: &Row<'_>) -> Result<RoomRecord, LoadError> {
    Ok(RoomRecord {
        room: bare(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?,
        nick: row.get(2)?,
        sent_presence: blob(row, 3)?,
        own_presence: optional_blob(row, 4)?,
        room_presence: optional_blob(row, 5)?,
        subject: optional_blob(row, 6)?,
        password: row.get(7)?,
        non_anonymous: row.get(8)?,
        logged: row.get(9)?,
        reflects_join_id: row.get(10)?,
        nick_assigned: row.get(11)?,
        unsettled: row.get(12)?,
        joined_at: time(row.get(13)?),
        detached_since: row.get::<_, Option<i64>>(14)?.map(time),
        carrier: row.get(15)?,
        spoken: row.get(16)?,
        wanted: row.get(17)?,
    })
}

fn occupants(file: &Connection, room: i64) -> rusqlite::Result<Vec<Occupant>> {
    let sql =
        "SELECT nick, position, presence FROM occupant WHERE room = ?1 ORDER BY position, nick";
    file.prepare_cached(sql)?
        .query_map([room], |row| {
            Ok(Occupant {
                nick: row.get(0)?,
                order: unsigned(row.get(1)?),
                presence: blob(row, 2)?,
            })
        })?
        .collect()
}

fn messages(file: &Connection, room: i64, bounds: &Bounds) -> rusqlite::Result<Vec<StoredMessage>> {
    let mut statement = file.prepare_cached(
        "SELECT number, at, stamped, stanza FROM message WHERE room = ?1 AND at >= ?2
         ORDER BY number DESC LIMIT ?3",
    )?;
    let most = i64::try_from(bounds.messages).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![room, millis(bounds.since), most])?;
    let mut messages = Vec::new();
    let mut left = bounds.bytes;
    while let Some(row) = rows.next()? {
        let stanza = blob(row, 3)?;
        let Some(rest) = left.checked_sub(stanza.len()) else {
            break;
        };
        left = rest;
        messages.push(StoredMessage {
            number: unsigned(row.get(0)?),
            at: time(row.get(1)?),
            stamped: row.get(2)?,
            stanza,
        });
    }
    messages.reverse();
    Ok(messages)
}

fn served(file: &Connection, id: i64, room: &BareJid) -> rusqlite::Result<Vec<Served>> {
    let sql = "SELECT resource, number, joined, replay, before, at FROM served
               WHERE room = ?1 ORDER BY resource";
    file.prepare_cached(sql)?
        .query_map([id], |row| {
            Ok(Served {
                room: room.clone(),
                resource: row.get(0)?,
                number: row.get::<_, Option<i64>>(1)?.map(unsigned),
                joined: unsigned(row.get(2)?),
                replay: unsigned(row.get(3)?),
                before: row.get::<_, Option<i64>>(4)?.map(unsigned),
                at: time(row.get(5)?),
            })
        })?
        .collect()
}

fn anchor(file: &Connection, account: i64) -> rusqlite::Result<Option<AnchorState>> {
    let sql = "SELECT domain, jid, previd, location, h_in, max, at FROM anchor WHERE account = ?1";
    file.prepare_cached(sql)?
        .query_row([account], |row| {
            Ok(AnchorState {
                domain: row.get(0)?,
                jid: row.get(1)?,
                previd: row.get(2)?,
                location: row.get(3)?,
                h_in: row.get(4)?,
                max: row.get::<_, Option<i64>>(5)?.map(duration),
                at: time(row.get(6)?),
            })
        })
        .optional()
}

fn push(file: &Connection, account: i64) -> rusqlite::Result<Vec<PushRegistration>> {
    let sql = "SELECT resource, service, node, form FROM push WHERE account = ?1
               ORDER BY resource, service, node";
    file.prepare_cached(sql)?
        .query_map([account], |row| {
            Ok(PushRegistration {
                resource: row.get(0)?,
                service: row.get(1)?,
                node: row.get(2)?,
                form: blob(row, 3)?,
            })
        })?
        .collect()
}

fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    row.get::<_, Vec<u8>>(column).map(Bytes::from)
}

fn optional_blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Bytes>> {
    Ok(row.get::<_, Option<Vec<u8>>>(column)?.map(Bytes::from))
}

fn bare(text: &str) -> Result<BareJid, LoadError> {
    BareJid::new(text).map_err(|_| LoadError::Damaged(format!("{text:?} is no JID")))
}
