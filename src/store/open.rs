//! Opening the state file: what it must be, its pragmas, its schema.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::error::{During, StoreError};
use super::place::Place;
use super::{folder_of, local};
use crate::crash_point::{Point, reached};
use crate::fs;

/// Each step from one schema version to the next; only ever appended to.
const MIGRATION_STEPS: &[M<'_>] = &[
    M::up(include_str!("../../migrations/0001_begin.sql")),
    M::up(include_str!("../../migrations/0002_listing.sql")),
    M::up(include_str!("../../migrations/0003_redo.sql")),
];
const MIGRATIONS: Migrations<'_> = Migrations::from_slice(MIGRATION_STEPS);

/// The schema version that this program reads and writes.
pub const SCHEMA_VERSION: i64 = 3;

/// "KVSE", as the first migration writes it.
const APPLICATION_ID: u32 = 0x4b56_5345;

/// Settings of each connection that writes.
///
/// `synchronous = NORMAL` may lose the last transactions in a power cut, never their order: their work is done
/// again. The few that must last are committed with FULL (`Store::write_durably`), which on macOS means
/// `fullfsync` as well.
const PRAGMAS: [(&str, &str); 7] = [
    ("busy_timeout", "10000"),
    ("journal_mode", "WAL"),
    ("synchronous", "NORMAL"),
    ("fullfsync", "ON"),
    ("foreign_keys", "ON"),
    ("trusted_schema", "OFF"),
    ("journal_size_limit", "67108864"),
];

/// What lies at a path, told from its first bytes without touching it.
enum Found {
    Nothing,
    EmptyFile,
    StateFile { version: i64 },
}

/// Opens the state file for writing, made or migrated as needed.
pub(super) fn open(path: &Path) -> Result<(Connection, Place), StoreError> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    local::refuse_network(path, folder)?;
    match inspect(path)? {
        Found::StateFile { version } => refuse_newer(path, version)?,
        Found::Nothing | Found::EmptyFile => create(path, folder)?,
    }
    let place = Place::take(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = connect(path, flags)?;
    // The first bytes may lag behind the write-ahead log.
    refuse_newer(path, user_version(&connection)?)?;
    set(&connection, &PRAGMAS)?;
    migrate(&mut connection, path)?;
    Ok((connection, place))
}

/// Opens the state file beside a run that may be going on; it must be there and up to date.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    match inspect(path)? {
        Found::StateFile { version } => refuse_newer(path, version)?,
        Found::Nothing | Found::EmptyFile => return Err(StoreError::Missing { path: path.to_owned() }),
    }
    open_beside(path)
}

/// Opens the state file that this process has open for writing, without looking into it first: to close a handle of
/// it that is not SQLite's would give back SQLite's locks.
pub(super) fn open_beside(path: &Path) -> Result<Connection, StoreError> {
    // A connection that may not write leaves the files of the write-ahead log behind that it had to make; one that
    // may removes them. Where they are there already, it would empty them into the state file instead.
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let access = if Path::new(&log).exists() {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    };
    let connection = connect(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    set(&connection, &[("busy_timeout", "10000"), ("query_only", "ON")])?;
    refuse_other(path, &connection)?;
    Ok(connection)
}

/// Opens the state file that this process has open for reading once more, for writing: without looking into it and
/// without a [`Place`], for the same reason.
pub(super) fn open_again(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    set(&connection, &PRAGMAS)?;
    refuse_other(path, &connection)?;
    Ok(connection)
}

fn set(connection: &Connection, pragmas: &[(&str, &str)]) -> Result<(), StoreError> {
    for (name, value) in pragmas {
        connection.pragma_update(None, name, value).during("take its settings")?;
    }
    Ok(())
}

/// Refuses another version than this program's.
fn refuse_other(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let found = user_version(connection)?;
    refuse_newer(path, found)?;
    if found < SCHEMA_VERSION {
        return Err(StoreError::Older { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(())
}

/// Makes an empty database in memory.
pub(super) fn open_in_memory() -> Result<Connection, StoreError> {
    let path = Path::new(":memory:");
    let mut connection =
        Connection::open_in_memory().map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Makes a state file under a temporary name first (I4): what has the final name always tells what it is.
fn create(path: &Path, folder: &Path) -> Result<(), StoreError> {
    let with_suffix = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let temporary = with_suffix(".part");
    fs::remove_file(&with_suffix(".part-journal"))?;
    // Made here and not by SQLite for its permissions, which the write-ahead log inherits.
    let file = fs::create(&temporary)?;
    let mut connection = connect(&temporary, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrate(&mut connection, path)?;
    connection.close().map_err(|(_, source)| StoreError::Open { path: temporary.clone(), source })?;
    fs::sync_file(&file, &temporary)?;
    reached(Point::StateMade);
    fs::rename(&temporary, path)?;
    reached(Point::StateNamed);
    Ok(fs::sync_dir(folder)?)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    /// More than there are queries.
    const CACHED_STATEMENTS: usize = 64;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    MIGRATIONS
        .to_latest(connection)
        .map_err(|source| StoreError::Migrate { path: path.to_owned(), source: Box::new(source) })
}

fn user_version(connection: &Connection) -> Result<i64, StoreError> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).during("tell its version")
}

fn refuse_newer(path: &Path, found: i64) -> Result<(), StoreError> {
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(())
}

/// Reads SQLite's header (<https://www.sqlite.org/fileformat.html>): version at byte 60, application at 68.
fn inspect(path: &Path) -> Result<Found, StoreError> {
    let foreign = |what| Err(StoreError::Foreign { path: path.to_owned(), what });
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(fs::failed_to("open", path)(error).into()),
    };
    if !file.metadata().map_err(fs::failed_to("read", path))?.is_file() {
        return foreign("not a regular file");
    }
    let mut header = Vec::new();
    file.take(100).read_to_end(&mut header).map_err(fs::failed_to("read", path))?;
    let word =
        |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    match (word(60), word(68)) {
        _ if header.is_empty() => Ok(Found::EmptyFile),
        (Some(version), Some(application)) if header.starts_with(b"SQLite format 3\0") => {
            if application == APPLICATION_ID {
                Ok(Found::StateFile { version: version.into() })
            } else {
                foreign("another program's SQLite database")
            }
        }
        _ => foreign("no SQLite database"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The locks of SQLite, which closing any other handle of the file would give back.
    #[cfg(target_os = "linux")]
    fn locks(path: &Path) -> usize {
        use std::os::unix::fs::MetadataExt;
        let inode = format!(":{}", path.metadata().expect("it is there").ino());
        let locks = std::fs::read_to_string("/proc/locks").expect("the locks");
        let of_file = |line: &&str| {
            line.contains("POSIX") && line.split_whitespace().any(|word| word.ends_with(&inode))
        };
        locks.lines().filter(of_file).count()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_plan_that_leaves_listings_keeps_its_own_locks_on_what_it_reads() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        drop(open(&path).expect("made"));
        let reader = open_read_only(&path).expect("opened");
        let read = || reader.query_row("select count(*) from listing", [], |row| row.get::<_, i64>(0));
        assert_eq!(read().expect("read"), 0);
        let before = locks(&path);
        assert!(before > 0, "a reader holds a lock");
        let writer = open_again(&path).expect("opened again");
        writer.execute_batch("begin immediate; delete from listing; commit").expect("written");
        drop(writer);
        assert_eq!(locks(&path), before);
        drop(open(&path).expect("opened as a run does"));
        assert_eq!(locks(&path), 0, "this is what must not happen beside a reader");
    }

    #[test]
    fn the_schema_version_is_the_number_of_steps() {
        assert_eq!(usize::try_from(SCHEMA_VERSION).expect("small"), MIGRATION_STEPS.len());
        MIGRATIONS.validate().expect("every step applies");
    }
}
