//! The disk as programs see it.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use tempfile::TempDir;
use tidegate_fault_disk::{Disk, Faults};

fn mounted() -> (TempDir, Disk) {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(folder.path()).expect("the rights to mount");
    (folder, disk)
}

fn sync_folder(path: &Path) {
    File::open(path).and_then(|folder| folder.sync_all()).expect("a sync");
}

#[test]
fn it_is_a_file_system() {
    let (folder, disk) = mounted();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("inner")).expect("a folder");
    fs::write(path("inner/a"), "hello").expect("a file");
    fs::rename(path("inner/a"), path("b")).expect("a move");
    let file = OpenOptions::new().read(true).write(true).open(path("b")).expect("a file");
    file.write_all_at(b"!", 5).expect("a write");
    fs::remove_file(path("b")).expect("a removal");
    assert_eq!(file.metadata().expect("an open file").nlink(), 0);
    let mut bytes = [0; 10];
    assert_eq!(file.read_at(&mut bytes, 0).expect("a read"), 6);
    assert_eq!(&bytes[..6], b"hello!");
    let names: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(names.len(), 1);
    assert_eq!(disk.counts().written_bytes, 6);
}

#[test]
fn a_cut_keeps_what_was_synced_with_its_folder() {
    let (folder, disk) = mounted();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("unnamed"), "synced, in a folder that is not").expect("a file");
    File::open(path("unnamed")).and_then(|file| file.sync_all()).expect("a sync");
    let mut lost = 0;
    for seed in 0..20 {
        let mut file = File::create(path("whole")).expect("a file");
        file.write_all(b"first").and_then(|()| file.sync_data()).expect("a write");
        sync_folder(folder.path());
        file.write_all(b" second").expect("a write");
        drop(file);
        disk.cut(seed);
        let found = fs::read(path("whole")).expect("the file is there");
        assert!(found == b"first" || found == b"first second", "{found:?}");
        lost += usize::from(found.len() == 5);
        fs::remove_file(path("whole")).expect("a removal");
        sync_folder(folder.path());
    }
    assert!((1..20).contains(&lost), "a matter of chance: {lost}");
    // Its folder was synced in the meantime.
    assert!(path("unnamed").exists());
}

#[test]
fn names_that_no_sync_covers_may_go() {
    let kept = (0..20).filter(|seed| {
        let (folder, disk) = mounted();
        let name = folder.path().join("a");
        fs::write(&name, "synced").expect("a file");
        File::open(&name).and_then(|file| file.sync_all()).expect("a sync");
        disk.cut(*seed);
        name.exists()
    });
    assert!((1..20).contains(&kept.count()));
}

#[test]
fn faults_refuse_by_their_own_errors() {
    let (folder, disk) = mounted();
    let name = folder.path().join("a");
    let mut file = File::create(&name).expect("a file");
    disk.set_faults(Faults { capacity: Some(8), ..Faults::default() });
    file.write_all(b"12345678").expect("it fits");
    assert_eq!(file.write_all(b"9").expect_err("full").kind(), ErrorKind::StorageFull);
    disk.set_faults(Faults { fails_syncs: true, ..Faults::default() });
    assert!(file.sync_data().is_err());
    disk.set_faults(Faults { is_read_only: true, ..Faults::default() });
    let refused = [
        file.write_all(b"9"),
        fs::remove_file(&name),
        File::create(folder.path().join("b")).map(drop),
    ];
    for error in refused.map(|result| result.expect_err("read-only")) {
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    }
    disk.set_faults(Faults::default());
    file.write_all(b"9").and_then(|()| file.sync_data()).expect("all is well again");
    assert_eq!(disk.counts().refused, 5);
}
