// All words of the pages, and which language they are shown in. A key that starts with `state_` or
// `process_` names a word of the daemons; one that is missing is shown as it came.
"use strict";

const TEXTS = {
  en: {
    other: "한국어", title: "Cameras", skip: "Skip to the content",
    cameras: "Cameras", camera: "Camera", day: "The day", date: "Date", videos: "Blurred videos", failed: "Held back",
    failed_note: "These recordings could not be blurred and are kept. Nothing of them was published.",
    machine: "Machine", close: "Close", more: "Show more", play: "Play", download: "Download", retry: "Try again",
    compare: "Before/after", before: "Original: people can be recognised", after: "Blurred",
    originals_shown: "Unblurred originals can be seen on this page, since the settings allow it (dashboard_show_originals). Every look is in the log.",
    retried: "It is tried again.", not_retried: "That did not work: ", all: "All cameras",
    kind_blurred: "Blurred", kind_recorded: "Recorded, not blurred yet", kind_failed: "Held back", kind_gap: "Not recorded",
    no_videos: "No blurred videos on this day.", no_cameras: "No camera is known yet.", no_day: "Nothing on this day.",
    good: "Everything is running.", attention: "Please look at this:", offline: "No connection to the system. Trying again…",
    loading: "One moment…", down_since: "no picture since {}", fps: "frames/s", lost: "packets lost", gaps: "interruptions",
    last_segment: "last segment", queue: "Waiting to be blurred", oldest: "oldest", speed: "Blurring speed",
    speed_unit: "× real time", grows: "more is recorded than blurred", empty_in: "done in about {}", disk: "Free space", full_in: "full in about", if_kept: "if nothing is deleted",
    hours: "h", days: "days", minutes: "min", seconds: "s", heads: "heads", uptime: "for", restarts: "restarts",
    took: "takes", dir_raw: "Waiting originals", dir_processed: "Blurred videos", dir_backup: "Backups",
    process_system: "Supervisor", process_rtsp_recorder: "Recorder", process_blur_processor: "Blurring",
    state_recording: "Recording", state_connecting: "Connecting", state_waiting: "Waiting", state_off_schedule: "Off by schedule",
    state_disk_full: "Disk full", state_reconnecting: "Reconnecting", state_refused: "Refused", state_stopped: "Stopped",
    state_finished: "Finished", "state_not running": "Not running", state_running: "Running", state_starting: "Starting",
    "state_running alone": "Running", "state_running, adopted": "Running", state_down: "No picture",
    "state_died, pausing": "Died, starts again soon", state_degraded: "Dies again and again", "state_bad settings": "Settings refused",
    state_stopping: "Stopping",
    token: "Token", log_in: "Log in", wrong_token: "This is not the token.",
    token_note: "It stands in the settings of the system as dashboard_token.",
  },
  ko: {
    other: "English", title: "카메라", skip: "본문으로 건너뛰기",
    cameras: "카메라", camera: "카메라", day: "하루 기록", date: "날짜", videos: "블러 처리된 영상", failed: "보류된 영상",
    failed_note: "블러 처리하지 못해 보관 중인 녹화입니다. 외부에 공개된 것은 없습니다.",
    machine: "시스템", close: "닫기", more: "더 보기", play: "재생", download: "내려받기", retry: "다시 시도",
    compare: "전/후 비교", before: "원본: 사람을 알아볼 수 있습니다", after: "블러 처리됨",
    originals_shown: "설정(dashboard_show_originals)에 따라 이 페이지에서 블러 처리되지 않은 원본을 볼 수 있습니다. 볼 때마다 로그에 기록됩니다.",
    retried: "다시 시도합니다.", not_retried: "실패했습니다: ", all: "모든 카메라",
    kind_blurred: "블러 완료", kind_recorded: "녹화됨, 블러 대기", kind_failed: "보류됨", kind_gap: "녹화 안 됨",
    no_videos: "이 날짜에는 블러 처리된 영상이 없습니다.", no_cameras: "아직 카메라가 없습니다.", no_day: "이 날짜에는 기록이 없습니다.",
    good: "모두 정상 작동 중입니다.", attention: "확인이 필요합니다:", offline: "시스템에 연결할 수 없습니다. 다시 연결하는 중…",
    loading: "잠시만 기다려 주세요…", down_since: "{}부터 영상 없음", fps: "프레임/초", lost: "패킷 손실", gaps: "끊김",
    last_segment: "마지막 녹화", queue: "블러 대기", oldest: "가장 오래된 것", speed: "블러 속도",
    speed_unit: "× 실시간", grows: "녹화가 블러 처리보다 빠릅니다", empty_in: "약 {} 뒤 완료", disk: "남은 공간", full_in: "가득 차기까지 약", if_kept: "삭제하지 않을 경우",
    hours: "시간", days: "일", minutes: "분", seconds: "초", heads: "사람", uptime: "가동", restarts: "재시작",
    took: "사용", dir_raw: "대기 중인 원본", dir_processed: "블러 처리된 영상", dir_backup: "백업",
    process_system: "감독 프로그램", process_rtsp_recorder: "녹화", process_blur_processor: "블러 처리",
    state_recording: "녹화 중", state_connecting: "연결 중", state_waiting: "대기 중", state_off_schedule: "예약 시간 아님",
    state_disk_full: "디스크 가득 참", state_reconnecting: "다시 연결 중", state_refused: "인증 거부됨",
    state_finished: "완료", "state_not running": "멈춤", state_running: "작동 중", state_starting: "시작 중",
    "state_running alone": "작동 중", "state_running, adopted": "작동 중", "state_died, pausing": "중단됨, 곧 재시작",
    state_degraded: "반복 중단", "state_bad settings": "설정 오류", state_stopping: "종료 중", state_stopped: "종료됨",
    state_down: "영상 없음",
    token: "토큰", log_in: "로그인", wrong_token: "토큰이 맞지 않습니다.",
    token_note: "시스템 설정의 dashboard_token 값입니다.",
  },
};

// Sentences of the system: in Korean, and in plainer English where that helps. One that is not known is shown as it is.
const PLAINER = [
  [/^tickets in .+: each has its reason.*/, "Some recordings were held back; the list below says why."],
  [/^the queue is longer than max_queue_size.*/, "More is recorded than the machine can blur: the queue grows."],
  [/^less disk space is free than min_free_disk_gb.*/, "The disk is nearly full."],
  [/^no space left for outputs.*/, "The disk is full: nothing more can be blurred until there is space."],
];
const SENTENCES = [
  [/^notifications to (\S+) do not arrive: (.*)/, "$1 알림이 전달되지 않습니다: $2"],
  [/^the queue is longer than max_queue_size.*/, "블러 대기열이 max_queue_size보다 깁니다. 처리가 녹화를 따라가지 못하고 있습니다."],
  [/^tickets in (.+): each has its reason.*/, "보류된 영상이 있습니다. 아래 목록에서 이유를 확인하세요."],
  [/^less disk space is free than min_free_disk_gb.*/, "디스크 남은 공간이 min_free_disk_gb보다 적습니다."],
  [/^(\S+) dies again and again.*/, "$1 프로그램이 반복해서 중단됩니다. 로그를 확인하세요."],
  [/^(\S+) cannot start: (.*)/, "$1 프로그램을 시작할 수 없습니다: $2"],
  [/^(\S+) refuses its settings.*/, "$1 설정에 오류가 있습니다. 로그를 확인하세요."],
  [/.*no answer within ([\d.]+) s.*/, "카메라가 $1초 안에 응답하지 않습니다."],
  [/.*the camera asks for user name and password.*/, "카메라가 사용자 이름과 비밀번호를 요구하지만 설정에 없습니다. 설정에 추가하세요."],
  [/.*Connection refused.*/, "카메라 주소는 응답하지만 포트가 닫혀 있습니다. 포트와 카메라의 RTSP 설정을 확인하세요."],
  [/.*(No route to host|Network is unreachable).*/, "카메라에 연결할 수 없습니다. 전원, 케이블, 주소를 확인하세요."],
  [/.*no frame for ([\d.]+) s.*/, "카메라가 $1초 동안 영상을 보내지 않았습니다. 전원과 네트워크를 확인하세요."],
  [/.*the camera refuses user name and password.*/, "카메라가 사용자 이름과 비밀번호를 거부합니다. 설정을 확인하세요."],
  [/^nobody is notified of anything.*/, "알림이 전달되지 않고 있습니다. run-system을 다시 시작하세요."],
  [/^no space left for outputs.*/, "디스크가 가득 차서 블러 처리한 영상을 쓸 수 없습니다. 공간이 생기면 다시 처리합니다."],
  [/^unprocessed videos take more than max_disk_usage_gb.*/, "처리되지 않은 영상이 max_disk_usage_gb를 넘었습니다."],
  [/^less than ([\d.]+ \w+) free where (.+) lies.*/, "디스크 남은 공간이 $1보다 적습니다($2). 공간이 생길 때까지 녹화를 멈추고 기다립니다."],
  [/^videos take more than the (.+) of max_disk_usage_gb.*/, "영상이 max_disk_usage_gb($1)보다 많습니다. 처리되지 않은 영상은 지우지 않습니다."],
  [/^processing does not keep up: at the rate of the last hour.* within (\d+) h.*/, "처리가 녹화를 따라가지 못합니다. 지금 속도라면 처리되지 않은 영상이 $1시간 안에 디스크를 채웁니다."],
  [/^the queue cannot be read.*/, "대기열을 읽을 수 없습니다. 폴더와 권한을 확인하세요."],
  [/^the video (.+) is empty.*/, "영상 파일이 비어 있습니다: $1"],
  [/^the video (.+) has (\d+) bytes, its ticket says (\d+).*/, "영상 파일의 크기가 녹화 때와 다릅니다($2바이트, 녹화 때 $3바이트): $1"],
  [/^(\S+) runs but has not told its state.*/, "$1 프로그램이 1분 넘게 상태를 알리지 않습니다."],
];

const language = {
  now: "en",
  listeners: [],
  start() {
    let kept = null;
    try { kept = localStorage.getItem("language"); } catch { /* storage is off */ }
    const korean = (navigator.languages || [navigator.language]).some((it, i) => i === 0 && it.startsWith("ko"));
    this.set(TEXTS[kept] ? kept : korean ? "ko" : "en");
    document.getElementById("language").addEventListener("click", () => {
      this.set(this.now === "en" ? "ko" : "en");
      try { localStorage.setItem("language", this.now); } catch { /* storage is off */ }
    });
  },
  set(name) {
    this.now = name;
    document.documentElement.lang = name;
    document.title = text("title");
    for (const it of document.querySelectorAll("[data-text]")) it.textContent = text(it.dataset.text);
    const button = document.getElementById("language");
    button.textContent = text("other");
    button.lang = name === "en" ? "ko" : "en";
    this.listeners.forEach((it) => it());
  },
};

function text(key) {
  return TEXTS[language.now][key] ?? TEXTS.en[key] ?? key.replace(/^(state|process|dir)_/, "").replaceAll("_", " ");
}

function sentence(words) {
  const known = (language.now === "ko" ? SENTENCES : PLAINER).find(([pattern]) => pattern.test(words));
  return known ? words.replace(known[0], known[1]) : words;
}

language.start();
