//! A target is replaced whole, or it is as it was; what is no regular file is left alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use atomic_file::AtomicFile;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(text.as_bytes())?;
    file.commit()
}

fn pipe(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn a_file_is_made_and_replaced_with_its_permissions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    write(&path, "first").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    write(&path, "second").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(names(folder.path()), ["f"]);
}

#[test]
fn a_draft_that_is_dropped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    fs::write(&path, "old").unwrap();
    // Names that a draft could be thought to have are a user's own.
    fs::write(folder.path().join("f.tmp"), "mine").unwrap();
    let mut file = AtomicFile::create(&path).unwrap();
    file.write_all(b"half").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    drop(file);
    assert_eq!(names(folder.path()), ["f", "f.tmp"]);
    assert_eq!(
        fs::read_to_string(folder.path().join("f.tmp")).unwrap(),
        "mine"
    );
}

#[test]
fn what_is_no_regular_file_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("pipe");
    pipe(&fifo);
    let link = folder.path().join("link");
    symlink(&fifo, &link).unwrap();
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).unwrap();
    for (path, kind) in [(&fifo, "a pipe"), (&link, "a pipe"), (&sub, "a folder")] {
        let error = write(path, "text").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let message = error.to_string();
        assert!(
            message.contains(kind) && !message.contains("draft"),
            "{message}"
        );
    }
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    assert_eq!(names(folder.path()), ["link", "pipe", "sub"]);
}

#[test]
fn what_became_a_pipe_meanwhile_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let file = AtomicFile::create(&path).unwrap();
    pipe(&path);
    assert_eq!(file.commit().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
    assert_eq!(names(folder.path()), ["f"]);
}

#[test]
fn a_link_keeps_leading_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let link = folder.path().join("link");
    fs::write(&path, "old").unwrap();
    symlink("f", &link).unwrap();
    write(&link, "new").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    let astray = folder.path().join("astray");
    symlink("nowhere", &astray).unwrap();
    assert_eq!(
        write(&astray, "text").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn the_longest_name_fits() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("n".repeat(255)), "text").unwrap();
}

#[test]
fn drafts_are_removed_when_nobody_holds_them_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let held = AtomicFile::create(&folder.path().join("mini.v2")).unwrap();
    let draft = names(folder.path()).remove(0);
    fs::write(folder.path().join(".aios-0123456789abcdef.draft"), "left").unwrap();
    // Names that only resemble a draft's are a user's own, and folders are for whoever made them.
    fs::write(folder.path().join(".aios-0123456789ABCDEF.draft"), "mine").unwrap();
    fs::write(
        folder.path().join(".aios-0123456789abcdef.draft.txt"),
        "mine",
    )
    .unwrap();
    fs::create_dir(folder.path().join(".aios-fedcba9876543210.draft")).unwrap();
    write(&folder.path().join("mini"), "text").unwrap();
    let mut expected = vec![
        ".aios-0123456789ABCDEF.draft".to_owned(),
        ".aios-0123456789abcdef.draft.txt".to_owned(),
        ".aios-fedcba9876543210.draft".to_owned(),
        "mini".to_owned(),
        draft,
    ];
    expected.sort();
    assert_eq!(names(folder.path()), expected);
    held.commit().unwrap();
    assert!(names(folder.path()).contains(&"mini.v2".to_owned()));
}

#[test]
fn many_at_once_in_one_folder_take_nothing_from_each_other() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = folder.path().join(format!("f{number}"));
            scope.spawn(move || {
                for turn in 0..50 {
                    write(&path, &turn.to_string()).unwrap();
                }
            });
        }
    });
    let expected: Vec<String> = (0..8).map(|number| format!("f{number}")).collect();
    assert_eq!(names(folder.path()), expected);
}
