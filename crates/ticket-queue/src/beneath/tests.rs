use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;

use super::*;

fn raw() -> (tempfile::TempDir, RawDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("raw_videos");
    fs::create_dir_all(dir.join("cam")).unwrap();
    fs::write(dir.join("cam/a.mp4"), "video").unwrap();
    fs::write(temp.path().join("secret"), "secret").unwrap();
    symlink(temp.path(), dir.join("out")).unwrap();
    symlink("cam/a.mp4", dir.join("link.mp4")).unwrap();
    let raw = RawDir::open(&dir).unwrap();
    (temp, raw)
}

fn verdict(raw: &RawDir, filepath: &str) -> String {
    match raw.open_ticket_file(filepath) {
        Ok(opened) => opened.path.to_string(),
        Err(refused) => refused.reason.to_string(),
    }
}

#[test]
fn paths_of_every_kind_lead_to_the_file() {
    let (temp, raw) = raw();
    let absolute = temp.path().join("raw_videos/cam/a.mp4");
    for filepath in [
        absolute.to_str().unwrap(),
        "cam/a.mp4",
        "./cam//a.mp4",
        "raw_videos/cam/a.mp4",
        "./raw_videos/cam/a.mp4",
    ] {
        assert_eq!(verdict(&raw, filepath), "cam/a.mp4", "{filepath}");
    }
    let mut text = String::new();
    raw.open_ticket_file("cam/a.mp4")
        .unwrap()
        .file
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "video");
}

#[test]
fn a_raw_directory_with_dots_in_its_setting_is_found() {
    let (temp, _) = raw();
    let dotted = temp.path().join("raw_videos/../raw_videos");
    let raw = RawDir::open(&dotted).unwrap();
    let filepath = dotted.join("cam/a.mp4");
    assert_eq!(verdict(&raw, filepath.to_str().unwrap()), "cam/a.mp4");
}

#[test]
fn everything_else_is_refused_with_a_reason() {
    let (temp, raw) = raw();
    let secret = temp.path().join("secret");
    for (filepath, expected) in [
        ("../secret", "does not lie beneath"),
        ("cam/../../secret", "does not lie beneath"),
        (secret.to_str().unwrap(), "does not lie beneath"),
        ("/etc/passwd", "does not lie beneath"),
        (".", "does not lie beneath"),
        ("out/secret", "symbolic link"),
        ("link.mp4", "symbolic link"),
        ("cam", "not a regular file"),
        ("cam/b.mp4", "does not exist"),
        ("cam/a.mp4/x", "does not exist"),
    ] {
        let verdict = verdict(&raw, filepath);
        assert!(verdict.contains(expected), "{filepath}: {verdict}");
    }
}

#[test]
fn a_directory_that_took_the_place_of_the_raw_one_is_looked_in() {
    let (temp, raw) = raw();
    let (dir, other) = (temp.path().join("raw_videos"), temp.path().join("other"));
    fs::create_dir_all(other.join("cam")).unwrap();
    fs::write(other.join("cam/late.mp4"), "video").unwrap();
    assert!(verdict(&raw, "cam/late.mp4").contains("does not exist"));
    fs::rename(&dir, temp.path().join("covered")).unwrap();
    let failure = Failure::from(raw.open_ticket_file("cam/late.mp4").unwrap_err());
    assert!(matches!(failure, Failure::NotNow { .. }), "{failure:?}");
    fs::rename(&other, &dir).unwrap();
    assert_eq!(verdict(&raw, "cam/late.mp4"), "cam/late.mp4");
    assert!(verdict(&raw, "cam/a.mp4").contains("does not exist"));
}

#[test]
fn a_directory_without_recordings_is_bare() {
    let (temp, raw) = raw();
    let dir = temp.path().join("raw_videos");
    assert!(!raw.is_bare_at("cam/gone.mp4") && !raw.is_all_bare());
    assert!(raw.is_bare_at("other/gone.mp4"), "no such directory");
    assert!(!raw.is_bare_at("raw_videos/cam/gone.mp4"));
    fs::create_dir_all(dir.join("other/lost+found")).expect("a directory");
    fs::write(dir.join("other/.new.mp4.part"), "").expect("a file");
    assert!(
        raw.is_bare_at("other/gone.mp4"),
        "nothing but an open segment"
    );
    assert!(raw.is_bare_at("raw_videos/other/gone.mp4"));
    fs::write(dir.join("other/new.mp4"), "").expect("a file");
    assert!(!raw.is_bare_at("other/gone.mp4"));
    assert_eq!(verdict(&raw, "other/new.mp4"), "other/new.mp4");
    fs::remove_file(dir.join("other/new.mp4")).expect("a file");
    assert!(!raw.is_bare_at("other/gone.mp4"), "it was there");
    fs::rename(&dir, temp.path().join("disk")).expect("a directory");
    assert!(raw.is_bare_at("other/gone.mp4") && raw.is_all_bare());
    fs::create_dir(&dir).expect("a directory");
    assert!(raw.is_bare_at("other/gone.mp4") && raw.is_all_bare());
}

#[test]
fn a_pipe_is_refused_at_once() {
    let (temp, raw) = raw();
    let pipe = temp.path().join("raw_videos/pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(verdict(&raw, "pipe").contains("not a regular file"));
}

#[test]
fn the_walk_agrees_with_openat2() {
    let (_temp, raw) = raw();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for path in [
        "cam/a.mp4",
        "out/secret",
        "link.mp4",
        "cam/none",
        "cam/a.mp4/x",
        "cam",
    ] {
        let path = Path::new(path);
        let walked = walk(raw.fd().as_fd(), path, flags).map(|fd| fstat(fd).unwrap().st_ino);
        let opened = raw.open_at(path, flags).map(|fd| fstat(fd).unwrap().st_ino);
        assert_eq!(walked, opened, "{}", path.display());
    }
    let dir_flags = flags | OFlags::DIRECTORY;
    assert!(walk(raw.fd().as_fd(), Path::new("."), dir_flags).is_ok());
}

#[test]
fn only_the_file_that_was_read_is_unlinked() {
    let (temp, raw) = raw();
    let opened = raw.open_ticket_file("cam/a.mp4").unwrap();
    let path = temp.path().join("raw_videos/cam/a.mp4");
    fs::rename(&path, path.with_extension("old")).unwrap();
    fs::write(&path, "other").unwrap();
    assert_eq!(
        raw.unlink_if_same(&opened.path, opened.id).unwrap(),
        Unlinked::Different
    );
    fs::rename(path.with_extension("old"), &path).unwrap();
    assert_eq!(
        raw.unlink_if_same(&opened.path, opened.id).unwrap(),
        Unlinked::Removed
    );
    raw.sync_dir_of(&opened.path).unwrap();
    assert_eq!(
        raw.unlink_if_same(&opened.path, opened.id).unwrap(),
        Unlinked::Gone
    );
    assert!(!path.exists());
}

#[test]
fn a_directory_swapped_for_a_link_does_not_lead_the_unlink_astray() {
    let (temp, raw) = raw();
    let opened = raw.open_ticket_file("cam/a.mp4").unwrap();
    let elsewhere = temp.path().join("elsewhere");
    fs::rename(temp.path().join("raw_videos/cam"), &elsewhere).unwrap();
    symlink(&elsewhere, temp.path().join("raw_videos/cam")).unwrap();
    assert!(raw.unlink_if_same(&opened.path, opened.id).is_err());
    assert!(elsewhere.join("a.mp4").exists());
}
