//! What nobody needs any more goes, by itself, a little at a time: the writer takes one step
//! between two transactions of changes, so that nothing waits long for it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use jid::BareJid;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    Options,
    read::Bounds,
    time::{before, day, millis, signed},
    uses::Uses,
    write::{Growth, drop_messages, run},
};

/// Between two passes.
const EVERY: Duration = Duration::from_secs(3600);
/// Rows in one transaction.
const ROWS: i64 = 500;
/// Rooms in one look.
const ROOMS: usize = 20;
/// Accounts in one look.
const ACCOUNTS: usize = 500;
/// Pages given back in one transaction.
const PAGES: i64 = 256;

/// The passes through the store, and the rooms that grow between them.
#[derive(Debug)]
pub(crate) struct Retention {
    options: Options,
    uses: Arc<Uses>,
    under_way: Option<Phase>,
    next_pass: Instant,
    growth: Growth,
    ripe: Vec<i64>,
}

/// Where a pass is. Phases follow each other in this order.
#[derive(Clone, Debug)]
enum Phase {
    /// Messages beyond the retention time.
    OldMessages,
    /// Served marks of devices long unseen.
    OldMarks,
    /// Accounts in use are seen, those behind this one.
    Used { behind: Option<BareJid> },
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
    pub(crate) fn new(options: Options, uses: Arc<Uses>) -> Self {
        Self {
            options,
            uses,
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
        let Some(phase) = self.under_way.clone() else {
            return Ok(Step::Nothing);
        };
        self.under_way = self.phase(file, &phase, now)?;
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
        phase: &Phase,
        now: SystemTime,
    ) -> rusqlite::Result<Option<Phase>> {
        let again = |more: bool, next: Phase| Some(if more { phase.clone() } else { next });
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
                again(gone > 0, Phase::Used { behind: None })
            }
            Phase::Used { behind } => {
                let last = self.see_used(file, behind.as_ref(), day(now))?;
                let next = last.map(|last| Phase::Used { behind: Some(last) });
                Some(next.unwrap_or(Phase::OldAccounts))
            }
            Phase::OldAccounts => {
                let oldest = day(before(now, self.options.unseen));
                let more = self.forget_one(file, oldest, day(now))?;
                again(more, Phase::FullRooms { after: 0 })
            }
            Phase::FullRooms { after } => {
                let next = self.full_rooms(file, *after)?;
                let next = next.map_or(Phase::FreePages, |after| Phase::FullRooms { after });
                Some(next)
            }
            Phase::FreePages => {
                let more = give_back_pages(file)?;
                more.then_some(Phase::FreePages)
            }
        })
    }

    /// Notes that some of those in use are seen today, so that an account whose room has been silent
    /// for long is still there when the process has died and nobody has come back yet. Tells the last
    /// one if there may be more.
    fn see_used(
        &self,
        file: &mut Connection,
        behind: Option<&BareJid>,
        today: i64,
    ) -> rusqlite::Result<Option<BareJid>> {
        let used = self.uses.some(behind, ACCOUNTS);
        let transaction = file.transaction()?;
        for account in &used {
            // One of which nothing is stored has nothing to be noted.
            let sql = "UPDATE account SET seen = ?1 WHERE jid = ?2 AND seen < ?1";
            run(&transaction, sql, params![today, account.as_str()])?;
        }
        transaction.commit()?;
        let last = used.last().filter(|_| used.len() == ACCOUNTS);
        Ok(last.cloned())
    }

    /// Forgets an account that is unseen since before this day; `true` if there may be more.
    fn forget_one(&self, file: &Connection, oldest: i64, today: i64) -> rusqlite::Result<bool> {
        let sql = "SELECT id, jid FROM account WHERE seen < ?1 LIMIT 1";
        let unseen: Option<(i64, String)> = file
            .prepare_cached(sql)?
            .query_row([oldest], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, jid)) = unseen else {
            return Ok(false);
        };
        let forget = || run(file, "DELETE FROM account WHERE id = ?1", [id]);
        let forgotten = match BareJid::new(&jid) {
            Ok(account) => self.uses.unless_in_use(&account, forget),
            Err(_) => Some(forget()),
        };
        // One that has come into use since `see_used` would be found again and again.
        let seen = || {
            run(
                file,
                "UPDATE account SET seen = ?1 WHERE id = ?2",
                [today, id],
            )
        };
        forgotten.unwrap_or_else(seen)?;
        Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const NOW: Duration = Duration::from_secs(1_800_000_000);

    /// A file in which these accounts, each in a room, were last seen so many days ago.
    fn file(directory: &tempfile::TempDir, accounts: &[(&str, i64)]) -> Connection {
        let file = schema::open(&directory.path().join("mucplex.db")).unwrap();
        let today = day(SystemTime::UNIX_EPOCH + NOW);
        for (account, days) in accounts {
            let sql = "INSERT INTO account (jid, seen) VALUES (?1, ?2)";
            file.execute(sql, params![account, today - days]).unwrap();
            let sql = "INSERT INTO room (account, jid, nick, sent_presence, non_anonymous, logged,
                           reflects_join_id, nick_assigned, spoken, wanted, unsettled, joined_at)
                       VALUES (last_insert_rowid(), 'tea@rooms.example.org', 'nick', x'',
                           0, 0, 0, 0, 0, 1, 0, 0)";
            file.execute(sql, []).unwrap();
        }
        file
    }

    fn pass(retention: &mut Retention, file: &mut Connection, now: SystemTime) {
        retention.under_way = Some(Phase::OldMessages);
        while retention.step(file, now).unwrap() != Step::PassEnded {}
    }

    fn rooms_of(file: &Connection) -> Vec<String> {
        let sql = "SELECT account.jid FROM room JOIN account ON room.account = account.id
                   ORDER BY account.jid";
        let mut statement = file.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn an_account_in_use_is_never_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let accounts = [("a@example.org", 91), ("b@example.org", 91)];
        let mut file = file(&directory, &accounts);
        let uses = Arc::new(Uses::default());
        let mut retention = Retention::new(Options::default(), Arc::clone(&uses));
        let account: BareJid = "a@example.org".parse().unwrap();
        let owners = [uses.begin(account.clone()), uses.begin(account)];
        let mut now = SystemTime::UNIX_EPOCH + NOW;
        for _ in 0..3 {
            pass(&mut retention, &mut file, now);
            assert_eq!(rooms_of(&file), ["a@example.org"]);
            now += 91 * DAY;
        }
        // One of two is not the last.
        let [one, other] = owners;
        drop(one);
        pass(&mut retention, &mut file, now);
        assert_eq!(rooms_of(&file), ["a@example.org"]);
        drop(other);
        // It has been seen until now, whoever comes first: the next process or the next pass.
        pass(&mut retention, &mut file, now + 89 * DAY);
        assert_eq!(rooms_of(&file), ["a@example.org"]);
        pass(&mut retention, &mut file, now + 91 * DAY);
        assert!(rooms_of(&file).is_empty());
        assert!(uses.some(None, 1).is_empty(), "nothing is left behind");
    }

    /// The look at those in use is over when this one comes.
    #[test]
    fn an_account_that_comes_into_use_during_a_pass_stays() {
        let directory = tempfile::tempdir().unwrap();
        let accounts = [("a@example.org", 91), ("b@example.org", 91)];
        let mut file = file(&directory, &accounts);
        let uses = Arc::new(Uses::default());
        let mut retention = Retention::new(Options::default(), Arc::clone(&uses));
        let now = SystemTime::UNIX_EPOCH + NOW;
        while !matches!(retention.under_way, Some(Phase::OldAccounts)) {
            retention.step(&mut file, now).unwrap();
        }
        let _owner = uses.begin("a@example.org".parse().unwrap());
        while retention.step(&mut file, now).unwrap() != Step::PassEnded {}
        assert_eq!(rooms_of(&file), ["a@example.org"]);
    }

    /// Before it is late: the process may die, and nobody may be back when the next one looks. More
    /// than one look, and one account of which nothing is stored.
    #[test]
    fn all_in_use_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let count = 2 * ACCOUNTS + 1;
        let names: Vec<_> = (0..count).map(|n| format!("{n:05}@example.org")).collect();
        let accounts: Vec<_> = names.iter().map(|name| (name.as_str(), 80)).collect();
        let mut file = file(&directory, &accounts);
        let uses = Arc::new(Uses::default());
        let nobody = "nobody@example.org".to_owned();
        let owners = names.iter().chain([&nobody]);
        let owners: Vec<_> = owners.map(|it| uses.begin(it.parse().unwrap())).collect();
        let mut retention = Retention::new(Options::default(), uses);
        pass(&mut retention, &mut file, SystemTime::UNIX_EPOCH + NOW);
        assert_eq!(rooms_of(&file), names);
        let sql = "SELECT count(*) FROM account WHERE seen = ?1";
        let today = day(SystemTime::UNIX_EPOCH + NOW);
        let seen: i64 = file.query_row(sql, [today], |row| row.get(0)).unwrap();
        assert_eq!(seen, names.len() as i64);
        drop(owners);
    }
}
