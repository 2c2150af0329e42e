//! One RTSP session through retina: frames as MP4 stores them, and why it ended.
//!
//! retina has no time-outs and no reconnection; both belong to [`crate::source`]. Here: which streams to ask for, how
//! their parameters become tracks, and what an error means.

use crate::backoff::Failure;
use crate::frame::VideoFrame;
use crate::input::{Media, SessionError, Stamps};
use crate::nal::{Coding, Entry, entry};
use crate::rtp_order::OrderedSocket;
use crate::sockets::{SocketNumber, with_new_sockets};
use crate::sound::{Sound, sound_ends};
use crate::stream::{StreamParams, is_frame_rate};
use crate::timeline::rescale_to_90k;
use futures::StreamExt;
use media::{Rational, VideoCodec, VideoTrack};
use retina::client::{
    Credentials, Demuxed, Described, InitialSequenceNumberPolicy, PlayOptions, Session,
    SessionGroup, SessionOptions, SetupOptions, Stream, TcpTransportOptions, Transport,
    UdpTransportOptions, UnassignedChannelDataPolicy, UnknownRtcpSsrcPolicy,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoParametersCodec};
use settings::Source;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Old live555 servers send packets of sessions that are long over to whoever connects next, from the beginning. What
/// comes under another SSRC after so much of a session is none of these.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// When packets come under another SSRC for so long, and none under the one before, the camera began anew.
const BEGUN_ANEW_AFTER: Duration = Duration::from_millis(300);

/// A session that plays.
pub struct RtspSession {
    demuxed: Demuxed,
    video: usize,
    sound: Option<Sound>,
    params: Option<Arc<StreamParams>>,
    sockets: HashSet<SocketNumber>,
    strangers: Strangers,
    /// Of streams over UDP.
    _ordered: Vec<OrderedSocket>,
}

/// Connects, asks for the video (and the sound where it is wanted) and starts it.
///
/// # Errors
/// Whatever the camera or the network does; see [`SessionError`]. There is no time-out here.
pub async fn open(
    source: &Source,
    group: Arc<SessionGroup>,
    stamps: &Stamps,
) -> Result<RtspSession, SessionError> {
    let url = url::Url::parse(&source.url.expose_without_userinfo()).map_err(|error| {
        SessionError::new(
            Failure::Away,
            format!("the address cannot be used: {error}"),
        )
    })?;
    let credentials = source.url.credentials().map(|credentials| Credentials {
        username: credentials.username.clone(),
        password: credentials.password.clone(),
    });
    let options = SessionOptions::default()
        .creds(credentials)
        .session_group(group)
        .user_agent("rtsp-recorder".to_owned())
        .unassigned_channel_data(UnassignedChannelDataPolicy::Auto);
    let (described, sockets) = with_new_sockets(Session::describe(url, options)).await;
    let mut session = described.map_err(of_retina)?;
    let video = choose(session.streams())?;
    let mut sound = match source.record_audio {
        true => Sound::choose(session.streams()),
        false => None,
    };
    if source.record_audio
        && sound.is_none()
        && let Some(kind) = Sound::unreadable(session.streams())
    {
        return Err(SessionError::unsupported(format!("its sound is {kind}")));
    }
    let mut ordered = Vec::new();
    ordered.extend(
        set_up(&mut session, video, source)
            .await
            .map_err(after_description)?,
    );
    if let Some(audio) = sound.as_ref().map(Sound::stream) {
        match set_up(&mut session, audio, source).await {
            Ok(socket) => ordered.extend(socket),
            Err(error) if is_refusal(&error) => {
                sound_ends(&of_retina(error));
                sound = None;
            }
            Err(error) => return Err(after_description(error)),
        }
    }
    if source.transport == settings::Transport::Udp {
        crate::sockets::enlarge_udp_buffers();
    }
    // The number of the first packet is taken from that packet: Hikvision and Tapo name nonsense before, GStreamer a packet that
    // went to an earlier client only, and what came before the first packet is not lost to this recording.
    // Reolink and others send RTCP with a wrong SSRC early on; that is no reason to drop the video.
    let play = PlayOptions::default()
        .initial_seq(InitialSequenceNumberPolicy::Ignore)
        .initial_timestamp(retina::client::InitialTimestampPolicy::Permissive)
        .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::DropPackets);
    let playing = session.play(play).await.map_err(after_description)?;
    let demuxed = playing.demuxed().map_err(of_retina)?;
    Ok(RtspSession {
        demuxed,
        video,
        sound,
        params: None,
        sockets,
        strangers: Strangers::new(stamps.0.monotonic()),
        _ordered: ordered,
    })
}

/// Asks for one stream. What the answer holds puts its packets in order.
async fn set_up(
    session: &mut Session<Described>,
    stream: usize,
    source: &Source,
) -> Result<Option<OrderedSocket>, retina::Error> {
    let transport = match source.transport {
        settings::Transport::Tcp => Transport::Tcp(TcpTransportOptions::default()),
        settings::Transport::Udp => Transport::Udp(UdpTransportOptions::default()),
    };
    let options = SetupOptions::default()
        .transport(transport)
        .frame_format(FrameFormat::MP4);
    session.setup(stream, options).await?;
    Ok(match source.transport {
        settings::Transport::Tcp => None,
        settings::Transport::Udp => put_in_order(&session.streams()[stream]),
    })
}

/// Puts the packets of a stream over UDP in order, or says that they will come as they come.
fn put_in_order(stream: &Stream) -> Option<OrderedSocket> {
    let context = stream.ctx().map(ToString::to_string).unwrap_or_default();
    let ordered = local_address(&context)
        .ok_or_else(|| std::io::Error::other(format!("no address in {context:?}")))
        .and_then(OrderedSocket::put_in_front);
    ordered
        .inspect_err(
            |error| tracing::warn!(%error, "packets that overtake one another will count as lost"),
        )
        .ok()
}

/// Where RTP packets are received, of what retina says of a stream: `127.0.0.1:5000-5001(me) -> ...`.
fn local_address(context: &str) -> Option<SocketAddr> {
    let (address, _) = context.split_once("(me)")?;
    let (ip, ports) = address.rsplit_once(':')?;
    let (port, _) = ports.split_once('-')?;
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

/// The first video stream that retina reads.
fn choose(streams: &[Stream]) -> Result<usize, SessionError> {
    let is_video = |stream: &&Stream| matches!(stream.media(), "video" | "image");
    let readable = |stream: &Stream| matches!(stream.encoding_name(), "h264" | "h265" | "jpeg");
    let found = streams
        .iter()
        .position(|stream| is_video(&stream) && readable(stream));
    found.ok_or_else(|| {
        let names: Vec<&str> = streams
            .iter()
            .filter(is_video)
            .map(Stream::encoding_name)
            .collect();
        match names.as_slice() {
            [] => SessionError::new(
                Failure::Away,
                "the camera offers no video stream".to_owned(),
            ),
            names => SessionError::unsupported(format!("video is {}", names.join(", "))),
        }
    })
}

impl RtspSession {
    /// The connection to the camera.
    pub fn sockets(&self) -> &HashSet<SocketNumber> {
        &self.sockets
    }

    /// The next frame. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The session is over.
    pub async fn next(&mut self, stamps: &Stamps) -> Result<Media, SessionError> {
        loop {
            if let Some(frame) = self.sound.as_mut().and_then(Sound::pop) {
                return Ok(Media::Audio(frame));
            }
            match self.demuxed.next().await {
                Some(Ok(CodecItem::VideoFrame(frame))) if frame.stream_id() == self.video => {
                    self.strangers.forget(self.video);
                    let frame = self.video_frame(frame, stamps);
                    // Parameter sets may stand in a description that retina does not take (VLC's), and nowhere else.
                    if self.params.is_none() && self.is_entry(&frame) {
                        return Err(SessionError::unsupported(
                            "a key frame came without parameter sets".to_owned(),
                        ));
                    }
                    return Ok(Media::Video(frame));
                }
                Some(Ok(CodecItem::AudioFrame(frame))) => {
                    self.strangers.forget(frame.stream_id());
                    if let Some(sound) = &mut self.sound
                        && let Err(error) = sound.push(&frame, stamps)
                    {
                        sound_ends(&error);
                        self.sound = None;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) if self.params.is_none() && is_rest_of_a_frame(&error) => {}
                Some(Err(error)) if has_other_ssrc(&error) => {
                    let stream = self.stream_of(&error);
                    match self.strangers.meet(stream, stamps.0.monotonic()) {
                        Stranger::Passing => {}
                        Stranger::Successor => {
                            return Err(SessionError::began_anew(
                                "the camera began to send under another SSRC".to_owned(),
                            ));
                        }
                        Stranger::Ghost => {
                            return Err(SessionError::unreadable(of_retina(error).message));
                        }
                    }
                }
                Some(Err(error)) if is_about_a_packet(&error) => {
                    return Err(SessionError::unreadable(of_retina(error).message));
                }
                Some(Err(error)) => return Err(of_retina(error)),
                None => {
                    return Err(SessionError::new(
                        Failure::Away,
                        "the camera ended the stream".to_owned(),
                    ));
                }
            }
        }
    }

    /// The stream that an error about a packet is of.
    fn stream_of(&self, error: &retina::Error) -> Option<usize> {
        let text = error.to_string();
        self.demuxed.streams().iter().position(|stream| {
            stream
                .ctx()
                .is_some_and(|ctx| text.contains(&format!("\nstream: {ctx}\n")))
        })
    }

    /// True for a frame to begin with. retina's own mark leaves out the CRA pictures of H.265.
    fn is_entry(&self, frame: &VideoFrame) -> bool {
        let coding = match self.demuxed.streams()[self.video].encoding_name() {
            "h264" => Coding::H264,
            "h265" => Coding::H265,
            _ => Coding::Other,
        };
        entry(coding, &frame.data, frame.key) != Entry::None
    }

    fn video_frame(&mut self, frame: retina::codec::VideoFrame, stamps: &Stamps) -> VideoFrame {
        let params = self.new_params(frame.has_new_parameters());
        let (arrival, wall) = stamps.of(frame.start_ctx().received());
        let time = frame.timestamp();
        VideoFrame {
            raw_90k: rescale_to_90k(time.timestamp(), time.clock_rate().get()),
            arrival,
            wall,
            key: frame.is_random_access_point(),
            packets_lost: u32::from(frame.loss()),
            params,
            data: frame.into_data(),
        }
    }

    fn new_params(&mut self, announced: bool) -> Option<Arc<StreamParams>> {
        if self.params.is_some() && !announced {
            return None;
        }
        let streams = self.demuxed.streams();
        let audio = self
            .sound
            .as_ref()
            .and_then(|sound| sound.track(&streams[sound.stream()]));
        let video = video_track(&streams[self.video])?;
        let params = Arc::new(StreamParams::new(video, audio));
        self.params = Some(params.clone());
        Some(params)
    }
}

fn video_track(stream: &Stream) -> Option<VideoTrack> {
    let ParametersRef::Video(params) = stream.parameters()? else {
        return None;
    };
    let (width, height) = params.pixel_dimensions();
    let (codec, extradata) = match params.codec_params() {
        VideoParametersCodec::H264 { .. } => (VideoCodec::H264, params.extra_data()),
        VideoParametersCodec::H265 { .. } => (VideoCodec::H265, params.extra_data()),
        _ => (VideoCodec::Mjpeg, &[][..]),
    };
    let mut track = VideoTrack::new(codec, width, height, Rational::MPEG).with_extradata(extradata);
    // retina gives seconds per frame.
    track.average_fps = params
        .frame_rate()
        .and_then(|(num, den)| ratio(den, num))
        .filter(is_frame_rate)
        .or_else(|| {
            stream
                .framerate()
                .filter(|fps| *fps > 0.0)
                .map(|fps| Rational::new((fps * 1000.0) as i32, 1000))
        });
    track.sample_aspect_ratio = params
        .pixel_aspect_ratio()
        .filter(|(h, v)| h != v)
        .and_then(|(h, v)| ratio(h, v));
    Some(track)
}

fn ratio(num: u32, den: u32) -> Option<Rational> {
    let (num, den) = (i32::try_from(num).ok()?, i32::try_from(den).ok()?);
    (num > 0 && den > 0).then(|| Rational::new(num, den))
}

/// True when retina stumbles over the rest of a frame whose beginning was sent before we came. Servers that pass packets on
/// as they come (VLC, relays) begin anywhere; retina is none the worse for it and reads on with the next frame.
fn is_rest_of_a_frame(error: &retina::Error) -> bool {
    error
        .to_string()
        .contains("has start bit unset while no frag in progress")
}

/// True when a packet comes under another SSRC than those before. retina leaves it out and reads on.
fn has_other_ssrc(error: &retina::Error) -> bool {
    is_about_a_packet(error) && error.to_string().starts_with("wrong ssrc after")
}

/// True when retina cannot make sense of a packet. It names the stream then, and not the message of RTSP.
fn is_about_a_packet(error: &retina::Error) -> bool {
    let text = error.to_string();
    text.contains("\nstream: ") && text.contains("\npkt: ")
}

/// The packets of a session that come under another SSRC than those before.
#[derive(Debug)]
struct Strangers {
    /// When the session began.
    began: Duration,
    /// Of which streams they come now, and since when.
    since: Vec<(Option<usize>, Duration)>,
}

/// What to make of such a packet.
#[derive(Debug, PartialEq, Eq)]
enum Stranger {
    /// It is overlooked.
    Passing,
    /// The camera sends no others any more.
    Successor,
    /// It may belong to a session that is long over.
    Ghost,
}

impl Strangers {
    /// For a session that begins at that time.
    fn new(began: Duration) -> Self {
        Strangers {
            began,
            since: Vec::new(),
        }
    }

    /// Takes note of a packet of that stream.
    fn meet(&mut self, stream: Option<usize>, now: Duration) -> Stranger {
        if now.saturating_sub(self.began) < SETTLED_AFTER {
            return Stranger::Ghost;
        }
        let met = self.since.iter().find(|(of, _)| *of == stream);
        let since = met.map_or(now, |(_, since)| *since);
        if met.is_none() {
            self.since.push((stream, now));
        }
        match now.saturating_sub(since) < BEGUN_ANEW_AFTER {
            true => Stranger::Passing,
            false => Stranger::Successor,
        }
    }

    /// The stream goes on as before.
    fn forget(&mut self, stream: usize) {
        self.since.retain(|(of, _)| *of != Some(stream));
    }
}

/// True when the camera answered that it does not want to. Of a password that it asks for again the session is no good.
fn is_refusal(error: &retina::Error) -> bool {
    error
        .status_code()
        .is_some_and(|status| status >= 400 && status != 401)
}

/// What retina's error asks of us once the description was given. The password was right then: a 401 is about a nonce that
/// holds for one request or a short time. retina does not take a new one in the same session; FFmpeg does.
fn after_description(error: retina::Error) -> SessionError {
    let text = error.to_string();
    match error.status_code() {
        Some(401) if !text.contains(WITHOUT_CREDENTIALS) => SessionError::unsupported(
            "the camera took the password and asks for it again".to_owned(),
        ),
        _ => of_retina(error),
    }
}

/// What retina says where the camera asks for credentials that it was not given.
const WITHOUT_CREDENTIALS: &str = "no credentials supplied";

/// What retina's error asks of us. The text may hold what the camera sent, so credentials are hidden.
fn of_retina(error: retina::Error) -> SessionError {
    let text = error.to_string();
    // The rest of the message is the addresses and byte positions of the connection.
    let first = text.split("\n\n").next().unwrap_or_default();
    // What retina could not read follows as a dump.
    let first = first.split("; buffered:").next().unwrap_or_default();
    let message = daemon::redact::text(first.trim()).replace('\n', " ");
    match error.status_code() {
        Some(401) if message.contains(WITHOUT_CREDENTIALS) => SessionError::new(
            Failure::Refused,
            "the camera asks for user name and password, and the settings have none; give this source `username` and `password`".to_owned(),
        ),
        Some(401) => SessionError::new(
            Failure::Refused,
            format!(
                "the camera refuses user name and password; check them in the settings ({message})"
            ),
        ),
        Some(403) => SessionError::new(
            Failure::Refused,
            format!("the camera denies access; check the user's rights on the camera ({message})"),
        ),
        Some(461) => SessionError::transport_refused(format!(
            "the camera does not send over this transport ({message})"
        )),
        // retina does not follow to another address, and refuses answers that FFmpeg takes.
        Some(200..=399) => SessionError::unsupported(message),
        _ if message.starts_with("Unsupported") => SessionError::unsupported(message),
        _ => {
            let advice = advice(&message);
            SessionError::new(Failure::Away, message + advice)
        }
    }
}

/// What a person may do about a camera that cannot be reached; retina keeps the system's error to itself.
fn advice(message: &str) -> &'static str {
    let of = |words: &str| message.contains(words);
    if of("Connection refused") {
        "; the host is there but nothing listens on that port; check the port and that RTSP is switched on"
    } else if of("No route to host") || of("Network is unreachable") {
        "; check the camera's power, cable and address"
    } else if of("lookup address") {
        "; check the host name"
    } else if of("Invalid RTSP message") {
        "; what answers does not speak RTSP; check the port"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_port_where_no_camera_answers_is_told_in_plain_words() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            // Held open until the other side has read and closed.
            stream.read_to_end(&mut Vec::new()).await.ok();
        });
        let file = format!(r#"{{"sources": ["rtsp://{address}/x"]}}"#);
        let settings =
            settings::RecorderSettings::from_text(&file, &settings::Environment::empty()).unwrap();
        let stamps = Stamps(Arc::new(daemon::SystemClock::new()));
        let opened = open(&settings.sources[0], Arc::default(), &stamps).await;
        let message = opened.err().unwrap().message;
        let advice = "what answers does not speak RTSP; check the port";
        assert!(message.ends_with(advice), "{message}");
        assert!(!message.contains("48 54 54 50"), "{message}");
    }

    #[test]
    fn another_ssrc_is_a_new_beginning_when_it_stays_alone() {
        let ms = Duration::from_millis;
        let mut strangers = Strangers::new(ms(1000));
        assert_eq!(strangers.meet(Some(0), ms(1500)), Stranger::Ghost);
        // One that comes between the others.
        assert_eq!(strangers.meet(Some(0), ms(9000)), Stranger::Passing);
        strangers.forget(0);
        assert_eq!(strangers.meet(Some(0), ms(9900)), Stranger::Passing);
        // The sound is another matter.
        strangers.forget(1);
        assert_eq!(strangers.meet(Some(1), ms(10_300)), Stranger::Passing);
        assert_eq!(strangers.meet(Some(0), ms(10_300)), Stranger::Successor);
    }

    #[test]
    fn the_address_of_a_stream_is_found() {
        let of = |context| local_address(context).map(|address| address.to_string());
        let expected = Some("10.0.0.2:5000".to_owned());
        assert_eq!(of("10.0.0.2:5000-5001(me) -> 10.0.0.9:6970-6971"), expected);
        let expected = Some("[fe80::1]:5000".to_owned());
        assert_eq!(of("fe80::1:5000-5001(me) -> fe80::9:6970-6971"), expected);
        assert_eq!(of("TCP, interleaved channel ids 0-1"), None);
    }
}
