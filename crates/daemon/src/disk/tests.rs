use super::*;
use std::fs::File;

/// Three directories with files of a given age.
struct Disk {
    folder: tempfile::TempDir,
    now: Moment,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Disk {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            now: Moment::now(),
        }
    }

    fn file(&self, path: &str, bytes: usize, hours_old: u32) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![0; bytes]).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(self.now.wall - HOUR * hours_old))
            .unwrap();
    }

    /// A published video with its report.
    fn published(&self, number: u32, bytes: usize, hours_old: u32) {
        let place = format!("out/cam/blurred_cam_20260101_120000_seg{number:04}");
        self.file(&format!("{place}.mp4"), bytes, hours_old);
        self.file(&format!("{place}.json"), 0, hours_old);
    }

    fn keeper(&self, max_usage_bytes: u64, deletes: Deletes) -> DiskKeeper {
        let path = |name| self.folder.path().join(name);
        let dirs = VideoDirs {
            raw: path("raw"),
            published: path("out"),
            backup: Some(path("backup")),
        };
        let budget = Budget {
            max_usage_bytes,
            min_free_bytes: 0,
            deletes,
            max_file_age: HOUR * 24,
        };
        DiskKeeper::new(dirs, budget)
    }

    /// One look; only segments whose names hold `done` are processed, and nobody needs what is finished.
    fn look(&self, max_usage_bytes: u64) -> Room {
        self.keeper(max_usage_bytes, Deletes::All)
            .look(self.now, &mut done)
            .unwrap()
    }

    fn left(&self) -> Vec<String> {
        let mut names: Vec<String> = files_below(self.folder.path())
            .iter()
            .map(|file| {
                let below = file.path.strip_prefix(self.folder.path()).unwrap();
                below.display().to_string()
            })
            .collect();
        names.sort();
        names
    }
}

fn done(file: &StoredFile, kind: Kind) -> bool {
    kind != Kind::Segment || file.path.to_str().unwrap().contains("done")
}

#[test]
fn one_budget_covers_everything_and_the_oldest_processed_goes_first() {
    let disk = Disk::new();
    disk.file("raw/cam/waiting.mp4", 500, 20);
    disk.file("raw/cam/done.mp4", 100, 9);
    disk.file("raw/camera that was removed/done.mp4", 100, 8);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0001.mp4", 90, 7);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0001.json", 10, 7);
    disk.file("backup/cam/cam_20260101_120000_seg0001.mp4", 100, 6);
    let all = disk.left();
    let room = disk.look(900);
    assert_eq!((room.used_bytes, room.waiting_bytes), (900, 500));
    assert_eq!(disk.left(), all, "it fits");
    for (budget, gone) in [
        (899, "raw/cam/done.mp4"),
        (799, "raw/camera that was removed/done.mp4"),
        (699, "out/cam/blurred_cam_20260101_120000_seg0001.mp4"),
        (599, "backup/cam/cam_20260101_120000_seg0001.mp4"),
    ] {
        assert!(disk.left().contains(&gone.to_owned()));
        let room = disk.look(budget);
        assert_eq!((room.deleted, room.over_bytes), (1, 0), "{gone}");
        assert!(!disk.left().contains(&gone.to_owned()), "{gone}");
    }
    assert_eq!(disk.left(), ["raw/cam/waiting.mp4"], "reports go too");
    let room = disk.look(1);
    assert_eq!(
        (room.deleted, room.over_bytes, room.waiting_bytes),
        (0, 499, 500)
    );
    assert_eq!(disk.left(), ["raw/cam/waiting.mp4"], "never what waits");
}

#[test]
fn what_an_original_depends_on_stays() {
    let disk = Disk::new();
    let [needed, free] = ["0001", "0002"]
        .map(|number| format!("out/cam/blurred_cam_20260101_120000_seg{number}.mp4"));
    let backup = "backup/cam/cam_20260101_120000_seg0001.mp4";
    for path in [&needed, &free, backup] {
        disk.file(path, 10, 30);
    }
    let mut keeper = disk.keeper(0, Deletes::All);
    let is_needed = |file: &StoredFile, kind| {
        let name = file.path.to_str().unwrap();
        kind == Kind::Backup || name.contains("seg0001")
    };
    let look = |file: &StoredFile, kind: Kind| !is_needed(file, kind);
    let room = keeper.look(disk.now, &mut { look }).unwrap();
    assert_eq!((room.deleted, room.over_bytes), (1, 20));
    assert_eq!(disk.left(), [backup, &needed]);
    assert_eq!(disk.look(0).deleted, 2, "nobody needs them any more");
}

#[test]
fn a_file_that_takes_the_name_of_a_processed_one_is_not_processed() {
    let disk = Disk::new();
    disk.file("raw/cam/kept.mp4", 10, 3);
    let mut keeper = disk.keeper(1000, Deletes::All);
    let mut look = |seconds| {
        let now = disk.now + Duration::from_secs(seconds);
        let mut is_the_one = |file: &StoredFile, _| file.bytes == 10;
        keeper.look(now, &mut is_the_one).unwrap()
    };
    assert_eq!(look(0).waiting_bytes, 0);
    disk.file("raw/cam/kept.mp4", 20, 30);
    let room = look(30);
    assert_eq!((room.deleted, room.waiting_bytes), (0, 20));
    assert_eq!(disk.left(), ["raw/cam/kept.mp4"]);
}

#[test]
fn age_alone_is_a_reason_and_youth_protects() {
    let disk = Disk::new();
    disk.file("raw/cam/waiting.mp4", 10, 1000);
    disk.published(3, 10, 25);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0004.mp4", 10, 23);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0005.mp4", 10, 0);
    assert_eq!(disk.look(1000).deleted, 1);
    let left = [
        "out/cam/blurred_cam_20260101_120000_seg0004.mp4",
        "out/cam/blurred_cam_20260101_120000_seg0005.mp4",
        "raw/cam/waiting.mp4",
    ];
    assert_eq!(disk.left(), left);
    let room = disk.look(0);
    assert_eq!((room.deleted, room.over_bytes), (1, 20));
    assert_eq!(disk.left(), left[1..]);
}

#[test]
fn what_the_scripts_published_goes_for_space_and_not_for_age() {
    let disk = Disk::new();
    disk.file("out/cam/blurred_cam_20250101_120000_seg0001.mp4", 10, 1000);
    disk.file("out/cam/blurred_cam_20250101_120000_seg0002.mkv", 10, 999);
    disk.published(3, 10, 25);
    let all = disk.left();
    assert_eq!(disk.look(1000).deleted, 1, "the one with a report");
    assert_eq!(disk.left(), all[..2]);
    assert_eq!(disk.look(10).deleted, 1);
    assert_eq!(disk.left(), all[1..2], "the oldest");
}

#[test]
fn below_the_floor_the_oldest_go_too() {
    let disk = Disk::new();
    disk.file("raw/cam/waiting.mp4", 10, 3);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0001.mp4", 10, 2);
    let mut keeper = disk.keeper(1 << 40, Deletes::All);
    keeper.budget.min_free_bytes = u64::MAX;
    let room = keeper.look(disk.now, &mut done).unwrap();
    assert_eq!(room.deleted, 1);
    assert!(room.short_bytes > 0);
    assert_eq!(disk.left(), ["raw/cam/waiting.mp4"]);
}

#[test]
fn what_lies_on_another_file_system_makes_no_room() {
    let disk = Disk::new();
    disk.file("raw/cam/waiting.mp4", 10, 3);
    disk.file("raw/cam/done.mp4", 10, 2);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0001.mp4", 10, 4);
    let mut keeper = disk.keeper(1 << 40, Deletes::All);
    keeper.budget.min_free_bytes = 1000;
    keeper.free_bytes = |path| {
        Ok(if path.iter().any(|part| part == "raw") {
            0
        } else {
            5000
        })
    };
    let room = keeper.look(disk.now, &mut done).unwrap();
    assert_eq!((room.deleted, room.short_bytes), (1, 1000));
    assert_eq!(
        disk.left(),
        [
            "out/cam/blurred_cam_20260101_120000_seg0001.mp4",
            "raw/cam/waiting.mp4"
        ]
    );
}

#[test]
fn nothing_is_deleted_when_that_is_forbidden_and_work_in_progress_is_left_alone() {
    let disk = Disk::new();
    disk.file("out/cam/blurred_cam_20260101_120000_seg0003.mp4", 10, 25);
    disk.file("out/.tmp/draft.mp4", 10, 25);
    disk.file("raw/cam/.done.mp4.part", 10, 25);
    let room = disk
        .keeper(0, Deletes::Nothing)
        .look(disk.now, &mut done)
        .unwrap();
    assert_eq!((room.deleted, room.over_bytes), (0, 10));
    assert_eq!(disk.look(0).deleted, 1);
    assert!(disk.folder.path().join("out/.tmp/draft.mp4").exists());
    assert!(disk.folder.path().join("raw/cam/.done.mp4.part").exists());
}

#[test]
fn the_recorder_counts_all_and_deletes_processed_segments_when_nobody_else_makes_room() {
    let disk = Disk::new();
    disk.file("out/cam/blurred_cam_20260101_120000_seg0003.mp4", 100, 30);
    disk.file("raw/cam/waiting.mp4", 100, 3);
    disk.file("raw/cam/done_a.mp4", 100, 2);
    disk.file("raw/cam/done_b.mp4", 100, 1);
    let mut keeper = disk.keeper(300, Deletes::Segments);
    let mut look = |seconds| {
        let now = disk.now + Duration::from_secs(seconds);
        keeper.look(now, &mut done).unwrap()
    };
    let room = look(0);
    assert_eq!(
        (room.deleted, room.used_bytes, room.over_bytes),
        (0, 400, 100)
    );
    assert_eq!(look(60).deleted, 0);
    let room = look(100);
    assert_eq!((room.deleted, room.over_bytes), (1, 0));
    let left = [
        "out/cam/blurred_cam_20260101_120000_seg0003.mp4",
        "raw/cam/done_b.mp4",
        "raw/cam/waiting.mp4",
    ];
    assert_eq!(disk.left(), left);
    disk.file("raw/cam/done_old.mp4", 1, 25);
    assert_eq!(look(110).deleted, 1, "for its age at once");
    assert_eq!(disk.left(), left);
}

#[test]
fn a_segment_is_not_asked_about_at_every_look() {
    let disk = Disk::new();
    disk.file("raw/cam/waiting.mp4", 10, 3);
    disk.file("raw/cam/done.mp4", 10, 3);
    let mut keeper = disk.keeper(1 << 40, Deletes::All);
    let mut asked = 0;
    for seconds in [0, 5, 10, 400] {
        let now = disk.now + Duration::from_secs(seconds);
        let room = keeper.look(now, &mut |file, kind| {
            asked += 1;
            done(file, kind)
        });
        assert_eq!(room.unwrap().waiting_bytes, 10);
    }
    assert_eq!(
        asked, 3,
        "both at first, the one that waits again after a while"
    );
}

#[test]
fn the_forecast_follows_the_backlog_alone() {
    let disk = Disk::new();
    disk.file("out/cam/blurred_cam_20260101_120000_seg0001.mp4", 400, 1);
    let mut keeper = disk.keeper(1000, Deletes::All);
    let mut look = |minute: u32| {
        let now = disk.now + Duration::from_secs(60) * minute;
        keeper.look(now, &mut done).unwrap()
    };
    for minute in 0..10 {
        let room = look(minute);
        assert_eq!(
            room.hours_left, None,
            "only a backlog that grows fills the disk"
        );
        disk.file(
            &format!("out/cam/blurred_cam_20260101_120000_seg00{minute}.mp4"),
            1,
            0,
        );
    }
    // 600 bytes an hour; what is published can go, so that 1000 - 100 bytes are left.
    for minute in 10..20 {
        disk.file(&format!("raw/cam/waiting{minute}.mp4"), 10, 0);
        look(minute);
    }
    let hours = look(20).hours_left.unwrap();
    assert!(
        (2.5..3.5).contains(&hours),
        "100 bytes in 20 minutes: {hours}"
    );
    for minute in 10..20 {
        fs::remove_file(
            disk.folder
                .path()
                .join(format!("raw/cam/waiting{minute}.mp4")),
        )
        .unwrap();
    }
    assert_eq!(look(21).hours_left, None, "it has caught up");
}

#[test]
fn what_is_not_ours_neither_counts_nor_goes() {
    let disk = Disk::new();
    let foreign = [
        "backup/cam/cam_20260101_120000_seg0001.json",
        "backup/cam/holiday.mp4",
        "backup/cam_20260101_120000_seg0001.mp4",
        "backup/family/wedding.mp4",
        "backup/kept/cam/cam_20260101_120000_seg0001.mp4",
        "out/cam/blurred_holiday.mp4",
        "out/cam/holiday.mp4",
        "out/kept/cam/blurred_cam_20260101_120000_seg0001.mp4",
        "out/wedding.jpg",
    ];
    for path in foreign {
        disk.file(path, 1000, 1000);
    }
    disk.file("backup/cam/cam_20260101_120000_seg0001.mp4", 10, 30);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0001.mp4", 10, 30);
    disk.file("out/cam/blurred_by hand.mp4", 10, 30);
    disk.file("out/cam/blurred_by hand.json", 1, 30);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0002.mp4", 10, 2);
    let room = disk.look(10);
    assert_eq!((room.deleted, room.used_bytes, room.over_bytes), (3, 10, 0));
    let mut left = foreign.to_vec();
    left.push("out/cam/blurred_cam_20260101_120000_seg0002.mp4");
    left.sort_unstable();
    assert_eq!(disk.left(), left);
    assert_eq!(disk.look(0).deleted, 1);
    assert_eq!(disk.left(), foreign);
}

#[test]
fn a_place_is_told_without_links() {
    let disk = Disk::new();
    let folder = fs::canonicalize(disk.folder.path()).unwrap();
    disk.file("raw/cam/a.mp4", 1, 0);
    std::os::unix::fs::symlink("raw", folder.join("videos")).unwrap();
    let real = |path| real_place(&folder.join(path));
    assert_eq!(real("videos"), folder.join("raw"));
    assert!(real("videos").to_str().unwrap().ends_with("/raw"));
    assert_eq!(real("videos/later"), folder.join("raw/later"));
    assert_eq!(real("./out"), folder.join("out"));
}

#[test]
fn free_space_is_told_for_what_will_be_made() {
    let disk = Disk::new();
    let there = free_bytes(disk.folder.path()).unwrap();
    let later = free_bytes(&disk.folder.path().join("not/yet/there")).unwrap();
    assert!(there > 0 && later.abs_diff(there) < there / 10 + (1 << 30));
    assert!(free_bytes(Path::new("relative/and/missing")).unwrap() > 0);
}

#[test]
fn footage_below_a_directory_of_finished_videos_is_no_finished_video() {
    let disk = Disk::new();
    disk.file("out/raw/cam/waiting.mp4", 10, 1000);
    disk.file("out/raw/cam/done.mp4", 10, 30);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0003.mp4", 10, 30);
    std::os::unix::fs::symlink("out/raw", disk.folder.path().join("raw")).unwrap();
    let room = disk.look(0);
    assert_eq!(
        (room.deleted, room.used_bytes, room.waiting_bytes),
        (2, 10, 10)
    );
    assert_eq!(disk.left(), ["out/raw/cam/waiting.mp4"]);
}

#[test]
fn a_clock_that_is_set_forward_makes_nothing_old() {
    let disk = Disk::new();
    disk.file("raw/cam/done.mp4", 10, 20);
    disk.published(1, 10, 2);
    disk.published(2, 10, 0);
    let all = disk.left();
    let mut keeper = disk.keeper(1000, Deletes::All);
    let mut look = |wall: SystemTime, passed: Duration| {
        let monotonic = disk.now.monotonic + passed;
        let now = Moment { wall, monotonic };
        keeper.look(now, &mut done).unwrap().deleted
    };
    let seconds = Duration::from_secs;
    assert_eq!(look(disk.now.wall, seconds(0)), 0);
    let later = disk.now.wall + HOUR * 24 * 730;
    assert_eq!(look(later, seconds(30)), 0);
    assert_eq!(disk.left(), all, "30 s have passed");
    assert_eq!(
        look(later + HOUR * 5, HOUR * 5),
        1,
        "done.mp4 is 25 hours old"
    );
    assert_eq!(look(later + HOUR * 25, HOUR * 25), 2);
    assert_eq!(disk.left(), [] as [&str; 0]);
}

#[test]
fn a_clock_that_is_set_back_again_leaves_ages_as_they_were() {
    let disk = Disk::new();
    disk.published(1, 10, 23);
    let mut keeper = disk.keeper(1000, Deletes::All);
    let mut look = |wall: SystemTime, passed: Duration| {
        let monotonic = disk.now.monotonic + passed;
        let now = Moment { wall, monotonic };
        keeper.look(now, &mut done).unwrap().deleted
    };
    assert_eq!(look(disk.now.wall, Duration::ZERO), 0);
    assert_eq!(look(disk.now.wall + HOUR * 1000, Duration::ZERO), 0);
    assert_eq!(look(disk.now.wall, Duration::ZERO), 0);
    assert_eq!(look(disk.now.wall + HOUR * 2, HOUR * 2), 1);
}

#[test]
fn a_video_dated_in_the_future_goes_first_and_for_space_only() {
    let disk = Disk::new();
    disk.published(3, 10, 25);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0005.mp4", 10, 1);
    disk.file("out/cam/blurred_cam_20260101_120000_seg0004.mp4", 10, 0);
    let later = disk.now.wall + HOUR * 24 * 730;
    File::options()
        .write(true)
        .open(
            disk.folder
                .path()
                .join("out/cam/blurred_cam_20260101_120000_seg0004.mp4"),
        )
        .and_then(|file| file.set_modified(later))
        .unwrap();
    assert_eq!(disk.look(1000).deleted, 1, "for its age");
    let left = [
        "out/cam/blurred_cam_20260101_120000_seg0004.mp4",
        "out/cam/blurred_cam_20260101_120000_seg0005.mp4",
    ];
    assert_eq!(disk.left(), left);
    assert_eq!(disk.look(10).deleted, 1);
    assert_eq!(disk.left(), left[1..]);
}

#[test]
fn a_clock_that_is_set_does_not_change_for_how_long_space_is_short() {
    for step in [-5000, 5000] {
        let disk = Disk::new();
        disk.file("raw/cam/done.mp4", 10, 8000);
        let mut keeper = disk.keeper(1, Deletes::Segments);
        keeper.budget.max_file_age = HOUR * 100_000;
        let mut look = |wall: SystemTime, seconds| {
            let monotonic = disk.now.monotonic + Duration::from_secs(seconds);
            let now = Moment { wall, monotonic };
            keeper.look(now, &mut done).unwrap().deleted
        };
        let wall = match step {
            ..0 => disk.now.wall - HOUR * 5000,
            _ => disk.now.wall + HOUR * 5000,
        };
        assert_eq!(look(disk.now.wall, 0), 0);
        assert_eq!(look(wall, 30), 0, "{step}: the other daemon has its turn");
        assert_eq!(look(wall, 100), 1, "{step}: it made no room");
    }
}

#[test]
fn a_clock_that_is_set_does_not_change_how_fast_the_backlog_grows() {
    let disk = Disk::new();
    disk.file("raw/cam/waiting_a.mp4", 100, 1);
    let mut keeper = disk.keeper(1000, Deletes::All);
    let mut look = |wall: SystemTime, minutes| {
        let monotonic = disk.now.monotonic + Duration::from_secs(60) * minutes;
        let now = Moment { wall, monotonic };
        keeper.look(now, &mut done).unwrap().hours_left
    };
    assert_eq!(look(disk.now.wall, 0), None);
    disk.file("raw/cam/waiting_b.mp4", 100, 1);
    let hours = look(disk.now.wall + HOUR / 2, 10).unwrap();
    assert!(
        (1.2..1.4).contains(&hours),
        "800 bytes at 600 an hour: {hours}"
    );
    disk.file("raw/cam/waiting_c.mp4", 100, 1);
    let hours = look(disk.now.wall - HOUR, 20).unwrap();
    assert!(
        (1.1..1.2).contains(&hours),
        "700 bytes at 600 an hour: {hours}"
    );
}
