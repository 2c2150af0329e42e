//! The keys themselves.

use super::{Key, Kind};

const fn key(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        meaning,
    }
}

const fn number(min: f64, max: f64, unit: &'static str) -> Kind {
    Kind::Number { min, max, unit }
}

const fn whole(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Whole { min, max, unit }
}

const TRANSPORT: Kind = Kind::Choice(&["tcp", "udp"]);
const FPS: Kind = number(0.1, 240.0, "frames per second");
const SEGMENT: Kind = number(1.0, 86_400.0, "s");
const YEAR_S: f64 = 31_536_000.0;
const LIMIT: Kind = number(0.1, YEAR_S, "s, or null");
const COUNT: Kind = whole(1, 1_000_000_000, "or null");
const SCHEDULE: Kind = Kind::Other(
    "null or {\"weekdays\": [0, 1, 2, 3, 4], \"start_time\": \"09:00\", \"end_time\": \"18:00\"}; 0 is Monday",
);

const DISK_USAGE: Key = key(
    "max_disk_usage_gb",
    number(0.001, 1_000_000.0, "GiB"),
    "100",
    "Space that raw, processed and backup videos may take together. Above it the blur processor deletes the oldest processed videos; footage that is not yet processed is never deleted. The same in both files.",
);
const MIN_FREE: Key = key(
    "min_free_disk_gb",
    number(0.0, 1_000_000.0, "GiB"),
    "1",
    "Space that stays free on the disk: below it the blur processor deletes old processed videos, and recording waits when that does not help. The same in both files.",
);
const CLEANUP: Key = key(
    "cleanup_old_files",
    Kind::Flag,
    "true",
    "Whether old videos may be deleted at all, for space or for age. The same in both files: the blur processor, which deletes published videos and backups, reads its own.",
);
const MAX_AGE: Key = key(
    "max_file_age_hours",
    number(0.01, 876_000.0, "h"),
    "24",
    "Blurred videos and backups older than this are deleted by the blur processor, which reads its own file: the same in both. A backup's age counts from when it was backed up, a blurred video's from when it was published; one without a report beside it, as the old scripts made them, goes for space only.",
);
const MONITORING: Key = key(
    "enable_monitoring",
    Kind::Flag,
    "true",
    "Whether the state is written to the log at intervals.",
);
const INTERVAL: Key = key(
    "monitoring_interval",
    number(0.5, 86_400.0, "s"),
    "10",
    "Time between two such reports.",
);
const LOG_DIR: Key = key(
    "log_dir",
    Kind::Path,
    "\"./logs\"",
    "Where the log files go.",
);
const STATUS_DIR: Key = key(
    "status_dir",
    Kind::Path,
    "\"./logs\"",
    "Where the status file goes that `run-system --status` reads. The same for both daemons.",
);
const QUEUE_DIR: Key = key(
    "queue_dir",
    Kind::Path,
    "\"./processing_queue\"",
    "The queue between the two daemons: one file per segment. The same for both.",
);

/// Keys of `rtsp_recorder_config.json`.
pub const RECORDER: &[Key] = &[
    key(
        "sources",
        Kind::Other("a list of URLs or paths, or of objects with the per-source keys"),
        "",
        "The cameras: rtsp://, rtsps://, http://, https:// or a video file. At least one.",
    ),
    key(
        "output_dir",
        Kind::Path,
        "\"./raw_videos\"",
        "Where recorded segments go, one directory per source.",
    ),
    QUEUE_DIR,
    key(
        "processed_dir",
        Kind::Path,
        "\"./processed_videos\"",
        "`output_dir` of the blur processor: its videos there count in the disk budget.",
    ),
    key(
        "backup_dir",
        Kind::Path,
        "\"./backup_videos\"",
        "`backup_dir` of the blur processor: segments there count in the disk budget.",
    ),
    key(
        "when_full",
        Kind::Choice(&["record_to_floor", "stop_recording"]),
        "\"record_to_floor\"",
        "When videos that are not yet processed exceed `max_disk_usage_gb`: \"record_to_floor\" goes on until `min_free_disk_gb` is reached, \"stop_recording\" waits at once. Such videos are never deleted.",
    ),
    key(
        "segment_duration",
        SEGMENT,
        "30",
        "Length of a segment. Cuts fall on key frames, so it may be a little longer.",
    ),
    key(
        "input_fps",
        FPS,
        "15.0",
        "Frame rate when re-encoding, and of streams that declare none.",
    ),
    key(
        "video_codec",
        Kind::Other("\"copy\" or the name of an FFmpeg encoder such as \"libx264\""),
        "\"copy\"",
        "\"copy\" stores what the camera sends; an encoder re-encodes at `input_fps` and `bitrate`.",
    ),
    key(
        "container_format",
        Kind::Choice(&["mp4"]),
        "\"mp4\"",
        "Container of the segments.",
    ),
    key(
        "bitrate",
        Kind::Bitrate,
        "\"2M\"",
        "Bits per second when re-encoding.",
    ),
    key(
        "transport",
        TRANSPORT,
        "\"tcp\"",
        "How RTP comes from rtsp:// cameras.",
    ),
    key(
        "record_audio",
        Kind::Flag,
        "false",
        "Whether sound is recorded, as AAC. Check your law first: some forbid it for surveillance cameras.",
    ),
    key(
        "max_recording_duration",
        LIMIT,
        "null",
        "Recording ends for good after this time; null: never.",
    ),
    key(
        "max_segments_per_source",
        COUNT,
        "null",
        "A source ends after this many segments; null: never.",
    ),
    key(
        "source_duration_limits",
        Kind::Other(
            "null or an object {\"source\": seconds}; source is a name or the URL as in `sources`",
        ),
        "{}",
        "Time limits for single sources.",
    ),
    key(
        "recording_schedule",
        SCHEDULE,
        "null",
        "When to record, in local time; null: always. An end before the start is on the next day.",
    ),
    key(
        "connection_timeout",
        number(100.0, 600_000.0, "ms"),
        "10000",
        "Time for a camera to accept a connection and to answer.",
    ),
    key(
        "read_timeout",
        number(100.0, 600_000.0, "ms"),
        "5000",
        "Silence after which a connection counts as lost.",
    ),
    key(
        "reconnect_interval",
        number(0.1, 3_600.0, "s"),
        "5",
        "First wait before connecting again; it grows up to 30 s, or up to this when this is longer.",
    ),
    key(
        "camera_down_after",
        number(1.0, 86_400.0, "s"),
        "60",
        "A camera that should be recorded and sends nothing for this long counts as down: one line in the log, and \
         `down_since` in the status.",
    ),
    key(
        "max_concurrent_recordings",
        whole(1, 10_000, ""),
        "4",
        "Sources recorded at the same time. With more sources than this they take turns.",
    ),
    MONITORING,
    INTERVAL,
    DISK_USAGE,
    MIN_FREE,
    CLEANUP,
    MAX_AGE,
    LOG_DIR,
    STATUS_DIR,
];

/// Keys of an object in `sources`; what is left out comes from the top of the file.
pub const SOURCE: &[Key] = &[
    key(
        "url",
        Kind::Other("rtsp://, rtsps://, http:// or https:// URL, or a path"),
        "",
        "Where the video comes from. Required.",
    ),
    key(
        "name",
        Kind::Other("letters of any script (한글), digits, `-`, `_` and `.`"),
        "",
        "Name of the source, of its directory and of its files; by default made from host and path.",
    ),
    key(
        "username",
        Kind::Text,
        "",
        "User name for the camera, instead of one in the URL.",
    ),
    key(
        "password",
        Kind::Text,
        "",
        "Password for the camera, instead of one in the URL; \"${NAME}\" takes it from the environment.",
    ),
    key("transport", TRANSPORT, "", "As at the top of the file."),
    key("record_audio", Kind::Flag, "", "As at the top of the file."),
    key(
        "video_codec",
        Kind::Other("\"copy\" or the name of an FFmpeg encoder"),
        "",
        "As at the top of the file.",
    ),
    key("input_fps", FPS, "", "As at the top of the file."),
    key("bitrate", Kind::Bitrate, "", "As at the top of the file."),
    key(
        "segment_duration",
        SEGMENT,
        "",
        "As at the top of the file.",
    ),
    key(
        "recording_schedule",
        SCHEDULE,
        "",
        "As at the top of the file.",
    ),
    key(
        "duration_limit",
        LIMIT,
        "",
        "This source ends after this time, as in `source_duration_limits`.",
    ),
    key(
        "max_segments",
        COUNT,
        "",
        "As `max_segments_per_source` at the top of the file.",
    ),
    key(
        "connection_timeout",
        number(100.0, 600_000.0, "ms"),
        "",
        "As at the top of the file.",
    ),
    key(
        "read_timeout",
        number(100.0, 600_000.0, "ms"),
        "",
        "As at the top of the file.",
    ),
];

/// Keys of `blur_processor_config.json`.
pub const BLUR: &[Key] = &[
    QUEUE_DIR,
    key(
        "raw_dir",
        Kind::Path,
        "\"./raw_videos\"",
        "Where the recorder writes; tickets that point elsewhere are refused.",
    ),
    key(
        "output_dir",
        Kind::Path,
        "\"./processed_videos\"",
        "Where blurred videos go, one directory per source. Beside `raw_dir` and `queue_dir`, neither within one nor around it: old videos in it are deleted to make room. Files in it that are not the blur processor's neither count nor go.",
    ),
    key(
        "blur_module_path",
        Kind::Other("null, the name of a plugin, or a path that ends in .so or .py"),
        "null",
        "null: the whole picture is blurred. A bare name such as \"head-blur\" is looked for beside the program and in ../lib.",
    ),
    key(
        "plugin",
        Kind::Other("an object"),
        "{}",
        "Settings of the plugin, handed to it as they are.",
    ),
    key(
        "max_concurrent_processes",
        whole(1, 256, ""),
        "2",
        "Videos processed at the same time, each in a process of its own.",
    ),
    key(
        "polling_interval",
        number(0.05, 3_600.0, "s"),
        "1.0",
        "Longest time before a new ticket is seen.",
    ),
    key(
        "process_timeout",
        number(1.0, 86_400.0, "s"),
        "300",
        "Time a video of up to half a minute may take, longer ones in proportion; after it the attempt is stopped and counted as failed.",
    ),
    key(
        "stall_timeout",
        number(1.0, 86_400.0, "s"),
        "60",
        "Time a worker may go without progress, as in a plugin that hangs; after it the attempt is stopped and counted as failed.",
    ),
    key(
        "max_attempts",
        whole(1, 1_000, ""),
        "5",
        "Attempts before a video is given up. Its original is kept.",
    ),
    key(
        "worker_memory_limit_mb",
        whole(0, 1_048_576, "MiB"),
        "2048",
        "Memory one worker process may use; 0: no limit.",
    ),
    key(
        "mask",
        Kind::Choice(&["blur", "mosaic", "solid"]),
        "\"blur\"",
        "How heads are hidden. \"solid\" covers them with one colour and is the strictest.",
    ),
    key(
        "blur_strength",
        whole(1, 100, ""),
        "15",
        "How strong the effect is. Small values do not go below what hides a person.",
    ),
    key(
        "blur_kernel_size",
        whole(1, 501, "px"),
        "15",
        "Smallest size of the blur on the picture.",
    ),
    key(
        "detect_every",
        Kind::WholeOrAuto {
            min: 1,
            max: 60,
            unit: "frames",
        },
        "\"auto\"",
        "Heads are looked for on every n-th frame, and masked on all of them. \"auto\": about four times a second, whatever the frame rate. Less often while nothing moves.",
    ),
    key(
        "target",
        Kind::Choice(&["head", "person"]),
        "\"head\"",
        "What `head-blur` hides: heads or whole persons. Other plugins hide what they report.",
    ),
    key(
        "num_cameras",
        whole(0, 1024, ""),
        "0",
        "How many cameras the plugin is told to expect (`num_camera` of a Python module). 0: it is loaded for one, and again for more when a ticket names a camera beyond.",
    ),
    key(
        "zones",
        Kind::Other(crate::zones::ALLOWED),
        "{}",
        "Static zones by name of the source. `always`: masked in every frame. `never`: what is only ever seen wholly inside one of these polygons (a poster, a television) is not masked. Draw them only where nobody can stand: somebody who stands there when a recording begins, or a video whose predecessor is not processed yet, cannot be told from a poster and stays visible. Points are shares of the recorded picture's width and height.",
    ),
    key(
        "second_look",
        Kind::Flag,
        "false",
        "Whether the detector also looks at pictures of the finished video: one in which it clearly sees somebody with no mask on or beside the head is not published. Costs a fifth to two fifths more time.",
    ),
    key(
        "sandbox",
        Kind::Choice(&["auto", "relaxed", "off"]),
        "\"auto\"",
        "What workers lock themselves into before they load the plugin and see a video. \"auto\": strict for native plugins, relaxed for Python modules and hardware encoders. \"relaxed\": anything may be read and started, written only to temporary folders, devices and `sandbox_writable`; no network. \"off\": nothing is taken away.",
    ),
    key(
        "sandbox_writable",
        Kind::Other("a list of paths"),
        "[]",
        "Folders that a plugin may write to in its sandbox.",
    ),
    key(
        "resize_before_blur",
        Kind::Flag,
        "false",
        "Whether the output is scaled to `resize_width` x `resize_height`.",
    ),
    key(
        "resize_width",
        whole(16, 16_384, "px"),
        "640",
        "Width when `resize_before_blur` is true.",
    ),
    key(
        "resize_height",
        whole(16, 16_384, "px"),
        "480",
        "Height when `resize_before_blur` is true.",
    ),
    key(
        "add_overlay",
        Kind::Flag,
        "true",
        "Whether text, time and frame number are drawn into the picture.",
    ),
    key(
        "overlay_text",
        Kind::Text,
        "\"BLUR_PROCESSED\"",
        "The text drawn.",
    ),
    key(
        "video_codec",
        Kind::Text,
        "\"libx264\"",
        "FFmpeg encoder of the output.",
    ),
    key(
        "encoder_preset",
        Kind::Text,
        "\"auto\"",
        "Preset of the encoder: slower ones make smaller files. \"auto\": veryfast while nothing waits, superfast and ultrafast as the queue grows (libx264 and libx265).",
    ),
    key(
        "bitrate",
        Kind::Other("null, or bits per second such as \"2M\""),
        "null",
        "Bits per second of the output; null: constant quality.",
    ),
    key(
        "keep_audio",
        Kind::Flag,
        "false",
        "Whether sound is kept, if it was recorded at all.",
    ),
    key(
        "delete_original",
        Kind::Flag,
        "true",
        "Whether the unblurred original is deleted once the blurred video is safe on disk.",
    ),
    key(
        "backup_original",
        Kind::Flag,
        "false",
        "Whether the original is moved to `backup_dir` instead.",
    ),
    key(
        "backup_dir",
        Kind::Path,
        "\"./backup_videos\"",
        "Where originals go then. Beside `raw_dir`, `queue_dir` and `output_dir`, neither within one nor around it. Files in it that are not named as segments are, and those anywhere but in the directory of their source, neither count nor go.",
    ),
    key(
        "max_queue_size",
        whole(1, 1_000_000_000, "tickets"),
        "100",
        "A longer queue than this is warned about.",
    ),
    MONITORING,
    INTERVAL,
    DISK_USAGE,
    MIN_FREE,
    CLEANUP,
    MAX_AGE,
    LOG_DIR,
    STATUS_DIR,
];

const FILE_OR_NULL: Kind = Kind::Other("null, or a path in double quotes");

/// Keys of `run_system_config.json`.
pub const SYSTEM: &[Key] = &[
    key(
        "dashboard",
        Kind::Flag,
        "true",
        "Whether a web page shows how everything is.",
    ),
    key(
        "dashboard_listen",
        Kind::Text,
        "\"127.0.0.1:8780\"",
        "Address and port of the page. An address that other machines reach is refused without token and TLS.",
    ),
    key(
        "dashboard_token",
        Kind::Other("null, or text in double quotes, at least 16 letters and digits"),
        "null",
        "What a visitor must know, best as \"${NAME}\" from the environment. null: anyone on this machine may look.",
    ),
    key(
        "dashboard_tls_cert",
        FILE_OR_NULL,
        "null",
        "PEM file of the certificate, with those that it is signed by. With it and its key the page is served by HTTPS.",
    ),
    key(
        "dashboard_tls_key",
        FILE_OR_NULL,
        "null",
        "PEM file of the certificate's private key.",
    ),
    key(
        "dashboard_show_originals",
        Kind::Flag,
        "false",
        "Whether the page also shows the unblurred original beside a blurred video, as long as it still exists (`backup_original`, or not deleted yet). Everyone with the token then sees people as they are; needs `dashboard_token`, and each look is in the log.",
    ),
    key(
        "notifications",
        Kind::Other("a list of objects with the keys of a hook"),
        "[]",
        "Where to tell what a person should know: webhooks and programs. run-system sends them, nobody else.",
    ),
];

/// Keys of an object in `notifications`.
pub const HOOK: &[Key] = &[
    key(
        "name",
        Kind::Other("letters, digits, `-`, `_` and `.`"),
        "",
        "How the hook is called in the log and in the status. Required.",
    ),
    key(
        "url",
        Kind::Other("an https:// or http:// URL"),
        "",
        "Where the notification goes as the body of a POST request. Either this or `command`. It is never shown.",
    ),
    key(
        "command",
        Kind::Other("a list with the program and its arguments, each in double quotes"),
        "",
        "The program that gets the notification on its standard input, and the event's name as `NOTIFICATION_EVENT` in its environment. No shell is between. After `timeout` it is killed with all that it started.",
    ),
    key(
        "events",
        Kind::Other("a list of names of events"),
        "",
        "What is told: camera_down, camera_up, segment_published, ticket_failed, backlog_alarm, backlog_over, disk_alarm, disk_over, daemon_degraded, daemon_recovered. When left out, all but segment_published.",
    ),
    key(
        "headers",
        Kind::Other("an object {\"name\": \"value\"}"),
        "{}",
        "Further headers of the request, such as `Authorization`. Their values are never shown; best as \"${NAME}\" from the environment.",
    ),
    key(
        "body",
        Kind::Other("an object, or null"),
        "null",
        "What is sent instead of the whole notification, for services that want a form of their own: `{text}`, `{event}`, `{id}` and `{time}` in its texts are replaced.",
    ),
    key(
        "timeout",
        number(0.1, 600.0, "s"),
        "10",
        "Longest time for one attempt.",
    ),
    key(
        "retries",
        whole(0, 1000, ""),
        "20",
        "Attempts after the first, 1 s later and then ever less often, at least every 15 min. What is a day old is given up.",
    ),
    key(
        "min_interval",
        number(0.0, 86_400.0, "s"),
        "60",
        "At most one notification in this time about the same camera, daemon, disk or queue; what happened meanwhile comes as one, with a count. 0: each at once. Published videos are always told one by one.",
    ),
];
