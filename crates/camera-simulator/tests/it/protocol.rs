//! The RTSP side by hand: headers, states, time-outs, hostile clients.

use crate::support::{PATIENCE, clips, config, start};
use camera_simulator::Simulator;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// A connection that speaks bytes.
struct Raw {
    stream: TcpStream,
    url: String,
    cseq: u32,
}

impl Raw {
    fn open(url: &str) -> Self {
        let address = url.trim_start_matches("rtsp://").split('/').next().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            url: url.into(),
            cseq: 0,
        }
    }

    /// Sends a request for `suffix` below the camera's URL and returns the answer's head and body.
    fn ask(&mut self, method: &str, suffix: &str, headers: &str) -> String {
        self.cseq += 1;
        let text = format!(
            "{method} {}{suffix} RTSP/1.0\r\nCSeq: {}\r\n{headers}\r\n",
            self.url, self.cseq
        );
        self.stream.write_all(text.as_bytes()).unwrap();
        self.answer()
    }

    /// Reads one response; interleaved frames before it are skipped.
    fn answer(&mut self) -> String {
        let mut text = Vec::new();
        loop {
            let byte = self.byte();
            if text.is_empty() && byte == b'$' {
                self.frame_rest();
                continue;
            }
            text.push(byte);
            if text.ends_with(b"\r\n\r\n") {
                break;
            }
        }
        let mut text = String::from_utf8(text).unwrap();
        let length = header(&text, "Content-Length").map_or(0, |v| v.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        text.push_str(std::str::from_utf8(&body).unwrap());
        text
    }

    /// The next interleaved frame: channel and data.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        assert_eq!(self.byte(), b'$');
        self.frame_rest()
    }

    fn frame_rest(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 3];
        self.stream.read_exact(&mut head).unwrap();
        let mut data = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        self.stream.read_exact(&mut data).unwrap();
        (head[0], data)
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// Waits for the server to close; what it sent last.
    fn rest(mut self) -> String {
        let mut rest = Vec::new();
        // A reset is as good as an orderly end.
        let _end = self.stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    response
        .lines()
        .filter_map(|l| l.split_once(": "))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
}

fn session(response: &str) -> String {
    header(response, "Session")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned()
}

fn status(response: &str) -> u16 {
    response.split(' ').nth(1).unwrap().parse().unwrap()
}

fn simulator() -> (Simulator, String) {
    start(config(&clips().with_audio))
}

#[test]
fn a_session_goes_through_its_states() {
    let (_simulator, url) = simulator();
    let mut raw = Raw::open(&url);
    let options = raw.ask("OPTIONS", "", "");
    assert!(
        header(&options, "Public")
            .unwrap()
            .contains("GET_PARAMETER")
    );
    let describe = raw.ask("DESCRIBE", "", "Accept: application/sdp\r\n");
    assert_eq!(
        header(&describe, "Content-Base"),
        Some(format!("{url}/").as_str())
    );
    assert!(describe.contains("a=control:trackID=1"));
    let setup = raw.ask(
        "SETUP",
        "/trackID=0",
        "Transport: RTP/AVP/TCP;unicast;interleaved=4-5\r\n",
    );
    assert!(
        header(&setup, "Transport")
            .unwrap()
            .contains("interleaved=4-5")
    );
    assert!(header(&setup, "Session").unwrap().ends_with(";timeout=60"));
    let id = session(&setup);
    let with = format!("Session: {id}\r\n");
    let second = raw.ask(
        "SETUP",
        "/trackID=1",
        &format!("{with}Transport: RTP/AVP/TCP;unicast\r\n"),
    );
    assert!(
        header(&second, "Transport")
            .unwrap()
            .contains("interleaved=2-3")
    );
    let play = raw.ask("PLAY", "/", &with);
    let info = header(&play, "RTP-Info").unwrap().to_owned();
    assert!(
        info.contains(&format!("url={url}/trackID=0;seq=")) && info.contains("/trackID=1;seq="),
        "{info}"
    );
    let (channel, packet) = raw.frame();
    assert_eq!(channel, 4);
    let number = |name: &str| -> u32 {
        let rest = info.split(name).nth(1).unwrap();
        rest.split([';', ',']).next().unwrap().parse().unwrap()
    };
    assert_eq!(
        u32::from(u16::from_be_bytes([packet[2], packet[3]])),
        number("seq=")
    );
    assert_eq!(
        u32::from_be_bytes(packet[4..8].try_into().unwrap()),
        number("rtptime=")
    );
    assert_eq!(status(&raw.ask("GET_PARAMETER", "/", &with)), 200);
    assert_eq!(status(&raw.ask("SET_PARAMETER", "/", &with)), 200);
    assert_eq!(status(&raw.ask("PAUSE", "/", &with)), 200);
    assert_eq!(status(&raw.ask("PLAY", "/", &with)), 200);
    assert_eq!(status(&raw.ask("TEARDOWN", "/", &with)), 200);
    assert_eq!(status(&raw.ask("PLAY", "/", &with)), 454);
}

#[test]
fn wrong_requests_are_refused_with_the_right_status() {
    let (_simulator, url) = simulator();
    let mut raw = Raw::open(&url);
    let mut check = |method: &str, suffix: &str, headers: &str, expected: u16| {
        let answer = raw.ask(method, suffix, headers);
        assert_eq!(status(&answer), expected, "{method} {suffix}: {answer}");
    };
    check("DESCRIBE", "x", "", 404);
    check("DESCRIBE", "/nothing", "", 404);
    check("SETUP", "/trackID=0", "", 461);
    check(
        "SETUP",
        "/trackID=0",
        "Transport: RTP/AVP;multicast\r\n",
        461,
    );
    check("SETUP", "/trackID=9", "Transport: RTP/AVP/TCP\r\n", 404);
    check("SETUP", "", "Transport: RTP/AVP/TCP\r\n", 459);
    check("PLAY", "", "", 454);
    check("PLAY", "", "Session: made-up\r\n", 454);
    check("RECORD", "", "", 501);
    check("DESCRIBE", "", "Require: x\r\n", 551);
}

#[test]
fn garbage_ends_the_connection_and_nothing_else() {
    let (simulator, url) = simulator();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 40_000],
        b"PLAY / RTSP/1.0\r\nContent-Length: 99999999\r\n\r\n",
    ] {
        let mut raw = Raw::open(&url);
        // The server may close before all of it is written.
        let _sent = raw.stream.write_all(bytes);
        raw.stream.shutdown(std::net::Shutdown::Write).ok();
        let rest = raw.rest();
        assert!(rest.is_empty() || rest.starts_with("RTSP/1.0 4"), "{rest}");
    }
    let before = simulator.stats("cam0").unwrap().frames;
    assert_eq!(status(&Raw::open(&url).ask("DESCRIBE", "", "")), 200);
    std::thread::sleep(Duration::from_millis(100));
    assert!(simulator.stats("cam0").unwrap().frames > before);
}

#[test]
fn half_a_request_times_out() {
    let mut config = config(&clips().h264);
    config.request_timeout = Duration::from_millis(200);
    let (_simulator, url) = start(config);
    let mut raw = Raw::open(&url);
    raw.stream.write_all(b"DESCRIBE rtsp://").unwrap();
    let begin = Instant::now();
    assert_eq!(raw.rest(), "");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

/// Sets up and plays the video over UDP; the client's sockets and the session.
fn play_udp(raw: &mut Raw) -> (UdpSocket, String, u16) {
    let rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
    rtp.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = rtp.local_addr().unwrap().port();
    let transport = format!("Transport: RTP/AVP;unicast;client_port={port}-{port}\r\n");
    let setup = raw.ask("SETUP", "/trackID=0", &transport);
    let answer = header(&setup, "Transport").unwrap();
    let ports = answer
        .split("server_port=")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    let (low, high) = ports.split_once('-').unwrap();
    let (low, high): (u16, u16) = (low.parse().unwrap(), high.parse().unwrap());
    assert_eq!((low % 2, high), (0, low + 1));
    let id = session(&setup);
    assert_eq!(
        status(&raw.ask("PLAY", "", &format!("Session: {id}\r\n"))),
        200
    );
    (rtp, id, high)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_udp_session_lives_by_signs_of_life_alone() {
    let mut config = config(&clips().h264);
    config.session_timeout = Duration::from_secs(1);
    let (simulator, url) = start(config);
    let mut raw = Raw::open(&url);
    let (rtp, id, rtcp_port) = play_udp(&mut raw);
    drop(raw);
    // An RTCP receiver report keeps it alive although the control connection is gone.
    for _ in 0..5 {
        rtp.send_to(&[0x80, 201, 0, 1, 0, 0, 0, 1], ("127.0.0.1", rtcp_port))
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(simulator.stats("cam0").unwrap().clients, 1);
    // So does a request from another connection.
    let mut other = Raw::open(&url);
    assert_eq!(
        status(&other.ask("GET_PARAMETER", "", &format!("Session: {id}\r\n"))),
        200
    );
    // Without either it ends.
    wait_until("the session did not time out", || {
        simulator.stats("cam0").unwrap().clients == 0
    });
    assert_eq!(
        status(&other.ask("GET_PARAMETER", "", &format!("Session: {id}\r\n"))),
        454
    );
}

#[test]
fn a_teardown_counts_though_the_client_hangs_up_at_once() {
    let (simulator, url) = start(config(&clips().h264));
    let mut raw = Raw::open(&url);
    let (_rtp, id, _) = play_udp(&mut raw);
    assert_eq!(simulator.stats("cam0").unwrap().clients, 1);
    let last = format!("TEARDOWN {url} RTSP/1.0\r\nCSeq: 9\r\nSession: {id}\r\n\r\n");
    raw.stream.write_all(last.as_bytes()).unwrap();
    drop(raw);
    wait_until("the session lives on", || {
        simulator.stats("cam0").unwrap().clients == 0
    });
}

#[test]
fn a_stopped_simulator_says_goodbye_over_udp() {
    let (simulator, url) = start(config(&clips().h264));
    let mut raw = Raw::open(&url);
    let (rtp, _, _) = play_udp(&mut raw);
    simulator.stop();
    let mut packet = [0; 2048];
    loop {
        let length = rtp.recv(&mut packet).expect("no BYE came");
        if packet[1] == 201 && packet[..length].windows(2).any(|w| w == [0x81, 203]) {
            break;
        }
    }
}

#[test]
fn a_client_that_does_not_read_is_dropped_without_harm_to_others() {
    let (simulator, url) = start(config(&clips().heavy));
    let mut slow = Raw::open(&url);
    socket2::SockRef::from(&slow.stream)
        .set_recv_buffer_size(4096)
        .unwrap();
    let id = session(&slow.ask("SETUP", "/trackID=0", "Transport: RTP/AVP/TCP\r\n"));
    let play = format!("PLAY {url} RTSP/1.0\r\nCSeq: 9\r\nSession: {id}\r\n\r\n");
    slow.stream.write_all(play.as_bytes()).unwrap();
    let mut quick = Raw::open(&url);
    let id = session(&quick.ask("SETUP", "/trackID=0", "Transport: RTP/AVP/TCP\r\n"));
    assert_eq!(
        status(&quick.ask("PLAY", "", &format!("Session: {id}\r\n"))),
        200
    );
    let begin = Instant::now();
    let mut sequence = None;
    while simulator.stats("cam0").unwrap().slow_clients_dropped == 0 {
        assert!(begin.elapsed() < PATIENCE, "nobody was dropped");
        let (channel, packet) = quick.frame();
        if channel == 0 {
            let number = u16::from_be_bytes([packet[2], packet[3]]);
            assert!(
                sequence.is_none_or(|s: u16| number == s.wrapping_add(1)),
                "the quick client lost packets"
            );
            sequence = Some(number);
        }
    }
    // What the kernel still holds for the slow one would take minutes to read through its small buffer.
    wait_until("the slow client's connection stayed", || {
        simulator.stats("cam0").unwrap().attached == 1
    });
    assert_eq!(simulator.stats("cam0").unwrap().clients, 1);
}
