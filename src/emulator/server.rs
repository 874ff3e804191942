//! The HTTP side: connections on loopback, routes, headers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::post;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::api::Api;
use super::body::{Break, Sending};
use super::fault::Fault;
use super::log::{Entry, RequestRecord};
use super::media::MediaProblem;
use super::refusal::Refusal;
use super::service::{Content, Service};
use super::signature::{Signature, format_instant};
use super::wire::RawRequest;

/// Behind the code in `x-amzn-ErrorType`: clients cut it off at the colon.
const ERROR_TYPE_SUFFIX: &str = ":http://internal.amazon.com/coral/com.amazonaws.kinesisvideo.v20170930/";

/// Dates as the header `Date` has them.
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// Accepts connections until `stopped` is told or dropped; then none is left.
pub(super) async fn serve(listener: TcpListener, service: Arc<Service>, mut stopped: oneshot::Receiver<()>) {
    let router = Router::new()
        .route("/{operation}", post(control_plane))
        .route("/data/{token}/{operation}", post(data_plane))
        .fallback(unknown)
        .with_state(Arc::clone(&service));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if service.faults.is_away(service.elapsed()) => {
                    service.log.connection_closed();
                    // With this option closing answers with a reset.
                    drop(stream.set_zero_linger());
                }
                Ok((stream, _)) => drop(connections.spawn(converse(stream, router.clone()))),
                // Out of file descriptors, say: it passes when connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    connections.shutdown().await;
}

/// Serves one connection; resets it when told to.
async fn converse(stream: TcpStream, router: Router) {
    let reset = Arc::new(Notify::new());
    let router = router.layer(Extension(Arc::clone(&reset)));
    // Small answers must not wait for the acknowledgement of the ones before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = TowerToHyperService::new(router);
    let mut connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client that goes away is no error of ours.
        _ = &mut connection => {}
        () = reset.notified() => {
            let stream = connection.into_parts().io.into_inner();
            // With this option closing discards what is unsent and answers with a reset.
            drop(stream.set_zero_linger());
        }
    }
}

async fn control_plane(
    State(service): State<Arc<Service>>,
    Extension(reset): Extension<Arc<Notify>>,
    Path(operation): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    Exchange { service, reset, token: None, operation }.respond(&headers, &body).await
}

async fn data_plane(
    State(service): State<Arc<Service>>,
    Extension(reset): Extension<Arc<Notify>>,
    Path((token, operation)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    Exchange { service, reset, token: Some(token), operation }.respond(&headers, &body).await
}

async fn unknown(State(service): State<Arc<Service>>) -> Response<Body> {
    refused(&service, None, &service.request_id(), &Refusal::unknown_operation())
}

/// Whether a fault leaves a request without even the head of an answer.
fn leaves_unanswered(fault: &Fault) -> bool {
    matches!(fault, Fault::Away | Fault::ResetConnection { after: None } | Fault::Stall { after: None })
}

/// A call that was read.
struct Call<'a> {
    api: Api,
    stream: &'a str,
    /// Fingerprint of the credentials it was signed with.
    credentials: u64,
    request: &'a RawRequest,
    entry: Entry,
}

/// One request on its way to an answer.
struct Exchange {
    service: Arc<Service>,
    reset: Arc<Notify>,
    /// The endpoint it came to, if not to the control plane's.
    token: Option<String>,
    operation: String,
}

impl Exchange {
    /// The answer, dated by the service's clock.
    async fn respond(self, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
        let service = Arc::clone(&self.service);
        let mut response = self.answer(headers, body).await;
        put_header(&mut response, "date", &format_instant(service.service_time(), HTTP_DATE));
        response
    }

    async fn answer(self, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
        let service = &*self.service;
        let request_id = service.request_id();
        // At an endpoint of the data plane there are no calls of the control plane.
        let api = Api::of_path(&self.operation).filter(|api| api.is_data_plane() || self.token.is_none());
        let Some(api) = api else {
            return refused(service, None, &request_id, &Refusal::unknown_operation());
        };
        let signature = Signature::of(headers);
        let signed = signature.clone().and_then(|of| of.check_date(service.service_time()));
        let request = signed.and_then(|()| RawRequest::parse(body));
        let stream = request.as_ref().map_err(Refusal::clone).and_then(|of| Service::stream_name(of, api));
        let entry = service.log.open(RequestRecord {
            at: service.config.clock.now(),
            api,
            stream: stream.clone().unwrap_or_default(),
            region: signature.as_ref().ok().map(|of| of.region.clone()),
            request_id: request_id.clone(),
            status: None,
            error: None,
            faults: Vec::new(),
            selector: None,
            max_results: None,
            continued: request.as_ref().is_ok_and(|of| of.next_token.is_some()),
            fragments: Vec::new(),
            points: 0,
            over_quota: false,
            bytes_sent: 0,
            completed: false,
        });
        if api.is_data_plane() {
            tokio::time::sleep(service.config.latency).await;
        }
        let (request, stream) = match (request, stream) {
            (Ok(request), Ok(stream)) => (request, stream),
            (Err(refusal), _) | (_, Err(refusal)) => {
                return refused(service, Some(entry), &request_id, &refusal);
            }
        };
        let faults = service.faults.befall(api, &stream, service.elapsed());
        if let Some(fault) = faults.iter().find(|fault| leaves_unanswered(fault)) {
            service.log.befell(entry, fault);
            if !matches!(fault, Fault::Stall { .. }) {
                self.reset.notify_one();
            }
            std::future::pending::<()>().await;
        }
        let credentials = signature.map_or(0, |of| of.credentials);
        let call = Call { api, stream: &stream, credentials, request: &request, entry };
        let content = self.carry_out(&call, &faults);
        match content {
            Ok(content) => self.deliver(content, &faults, entry, &request_id),
            Err(refusal) => refused(service, Some(entry), &request_id, &refusal),
        }
    }

    fn carry_out(&self, call: &Call<'_>, faults: &[Fault]) -> Result<Content, Refusal> {
        let service = &*self.service;
        service.check_credentials(call.credentials)?;
        for fault in faults {
            if let Some(answer) = self.suffer(call, fault) {
                service.log.befell(call.entry, fault);
                return answer;
            }
        }
        service.check_permission(call.api, call.stream)?;
        if call.api.is_data_plane() {
            service.check_endpoint(self.token.as_deref(), call.api, call.stream)?;
        }
        service.answer(call.api, call.stream, call.request, faults, call.entry)
    }

    /// The answer that a fault puts in the place of the service's own.
    fn suffer(&self, call: &Call<'_>, fault: &Fault) -> Option<Result<Content, Refusal>> {
        let service = &*self.service;
        match fault {
            Fault::Throttle => Some(Err(Refusal::client_limit_exceeded())),
            Fault::InternalFailure => Some(Err(Refusal::internal_failure())),
            Fault::ServiceUnavailable => Some(Err(Refusal::service_unavailable())),
            Fault::AccessDenied => Some(Err(service.access_denied(call.api, call.stream))),
            Fault::Refuse { status, code, message } => {
                Some(Err(Refusal::new(*status, code.clone(), message.clone())))
            }
            Fault::ExpiredToken => Some(Err(Refusal::expired_token())),
            Fault::ExpireCredentials => {
                service.expire_credentials(call.credentials);
                Some(Err(Refusal::expired_token()))
            }
            Fault::NoFragments => Some(Err(Refusal::no_fragments())),
            Fault::UnsupportedMedia => Some(Err(Refusal::media(MediaProblem::Unsupported))),
            Fault::Garbage => Some(Ok(Content::Raw(Bytes::from_static(&[0x5A; 4096])))),
            Fault::EmptyBody => Some(Ok(Content::Raw(Bytes::new()))),
            // These change what the service knows; its own answer shows it.
            Fault::ExpireEndpoint => {
                service.expire_endpoint(self.token.as_deref());
                service.log.befell(call.entry, fault);
                None
            }
            Fault::RetentionPasses { head } => {
                service.move_head(call.stream, *head);
                service.log.befell(call.entry, fault);
                None
            }
            // These spoil an answer on its way, or were dealt with before.
            Fault::ShortClip { .. }
            | Fault::CutBody { .. }
            | Fault::ResetConnection { .. }
            | Fault::Stall { .. }
            | Fault::Slow { .. }
            | Fault::Away
            | Fault::RefuseFragment(_)
            | Fault::UnknownCodec
            | Fault::ListLate { .. } => None,
        }
    }

    fn deliver(&self, content: Content, faults: &[Fault], entry: Entry, request_id: &str) -> Response<Body> {
        self.service.log.update(entry, |record| record.status = Some(200));
        let is_media = matches!(content, Content::Clip(_));
        let (content_type, size, pieces): (_, _, Box<dyn Iterator<Item = Bytes> + Send>) = match content {
            Content::Json(value) => {
                let bytes = Bytes::from(value.to_string());
                ("application/json", bytes.len() as u64, Box::new(std::iter::once(bytes)))
            }
            Content::Raw(bytes) => ("video/mp4", bytes.len() as u64, Box::new(std::iter::once(bytes))),
            Content::Clip(clip) if faults.contains(&Fault::UnknownCodec) => {
                ("video/mp4", clip.size(), Box::new(clip.map(|piece| with_unknown_codec(&piece))))
            }
            Content::Clip(clip) => ("video/mp4", clip.size(), Box::new(clip)),
        };
        let (mut broken, mut pace) = (None, self.service.config.bytes_per_second);
        for fault in faults {
            let how = match fault {
                Fault::CutBody { after } => (*after, Break::Close),
                Fault::ResetConnection { after: Some(after) } => (*after, Break::Reset),
                Fault::Stall { after: Some(after) } => (*after, Break::Stall),
                Fault::Slow { bytes_per_second } => {
                    pace = Some(pace.map_or(*bytes_per_second, |pace| pace.min(*bytes_per_second)));
                    self.service.log.befell(entry, fault);
                    continue;
                }
                Fault::UnknownCodec if is_media => {
                    self.service.log.befell(entry, fault);
                    continue;
                }
                _ => continue,
            };
            if broken.is_none() && how.0 < size {
                broken = Some(how);
                self.service.log.befell(entry, fault);
            }
        }
        let (service, reset) = (Arc::clone(&self.service), Arc::clone(&self.reset));
        let body = Sending { service, entry, size, pieces, is_media, broken, pace, reset }.into_body();
        let mut response = Response::new(body);
        put_header(&mut response, "content-type", content_type);
        put_header(&mut response, "content-length", &size.to_string());
        put_header(&mut response, "x-amzn-requestid", request_id);
        response
    }
}

/// A piece of a clip with another four-character code where the sample description has its own.
fn with_unknown_codec(piece: &[u8]) -> Bytes {
    let mut piece = piece.to_vec();
    if let Some(at) = piece.windows(4).rposition(|code| code == b"avc1") {
        piece[at..at + 4].copy_from_slice(b"none");
    }
    piece.into()
}

fn put_header(response: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = header::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// An error answer, as the service makes it.
fn refused(service: &Service, entry: Option<Entry>, request_id: &str, refusal: &Refusal) -> Response<Body> {
    let style = service.config.error_style;
    let body = serde_json::json!({ style.member(): refusal.message }).to_string();
    if let Some(entry) = entry {
        service.log.update(entry, |record| {
            record.status = Some(refusal.status);
            record.error = Some(refusal.code.clone().into_owned());
            record.bytes_sent = body.len() as u64;
            record.completed = true;
        });
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    put_header(&mut response, "content-type", "application/json");
    put_header(&mut response, style.header(), &format!("{}{ERROR_TYPE_SUFFIX}", refusal.code));
    put_header(&mut response, "x-amzn-requestid", request_id);
    response
}
