//! The data directory: private, checked, locked.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process;

use tidegate_store::{Seq, TakerId, Transaction};

use crate::config::StoreConfig;
use crate::store::{self, Completion, DataDirectory, DirectoryError};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

/// Opens a directory and returns what is wrong with it, in words.
fn refusal(path: &Path) -> String {
    let error = DataDirectory::open(path).expect_err("it is not safe");
    assert_eq!(error.exit_code(), 74);
    error.to_string()
}

#[test]
fn fault_S20_everything_is_for_this_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("below/data");
    let config = StoreConfig::default();
    for start in 1..=3 {
        let directory = DataDirectory::open(&path).unwrap();
        let (journal, recovery) = store::open(&directory, &config).unwrap();
        assert_eq!(recovery.created, start == 1);
        assert_eq!(recovery.next_seq, Seq::new(start));
        let store = store::spawn("store", directory, journal, &recovery, &config).unwrap();
        let mut transaction = Transaction::new();
        transaction.append(Seq::new(start), &[(TakerId::new(1), start)], b"21.5").unwrap();
        let (completion, receipt) = Completion::receipt();
        store.handle().submit(transaction, completion);
        assert_eq!(receipt.blocking_recv(), Ok(Ok(())));
        let syncs = store.status();
        store.stop().unwrap();
        assert!(syncs().sync_last.as_nanos() > 0);
    }
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("journal")), 0o700);
    let files = fs::read_dir(path.join("journal")).unwrap();
    let mut count = 0;
    for file in files.chain(fs::read_dir(&path).unwrap()) {
        let file = file.unwrap().path();
        if file.is_file() {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
            count += 1;
        }
    }
    assert!(count >= 4, "lock, identity, mark and a segment");
}

#[test]
fn fault_S20_unsafe_directories_are_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let text = refusal(&path);
    assert!(text.contains(&format!("chmod 0700 {}", path.display())), "{text}");
    assert!(fs::read_dir(&path).unwrap().next().is_none(), "nothing was touched");

    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    let text = refusal(&link);
    assert!(text.contains(&format!("name {} itself", path.display())), "{text}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(folder.path().join("elsewhere"), path.join("lock")).unwrap();
    let text = refusal(&path);
    assert!(text.contains(&format!("rm {}", path.join("lock").display())), "{text}");
    fs::remove_file(path.join("lock")).unwrap();

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refusal(&file).contains("not a directory"));
}

#[test]
fn fault_S20_a_link_in_the_place_of_a_segment_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let directory = DataDirectory::open(&path).unwrap();
    let target = folder.path().join("target");
    fs::write(&target, "precious").unwrap();
    let planted = path.join("journal/segment-0000000001.log");
    symlink(&target, &planted).unwrap();
    let error = store::open(&directory, &StoreConfig::default()).expect_err("it is a link");
    let source = std::error::Error::source(&error).expect("it has a cause").to_string();
    assert!(source.contains(&format!("rm {}", planted.display())), "{source}");
    assert_eq!(fs::read_to_string(target).unwrap(), "precious");
}

#[test]
fn fault_S18_a_second_gateway_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let first = DataDirectory::open(&path).unwrap();
    let error = DataDirectory::open(&path).expect_err("it is in use");
    assert!(matches!(&error, DirectoryError::InUse { .. }), "{error}");
    assert_eq!(error.exit_code(), 75);
    let expected = format!("in use by process {}", process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    drop(first);
    DataDirectory::open(&path).unwrap();
}
