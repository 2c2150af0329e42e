use daemon::{Clock, SimulatedClock};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

#[tokio::test]
async fn days_pass_in_no_time() {
    let start: Timestamp = "2027-03-27T00:00:00Z".parse().unwrap();
    let clock = SimulatedClock::new(start);
    let sleeper = tokio::spawn({
        let clock = clock.clone();
        async move {
            clock.sleep(Duration::from_secs(3 * 86_400)).await;
            clock.now()
        }
    });
    tokio::task::yield_now().await;
    clock.advance(Duration::from_secs(2 * 86_400));
    tokio::task::yield_now().await;
    assert!(!sleeper.is_finished());
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(sleeper.await.unwrap().to_string(), "2027-03-30T00:00:00Z");
}

#[test]
fn setting_the_clock_leaves_monotonic_time_alone() {
    let clock = SimulatedClock::new(Timestamp::UNIX_EPOCH);
    clock.advance(Duration::from_secs(10));
    clock.set_back_or_forth(SignedDuration::from_secs(-3600));
    assert_eq!(clock.now().as_second(), -3590);
    assert_eq!(clock.monotonic(), Duration::from_secs(10));
}
