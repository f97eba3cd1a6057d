//! The file: what it has to be before it is touched, and how an older one is brought up.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, config::DbConfig};

use crate::{error::OpenError, lock::beside};

/// `PRAGMA application_id`: "mucp".
const APPLICATION_ID: u32 = 0x6d75_6370;

/// The steps from an empty file to what is read and written here. A step that has been released is
/// never changed; `PRAGMA user_version` is how many a file has behind it.
const STEPS: &[&str] = &[include_str!("schema.sql")];

/// A file up to this is looked through as a whole when it is opened. A gigabyte takes more than a
/// second when it is in memory and half a minute when it is on a slow disk, with every account
/// waiting. Of a larger one all is looked through but the messages, which are nearly all of it:
/// damage there shows when they are read, and keeps what comes from being acknowledged.
const WHOLE: u64 = 256 << 20;

/// How long SQLite waits for a lock, which only someone who looks at the file from outside can have.
const BUSY: Duration = Duration::from_secs(2);

/// The path by which every user of the file finds the same lock.
pub(crate) fn real_path(path: &Path) -> Result<PathBuf, OpenError> {
    let real = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().filter(|parent| *parent != Path::new(""));
            let directory = directory.unwrap_or(Path::new("."));
            let name = path.file_name().unwrap_or_default();
            fs::canonicalize(directory).map(|directory| directory.join(name))
        }
        other => other,
    };
    real.map_err(|source| OpenError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Opens the store's file for its writer, and makes it if there is none.
///
/// # Errors
/// Before anything is changed in a file that is not as it should be.
pub(crate) fn open(path: &Path) -> Result<Connection, OpenError> {
    let is_new = look_at(path)?;
    let mut writer = connect(path).map_err(|error| sqlite_error(path, error))?;
    if is_new {
        create(&writer).map_err(|error| sqlite_error(path, error))?;
    } else {
        check(&writer, path)?;
    }
    prepare(&mut writer).map_err(|error| sqlite_error(path, error))?;
    for suffix in ["", "-wal", "-shm"] {
        restrict(&beside(path, suffix))?;
    }
    Ok(writer)
}

/// Opens another connection, for reading.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let reader = connect(path)?;
    reader.pragma_update(None, "query_only", true)?;
    Ok(reader)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    // One set of statements each, a few dozen.
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Looks at the file without SQLite, which would recover what it finds. `true` for a new one.
fn look_at(path: &Path) -> Result<bool, OpenError> {
    let io_error = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    // SQLite gives the files beside it the mode of this one.
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Ok(_) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error(error)),
    }
    let mut header = Vec::new();
    let file = File::open(path).map_err(io_error)?;
    file.take(100).read_to_end(&mut header).map_err(io_error)?;
    if header.is_empty() {
        // A process that died right after it made the file, or a file that has lost all. The
        // latter leaves its log behind.
        let log = fs::metadata(beside(path, "-wal"));
        return if log.is_ok_and(|log| log.len() > 0) {
            Err(corrupt(path, "empty, but for its -wal"))
        } else {
            Ok(true)
        };
    }
    let word = |at: usize| {
        let bytes = header.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*bytes))
    };
    // https://www.sqlite.org/fileformat2.html, 1.3: user version at 60, application id at 68.
    let ours = header.starts_with(b"SQLite format 3\0") && word(68) == Some(APPLICATION_ID);
    if !ours {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
        });
    }
    refuse_newer(path, word(60).unwrap_or_default())?;
    Ok(false)
}

fn known() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

fn refuse_newer(path: &Path, found: u32) -> Result<(), OpenError> {
    if found <= known() {
        return Ok(());
    }
    Err(OpenError::Newer {
        path: path.to_owned(),
        found,
        known: known(),
    })
}

/// Looks at the file with SQLite, which must not write meanwhile.
fn check(writer: &Connection, path: &Path) -> Result<(), OpenError> {
    let error = |error| sqlite_error(path, error);
    // What is refused keeps its log as it is.
    let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    writer.set_db_config(no_checkpoint, true).map_err(error)?;
    // The header may be behind the log.
    let found = version(writer).map_err(error)?;
    refuse_newer(path, found)?;
    let bytes = fs::metadata(path).map_or(0, |about| about.len());
    if let Some(what) = damage(writer, bytes <= WHOLE).map_err(error)? {
        return Err(corrupt(path, &what));
    }
    writer.set_db_config(no_checkpoint, false).map_err(error)?;
    Ok(())
}

/// The first thing that is not as it should be, in the whole file, or in all but the messages.
fn damage(file: &Connection, whole: bool) -> rusqlite::Result<Option<String>> {
    // A number is how many findings are wanted, a name is that of a table.
    let mut checks = vec!["1".to_owned()];
    if !whole {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'message'";
        let mut tables = file.prepare(sql)?;
        let names = tables.query_map([], |row| row.get(0))?;
        checks = names.collect::<rusqlite::Result<_>>()?;
    }
    for check in checks {
        let check = format!("PRAGMA quick_check({check})");
        let first: String = file.query_row(&check, [], |row| row.get(0))?;
        if first != "ok" {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Makes the file one of ours. Without the log yet, so that what tells the file is in itself.
fn create(writer: &Connection) -> rusqlite::Result<()> {
    // Only an empty file can be given these.
    writer.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    writer.pragma_update(None, "application_id", APPLICATION_ID)
}

fn prepare(writer: &mut Connection) -> rusqlite::Result<()> {
    writer.pragma_update(None, "journal_mode", "WAL")?;
    // The log is synced when it is brought into the file, not at each commit: a commit survives the
    // process, and what the machine's death takes was not yet old (decision 0003).
    writer.pragma_update(None, "synchronous", "NORMAL")?;
    writer.pragma_update(None, "journal_size_limit", 64 << 20)?;
    writer.pragma_update(None, "foreign_keys", true)?;
    // What is forgotten is not left in free pages.
    writer.pragma_update(None, "secure_delete", true)?;
    migrate(writer, STEPS)
}

/// Runs the steps that the file does not have behind it, each in a transaction.
fn migrate(writer: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    for (step, number) in steps.iter().zip(1_u32..) {
        if number <= version(writer)? {
            continue;
        }
        let transaction: Transaction<'_> = writer.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

fn restrict(path: &Path) -> Result<(), OpenError> {
    match fs::set_permissions(path, Permissions::from_mode(0o600)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

fn corrupt(path: &Path, what: &str) -> OpenError {
    OpenError::Corrupt {
        path: path.to_owned(),
        what: what.trim().to_owned(),
    }
}

fn sqlite_error(path: &Path, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            corrupt(path, &error.to_string())
        }
        _ => OpenError::Sqlite {
            path: path.to_owned(),
            source: error,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> i64 {
        let count = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
        connection.query_row(count, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_file_is_brought_up_step_by_step() {
        let mut file = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x)"];
        migrate(&mut file, &steps[..1]).unwrap();
        assert_eq!((version(&file).unwrap(), tables(&file)), (1, 1));
        migrate(&mut file, &steps).unwrap();
        assert_eq!((version(&file).unwrap(), tables(&file)), (2, 2));
        migrate(&mut file, &steps).unwrap();
        assert_eq!((version(&file).unwrap(), tables(&file)), (2, 2));
    }

    /// Opened anew, with one table's first page overwritten.
    fn damaged(path: &Path, table: &str) -> Connection {
        let file = Connection::open(path).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let page: u64 = file
            .query_row(sql, [table], |row| row.get::<_, i64>(0))
            .unwrap() as u64;
        drop(file);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4096], (page - 1) * 4096).unwrap();
        Connection::open(path).unwrap()
    }

    fn is_bad(file: &Connection, whole: bool) -> bool {
        !matches!(damage(file, whole), Ok(None))
    }

    #[test]
    fn a_large_file_is_looked_through_but_for_its_messages() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mucplex.db");
        drop(open(&path).unwrap());
        let file = Connection::open(&path).unwrap();
        assert!(!is_bad(&file, true) && !is_bad(&file, false));
        drop(file);
        let file = damaged(&path, "message");
        assert!(is_bad(&file, true) && !is_bad(&file, false));
        drop(file);
        let file = damaged(&path, "occupant");
        assert!(is_bad(&file, true) && is_bad(&file, false));
    }

    #[test]
    fn a_step_that_fails_leaves_the_one_before() {
        let mut file = Connection::open_in_memory().unwrap();
        let steps = [
            "CREATE TABLE a (x)",
            "CREATE TABLE b (x); CREATE TABLE a (x)",
        ];
        migrate(&mut file, &steps).unwrap_err();
        assert_eq!((version(&file).unwrap(), tables(&file)), (1, 1));
    }
}
