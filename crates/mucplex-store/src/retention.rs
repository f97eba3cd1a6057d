//! What nobody needs any more goes, by itself, a little at a time: the writer takes one step
//! between two transactions of changes, so that nothing waits long for it.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{Connection, params};

use crate::{
    Options,
    read::Bounds,
    time::{before, day, millis, signed},
    write::{Growth, drop_messages},
};

/// Between two passes.
const EVERY: Duration = Duration::from_secs(3600);
/// Rows in one transaction.
const ROWS: i64 = 500;
/// Rooms in one look.
const ROOMS: usize = 20;
/// Pages given back in one transaction.
const PAGES: i64 = 256;

/// The passes through the store, and the rooms that grow between them.
#[derive(Debug)]
pub(crate) struct Retention {
    options: Options,
    under_way: Option<Phase>,
    next_pass: Instant,
    growth: Growth,
    ripe: Vec<i64>,
}

/// Where a pass is. Phases follow each other in this order.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Messages beyond the retention time.
    OldMessages,
    /// Served marks of devices long unseen.
    OldMarks,
    /// Accounts long unseen.
    OldAccounts,
    /// Rooms with too much in them, those behind this row id.
    FullRooms { after: i64 },
    /// Free pages are given back.
    FreePages,
}

/// What a step has left behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to do.
    More,
    /// A pass has ended.
    PassEnded,
    /// There is nothing to do.
    Nothing,
}

impl Retention {
    /// The first pass begins at once.
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            under_way: Some(Phase::OldMessages),
            next_pass: Instant::now(),
            growth: HashMap::new(),
            ripe: Vec::new(),
        }
    }

    /// When to take the next step.
    pub(crate) fn due(&self) -> Instant {
        if self.under_way.is_some() || !self.ripe.is_empty() {
            Instant::now()
        } else {
            self.next_pass
        }
    }

    /// Learns what a transaction that is stored has added. A busy room is seen to before the next
    /// pass, when it has grown by half of what may be kept of it.
    pub(crate) fn grown(&mut self, growth: &Growth) {
        for (&room, &(messages, bytes)) in growth {
            let (all_messages, all_bytes) = self.growth.entry(room).or_default();
            *all_messages += messages;
            *all_bytes += bytes;
            if *all_messages > self.options.room_messages / 2
                || *all_bytes > self.options.room_bytes / 2
            {
                self.growth.remove(&room);
                self.ripe.push(room);
            }
        }
    }

    /// Does a little.
    pub(crate) fn step(
        &mut self,
        file: &mut Connection,
        now: SystemTime,
    ) -> rusqlite::Result<Step> {
        if let Some(room) = self.ripe.pop() {
            self.trim(file, room)?;
            return Ok(Step::More);
        }
        if self.under_way.is_none() && Instant::now() >= self.next_pass {
            // Each pass sees to all of them.
            self.ripe = self.growth.drain().map(|(room, _)| room).collect();
            self.under_way = Some(Phase::OldMessages);
        }
        let Some(phase) = self.under_way else {
            return Ok(Step::Nothing);
        };
        self.under_way = self.phase(file, phase, now)?;
        if self.under_way.is_none() {
            self.next_pass = Instant::now() + EVERY;
            return Ok(Step::PassEnded);
        }
        Ok(Step::More)
    }

    /// Gives up the pass that is under way, after an error.
    pub(crate) fn give_up(&mut self) {
        self.under_way = None;
        self.ripe.clear();
        self.next_pass = Instant::now() + EVERY;
    }

    /// A step of a phase; tells the phase of the next one.
    fn phase(
        &self,
        file: &mut Connection,
        phase: Phase,
        now: SystemTime,
    ) -> rusqlite::Result<Option<Phase>> {
        let again = |more: bool, next: Phase| Some(if more { phase } else { next });
        Ok(match phase {
            Phase::OldMessages => {
                let more = drop_old_messages(file, before(now, self.options.history))?;
                again(more, Phase::OldMarks)
            }
            Phase::OldMarks => {
                let oldest = millis(before(now, self.options.unseen));
                let sql = "DELETE FROM served WHERE (room, resource) IN
                           (SELECT room, resource FROM served WHERE at < ?1 LIMIT ?2)";
                let gone = file.prepare_cached(sql)?.execute([oldest, ROWS])?;
                again(gone > 0, Phase::OldAccounts)
            }
            Phase::OldAccounts => {
                let oldest = day(before(now, self.options.unseen));
                let sql = "DELETE FROM account WHERE id IN
                           (SELECT id FROM account WHERE seen < ?1 LIMIT 1)";
                let gone = file.prepare_cached(sql)?.execute([oldest])?;
                again(gone > 0, Phase::FullRooms { after: 0 })
            }
            Phase::FullRooms { after } => {
                let next = self.full_rooms(file, after)?;
                let next = next.map_or(Phase::FreePages, |after| Phase::FullRooms { after });
                Some(next)
            }
            Phase::FreePages => {
                let more = give_back_pages(file)?;
                more.then_some(phase)
            }
        })
    }

    /// Looks at a few rooms; tells the last one's row id if there may be more.
    fn full_rooms(&self, file: &mut Connection, after: i64) -> rusqlite::Result<Option<i64>> {
        // The count comes from an index alone; to know the bytes takes the messages themselves, and
        // is left to those that grow.
        let sql = "SELECT id, (SELECT count(*) FROM message WHERE room = room.id)
                   FROM room WHERE id > ?1 ORDER BY id LIMIT ?2";
        let rooms: Vec<(i64, i64)> = file
            .prepare_cached(sql)?
            .query_map(params![after, ROOMS as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (room, messages) in &rooms {
            if *messages > signed(self.options.room_messages as u64) {
                self.trim(file, *room)?;
            }
        }
        let last = rooms.last().filter(|_| rooms.len() == ROOMS);
        Ok(last.map(|(room, _)| *room))
    }

    /// Drops what is too much of a room.
    fn trim(&self, file: &mut Connection, room: i64) -> rusqlite::Result<()> {
        let sql = "SELECT number, length(stanza) FROM message WHERE room = ?1
                   ORDER BY number DESC";
        let messages: Vec<(i64, i64)> = file
            .prepare_cached(sql)?
            .query_map([room], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let bounds = Bounds {
            messages: self.options.room_messages,
            bytes: self.options.room_bytes,
            since: SystemTime::UNIX_EPOCH,
        };
        let sizes = messages.iter().map(|(_, bytes)| *bytes);
        let sizes = sizes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let Some((first_gone, _)) = messages.get(bounds.fitting(sizes)) else {
            return Ok(());
        };
        let transaction = file.transaction()?;
        drop_messages(&transaction, room, *first_gone)?;
        transaction.commit()
    }
}

/// Drops some of the messages that are older; `true` if there may be more.
fn drop_old_messages(file: &mut Connection, oldest: SystemTime) -> rusqlite::Result<bool> {
    let oldest = millis(oldest);
    let transaction = file.transaction()?;
    let sql = "DELETE FROM message WHERE id IN
               (SELECT id FROM message WHERE at < ?1 ORDER BY at LIMIT ?2)";
    let gone = transaction.prepare_cached(sql)?.execute([oldest, ROWS])?;
    transaction.commit()?;
    Ok(gone > 0)
}

/// Gives some free pages back to the file system, if they are more than an eighth of the file: a
/// few will be used again soon. `true` if there may be more.
fn give_back_pages(file: &Connection) -> rusqlite::Result<bool> {
    let number = |name: &str| file.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (free, all) = (number("freelist_count")?, number("page_count")?);
    if free <= all / 8 {
        return Ok(false);
    }
    file.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    Ok(number("freelist_count")? < free)
}
