//! Tickets, and the names of files in the queue.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ticket_queue::{AttemptName, Stem, Ticket};

fuzz_target!(|data: &[u8]| {
    if let Ok(ticket) = Ticket::parse(data) {
        let written = ticket.to_json().expect("what was read can be written");
        Ticket::parse(&written).expect("what was written can be read");
    }
    if let Ok(name) = std::str::from_utf8(data) {
        if let Ok(stem) = name.parse::<Stem>() {
            assert!(
                !stem.as_str().contains('/'),
                "a stem stays in its directory"
            );
        }
        AttemptName::parse(name);
    }
});
