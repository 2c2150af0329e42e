//! What settings show of an address and what logs show of it is the same.

use settings::{Environment, RecorderSettings};

#[test]
fn settings_and_logs_hide_the_same() {
    for address in [
        "rtsp://admin:geheim@cam/live?channel=1",
        "rtsp://cam/live?user=admin&password=geheim&channel=1",
        "rtsp://cam/live?auth_type=geheim&a=1;key=geheim&channel=1",
        "rtsp://cam/user=admin&password=geheim&channel=1&stream=0.sdp?",
        "rtsp://cam/user=admin_password=geheim_channel=1_stream=0.sdp?real_stream",
        "rtsp://cam/live;token=geheim;x=1/channel=1",
    ] {
        let file = serde_json::json!({ "sources": [address] }).to_string();
        let settings = RecorderSettings::from_text(&file, &Environment::empty()).unwrap();
        let shown = settings.sources[0].url.to_string();
        assert!(
            !shown.contains("geheim") && shown.contains("channel=1"),
            "{shown}"
        );
        assert_eq!(daemon::redact::text(address), shown);
    }
}
