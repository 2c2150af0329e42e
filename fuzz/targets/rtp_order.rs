//! RTP packets as they may come over UDP: each two bytes are a number, its low bits a pause. What comes must be passed on,
//! within the time and the memory that are set, whatever the numbers are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtsp_recorder::rtp_order::{Order, PATIENCE};
use std::time::Duration;

fuzz_target!(|data: &[u8]| {
    let mut order = Order::default();
    let mut now = tokio::time::Instant::now();
    let mut passed_on = 0;
    for bytes in data.chunks(3) {
        now += Duration::from_millis(u64::from(bytes[0] & 15));
        order.expire(now, &mut |_| passed_on += 1);
        // Some are no RTP at all.
        let packet: Vec<u8> = [0x80 ^ (bytes[0] & 0xc0), 96].iter().chain(&bytes[1..]).copied().collect();
        order.push(&packet, now, &mut |_| passed_on += 1);
        assert!(order.deadline().is_none_or(|deadline| deadline > now && deadline <= now + PATIENCE));
    }
    order.expire(now + PATIENCE, &mut |_| passed_on += 1);
    assert_eq!(order.deadline(), None);
    assert!(passed_on <= data.len().div_ceil(3));
});
