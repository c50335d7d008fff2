//! `explain`, `health`, `wait` and what `top` asks: questions to a running keyway's admin server.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use serde_json::Value;
use std::os::unix::ffi::OsStrExt as _;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::output::{Done, Failure, line};
use super::{ExplainArgs, HealthArgs, Output, WaitArgs};
use crate::net::Stream;
use crate::topology::Address;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);

/// The largest answer, in bytes.
const BODY: usize = 16 << 20;

pub(super) fn health(args: &HealthArgs) -> Done {
    let (status, body) = get(&args.admin, "/readyz")?;
    line(String::from_utf8_lossy(&body).trim_end())?;
    if status == StatusCode::OK {
        Ok(())
    } else {
        Err(Failure::No)
    }
}

/// How often it is asked whether a keyway is ready.
const ASK: Duration = Duration::from_millis(20);

/// Asks until the answer is yes, and otherwise tells the last one.
pub(super) fn wait(args: &WaitArgs) -> Done {
    let address: Address = args.admin.parse().map_err(|it| Failure::from_error(&it))?;
    let mut last = "no answer yet".to_owned();
    let asking = async {
        loop {
            match exchange(&address, "/readyz").await {
                Ok((StatusCode::OK, _)) => return,
                Ok((_, body)) => String::from_utf8_lossy(&body)
                    .trim_end()
                    .clone_into(&mut last),
                Err(error) => last = error.to_string(),
            }
            sleep(ASK).await;
        }
    };
    let ready = run(async { timeout(args.timeout, asking).await })?;
    match ready {
        Ok(()) => line("ready"),
        Err(_elapsed) => Err(Failure::Error(format!(
            "{}: not ready within {:?}: {last}",
            args.admin, args.timeout
        ))),
    }
}

pub(super) fn explain(args: &ExplainArgs) -> Done {
    let cluster = utf8_percent_encode(&args.cluster, NON_ALPHANUMERIC);
    let key = percent_encode(args.key.as_bytes(), NON_ALPHANUMERIC);
    let (status, body) = get(
        &args.admin,
        &format!("/v1/explain?cluster={cluster}&key={key}"),
    )?;
    let answer: Value = serde_json::from_slice(&body)
        .map_err(|error| Failure::Error(format!("the answer is no JSON: {error}")))?;
    if status != StatusCode::OK {
        let detail = answer["detail"].as_str().unwrap_or("no detail");
        return Err(Failure::Error(format!("{}: {detail}", status.as_u16())));
    }
    match args.output {
        Output::Json => line(&answer.to_string()),
        Output::Text => explain_text(&answer),
    }
}

fn explain_text(answer: &Value) -> Done {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    line(&format!(
        "token {}  slot {}  shard {}{}",
        text(&answer["token"]),
        answer["slot"],
        text(&answer["shard"]),
        if answer["pinned"] == true {
            "  (pinned)"
        } else {
            ""
        },
    ))?;
    for candidate in answer["candidates"].as_array().into_iter().flatten() {
        line(&format!(
            "{:>3}  {}  {}  {}  {}",
            candidate["rank"],
            text(&candidate["shard"]),
            text(&candidate["node"]),
            text(&candidate["address"]),
            text(&candidate["standing"]),
        ))?;
    }
    Ok(())
}

/// One GET of the admin server.
pub(super) fn get(admin: &str, target: &str) -> Result<(StatusCode, Bytes), Failure> {
    let address: Address = admin.parse().map_err(|error| Failure::from_error(&error))?;
    let answer = run(async { timeout(ANSWER, exchange(&address, target)).await })?;
    match answer {
        Ok(answer) => answer.map_err(|error| Failure::Error(format!("{admin}: {error}"))),
        Err(_elapsed) => Err(Failure::Error(format!(
            "{admin}: no answer within {ANSWER:?}"
        ))),
    }
}

/// Runs `asking` to its end.
fn run<T>(asking: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from_error(&error))?;
    Ok(LocalSet::new().block_on(&runtime, asking))
}

async fn exchange(
    address: &Address,
    target: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = match address {
        Address::Unix(path) => Stream::connect_unix(path).await?,
        Address::Tcp { host, port } => {
            let mut addresses = tokio::net::lookup_host((host.as_str(), *port)).await?;
            let address = addresses.next().ok_or("the name has no address")?;
            Stream::connect_tcp(address).await?
        }
        Address::Srv(_) => return Err("expected HOST:PORT or unix:/PATH".into()),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    let request = Request::get(target)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY).collect().await?;
    Ok((status, body.to_bytes()))
}
