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
use super::refusal::Refusal;
use super::service::{Content, Service};
use super::wire::{RawRequest, signing_region};

/// Behind the code in `x-amzn-ErrorType`: clients cut it off at the colon.
const ERROR_TYPE_SUFFIX: &str = ":http://internal.amazon.com/coral/com.amazonaws.kinesisvideo.v20170930/";

/// Accepts connections until `stopped` is told or dropped; then none is left.
pub(super) async fn serve(listener: TcpListener, service: Arc<Service>, mut stopped: oneshot::Receiver<()>) {
    let router = Router::new()
        .route("/{operation}", post(control_plane))
        .route("/data/{token}/{operation}", post(data_plane))
        .fallback(unknown)
        .with_state(service);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
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
    Exchange { service, reset, token: None, operation }.answer(&headers, &body).await
}

async fn data_plane(
    State(service): State<Arc<Service>>,
    Extension(reset): Extension<Arc<Notify>>,
    Path((token, operation)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    Exchange { service, reset, token: Some(token), operation }.answer(&headers, &body).await
}

async fn unknown(State(service): State<Arc<Service>>) -> Response<Body> {
    refused(&service, None, &service.request_id(), &Refusal::unknown_operation())
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
    async fn answer(self, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
        let service = &*self.service;
        let request_id = service.request_id();
        // At an endpoint of the data plane there are no calls of the control plane.
        let api = Api::of_path(&self.operation).filter(|api| api.is_data_plane() || self.token.is_none());
        let Some(api) = api else {
            return refused(service, None, &request_id, &Refusal::unknown_operation());
        };
        let region = signing_region(headers);
        let request = region.clone().and_then(|_| RawRequest::parse(body));
        let stream = request.as_ref().map_err(Refusal::clone).and_then(|of| Service::stream_name(of, api));
        let entry = service.log.open(RequestRecord {
            at: service.config.clock.now(),
            api,
            stream: stream.clone().unwrap_or_default(),
            region: region.ok(),
            request_id: request_id.clone(),
            status: None,
            error: None,
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
        let faults = service.faults.befall(api, &stream);
        if faults.contains(&(Fault::ResetConnection { after: None })) {
            self.reset.notify_one();
            std::future::pending::<()>().await;
        }
        let content = self.carry_out(api, &stream, &request, &faults, entry);
        match content {
            Ok(content) => self.deliver(content, &faults, entry, &request_id),
            Err(refusal) => refused(service, Some(entry), &request_id, &refusal),
        }
    }

    fn carry_out(
        &self,
        api: Api,
        stream: &str,
        request: &RawRequest,
        faults: &[Fault],
        entry: Entry,
    ) -> Result<Content, Refusal> {
        for fault in faults {
            match fault {
                Fault::Throttle => return Err(Refusal::client_limit_exceeded()),
                Fault::InternalFailure => return Err(Refusal::internal_failure()),
                Fault::ServiceUnavailable => return Err(Refusal::service_unavailable()),
                Fault::AccessDenied => return Err(self.service.access_denied(api, stream)),
                Fault::ExpiredToken => return Err(Refusal::expired_token()),
                Fault::NoFragments => return Err(Refusal::no_fragments()),
                Fault::UnsupportedMedia => return Err(Refusal::unsupported_media()),
                Fault::Garbage => return Ok(Content::Raw(Bytes::from_static(&[0x5A; 4096]))),
                Fault::EmptyBody => return Ok(Content::Raw(Bytes::new())),
                Fault::ShortClip { .. }
                | Fault::CutBody { .. }
                | Fault::ResetConnection { .. }
                | Fault::RefuseFragment(_)
                | Fault::UnknownCodec
                | Fault::ListLate { .. } => {}
            }
        }
        self.service.check_permission(api, stream)?;
        if api.is_data_plane() {
            self.service.check_endpoint(self.token.as_deref(), api, stream)?;
        }
        self.service.answer(api, stream, request, faults, entry)
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
        let broken = faults.iter().find_map(|fault| match fault {
            Fault::CutBody { after } => Some((*after, Break::Close)),
            Fault::ResetConnection { after: Some(after) } => Some((*after, Break::Reset)),
            _ => None,
        });
        let (service, reset) = (Arc::clone(&self.service), Arc::clone(&self.reset));
        let broken = broken.filter(|(after, _)| *after < size);
        let body = Sending { service, entry, size, pieces, is_media, broken, reset }.into_body();
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
    let body = serde_json::json!({ "Message": refusal.message }).to_string();
    if let Some(entry) = entry {
        service.log.update(entry, |record| {
            record.status = Some(refusal.status);
            record.error = Some(refusal.code.to_owned());
            record.bytes_sent = body.len() as u64;
            record.completed = true;
        });
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    put_header(&mut response, "content-type", "application/json");
    put_header(&mut response, "x-amzn-errortype", &format!("{}{ERROR_TYPE_SUFFIX}", refusal.code));
    put_header(&mut response, "x-amzn-requestid", request_id);
    response
}
