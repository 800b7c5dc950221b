//! Metrics and probes over HTTP: one request, one answer, closed.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request as HttpRequest, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
};
use tracing::{debug, info, warn};

use super::socket::{Question, Reply, Request};

/// A client that does not send its request, or does not take its answer, is let
/// go after this long: longer than a pass over a very large store takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients served at the same time; more wait in the kernel's queue.
const MAX_CLIENTS: usize = 16;
/// Between attempts to have the address.
const RETRY: Duration = Duration::from_secs(5);
/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves on the address as soon as it is to be had, by asking `requests`. Ends
/// when nobody receives requests any more.
///
/// That somebody else has the address is no reason to enforce nothing.
pub async fn serve_at(address: SocketAddr, requests: mpsc::Sender<Question>) {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !told => {
                told = true;
                warn!(%address, %error, "cannot serve metrics and probes yet");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = requests.closed() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    };
    info!(%address, "serves metrics and probes");
    serve(listener, requests).await;
}

/// Serves who comes to the listener.
pub async fn serve(listener: TcpListener, requests: mpsc::Sender<Question>) {
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(permit) = clients.clone().acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            () = requests.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot accept a client of metrics and probes");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let requests = requests.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(PATIENCE, converse(stream, requests)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "a client of metrics and probes went away"),
                Err(_) => debug!("a client of metrics and probes took too long"),
            }
            drop(permit);
        });
    }
}

async fn converse(stream: TcpStream, requests: mpsc::Sender<Question>) -> hyper::Result<()> {
    let service = service_fn(|request: HttpRequest<Incoming>| {
        let requests = requests.clone();
        async move { Ok::<_, Infallible>(answer(&request, &requests).await) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    request: &HttpRequest<Incoming>,
    requests: &mpsc::Sender<Question>,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return response(StatusCode::METHOD_NOT_ALLOWED, "expected GET\n".to_owned());
    }
    let asked = match request.uri().path() {
        "/metrics" => Request::Metrics,
        "/livez" | "/readyz" => Request::Health,
        _ => {
            let paths = "expected /metrics, /livez or /readyz\n".to_owned();
            return response(StatusCode::NOT_FOUND, paths);
        }
    };
    let ready = request.uri().path() == "/readyz";
    match ask(asked, requests).await {
        Ok(Reply::Metrics(text)) => response(StatusCode::OK, text),
        Ok(Reply::Health(health)) => match health.not_ready {
            Some(why) if ready => response(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            Some(_) | None => response(StatusCode::OK, "ok\n".to_owned()),
        },
        Ok(Reply::Refusal(refusal)) => response(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{}\n", refusal.error),
        ),
        Ok(
            Reply::Status(_)
            | Reply::Enforced(_)
            | Reply::Flows(_)
            | Reply::Reports(_)
            | Reply::Rules(_),
        )
        | Err(_) => response(
            StatusCode::SERVICE_UNAVAILABLE,
            "the agent is stopping\n".to_owned(),
        ),
    }
}

/// Has the loop answer.
async fn ask(request: Request, requests: &mpsc::Sender<Question>) -> io::Result<Reply> {
    let (reply, answer) = oneshot::channel();
    let question = Question { request, reply };
    requests.send(question).await.map_err(io::Error::other)?;
    answer.await.map_err(io::Error::other)
}

fn response(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::observe::socket::Health;

    async fn fetch(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let answer = fetch(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// A loop that is not ready.
    async fn served() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, mut questions) = mpsc::channel::<Question>(1);
        tokio::spawn(serve(listener, requests));
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                let reply = if question.request == Request::Metrics {
                    Reply::Metrics("hostfw_ready 0\n".to_owned())
                } else {
                    Reply::Health(Health {
                        not_ready: Some("no kernel today".to_owned()),
                    })
                };
                question.reply.send(reply).unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn probes_and_metrics_are_answered() {
        let address = served().await;
        assert_eq!(get(address, "/livez").await, (200, "ok\n".to_owned()));
        assert_eq!(
            get(address, "/readyz").await,
            (503, "no kernel today\n".to_owned())
        );
        assert_eq!(
            get(address, "/metrics").await,
            (200, "hostfw_ready 0\n".to_owned())
        );
        assert_eq!(get(address, "/").await.0, 404);
    }

    #[tokio::test]
    async fn nonsense_is_refused_and_the_next_client_served() {
        let address = served().await;
        let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
        assert!(fetch(address, post).await.starts_with("HTTP/1.1 405"));
        assert!(
            fetch(address, "\u{1}nonsense\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 400")
        );
        // Who says nothing is in nobody's way.
        let silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(get(address, "/livez").await.0, 200);
        drop(silent);
    }

    #[tokio::test]
    async fn a_loop_that_is_gone_ends_the_server() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (requests, questions) = mpsc::channel::<Question>(1);
        let served = tokio::spawn(serve(listener, requests));
        drop(questions);
        served.await.unwrap();
    }
}
