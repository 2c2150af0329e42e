//! Commands to a running simulator, as lines of text: on standard input and over a control port.
//!
//! `CAMERA FAULT` does a fault (see [`crate::FAULT_USAGE`]; `all` is every camera), `list` names the cameras
//! with their URLs, `stats` prints a line of JSON per camera, `quit` stops. The answer's last line is `ok` or
//! `error: ...`.

use crate::fault::Fault;
use crate::simulator::Simulator;
use serde_json::json;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Longest command line, bytes.
const MAX_LINE: u64 = 4096;
/// A control client that says nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A fault of a camera (or of `all`).
    Fault(String, Fault),
    /// Names and URLs.
    List,
    /// Counters as JSON.
    Stats,
    /// Stop the simulator.
    Quit,
}

/// Reads one line.
///
/// # Errors
/// The answer for the user, without the leading `error: `.
pub fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim();
    match line {
        "list" => return Ok(Command::List),
        "stats" => return Ok(Command::Stats),
        "quit" => return Ok(Command::Quit),
        _ => {}
    }
    let (camera, words) = line
        .split_once(' ')
        .ok_or_else(|| format!("{line:?} is not a command; CAMERA FAULT, list, stats or quit"))?;
    let fault = Fault::parse(words).map_err(|e| e.to_string())?;
    Ok(Command::Fault(camera.to_owned(), fault))
}

/// Carries out one line and returns the whole answer, newline included. `quit` is called for [`Command::Quit`].
pub fn execute(simulator: &Simulator, line: &str, quit: &dyn Fn()) -> String {
    match parse(line).and_then(|command| run(simulator, command, quit)) {
        Ok(text) => format!("{text}ok\n"),
        Err(error) => format!("error: {error}\n"),
    }
}

fn run(simulator: &Simulator, command: Command, quit: &dyn Fn()) -> Result<String, String> {
    match command {
        Command::Fault(camera, fault) => {
            simulator
                .fault(&camera, &fault)
                .map_err(|e| e.to_string())?;
            tracing::info!(camera, ?fault, "fault");
            Ok(String::new())
        }
        Command::List => Ok(for_each_camera(simulator, |name| {
            format!("{name} {}", simulator.url(name).unwrap_or_default())
        })),
        Command::Stats => Ok(for_each_camera(simulator, |name| {
            stats_line(simulator, name)
        })),
        Command::Quit => {
            quit();
            Ok(String::new())
        }
    }
}

fn for_each_camera(simulator: &Simulator, line: impl Fn(&str) -> String) -> String {
    simulator
        .names()
        .iter()
        .map(|name| line(name) + "\n")
        .collect()
}

fn stats_line(simulator: &Simulator, name: &str) -> String {
    let stats = simulator.stats(name).unwrap_or_default();
    json!({
        "cam": name,
        "frames": stats.frames,
        "clients": stats.clients,
        "attached": stats.attached,
        "requests": stats.requests,
        "packets_sent": stats.packets_sent,
        "packets_lost": stats.packets_lost,
        "slow_clients_dropped": stats.slow_clients_dropped,
    })
    .to_string()
}

/// Answers commands on `address` from a thread of its own; returns where it listens.
///
/// # Errors
/// The port cannot be listened on.
pub fn serve(
    simulator: Arc<Simulator>,
    address: SocketAddr,
    quit: impl Fn() + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    let quit = Arc::new(quit);
    thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                let (simulator, quit) = (Arc::clone(&simulator), Arc::clone(&quit));
                let client = thread::Builder::new().name("control-client".into());
                let spawned = client.spawn(move || {
                    if let Err(error) = serve_client(&simulator, &stream, &*quit) {
                        tracing::debug!(%error, "control client gone");
                    }
                });
                if let Err(error) = spawned {
                    tracing::warn!(%error, "no thread for a control client");
                }
            }
        })?;
    Ok(bound)
}

fn serve_client(simulator: &Simulator, stream: &TcpStream, quit: &dyn Fn()) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let mut out = stream;
    let mut input = BufReader::new(stream);
    loop {
        let mut line = String::new();
        input.by_ref().take(MAX_LINE).read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Ok(());
        }
        out.write_all(execute(simulator, &line, quit).as_bytes())?;
    }
}

/// Sends one command to a simulator's control port and returns the answer.
///
/// # Errors
/// Nobody listens there, or no answer comes within 30 s.
pub fn send(address: SocketAddr, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(format!("{}\n", command.trim()).as_bytes())?;
    let mut answer = String::new();
    let mut input = BufReader::new(stream);
    loop {
        let start = answer.len();
        if input.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = &answer[start..];
        if line == "ok\n" || line.starts_with("error: ") {
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands() {
        assert_eq!(
            parse(" all refuse 8 \n"),
            Ok(Command::Fault(
                "all".into(),
                Fault::Refuse(Duration::from_secs(8))
            ))
        );
        assert_eq!(parse("stats"), Ok(Command::Stats));
        assert!(parse("cam0").unwrap_err().contains("not a command"));
        assert!(
            parse("cam0 explode")
                .unwrap_err()
                .contains("silence SECONDS")
        );
    }
}
