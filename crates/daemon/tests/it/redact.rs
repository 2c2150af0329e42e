use daemon::redact::text;
use std::borrow::Cow;

#[test]
fn credentials_are_taken_out() {
    for (from, to) in [
        (
            "rtsp://admin:geheim@10.0.0.7:554/a",
            "rtsp://***@10.0.0.7:554/a",
        ),
        (
            "[rtsp @ 0x5] rtsp://a:b@h/x failed, then http://c:d@i",
            "[rtsp @ 0x5] rtsp://***@h/x failed, then http://***@i",
        ),
        (
            "url=\"rtsp://a:p@ss/w?rd@h/x\" next",
            "url=\"rtsp://***@h/x\" next",
        ),
        ("(rtsp://a:b@h)", "(rtsp://***@h)"),
        (
            "http://h/v?user=admin&pwd=geheim&res=1 x",
            "http://h/v?user=***&pwd=***&res=1 x",
        ),
        (
            "GET /v?Password=geheim HTTP/1.1",
            "GET /v?Password=*** HTTP/1.1",
        ),
        (
            "Authorization: Digest username=\"a\", response=\"b\"\r\nCSeq: 3",
            "Authorization: ***\r\nCSeq: 3",
        ),
        ("authorization: Basic YTpi", "authorization: ***"),
        (
            "rtsp://10.0.0.7:554/user=admin&password=geheim&channel=1&stream=0.sdp? not found",
            "rtsp://10.0.0.7:554/user=***&password=***&channel=1&stream=0.sdp? not found",
        ),
        (
            "rtsp://h/user=admin_password=ge_heim_channel=1_stream=0.sdp?real_stream: no",
            "rtsp://h/user=***_password=***_channel=1_stream=0.sdp?real_stream: no",
        ),
        (
            "unable to join base url rtsp://h/live?token=geheim with control url \"trackID=1\"",
            "unable to join base url rtsp://h/live?token=*** with control url \"trackID=1\"",
        ),
        ("http://h/v?key=geheim&a=1", "http://h/v?key=***&a=1"),
        (
            "\"Authorization: Basic YTpi\\r\\nCSeq: 1\"",
            "\"Authorization: ***\\r\\nCSeq: 1\"",
        ),
        (
            "open admin:ge/h@eim@10.0.0.7:554/a: No such file, then b:c@h and (d:e@h)",
            "open ***@10.0.0.7:554/a: No such file, then ***@h and (***@h)",
        ),
        (
            "rtsp;//admin:geheim@h rtsp//a:b@h url=a:b@h {\"url\":\"a:b@h\"}",
            "rtsp;//***@h rtsp//***@h url=***@h {\"url\":\"***@h\"}",
        ),
        ("a:b@h?next=http://c:d@i/", "***@i/"),
    ] {
        assert_eq!(text(from), to);
    }
}

#[test]
fn other_text_stays_as_it_is() {
    for same in [
        "",
        "plain",
        "a@b",
        "[h264 @ 0x5] a: b@c :@ a:@ 12:30 @ b@c:554 reason: gate@10.0.0.7:554",
        "rtsp://h/x",
        "x=1&y=2 ?",
        "://@",
        "한글 rtsp://h/한글",
        "segments=3 fps=15.0",
        "second_pass=3 /srv/key=3/a rtsp://h/live_user_channel=1",
    ] {
        let out = text(same);
        if same != "://@" {
            assert!(matches!(out, Cow::Borrowed(_)), "{same} became {out}");
        }
    }
}
