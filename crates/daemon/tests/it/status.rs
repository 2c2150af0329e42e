use daemon::StatusFile;
use daemon::status::{self, ProcessorStatus, RecorderStatus, SourceStatus};

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let source = SourceStatus {
        name: "gate".to_owned(),
        fps: 14.9,
        ..SourceStatus::default()
    };
    let written = RecorderStatus {
        pid: 7,
        sources: vec![source],
        ..RecorderStatus::default()
    };
    let status_dir = dir.path().join("logs");
    StatusFile::new(&status_dir, status::RECORDER)
        .write(&written)
        .unwrap();
    let path = status_dir.join("rtsp_recorder.status.json");
    assert_eq!(status::read::<RecorderStatus>(&path).unwrap(), written);
    assert_eq!(
        std::fs::read_dir(&status_dir).unwrap().count(),
        1,
        "no scratch file is left"
    );
}

#[test]
fn other_versions_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    std::fs::write(
        &path,
        r#"{"pid": 3, "new_field": [1], "workers": [{"slot": 1}]}"#,
    )
    .unwrap();
    let status: ProcessorStatus = status::read(&path).unwrap();
    assert_eq!(
        (status.pid, status.workers[0].slot, status.workers[0].pid),
        (3, 1, None)
    );
}
