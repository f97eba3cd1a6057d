//! A file that cannot be trusted is named, and left as it is.

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    time::Duration,
};

use mucplex_store::{OpenError, Options, Store};

use crate::stage::{Stage, alice, close, join, load, message, put, say, tea};

/// The refusal; the file must be as it was.
fn refused(path: &Path) -> OpenError {
    let before = fs::read(path).unwrap();
    let error = Store::open(path, Options::default()).unwrap_err();
    assert_eq!(fs::read(path).unwrap(), before, "the file was changed");
    assert!(
        error.to_string().starts_with(path.to_str().unwrap()),
        "{error}"
    );
    error
}

/// A store with something in it, closed.
fn filled(stage: &Stage) {
    let store = stage.open();
    let mut ops = vec![join(&tea())];
    ops.extend((0..900).map(|number| say(&tea(), number)));
    put(&store, &alice(), ops);
    close(&store);
}

#[test]
fn what_is_no_database() {
    let stage = Stage::new();
    fs::write(stage.path(), "[[domain]]\nname = 'example.org'\n").unwrap();
    assert!(matches!(refused(&stage.path()), OpenError::Foreign { .. }));
}

#[test]
fn the_database_of_another_program() {
    let stage = Stage::new();
    let other = rusqlite::Connection::open(stage.path()).unwrap();
    other.execute_batch("CREATE TABLE recipe (x)").unwrap();
    drop(other);
    let error = refused(&stage.path());
    assert!(matches!(error, OpenError::Foreign { .. }));
    assert!(
        error.to_string().contains("not a store of mucplex"),
        "{error}"
    );
}

#[test]
fn a_file_of_a_later_version() {
    let stage = Stage::new();
    filled(&stage);
    stage
        .outsider()
        .pragma_update(None, "user_version", 1_000)
        .unwrap();
    let error = refused(&stage.path());
    assert!(
        matches!(error, OpenError::Newer { found: 1_000, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("run that version"), "{error}");
}

#[test]
fn a_later_version_that_only_the_log_knows_of() {
    let stage = Stage::new();
    filled(&stage);
    // The outsider stays, so its log does.
    let outsider = stage.outsider();
    outsider.pragma_update(None, "user_version", 1_000).unwrap();
    let log = stage.dir.path().join("mucplex.db-wal");
    let before = fs::read(&log).unwrap();
    assert!(!before.is_empty());
    assert!(matches!(refused(&stage.path()), OpenError::Newer { .. }));
    assert_eq!(fs::read(&log).unwrap(), before);
}

#[test]
fn a_damaged_file() {
    let stage = Stage::new();
    filled(&stage);
    let length = fs::metadata(stage.path()).unwrap().len();
    let whole = fs::read(stage.path()).unwrap();
    let damage = |what: &dyn Fn(&mut fs::File)| {
        fs::write(stage.path(), &whole).unwrap();
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(stage.path())
            .unwrap();
        what(&mut file);
        drop(file);
        let error = refused(&stage.path());
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("put a copy back"), "{error}");
    };
    let overwrite = |at: u64, count: usize| {
        move |file: &mut fs::File| {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&vec![0xa5; count]).unwrap();
        }
    };
    // A page in the middle, the schema, and the end cut off.
    damage(&overwrite(length / 2 / 4096 * 4096, 4096));
    damage(&overwrite(100, 200));
    damage(&|file| file.set_len(length / 2).unwrap());
    fs::write(stage.path(), &whole).unwrap();
    let kept = load(&stage.open(), &alice());
    assert_eq!(
        kept.rooms[&tea()].messages.last().unwrap().stanza,
        message(899).stanza
    );
}

#[test]
fn a_file_that_has_lost_all_but_its_log() {
    let stage = Stage::new();
    fs::write(stage.path(), "").unwrap();
    fs::write(stage.dir.path().join("mucplex.db-wal"), "something").unwrap();
    assert!(matches!(refused(&stage.path()), OpenError::Corrupt { .. }));
}

#[test]
fn an_empty_file_is_a_new_one() {
    let stage = Stage::new();
    fs::write(stage.path(), "").unwrap();
    put(&stage.open(), &alice(), vec![join(&tea())]);
}

#[test]
fn one_that_is_in_use() {
    let stage = Stage::new();
    let store = stage.open();
    let held = Store::open(&stage.path(), Options::default()).unwrap_err();
    assert!(matches!(held, OpenError::Held { .. }));
    assert!(
        held.to_string().contains("in use by another process"),
        "{held}"
    );
    // By another name it is the same.
    let link = stage.dir.path().join("link.db");
    std::os::unix::fs::symlink(stage.path(), &link).unwrap();
    let held = Store::open(&link, Options::default()).unwrap_err();
    assert!(matches!(held, OpenError::Held { .. }));
    store.close(Duration::from_secs(20)).unwrap();
    stage.open();
}

#[test]
fn a_directory_that_is_not_there() {
    let stage = Stage::new();
    let path = stage.dir.path().join("no/mucplex.db");
    let error = Store::open(&path, Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }));
    assert!(!stage.dir.path().join("no").exists());
}
