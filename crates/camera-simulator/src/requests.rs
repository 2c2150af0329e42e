//! The answers to RTSP requests (RFC 2326), one function per method.

use crate::auth::{self, Verdict};
use crate::camera::Camera;
use crate::clip::Track;
use crate::connection::{Connection, Interleaved};
use crate::message::{Request, Response, Status};
use crate::sdp;
use crate::session::{self, Outlet, SessionTrack, Wish};
use crate::udp::{UdpPair, UdpSession};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const METHODS: &str =
    "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN";

/// A session as a request refers to it.
enum SessionRef {
    Interleaved,
    Udp(String, Arc<UdpSession>),
    None,
}

/// Cuts `/trackID=n` off a path.
pub(crate) fn split_track(path: &str) -> (&str, Option<Track>) {
    let cut = |track| {
        path.strip_suffix(sdp::control(track))
            .and_then(|p| p.strip_suffix('/'))
            .map(|p| (p, Some(track)))
    };
    cut(Track::Video)
        .or_else(|| cut(Track::Audio))
        .unwrap_or((path, None))
}

impl Connection {
    /// Does what the request asks and says how it went.
    pub(crate) async fn answer(&mut self, request: &Request) -> Response {
        match self.try_answer(request).await {
            Ok(response) => response,
            Err(status) => Response::new(status),
        }
    }

    async fn try_answer(&mut self, request: &Request) -> Result<Response, Status> {
        if request.header("CSeq").is_none() {
            return Err(Status::BAD_REQUEST);
        }
        if let Some(feature) = request.header("Require") {
            return Ok(Response::new(Status::OPTION).with("Unsupported", feature));
        }
        let Some(camera) = self.find_camera(request) else {
            return self.answer_without_camera(request);
        };
        camera.counters.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(refusal) = self.check_access(request, &camera) {
            return Ok(refusal);
        }
        let session = self.find_session(request)?;
        if let SessionRef::Udp(_, session) = &session {
            session.touch();
        }
        match request.method.as_str() {
            "OPTIONS" => Ok(Response::ok().with("Public", METHODS)),
            "DESCRIBE" => self.describe(request, &camera),
            "SETUP" => self.setup(request, &camera, session).await,
            "PLAY" => self.play(request, &camera, session),
            "PAUSE" => self.pause(session),
            "GET_PARAMETER" | "SET_PARAMETER" => Ok(self.with_session(Response::ok(), &session)),
            "TEARDOWN" => self.teardown(session),
            _ => Err(Status::NOT_IMPLEMENTED),
        }
    }

    fn answer_without_camera(&self, request: &Request) -> Result<Response, Status> {
        match (request.method.as_str(), request.path()) {
            ("OPTIONS", "") => Ok(Response::ok().with("Public", METHODS)),
            _ => Err(Status::NOT_FOUND),
        }
    }

    /// The 401 if the request may not pass. OPTIONS always may: clients ask it before they log in.
    fn check_access(&self, request: &Request, camera: &Camera) -> Option<Response> {
        let policy = &self.server.policy;
        let locked = camera.conditions().unauthorized;
        if request.method == "OPTIONS" && !locked {
            return None;
        }
        let verdict = match (&policy.credentials, locked) {
            (_, true) => Verdict::Refused,
            (None, false) => Verdict::Allowed,
            (Some(wanted), false) => auth::check(request, wanted, policy.scheme, &self.nonce),
        };
        match verdict {
            Verdict::Allowed => None,
            Verdict::Refused => Some(auth::challenge(policy.scheme, &self.nonce, false)),
            Verdict::StaleNonce => Some(auth::challenge(policy.scheme, &self.nonce, true)),
        }
    }

    fn find_session(&self, request: &Request) -> Result<SessionRef, Status> {
        let Some(id) = request.session() else {
            // Some clients leave the header out on the connection that carries the session.
            return Ok(match self.interleaved {
                Some(_) => SessionRef::Interleaved,
                None => SessionRef::None,
            });
        };
        if self.interleaved.as_ref().is_some_and(|s| s.id == id) {
            return Ok(SessionRef::Interleaved);
        }
        match self.server.udp_session(id) {
            Some(session) if session.client == self.peer.ip() => {
                Ok(SessionRef::Udp(id.to_owned(), session))
            }
            _ => Err(Status::SESSION_NOT_FOUND),
        }
    }

    fn describe(&self, request: &Request, camera: &Camera) -> Result<Response, Status> {
        if split_track(request.path()).0 != camera.name {
            return Err(Status::NOT_FOUND);
        }
        let body = sdp::describe(&camera.name, &camera.clip(), self.local.ip());
        Ok(Response::ok()
            .with("Content-Base", self.content_base(request, camera))
            .with_body("application/sdp", body))
    }

    /// The URL that relative control attributes are resolved against, with the host as the client wrote it.
    fn content_base(&self, request: &Request, camera: &Camera) -> String {
        let own = self.local.to_string();
        let host = request.authority().unwrap_or(&own);
        format!("rtsp://{host}/{}/", camera.name)
    }

    async fn setup(
        &mut self,
        request: &Request,
        camera: &Arc<Camera>,
        session: SessionRef,
    ) -> Result<Response, Status> {
        let track = self.track_to_set_up(request, camera)?;
        let wish = request
            .header("Transport")
            .and_then(session::parse_transport)
            .ok_or(Status::TRANSPORT)?;
        match (wish, session) {
            (Wish::Interleaved(_), _) if self.server.policy.refuse_tcp => Err(Status::TRANSPORT),
            (Wish::Interleaved(channels), SessionRef::None | SessionRef::Interleaved) => {
                self.setup_interleaved(camera, track, channels)
            }
            (Wish::Udp(rtp, rtcp), SessionRef::None) => {
                self.setup_udp(camera, track, (rtp, rtcp), None).await
            }
            (Wish::Udp(rtp, rtcp), SessionRef::Udp(id, session)) => {
                self.setup_udp(camera, track, (rtp, rtcp), Some((id, session)))
                    .await
            }
            _ => Err(Status::TRANSPORT),
        }
    }

    fn track_to_set_up(&self, request: &Request, camera: &Camera) -> Result<Track, Status> {
        let (path, track) = split_track(request.path());
        if path != camera.name {
            return Err(Status::NOT_FOUND);
        }
        let has_audio = camera.clip().audio.is_some();
        match track {
            Some(Track::Audio) if !has_audio => Err(Status::NOT_FOUND),
            Some(track) => Ok(track),
            None if has_audio => Err(Status::NO_AGGREGATE),
            None => Ok(Track::Video),
        }
    }

    fn setup_interleaved(
        &mut self,
        camera: &Arc<Camera>,
        track: Track,
        channels: Option<(u8, u8)>,
    ) -> Result<Response, Status> {
        let session = self.interleaved.get_or_insert_with(|| Interleaved {
            id: crate::random_id(),
            camera: Arc::clone(camera),
            tracks: Vec::new(),
            playing: None,
        });
        let taken = session.tracks.iter().any(|t| t.track == track);
        if session.playing.is_some() || taken || !Arc::ptr_eq(&session.camera, camera) {
            return Err(Status::WRONG_STATE);
        }
        let first = 2 * session.tracks.len() as u8;
        let (rtp, rtcp) = channels.unwrap_or((first, first + 1));
        let new = SessionTrack::new(track, Outlet::Channels { rtp, rtcp });
        let transport = format!(
            "RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp};ssrc={:08X};mode=\"PLAY\"",
            new.rtp.ssrc
        );
        session.tracks.push(new);
        let response = Response::ok().with("Transport", transport);
        Ok(self.with_session(response, &SessionRef::Interleaved))
    }

    async fn setup_udp(
        &mut self,
        camera: &Arc<Camera>,
        track: Track,
        ports: (u16, u16),
        existing: Option<(String, Arc<UdpSession>)>,
    ) -> Result<Response, Status> {
        if let Some((_, session)) = &existing {
            let taken = crate::lock(&session.tracks)
                .iter()
                .any(|t| t.track == track);
            if taken || session.is_playing() || !Arc::ptr_eq(session.camera(), camera) {
                return Err(Status::WRONG_STATE);
            }
        }
        let pair = UdpPair::bind(self.local.ip(), self.peer.ip(), ports)
            .await
            .map_err(|_| Status::INTERNAL)?;
        let port = pair.port;
        let new = SessionTrack::new(track, Outlet::Udp(pair));
        let transport = format!(
            "RTP/AVP;unicast;client_port={}-{};server_port={port}-{};ssrc={:08X};mode=\"PLAY\"",
            ports.0,
            ports.1,
            port + 1,
            new.rtp.ssrc
        );
        let (id, session) = match existing {
            Some(found) => found,
            None => self.new_udp_session(camera)?,
        };
        crate::lock(&session.tracks).push(new);
        let response = Response::ok().with("Transport", transport);
        Ok(self.with_session(response, &SessionRef::Udp(id, session)))
    }

    fn new_udp_session(&self, camera: &Arc<Camera>) -> Result<(String, Arc<UdpSession>), Status> {
        let id = crate::random_id();
        let session = Arc::new(UdpSession::new(camera, self.peer.ip()));
        match self
            .server
            .add_udp_session(id.clone(), Arc::clone(&session))
        {
            true => Ok((id, session)),
            false => Err(Status::NO_BANDWIDTH),
        }
    }

    fn play(
        &mut self,
        request: &Request,
        camera: &Arc<Camera>,
        session: SessionRef,
    ) -> Result<Response, Status> {
        let base = self.content_base(request, camera);
        let info = match &session {
            SessionRef::None => return Err(Status::SESSION_NOT_FOUND),
            SessionRef::Interleaved => self.play_interleaved(&base)?,
            SessionRef::Udp(_, session) => play_udp(session, &base)?,
        };
        let mut response = self
            .with_session(Response::ok(), &session)
            .with("Range", "npt=now-");
        if let Some(info) = info.filter(|_| !camera.begins_within_a_unit()) {
            response = response.with("RTP-Info", info);
        }
        Ok(response)
    }

    /// The `RTP-Info`, or `None` if it plays already (a second PLAY is a keep-alive).
    fn play_interleaved(&mut self, base: &str) -> Result<Option<String>, Status> {
        let kill = Arc::clone(&self.kill);
        let session = self.interleaved.as_mut().ok_or(Status::SESSION_NOT_FOUND)?;
        if session.playing.is_some() {
            return Ok(None);
        }
        let subscription = session.camera.subscribe(kill);
        let info: Vec<_> = session
            .tracks
            .iter()
            .map(|t| t.rtp_info(base, &session.camera, &subscription))
            .collect();
        session.playing = Some(subscription);
        Ok(Some(info.join(",")))
    }

    fn pause(&mut self, session: SessionRef) -> Result<Response, Status> {
        match &session {
            SessionRef::None => return Err(Status::SESSION_NOT_FOUND),
            SessionRef::Interleaved => {
                if let Some(session) = &mut self.interleaved {
                    session.playing = None;
                }
            }
            SessionRef::Udp(_, session) => session.stop(),
        }
        Ok(self.with_session(Response::ok(), &session))
    }

    fn teardown(&mut self, session: SessionRef) -> Result<Response, Status> {
        match session {
            SessionRef::None => return Err(Status::SESSION_NOT_FOUND),
            SessionRef::Interleaved => self.interleaved = None,
            SessionRef::Udp(id, _) => self.server.end_udp_session(&id),
        }
        Ok(Response::ok())
    }

    fn with_session(&self, response: Response, session: &SessionRef) -> Response {
        let timeout = self.server.policy.session_timeout.as_secs().max(1);
        let id = match (session, &self.interleaved) {
            (SessionRef::Interleaved, Some(session)) => &session.id,
            (SessionRef::Udp(id, _), _) => id,
            _ => return response,
        };
        response.with("Session", format!("{id};timeout={timeout}"))
    }
}

fn play_udp(session: &Arc<UdpSession>, base: &str) -> Result<Option<String>, Status> {
    if session.is_playing() {
        return Ok(None);
    }
    let camera = session.camera();
    let subscription = camera.subscribe(Arc::clone(&session.kill));
    let info: Vec<_> = crate::lock(&session.tracks)
        .iter()
        .map(|t| t.rtp_info(base, camera, &subscription))
        .collect();
    session.play(subscription);
    Ok(Some(info.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_are_cut_off_paths() {
        assert_eq!(split_track("cam0/trackID=1"), ("cam0", Some(Track::Audio)));
        assert_eq!(split_track("a/b/trackID=0"), ("a/b", Some(Track::Video)));
        assert_eq!(split_track("cam0/trackID=7"), ("cam0/trackID=7", None));
        assert_eq!(split_track("trackID=0"), ("trackID=0", None));
        assert_eq!(split_track(""), ("", None));
    }
}
