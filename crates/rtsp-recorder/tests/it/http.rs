//! MJPEG over HTTP (`multipart/x-mixed-replace`), as web cameras send it.

use crate::rig::{Rig, expect_run, frames, sleep, stretches};
use media::synth::TestVideo;
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A web camera: 15 pictures a second, none like another, whether somebody watches or not.
#[derive(Clone)]
struct WebCamera {
    pictures: Arc<Vec<Vec<u8>>>,
    now: Arc<AtomicUsize>,
    address: SocketAddr,
    is_away: Arc<AtomicBool>,
    /// Hashes of the pictures that were sent.
    sent: Arc<Mutex<Vec<String>>>,
}

impl WebCamera {
    /// Ends with the test's process.
    fn start() -> Self {
        let video = TestVideo {
            encoder: "mjpeg".into(),
            width: 160,
            height: 120,
            frames: 300,
            gop: 1,
            ..TestVideo::default()
        };
        let pictures = video.encode().unwrap().packets;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let camera = WebCamera {
            pictures: Arc::new(pictures.iter().map(|p| p.data().to_vec()).collect()),
            now: Arc::default(),
            address: listener.local_addr().unwrap(),
            is_away: Arc::default(),
            sent: Arc::default(),
        };
        let (clock, server) = (camera.clone(), camera.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_micros(66_667));
                clock.now.fetch_add(1, Ordering::Relaxed);
            }
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let camera = server.clone();
                std::thread::spawn(move || camera.serve(&stream).ok());
            }
        });
        camera
    }

    fn sent(&self) -> MutexGuard<'_, Vec<String>> {
        self.sent.lock().unwrap()
    }

    fn serve(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut request = BufReader::new(stream);
        let mut line = String::new();
        while request.read_line(&mut line)? > 2 {
            line.clear();
        }
        if self.is_away.load(Ordering::Relaxed) {
            return write!(stream, "HTTP/1.0 503 Service Unavailable\r\n\r\n");
        }
        write!(
            stream,
            "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n"
        )?;
        let mut next = self.now.load(Ordering::Relaxed);
        while !self.is_away.load(Ordering::Relaxed) {
            if next >= self.now.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let picture = &self.pictures[next % self.pictures.len()];
            write!(
                stream,
                "--next\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
                picture.len()
            )?;
            stream.write_all(picture)?;
            stream.write_all(b"\r\n")?;
            self.sent().push(blake3::hash(picture).to_hex().to_string());
            next += 1;
        }
        Ok(())
    }
}

#[tokio::test]
async fn mjpeg_over_http_is_recorded_through_a_cut() {
    let camera = WebCamera::start();
    let url = format!("http://{}/video", camera.address);
    let rig = Rig::new(json!([{"name": "web", "url": url}]));
    rig.record(async {
        sleep(3.5).await;
        camera.is_away.store(true, Ordering::Relaxed);
        sleep(1.0).await;
        camera.is_away.store(false, Ordering::Relaxed);
        sleep(4.5).await;
        assert_eq!(rig.status("web").codec.as_deref(), Some("mjpeg"));
    })
    .await;
    let stretches = stretches(rig.segments("web"));
    assert_eq!(stretches.len(), 2, "one gap");
    let sent = camera.sent().clone();
    for stretch in &stretches {
        let stored = frames(stretch);
        assert!(stored.len() > 25, "{} frames", stored.len());
        expect_run(&sent, &stored);
        let lengths = stretch.iter().map(|segment| segment.seconds());
        assert!(
            lengths.clone().all(|seconds| seconds < 2.5),
            "{:?}",
            lengths.collect::<Vec<_>>()
        );
        let seconds: f64 = lengths.sum();
        let fps = stored.len() as f64 / seconds;
        assert!((13.0..17.0).contains(&fps), "{fps} frames a second");
    }
    let gap = stretches[1][0].ticket.gap_before.unwrap();
    assert!((0.8..4.0).contains(&gap), "a gap of {gap} s");
    let gaps = std::fs::read_to_string(rig.path("logs/gaps.jsonl")).unwrap();
    assert_eq!(gaps.lines().count(), 1, "{gaps}");
}
