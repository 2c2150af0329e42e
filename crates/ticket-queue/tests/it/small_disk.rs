//! A disk of 20 MB that is nearly full all the time, for hours of simulated load: segments are recorded, processed and
//! taken away while something else eats the space. Root only.
//!
//! `TICKET_QUEUE_LONG=1` runs two months instead of four days.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, Instant};

use ticket_queue::protocol::CommitSteps;
use ticket_queue::{DirectoryQueue, Error, OriginalFate, Queue, durable};

use crate::common::{
    Scene, blurred, process, real_disk, recover, recover_processor, ticket_for, video,
};
use crate::no_space::SmallDisk;

/// Segments of 30 s.
const SEGMENTS_PER_HOUR: usize = 120;
const SIZE: u64 = 20 << 20;

/// What a recorder was told is safe, and what was published of it and taken away.
#[derive(Default)]
struct Books {
    acknowledged: BTreeSet<String>,
    published: BTreeSet<String>,
    /// Times that the disk was too full to record, and to publish.
    refused: (usize, usize),
}

/// As the recorder does: what does not fit is given up, what is whole under its name gets its ticket at the next start.
fn record(scene: &Scene, queue: &DirectoryQueue, name: &str) -> Result<(), Error> {
    let path = scene.segment(name);
    let part = path.with_file_name(format!(".{name}.part"));
    let io = |error| Error::Io {
        action: "write",
        path: part.clone(),
        source: error,
    };
    let mut file = File::create_new(&part).map_err(io)?;
    let written = file.write_all(&video(name)).map_err(io);
    let committed = written.and_then(|()| {
        durable::commit_new_on(queue.disk(), CommitSteps::SEGMENT, &file, &part, &path)
    });
    if committed.is_err() {
        fs::remove_file(&part).unwrap();
    }
    committed?;
    queue.enqueue(&ticket_for(name)).map(drop)
}

impl Books {
    /// Checks every published file and takes it away, as a person or the age limit does.
    fn take_published(&mut self, scene: &Scene) {
        let Ok(entries) = fs::read_dir(scene.out.join("cam")) else {
            return;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let name = name.trim_start_matches("blurred_").to_owned();
            assert_eq!(fs::read(&path).unwrap(), blurred(&video(&name)), "{name}");
            // Its original is dealt with first, else the file is still needed.
            if !scene.segment(&name).exists() {
                fs::remove_file(&path).unwrap();
                assert!(self.published.insert(name.clone()), "{name} came twice");
            }
        }
    }
}

#[test]
fn a_disk_that_is_always_nearly_full_loses_nothing() {
    let Some(disk) = SmallDisk::mount(SIZE) else {
        return;
    };
    let hours = if env::var_os("TICKET_QUEUE_LONG").is_some() {
        1500
    } else {
        100
    };
    let scene = Scene::new(disk.path(), disk.path(), OriginalFate::Deleted);
    let (queue, publisher) = scene.open(&real_disk());
    let raw = scene.raw_dir();
    let mut books = Books::default();
    let began = Instant::now();
    for hour in 0..hours {
        disk.fill_but(rand::random_range(16 << 10..1 << 20));
        for number in 0..SEGMENTS_PER_HOUR {
            let name = format!("{hour}_{number}.mp4");
            match record(&scene, &queue, &name) {
                Ok(()) => drop(books.acknowledged.insert(name)),
                Err(error) if error.is_no_space() => books.refused.0 += 1,
                Err(error) => panic!("{error}"),
            }
            // It does not always keep up.
            if rand::random_bool(0.7) {
                queue.reap().unwrap();
                let Some(lease) = queue.claim().unwrap() else {
                    continue;
                };
                match process(&queue, &publisher, &raw, scene.fate, lease) {
                    Ok(()) => {}
                    Err(error) if error.is_no_space() => books.refused.1 += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        disk.free();
        recover_processor(&scene, &queue, &publisher).unwrap();
        books.take_published(&scene);
        let nothing_left = |_: &ticket_queue::Receipt| true;
        let mut on_damaged = |error| panic!("{error}");
        queue
            .prune_receipts(Duration::ZERO, &nothing_left, &mut on_damaged)
            .unwrap();
    }
    recover(&scene).unwrap();
    books.take_published(&scene);
    assert!(
        books.published.is_superset(&books.acknowledged),
        "{:?} are lost",
        books.acknowledged.difference(&books.published)
    );
    let stats = queue.stats().unwrap();
    let rest = stats.ready + stats.active + stats.deferred + stats.failed + stats.corrupt;
    assert_eq!(rest, 0, "{stats:?}");
    assert_eq!(fs::read_dir(scene.raw.join("cam")).unwrap().count(), 0);
    let (recordings, publications) = books.refused;
    assert!(
        recordings > 0 && publications > 0,
        "the disk was never full: the test tests nothing"
    );
    eprintln!(
        "{hours} hours: {} segments published, {recordings} recordings and {publications} attempts refused, {:.1?}",
        books.published.len(),
        began.elapsed()
    );
}
